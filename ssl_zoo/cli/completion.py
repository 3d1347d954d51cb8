"""`ssl-zoo completion`: a script that completes verbs, keys, groups and their choices in a shell.

The script asks the command for the words: `ssl-zoo completion words INDEX WORD ...`, which needs no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

HELP = """\
ssl-zoo completion: what a shell reads to complete verbs, keys, groups and their choices

  ssl-zoo completion bash    eval "$(ssl-zoo completion bash)" in ~/.bashrc
  ssl-zoo completion zsh     eval "$(ssl-zoo completion zsh)" in ~/.zshrc, after compinit
  ssl-zoo completion fish    ssl-zoo completion fish | source, in ~/.config/fish/config.fish
"""
BASH = """\
_ssl_zoo() {
    local line=${COMP_LINE:0:COMP_POINT} found word
    local -a typed
    read -ra typed <<< "$line"
    [[ $line == *" " ]] && typed+=("")
    word=${typed[-1]}
    COMPREPLY=()
    while IFS= read -r found; do
        # What stands before the last = or : of a word is a word of its own to readline.
        [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && found=${found#"${word%=*}="}
        COMPREPLY+=("$found")
    done < <(ssl-zoo completion words "${typed[@]:1}" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _ssl_zoo ssl-zoo
"""
ZSH = """\
_ssl_zoo() {
    local -a found
    found=("${(@f)$(ssl-zoo completion words "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    compadd -Q -S '' -- $found || _files
}
compdef _ssl_zoo ssl-zoo
"""
FISH = """\
function __ssl_zoo_words
    set -l typed (commandline -opc)
    ssl-zoo completion words $typed[2..-1] (commandline -ct) 2>/dev/null
end
complete -c ssl-zoo -n 'count (__ssl_zoo_words) >/dev/null' -f -a '(__ssl_zoo_words)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
SECOND = {
    "cache": ("list", "verify", "sweep"),
    "completion": tuple(SCRIPTS),
    "leaderboard": ("run", "reproduce", "show", "check", "vouch", "add", "site", "docs"),
}


def main(args: list[str]) -> None:
    """Entry point. Exits with the shells that there are for another one."""
    if args[:1] == ["words"]:
        print("".join(f"{one}\n" for one in words(args[1:])), end="")
    elif not args or args[0] in ("-h", "--help", "help"):
        print(HELP)
    elif len(args) == 1 and args[0] in SCRIPTS:
        print(SCRIPTS[args[0]], end="")
    else:
        sys.exit(f"ssl-zoo completion: {' '.join(args)!r} is no shell that is known; take bash, zsh or fish")


def words(typed: list[str]) -> list[str]:
    """What the last of the words after `ssl-zoo` may become; nothing where it is a path.

    A word that ends in = goes on: a value follows.
    """
    from ssl_zoo.cli import VERBS

    verb, word = typed[0] if typed else "", typed[-1] if typed else ""
    if len(typed) < 2:
        return beginning(word, [*VERBS, "--help", "--version"])
    if verb in SECOND:
        if len(typed) == 2:
            return beginning(word, [*SECOND[verb], "--help"])
        return boards(word) if verb == "leaderboard" else []
    if verb == "list":
        return beginning(word, listed())
    if not (folder() / f"{verb}.yaml").is_file():
        return beginning(word, ["--help"])
    key, given, value = word.partition("=")
    if not given:
        return beginning(word, [*(f"{one}=" for one in keys(verb, typed[1:-1])), "--help"])
    return [f"{key}={one}" for one in beginning(value, values(verb, key))]


def beginning(word: str, known: list[str]) -> list[str]:
    """Those of the known words that begin as this one."""
    return [one for one in known if one.startswith(word)]


def folder() -> Path:
    """The folder of configurations, without what composes them."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def choices(group: str) -> list[str]:
    """The choices of a group, which are its files."""
    return sorted(file.stem for file in (folder() / group).glob("*.yaml"))


def keys(verb: str, before: list[str]) -> list[str]:
    """The keys of a verb, and those of the choices that the words before make."""
    from ssl_zoo.compose.keys import groups_of
    from ssl_zoo.compose.manual import choice_entries, own_entries

    groups = groups_of(verb)
    chosen = {key: default for key, (default, _) in groups.items()}
    chosen |= {key: value for key, _, value in (word.partition("=") for word in before) if key in groups}
    found = [*groups, *(one.key for one in own_entries(verb))]
    for group, choice in chosen.items():
        found += [one.key for one in choice_entries(group, choice)]
    taken = {word.partition("=")[0] for word in before}
    nodes = {key.rpartition(".")[0] for key in found} - groups.keys()
    return [key for key in dict.fromkeys(found) if key not in taken | nodes]


def values(verb: str, key: str) -> list[str]:
    """The values that are known of a key: the choices of a group, or those that its type has."""
    if (folder() / key).is_dir():
        return choices(key)
    from typing import Literal, get_args, get_origin

    from ssl_zoo.compose.schema import types_of

    kind = types_of(verb).get(key)
    if kind is bool:
        return ["true", "false"]
    parts = [kind, *get_args(kind)]
    return [str(one) for part in parts if get_origin(part) is Literal for one in get_args(part)]


def listed() -> list[str]:
    """What `ssl-zoo list` shows a page about."""
    groups = sorted(path.name for path in folder().iterdir() if path.is_dir())
    return ["objectives", *groups, *choices("objective")]


def boards(word: str) -> list[str]:
    """The boards that are at hand."""
    from ssl_zoo.leaderboard.find import names

    return beginning(word, list(names()))
