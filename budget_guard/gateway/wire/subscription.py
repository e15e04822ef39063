"""The lines with which a client logs on and subscribes, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from budget_guard.clock import ns_from_instant
from budget_guard.gateway.wire.lines import LineError
from budget_guard.guard.request import Request

HEARTBEAT_DEFAULT_S = 30
# Digits as the protocol has them, and no more than a 64-bit number has.
_NUMBER = re.compile(r"[0-9]{1,20}")
HEARTBEAT_RANGE_S = range(5, 1801)
# The vendor takes so many symbols on a line; its clients write more of them on several lines.
LINE_SYMBOLS_MAX = 500


@dataclass(frozen=True, slots=True)
class Logon:
    """What the authentication line asks for, beside proving the key."""

    dataset: str
    ts_out: bool
    zstd: bool
    heartbeat_interval_s: int
    slow_reader_behavior: str | None


def parse_logon(fields: Mapping[str, str]) -> Logon:
    """Raises LineError for what the relay cannot serve; unknown fields are ignored."""
    if not fields.get("dataset"):
        raise LineError("the authentication line names no dataset")
    if fields.get("encoding", "dbn") != "dbn":
        raise LineError(f"encoding {fields['encoding']} cannot be counted: ask for dbn")
    compression = fields.get("compression", "none")
    if compression not in ("none", "zstd"):
        raise LineError(f"compression {compression} is not known: ask for none or zstd")
    interval = fields.get("heartbeat_interval_s", str(HEARTBEAT_DEFAULT_S))
    if not _NUMBER.fullmatch(interval) or int(interval) not in HEARTBEAT_RANGE_S:
        raise LineError(f"heartbeat_interval_s is {interval}: it should be a whole number from 5 to 1800")
    return Logon(
        dataset=fields["dataset"],
        ts_out=fields.get("ts_out", "0") == "1",
        zstd=compression == "zstd",
        heartbeat_interval_s=int(interval),
        slow_reader_behavior=fields.get("slow_reader_behavior"),
    )


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription line. `start_ns` 0 means everything the vendor still has."""

    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start_ns: int | None
    snapshot: bool
    id: str | None
    is_last: str | None

    def request(self, dataset: str, now: datetime) -> Request:
        """The line as the guard knows it."""
        return Request(
            dataset=dataset,
            schema=self.schema,
            symbols=self.symbols,
            stype_in=self.stype_in,
            mode="live",
            replay_from=None if self.start_ns is None else _reach(self.start_ns, now),
            snapshot=self.snapshot,
        )

    def fields(self, start_ns: int | None) -> dict[str, str | int]:
        """The line for the vendor, from `start_ns` on (None: from now; a snapshot and a start exclude each other)."""
        row: dict[str, str | int] = {
            "schema": self.schema,
            "stype_in": self.stype_in,
            "symbols": ",".join(self.symbols),
        }
        if start_ns is not None:
            row["start"] = start_ns
        row["snapshot"] = int(self.snapshot and start_ns is None)
        if self.id is not None:
            row["id"] = self.id
        if self.is_last is not None:
            row["is_last"] = self.is_last
        return row


def parse_subscription(fields: Mapping[str, str]) -> Subscription:
    """Raises LineError for a line without schema or symbols, with too many, or a start that is no timestamp."""
    missing = [name for name in ("schema", "symbols") if not fields.get(name)]
    if missing:
        raise LineError(f"the subscription names no {' and no '.join(missing)}")
    start = fields.get("start")
    if start is not None and not _NUMBER.fullmatch(start):
        raise LineError(f"start is {start!r}: it should be nanoseconds since 1970-01-01")
    symbols = tuple(fields["symbols"].split(","))
    if len(symbols) > LINE_SYMBOLS_MAX:
        raise LineError(
            f"a subscription line has {len(symbols)} symbols: the vendor takes {LINE_SYMBOLS_MAX}, "
            "so write the rest on further lines"
        )
    return Subscription(
        schema=fields["schema"],
        stype_in=fields.get("stype_in", "raw_symbol"),
        symbols=symbols,
        start_ns=None if start is None else int(start),
        snapshot=fields.get("snapshot", "0") == "1",
        id=fields.get("id"),
        is_last=fields.get("is_last"),
    )


def _reach(start_ns: int, now: datetime) -> timedelta:
    microseconds = max(0, ns_from_instant(now) - start_ns) // 1000
    return timedelta(microseconds=microseconds)
