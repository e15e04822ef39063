"""The synthetic market: how many records there are between any two instants, and which.

Every record has a place: its stream (schema and contract), its session and its index in it. Its time and its values
are functions of that place and the seed. Sizes, costs, downloads, live records and replays all ask the same
functions, so they agree to the byte, and no answer needs more than one session's table of minutes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from budget_guard.sandbox.market.model import Instrument, Part, Selection
from budget_guard.sandbox.market.records import F_LAST, F_SNAPSHOT, SPECS, Draw, Int64s, Place, Rows
from budget_guard.sandbox.market.sessions import (
    MINUTE_NS,
    Session,
    date_of_ns,
    days_calendar,
    sessions_between,
    trading_label,
)
from budget_guard.sandbox.market.shapes import minute_weights, session_permille
from budget_guard.sandbox.market.universe import (
    Product,
    Stream,
    Universe,
    calendar_of,
    instrument_id,
    publisher_of,
    raw_symbol,
)

# Records of an ordinary session of the dataset's reference product (NQ, SPY). NQ mbo 0.44 GB and trades 12 MB a day
# were measured in 2026; mbp-1 is a quarter of 3 GB for ES, MES, NQ and MNQ together; the rest is assumed.
REFERENCE_VOLUMES = {
    "cme": {"mbo": 7_860_000, "mbp-1": 9_400_000, "mbp-10": 9_400_000, "trades": 250_000, "tbbo": 250_000},
    "us": {"mbo": 3_000_000, "mbp-1": 1_500_000, "trades": 400_000, "tbbo": 400_000},
}
_DEFAULT_VOLUME = 500_000
# Measured: ES trades 22 MB a session (2022), MNQ tbbo 2.6 GiB a month (2026).
PRODUCT_VOLUMES = {
    ("trades", "ES"): 458_000,
    ("tbbo", "ES"): 458_000,
    ("trades", "MNQ"): 1_660_000,
    ("tbbo", "MNQ"): 1_660_000,
}
# The next contract's volume against the front one's, in thousandths; assumed. Options share theirs out evenly.
_NEXT_PERMILLE = 20
SNAPSHOT_RECORDS = 100
_GROUPS = {"cme": "equity-index", "us": "us-equities"}

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class Tape(Protocol):
    """One stream in one session."""

    total: int

    def index_at(self, instant_ns: int) -> int:
        """How many of its records come before an instant."""

    def draw(self, first: int, last: int) -> Draw:
        """The records with indexes in `[first, last)`."""


def seed_of(*parts: object) -> int:
    """64 bits that belong to a place."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(value: int) -> int:
    """One step of the splitmix64 generator (public domain, Vigna 2015)."""
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def mix_many(seed: int, indexes: Int64s) -> npt.NDArray[np.uint64]:
    """`mix(seed + index * golden)` of every index, wrapping at 64 bits."""
    value = indexes.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(seed)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MIX_1)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MIX_2)
    mixed: npt.NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed


def mid_prices(product: Product, minutes: Int64s) -> Int64s:
    """A price for every minute since the epoch: two slow waves around the product's level."""
    waves = 300 * np.sin(minutes * (2 * np.pi / 7919)) + 40 * np.sin(minutes * (2 * np.pi / 97))
    prices: Int64s = product.price + product.tick * waves.astype(np.int64)
    return prices


