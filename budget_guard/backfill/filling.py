"""Filling a gap: bought once through the door, written whole or not at all, checked against the vendor's own count.

A fill that was interrupted goes on where it was: what is whole is checked and not bought again. What came only in part
is bought again, since a half of it is of no use; what the half cost is booked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from budget_guard.backfill.door import DoorBroke, DoorRefused, HistoricalDoor
from budget_guard.backfill.files import (
    FileTrouble,
    count_records,
    file_name,
    kept_file,
    new_partial,
    partial,
    rename,
    unchecked,
)
from budget_guard.backfill.model import FILLED, Filled, Outcome, state_of
from budget_guard.backfill.quoting import CannotFill, range_of
from budget_guard.errors import LedgerError
from budget_guard.ledger.model import Gap, Ledger
from budget_guard.policy.model import Policy
from budget_guard.pricing.model import DataRange


class Filler:
    """Fills the gaps of one account into a folder, one after another."""

    def __init__(self, policy: Policy, ledger: Ledger, door: HistoricalDoor, folder: Path) -> None:
        self._policy = policy
        self._ledger = ledger
        self._door = door
        self._folder = folder

    def fill(self, gap: Gap) -> Filled:
        """Never raises for what a gap, the vendor, the guard or the disk may do: it says so."""
        try:
            return self._fill(gap)
        except DoorRefused as error:
            outcome: Outcome = "refused" if error.by_guard else "vendor" if error.by_vendor else "failed"
            return Filled(gap, outcome, str(error))
        except (CannotFill, DoorBroke, FileTrouble, LedgerError) as error:
            return Filled(gap, "failed", str(error))

    def _fill(self, gap: Gap) -> Filled:
        now = next((one for one in self._ledger.gaps(gap.account) if one.id == gap.id), gap)
        if state_of(now) != "open":  # filled from another machine while this one was asking
            return Filled(now, "already", f"it is {now.mended} already")
        wanted = range_of(self._policy, gap)
        path = self._folder / file_name(gap)
        if kept_file(self._folder, gap) is None:
            if self._door.record_count(wanted) == 0:
                return self._mark(now, 0, "the vendor has none")
            with new_partial(path) as file:
                self._door.buy(wanted, file.write)
            count_records(partial(path))
            rename(partial(path), unchecked(path))
        return self._check(now, wanted, path)

    def _check(self, gap: Gap, wanted: DataRange, path: Path) -> Filled:
        """Compare what lies there with the vendor's count; where they agree, the gap is filled."""
        if not path.exists():
            records = count_records(unchecked(path))
            try:
                counted = self._door.record_count(wanted)
            except (DoorBroke, DoorRefused) as error:
                text = f"bought, and not checked: the count of its records could not be had ({error}). Run it again"
                return Filled(gap, "unchecked", text, unchecked(path), records)
            if records != counted:
                text = (
                    f"bought, and it has {records} records where the vendor counts {counted}. Run it again to compare "
                    "again; remove the file to buy it again"
                )
                return Filled(gap, "unchecked", text, unchecked(path), records)
            rename(unchecked(path), path)
        return self._mark(gap, count_records(path), str(path.absolute()), path)

    def _mark(self, gap: Gap, records: int, where: str, path: Path | None = None) -> Filled:
        marked = replace(gap, mended=f"{FILLED}{records} records, {where}")
        self._ledger.record_gap(marked)
        return Filled(marked, "filled", f"{records} records, {where}", path, records)
