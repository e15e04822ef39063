"""Broken policies and what is said of each, as a table in `broken.txt`.

A case is a sound policy with one edit, or whole files; then come the lines that `check` prints. `python -m
tests.policy.broken` writes what it prints now: read the difference before committing it.

    replace  what stands in the sound policy         (\\n is a line's end, \\t a tab)
    by       what stands there instead
    file     a file of its own, its lines indented below; the first one is checked
    blind    why the JSON Schema takes it, where it does though `check` has a problem
    says     line:column: message                    (of another file: file:line:column: message)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from budget_guard.loading import check_policies

TABLE = Path(__file__).with_name("broken.txt")
TODAY = date(2026, 11, 22)
CHECKED = "policy.yaml"

SOUND = """\
version: 1
name: desk
timezone: America/New_York
account:
  billing: {GLBX.MDP3: {live: metered}}
  prices: {GLBX.MDP3: {live: {mbo: 2.16}}}
  credits: [{amount: 125 USD, expires: 2027-03-01, covers: historical}]
budgets:
  - name: account
    month: 200 USD
    alerts: [50%, 80%]
  - name: live
    match: {dataset: GLBX.MDP3, mode: live}
    session: {usd: 8, hours: 8}
streams:
  nq:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [NQ.v.0]
    stype_in: continuous
    windows: [{session: regular, from: open - 5m, to: close + 5m}]
    volume: {gib_per_session: 0.41}
    cheaper: [mbp-1]
    recovery: {replay: 15m, spend: 0.50 USD, client_replay: 0m}
    fallback: [{name: other, run: [python, other.py]}]
historical:
  max_request: 5 USD
  approve_above: 2 USD
  all_symbols: false
"""


@dataclass
class Case:
    """One broken policy. `head` are its lines in the table, all but what is said."""

    head: list[str] = field(default_factory=list)
    replaced: str | None = None
    by: str = ""
    files: dict[str, str] = field(default_factory=dict)
    blind: str | None = None
    said: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        shown = (
            self.by or f"without {self.replaced}" if self.replaced is not None else " ".join(self.head[:3])
        )
        return shown.replace("\n", " ")[:70]

    @property
    def text(self) -> str:
        """The policy that is checked."""
        if self.replaced is None:
            return next(iter(self.files.values()))
        assert SOUND.count(self.replaced), self.replaced
        return SOUND.replace(self.replaced, self.by, 1)

    def now_said(self) -> list[str]:
        """What `check` prints of it, today."""
        with _folder() as folder:
            for name, text in {**self.files, CHECKED: self.text}.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
            (loaded,) = check_policies([CHECKED], today=TODAY)
        return [str(problem).removeprefix(f"{CHECKED}:") for problem in loaded.shown]


@contextmanager
def _folder() -> Iterator[Path]:
    before = Path.cwd()
    with TemporaryDirectory() as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


def read_cases(table: str) -> list[Case]:
    """The cases of a table, in order. Blank lines stand between cases; `#` begins a heading."""
    return [_case(block.splitlines()) for block in table.split("\n\n") if block.strip() and block[0] != "#"]


def _case(lines: list[str]) -> Case:
    case, file = Case(), ""
    for line in lines:
        word, rest = line[:8].strip(), line[9:]
        if word == "says":
            case.said.append(rest)
            continue
        case.head.append(line)
        match word:
            case "replace":
                case.replaced = _unescaped(rest)
            case "by":
                case.by = _unescaped(rest)
            case "blind":
                case.blind = rest
            case "file":
                file = rest
                case.files[file] = ""
            case _:
                case.files[file] += ("" if rest == "." else rest) + "\n"
    return case


def _unescaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t")


def written_again(table: str) -> str:
    """The table with what is said now."""
    blocks = []
    for block in table.strip("\n").split("\n\n"):
        if block.startswith("#"):
            blocks.append(block)
            continue
        case = _case(block.splitlines())
        blocks.append("\n".join([*case.head, *(f"says     {line}" for line in case.now_said())]))
    return "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    TABLE.write_text(written_again(TABLE.read_text(encoding="utf-8")), encoding="utf-8")
