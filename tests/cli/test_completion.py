"""Completion as bash has it, and what it must not import."""

import subprocess
import sys

import pytest

from ssl_zoo.cli import VERBS, completion

# A function in the place of the command on the path, and bash's own variables as readline sets them.
SHELL = """
ssl-zoo() {{ {python} -c 'from ssl_zoo.cli import main; main()' "$@"; }}
eval "$(ssl-zoo completion bash)"
complete -p ssl-zoo
COMP_LINE={line!r} COMP_POINT={point}
_ssl_zoo 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(line: str) -> list[str]:
    script = SHELL.format(python=sys.executable, line=line, point=len(line))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    first, *found = done.stdout.splitlines()
    assert first == "complete -o default -F _ssl_zoo ssl-zoo", done.stderr
    return [one for one in found if one]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ssl-zoo pre", ["pretrain", "predict"]),
        ("ssl-zoo pretrain objective=simcl", ["simclr", "simclr_small"]),
        ("ssl-zoo pretrain objective=simclr bud", [f"budget.{unit}=" for unit in
                                                  ("steps", "epochs", "samples", "tokens", "minutes")]),
        ("ssl-zoo evaluate score=", ["test", "validation"]),
        ("ssl-zoo pretrain compile=t", ["true"]),
        ("ssl-zoo leaderboard rep", ["reproduce"]),
        ("ssl-zoo leaderboard show dig", ["digits"]),
        ("ssl-zoo completion z", ["zsh"]),
        ("ssl-zoo pretrain nothing_like_it", []),
    ],
)  # fmt: skip
def test_bash_completes(line, expected):
    assert sorted(completed(line)) == sorted(expected)


def test_keys_of_the_chosen_objective_follow_and_given_ones_go():
    found = completion.words(["pretrain", "objective=simclr", "seed=3", ""])
    assert "objective.temperature=" in found
    assert not {"seed=", "objective="} & set(found)
    assert "objective.temperature=" not in completion.words(["pretrain", "objective=rotation", ""])


def test_every_verb_completes_without_torch():
    code = (
        "import sys\nfrom ssl_zoo.cli import completion\n"
        f"for verb in {VERBS!r}: completion.words([verb, ''])\n"
        "heavy = {'torch', 'lightning', 'numpy'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_ask_for_the_same_words(shell, capsys):
    completion.main([shell])
    assert "ssl-zoo completion words" in capsys.readouterr().out


def test_another_shell_is_refused_with_those_there_are():
    with pytest.raises(SystemExit, match="'tcsh' is no shell that is known; take bash, zsh or fish"):
        completion.main(["tcsh"])
