"""What the meter of a hold shows to somebody who is not its owner: whether the owner lives, and what it counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from budget_guard.errors import LedgerError
from budget_guard.ledger.meter import open_orphan, read_size
from budget_guard.ledger.model import HoldTerms

# living: its owner holds the lock; dead: nobody does; restarted: dead, and of an earlier run of the machine, so the
# count may be too small; none: it never had one; elsewhere: another host's; missing, unreadable: nothing to see.
Owner = Literal["living", "dead", "restarted", "none", "elsewhere", "missing", "unreadable"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of an open hold's owner; `size_bytes` is what its meter has counted, at least."""

    owner: Owner
    size_bytes: int | None = None


def look(terms: HoldTerms, meter_dir: Path, *, host: str, boot_id: str) -> Evidence:
    """Look at a hold's meter without changing anything. Raises LedgerError when the folder cannot be read."""
    if terms.meter is None:
        return Evidence("none")
    path = meter_dir / terms.meter
    if not path.exists():
        return Evidence("missing" if terms.host == host else "elsewhere")
    try:
        meter = open_orphan(path)
    except LedgerError:
        return Evidence("unreadable")
    if meter is None:
        return Evidence("living", read_size(path)) if path.exists() else Evidence("missing")
    try:
        same_boot = bool(boot_id) and meter.boot_id == boot_id
        return Evidence("dead" if same_boot else "restarted", meter.size_bytes)
    finally:
        meter.close(remove=False)
