"""Which ledger each account was last used with on this machine: two by mistake would each allow the whole limit."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from budget_guard.clock import instant_text

FILE = "ledgers.json"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A ledger's id, and its place for people."""

    identity: str
    place: str


def note_ledger(data_dir: Path, account: str, ledger: Whereabouts, at: datetime) -> str | None:
    """Remember that an account is used with a ledger; a warning when it was another one the last time.

    A folder that cannot be read or written is no reason to stop: then nothing is remembered.
    """
    path = data_dir / FILE
    known = _load(path)
    last = known.get(account)
    row = {"id": ledger.identity, "place": ledger.place, "last_used_utc": instant_text(at)}
    _save(path, known | {account: row})
    if not isinstance(last, dict) or last.get("id") in (None, ledger.identity):
        return None
    return _warning(account, ledger, str(last.get("place")), str(last.get("last_used_utc")))


def _warning(account: str, ledger: Whereabouts, place: str, when: str) -> str:
    if place == ledger.place:
        return (
            f"THE LEDGER AT {place} IS NOT THE ONE that account {account} was used with until {when}: "
            "that one was deleted or replaced, and what was spent in it is not counted here. "
            "If it was not meant, put the old one back"
        )
    return (
        f"ACCOUNT {account} WAS USED WITH ANOTHER LEDGER until {when}: {place}; now it is {ledger.place}. "
        "Neither knows what is spent in the other, so the two together may pass every limit. If it was not meant, "
        "set BUDGET_GUARD_LEDGER to the same ledger for every program, and look at both with budget-guard review"
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _save(path: Path, rows: dict[str, Any]) -> None:
    """All or nothing: a reader finds the old file or the new one."""
    passing = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        passing.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        passing.chmod(0o600)
        passing.replace(path)
    except OSError:
        return
