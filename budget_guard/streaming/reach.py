"""Whether a program can be pointed at the guard: what leaves the hook out, and what to say when nobody came.

The hook is a module that Python imports at its start because `PYTHONPATH` names its folder. Where that does not happen
the program holds a token that only this guard knows, and fails at the vendor. Here that is said, with what would help.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

_PYTHON = re.compile(r"(python|pypy)[0-9.]*t?(\.exe)?")
# Each leaves the hook out: isolated, without site, without PYTHON* variables.
_OPTIONS = {"I": "-I", "S": "-S", "E": "-E"}
# Options whose value stands in the next argument, unless it is written right behind the letter.
_WITH_VALUE = "WX"
# What comes after these is the program's.
_LAST = "cm"
_FIRST_LINE_BYTES = 256
_WRAPPERS = frozenset({"env", "nice", "nohup", "ionice", "setsid", "stdbuf", "time"})

_ADVICE = (
    "point its clients at the guard itself: "
    "databento.Live(gateway=..., port=...) with the two halves of BUDGET_GUARD_RELAY; "
    "the API classes of databento.historical with gateway=BUDGET_GUARD_HTTP"
)


def left_out(command: Sequence[str]) -> str | None:
    """What in a command keeps Python from importing the hook, and what to do; None where nothing is seen.

    Looks at the command itself and at the first line of a script that it names.
    """
    words = _behind_wrappers(command)
    if not words:
        return None
    option = _option_of(words) if _is_python(words[0]) else _option_in_script(words[0])
    if option is None:
        return None
    return (
        f"python {option} leaves out what points databento's clients at the guard, so the vendor would refuse them: "
        f"start the program without {option}, or {_ADVICE}"
    )


def not_reached(visits: int) -> str | None:
    """What to say after a program has failed; None when one of its clients came to the guard.

    `visits` is how often one did: `GatewayHost.visits`.
    """
    if visits:
        return None
    return (
        "no Databento client of the program came to the guard. If it has one, something kept it away: a Python "
        "started with -I, -S or -E or with a PYTHONPATH of its own, a program in another language, a gateway that "
        f"the program names. Then {_ADVICE}"
    )


def _behind_wrappers(command: Sequence[str]) -> list[str]:
    """`env A=b nice python x` as `python x`; the options of a wrapper end the search."""
    words = list(command)
    while words and (Path(words[0]).name in _WRAPPERS or re.match(r"[A-Za-z_]\w*=", words[0])):
        if words.pop(0).endswith("env") and words[:1] == ["-S"]:
            words.pop(0)
    return words


def _is_python(word: str) -> bool:
    return _PYTHON.fullmatch(Path(word).name) is not None


def _option_of(words: Sequence[str]) -> str | None:
    """The first option of a Python command line that leaves the hook out."""
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            return None
        if word.startswith("--"):
            continue
        for place, letter in enumerate(word[1:], 1):
            if letter in _OPTIONS:
                return _OPTIONS[letter]
            if letter in _LAST:
                return None
            if letter in _WITH_VALUE:
                if place == len(word) - 1:
                    next(rest, None)
                break
    return None


def _option_in_script(name: str) -> str | None:
    """The same in the first line of a script; None for what is none, or cannot be read."""
    found = shutil.which(name)
    try:
        with open(found or name, "rb") as file:  # noqa: PTH123 - as the system would find it
            first = file.readline(_FIRST_LINE_BYTES)
    except (OSError, ValueError):
        return None
    if not first.startswith(b"#!"):
        return None
    words = _behind_wrappers(os.fsdecode(first[2:]).split())
    return _option_of(words) if words and _is_python(words[0]) else None
