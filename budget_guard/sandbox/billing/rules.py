"""What of a live session is billed, where the vendor does not say so: switches, all of them on by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What a run of live bytes is, when it is not simply what the market published.
Kind = Literal["mapping", "system", "error", "replay", "snapshot", "duplicate"]

# A `ts_out` is 8 bytes at the end of a record.
TS_OUT_BYTES = 8


@dataclass(frozen=True, slots=True)
class BillingRules:
    """Which live bytes cost money. Nothing of it is documented, so the default counts everything.

    `ts_out`: the 8 bytes more of each record; `mappings`, `system` (heartbeats, acknowledgements, notices) and
    `errors`: control records; `replayed`: records of a `start=`; `snapshots`: those of a `snapshot=1`;
    `duplicates`: records that were sent again. What is not billed is still counted, as `excluded_bytes`.
    """

    ts_out: bool = True
    mappings: bool = True
    system: bool = True
    errors: bool = True
    replayed: bool = True
    snapshots: bool = True
    duplicates: bool = True

    def bill(self, kind: Kind | None) -> bool:
        """Whether records of a kind are billed; None is what the market published, which always is."""
        switches: dict[Kind | None, bool] = {
            "mapping": self.mappings,
            "system": self.system,
            "error": self.errors,
            "replay": self.replayed,
            "snapshot": self.snapshots,
            "duplicate": self.duplicates,
        }
        return switches.get(kind, True)


def ts_out_bytes(record_size: int, start: int, end: int) -> int:
    """How many of the bytes `[start, end)` of a row of records are their `ts_out`: the last 8 of each."""

    def before(position: int) -> int:
        whole, part = divmod(position, record_size)
        return whole * TS_OUT_BYTES + max(0, part - (record_size - TS_OUT_BYTES))

    return before(end) - before(start)
