"""Keeps from a client what it could not read: the official one ends at a record that it does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from budget_guard.gateway.wire.framer import Framed, split_records
from budget_guard.gateway.wire.kinds import has_wrong_size, is_known

# A damaged record may look like one of a type that nobody knows. So often the stream is opened again for a type, and
# brings what was damaged once more; then it is taken for a type that is new, and left out.
AGAIN = 3


class Sieve:
    """Lets whole records pass, for as long as a client's connection lasts."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` says to the client that something is left out."""
        self._tell = tell
        self._sound: set[bytes] = set()  # the kinds of records that have passed
        self._seen = Counter[int]()

    def sift(self, framed: Framed, *, ts_out: bool) -> bytes | None:
        """The records that a client can read; None when the stream should be opened again instead."""
        new = framed.count_by_kind.keys() - self._sound
        if not new:
            return framed.records
        unknown = {kind[1] for kind in new if not is_known(kind)}
        damaged = any(has_wrong_size(kind, ts_out=ts_out) for kind in new)
        if not unknown and not damaged:
            self._sound |= new
            return framed.records
        self._seen.update(unknown)
        if damaged or any(self._seen[rtype] <= AGAIN for rtype in unknown):
            return None
        for rtype in unknown:
            if self._seen[rtype] == AGAIN + 1:
                self._tell(f"budget-guard: records of type {rtype}, which nobody knows, are left out")
        return b"".join(record for record in split_records(framed.records) if record[1] not in unknown)