class TickTape:
    """Records that lie as densely as a session's minutes say, evenly jittered within each.

    Record `j` of a minute with `n` records stands at `(j * 60e9 + u) // n`, `u` below 60e9: in order by construction,
    and the number of records before an instant needs one minute's count and one record's `u`.
    """

    def __init__(self, seed: int, start_ns: int, cumulative: Int64s, product: Product) -> None:
        self._seed = seed
        self._start_ns = start_ns
        self._cumulative = cumulative
        self._mids = mid_prices(product, start_ns // MINUTE_NS + np.arange(len(cumulative) - 1))
        self.total = int(cumulative[-1])

    def index_at(self, instant_ns: int) -> int:
        minute, within = divmod(instant_ns - self._start_ns, MINUTE_NS)
        if minute < 0:
            return 0
        if minute >= len(self._cumulative) - 1:
            return self.total
        before = int(self._cumulative[minute])
        count = int(self._cumulative[minute + 1]) - before
        if count == 0:
            return before
        # Only this record can lie on either side of the instant; those before and after it cannot.
        nearest = min(within * count // MINUTE_NS, count - 1)
        drawn = mix((self._seed + (before + nearest) * _GOLDEN) & _MASK)
        jitter = ((drawn >> 36) * MINUTE_NS) >> 28
        return before + nearest + ((nearest * MINUTE_NS + jitter) // count < within)

    def draw(self, first: int, last: int) -> Draw:
        low, high = np.searchsorted(self._cumulative, [first, last - 1], side="right") - 1
        bounds = self._cumulative[low : high + 2]
        clipped = np.clip(bounds, first, last)
        inside: Int64s = clipped[1:] - clipped[:-1]
        indexes = np.arange(first, last)
        counts = np.repeat(bounds[1:] - bounds[:-1], inside)
        bits = mix_many(self._seed, indexes)
        jitter = ((bits >> np.uint64(36)) * np.uint64(MINUTE_NS)) >> np.uint64(28)
        within = ((indexes - np.repeat(bounds[:-1], inside)) * MINUTE_NS + jitter.astype(np.int64)) // counts
        minutes = self._start_ns + MINUTE_NS * np.arange(low, high + 1)
        mids = np.repeat(self._mids[low : high + 1], inside)
        return Draw(np.repeat(minutes, inside) + within, bits, mids, first)


class GridTape:
    """Records on a grid: one at every step from the session's start on."""

    def __init__(self, seed: int, session: Session, step_ns: int, product: Product) -> None:
        self._seed = seed
        self._start_ns = session.start_ns
        self._step_ns = step_ns
        self._product = product
        self.total = -(-(session.end_ns - session.start_ns) // step_ns)

    def index_at(self, instant_ns: int) -> int:
        return min(max(0, -((self._start_ns - instant_ns) // self._step_ns)), self.total)

    def draw(self, first: int, last: int) -> Draw:
        indexes = np.arange(first, last)
        stamps = self._start_ns + self._step_ns * indexes
        return Draw(
            stamps, mix_many(self._seed, indexes), mid_prices(self._product, stamps // MINUTE_NS), first
        )


class Market:
    """All streams of a seed. With a `rate` the tick schemas run at that many records/s around the clock instead."""

    def __init__(
        self,
        seed: int,
        volumes: Mapping[tuple[str, str], int] | None = None,
        rate: int | None = None,
        universe: Universe | None = None,
    ) -> None:
        self._seed = seed
        self._volumes = {**PRODUCT_VOLUMES, **(volumes or {})}
        self._rate = rate
        self._universe = universe or Universe()
        self._tape = lru_cache(maxsize=1024)(self._build_tape)
        self._streams_on = lru_cache(maxsize=256)(self._find_streams)

    def resolve(self, dataset: str, symbol: str, stype_in: str, day: date) -> tuple[Instrument, ...]:
        """The instruments that a symbol stands for on a UTC day; empty when it stands for none."""
        label = trading_label(day)
        raws = (
            raw_symbol(product, rank, label)
            for product, rank in self._universe.resolve(dataset, symbol, stype_in, label)
        )
        return tuple(Instrument(raw, instrument_id(dataset, raw)) for raw in raws)

    def describe(self, dataset: str) -> str:
        return ""  # dozens of contracts, other ones every quarter

    def streams(self, selection: Selection, label: date) -> tuple[Stream, ...]:
        """The streams that a selection stands for in a session, each once."""
        return self._streams_on(selection, label)

    def sessions(self, dataset: str, schema: str, start_ns: int, end_ns: int) -> Iterator[Session]:
        """The sessions in which a schema can have records between two instants."""
        calendar = "always" if self._rate is not None else calendar_of(dataset)
        if self._rate is None and SPECS[schema].kind == "day":
            calendar = days_calendar(calendar)
        return sessions_between(calendar, start_ns, end_ns)

    def count(self, selection: Selection, start_ns: int, end_ns: int) -> int:
        """How many records a selection has in `[start_ns, end_ns)`."""
        return sum(
            self._count_in(stream, session, start_ns, end_ns)
            for session in self.sessions(selection.dataset, selection.schema, start_ns, end_ns)
            for stream in self.streams(selection, symbol_label(session))
        )

    def parts(self, selection: Selection, start_ns: int, end_ns: int) -> list[Part]:
        """The records of a selection in `[start_ns, end_ns)`, each stream's of each session apart."""
        parts = []
        for session in self.sessions(selection.dataset, selection.schema, start_ns, end_ns):
            for stream in self.streams(selection, symbol_label(session)):
                tape = self._tape(stream, session)
                first, last = tape.index_at(start_ns), tape.index_at(end_ns)
                if last > first:
                    parts.append(Part(stream.schema, stream, self.rows(stream, session, first, last)))
        return parts

    def snapshot(self, selection: Selection, at_ns: int) -> list[Part]:
        """The first records of the session at an instant, as a snapshot marks them."""
        parts = []
        for session in self.sessions(selection.dataset, selection.schema, at_ns, at_ns + 1):
            for stream in self.streams(selection, symbol_label(session)):
                last = min(SNAPSHOT_RECORDS, self.total(stream, session))
                if last:
                    rows = _as_snapshot(self.rows(stream, session, 0, last), at_ns)
                    parts.append(Part(stream.schema, stream, rows))
        return parts

    def blocks(self, selection: Selection, at_ns: int, records: int) -> list[Part]:
        """A block of each tick stream of a selection, as dense as a second of it at a million records/s."""
        if SPECS[selection.schema].kind != "tick":
            return []
        model = Market(self._seed, rate=1_000_000, universe=self._universe)
        (session,) = sessions_between("always", at_ns, at_ns + 1)
        return [
            Part(stream.schema, stream, model.rows(stream, session, 0, records))
            for stream in self.streams(selection, trading_label(date_of_ns(at_ns)))
        ]

    def _find_streams(self, selection: Selection, label: date) -> tuple[Stream, ...]:
        contracts = {
            contract: None
            for symbol in selection.symbols
            for contract in self._universe.resolve(selection.dataset, symbol, selection.stype_in, label)
        }
        return tuple(Stream(selection.dataset, selection.schema, *contract) for contract in contracts)

    def _count_in(self, stream: Stream, session: Session, start_ns: int, end_ns: int) -> int:
        if start_ns <= session.start_ns and end_ns >= session.end_ns:
            return self.total(stream, session)
        tape = self._tape(stream, session)
        return tape.index_at(end_ns) - tape.index_at(start_ns)

    def rows(self, stream: Stream, session: Session, first: int, last: int) -> Rows:
        """The records of a stream's session with indexes in `[first, last)`."""
        spec = SPECS[stream.schema]
        return spec.encode(self._tape(stream, session).draw(first, last), place_of(stream, session))

    def total(self, stream: Stream, session: Session) -> int:
        """How many records a stream has in a whole session."""
        spec = SPECS[stream.schema]
        if spec.kind != "tick":
            return -(-(session.end_ns - session.start_ns) // spec.step_ns)
        if self._rate is not None:
            return self._rate * ((session.end_ns - session.start_ns) // 10**9)
        # From 75% to 125% of the ordinary by the day, and 90% to 110% of that by the stream.
        of_day = 7500 + mix(seed_of(self._seed, stream.dataset, session.label)) % 5001
        of_stream = 9000 + mix(self._place_seed(stream, session)) % 2001
        share = session_permille(_GROUPS[session.calendar], session.minutes)
        return self.ordinary_volume(stream) * of_day * of_stream * share // 10**11

    def ordinary_volume(self, stream: Stream) -> int:
        """The records of an ordinary session."""
        front = self._volumes.get((stream.schema, stream.product.name))
        if front is None:
            reference = REFERENCE_VOLUMES[calendar_of(stream.dataset)]
            front = reference.get(stream.schema, _DEFAULT_VOLUME) * stream.product.permille // 1000
        if stream.product.kind == "options":
            return front // 4
        return front if stream.rank == 0 else front * _NEXT_PERMILLE // 1000

    def _place_seed(self, stream: Stream, session: Session) -> int:
        return seed_of(
            self._seed, stream.dataset, stream.schema, stream.product.name, stream.rank, session.label
        )

    def _build_tape(self, stream: Stream, session: Session) -> Tape:
        spec = SPECS[stream.schema]
        seed = self._place_seed(stream, session)
        if spec.kind != "tick":
            return GridTape(seed, session, spec.step_ns, stream.product)
        if self._rate is not None:
            minutes = (session.end_ns - session.start_ns) // MINUTE_NS
            return TickTape(seed, session.start_ns, 60 * self._rate * np.arange(minutes + 1), stream.product)
        weights = minute_weights(self._seed, stream.dataset, _GROUPS[session.calendar], session, seed)
        shares = np.concatenate([[0], np.cumsum(weights)])
        cumulative = self.total(stream, session) * shares // shares[-1]
        return TickTape(seed, session.start_ns, cumulative, stream.product)


def _as_snapshot(rows: Rows, at_ns: int) -> Rows:
    rows["action"] = b"A"
    rows["flags"] = F_SNAPSHOT
    rows["flags"][-1] = F_SNAPSHOT | F_LAST
    rows["ts_recv"] = at_ns
    return rows


def symbol_label(session: Session) -> date:
    """The label whose contracts a session trades."""
    return trading_label(session.label)


def place_of(stream: Stream, session: Session) -> Place:
    """Whose records a stream's are in a session."""
    raw = raw_symbol(stream.product, stream.rank, symbol_label(session))
    return Place(
        publisher_of(stream.dataset),
        instrument_id(stream.dataset, raw),
        stream.product.tick,
        raw,
        session.label.toordinal(),
    )
