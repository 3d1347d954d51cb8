"""Completion as bash has it, and what it must not import."""

import shutil
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


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ssl-zoo pre", ["predict", "pretrain"]),
        ("ssl-zoo pretrain objective=simcl", ["objective=simclr", "objective=simclr_small"]),
        ("ssl-zoo look ./my", ["./my photos/"]),
    ],
)
def test_fish_completes(line, expected, tmp_path):
    """Words, and files where there are none."""
    (tmp_path / "my photos").mkdir()
    script = f"""
    function ssl-zoo; {sys.executable} -c 'from ssl_zoo.cli import main; main()' $argv; end
    ssl-zoo completion fish | source
    complete -C {line!r}"""
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert sorted(one.partition("\t")[0] for one in done.stdout.splitlines()) == expected


# zsh completes at a terminal only; its compadd is replaced by one that prints what it is given.
ZSH = """
ssl-zoo() {{ {python} -c 'from ssl_zoo.cli import main; main()' "$@"; }}
compdef() {{ }}
compadd() {{ while [ "$1" != -- ]; do shift; done; shift; print -l -- "$@"; [ -n "$1" ]; }}
_files() {{ print -l files; }}
eval "$(ssl-zoo completion zsh)"
words=({words}) CURRENT={count}
_ssl_zoo
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ssl-zoo", "pre"], ["predict", "pretrain"]),
        (["ssl-zoo", "pretrain", "objective=simcl"], ["objective=simclr", "objective=simclr_small"]),
        (["ssl-zoo", "look", "./my"], ["", "files"]),
    ],
)
def test_zsh_completes(words, expected):
    script = ZSH.format(python=sys.executable, words=" ".join(words), count=len(words))
    done = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()) == expected


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
