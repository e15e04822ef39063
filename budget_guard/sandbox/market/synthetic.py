"""The synthetic market: how many records there are between any two instants, and which.

Every record has a place: its stream (schema and contract), its session and its index in it. Its time and its values
are functions of that place and the seed. Sizes, costs, downloads, live records and replays all ask the same
functions, so they agree to the byte, and no answer needs more than one session's table of minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import lru_cache

import numpy as np

from budget_guard.sandbox.market.model import Instrument, Part, Selection
from budget_guard.sandbox.market.orders import (
    OrderTape,
    book_window,
    resting_orders,
    snapshot_rows,
)
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.reference import imbalance_intervals, statistic_events, status_events
from budget_guard.sandbox.market.runs import Rows, Run, Scene
from budget_guard.sandbox.market.seeds import Int64s, seed_of
from budget_guard.sandbox.market.sessions import (
    ALWAYS,
    MINUTE_NS,
    Session,
    date_of_ns,
    days_calendar,
    session_on,
    sessions_between,
    trading_label,
)
from budget_guard.sandbox.market.shapes import (
    day_permille,
    minute_weights,
    open_hours,
    session_permille,
)
from budget_guard.sandbox.market.tapes import EventTape, GridTape, Tape, TickTape
from budget_guard.sandbox.market.universe import Stream, Universe, calendar_of, publisher_of

# Records of an ordinary session of the dataset's reference product (NQ, SPY). NQ mbo 0.44 GB and trades 12 MB a day
# were measured in 2026; mbp-1 is a quarter of 3 GB for ES, MES, NQ and MNQ together; the rest is assumed.
REFERENCE_VOLUMES = {
    "cme": {"mbo": 7_860_000, "mbp-1": 9_400_000, "mbp-10": 9_400_000, "trades": 250_000},
    "us": {"mbo": 3_000_000, "mbp-1": 1_500_000, "cmbp-1": 20_000_000, "trades": 400_000},
}
_DEFAULT_VOLUME = 500_000
# Measured: ES trades 22 MB a session (2022), MNQ tbbo 2.6 GiB a month (2026).
PRODUCT_VOLUMES = {("trades", "ES"): 458_000, ("trades", "MNQ"): 1_660_000}
# The volumes of the futures of a root by rank, in thousandths of the front one's; assumed. Options share evenly.
_RANK_PERMILLE = (1000, 20, 5, 2)
# Statuses and statistics come up to an hour before and after their session.
_AROUND_NS = 60 * MINUTE_NS
_SATURDAY = 5


class Market:
    """All streams of a seed.

    `volumes` maps (schema, product) to the records of an ordinary session of its front contract; trades, tbbo and
    tcbbo are the same events, so a volume of one is that of all three.

    With a `rate` the tick schemas run at that many records/s of each contract, around the clock, from `since_ns` on
    (None: always; else the whole minute it lies in); up to then, and in every other schema, it is the ordinary market:
    bars and statistics are made for its hours and its volumes. A session of that pace is a UTC day. With a rate of 0
    the tick schemas have no records from then on: those of `blocks` belong to whoever sends them.
    """

    def __init__(
        self,
        seed: int,
        volumes: Mapping[tuple[str, str], int] | None = None,
        rate: int | None = None,
        universe: Universe | None = None,
        since_ns: int | None = None,
    ) -> None:
        self._seed = seed
        self._volumes = {**PRODUCT_VOLUMES}
        for (schema, product), records in (volumes or {}).items():
            self._volumes[SPECS[schema].family, product] = records
        self._rate = rate
        self._since_ns = 0 if since_ns is None else since_ns // MINUTE_NS * MINUTE_NS
        self._universe = universe or Universe()
        self._tape = lru_cache(maxsize=2048)(self._build_tape)
        self._total = lru_cache(maxsize=65_536)(self._find_total)
        self._whole = lru_cache(maxsize=8192)(self._add_up)
        self._streams_on = lru_cache(maxsize=512)(self._find_streams)

    def resolve(self, dataset: str, symbol: str, stype_in: str, day: date) -> tuple[Instrument, ...]:
        """The instruments that a symbol stands for on a UTC day; empty when it stands for none."""
        found = self._universe.resolve(dataset, symbol, stype_in, trading_label(day))
        return tuple(Instrument(one.raw_symbol, one.instrument_id) for one in found)

    def describe(self, dataset: str) -> str:
        """Nothing: it has too many products to name them in an error."""
        return ""

    def trading_days(self, dataset: str, first: date, last: date) -> list[date]:
        """The UTC days from `first` to `last`, both included, on which a dataset's market is open at some time."""
        calendar = days_calendar(calendar_of(dataset))
        days = (first + timedelta(days=offset) for offset in range((last - first).days + 1))
        return [day for day in days if session_on(calendar, day) is not None]

    def streams(self, selection: Selection, label: date) -> tuple[Stream, ...]:
        """The streams that a selection stands for in a session, each once."""
        return self._streams_on(selection, label)

    def sessions(self, dataset: str, schema: str, start_ns: int, end_ns: int) -> Iterator[Session]:
        """The sessions in which a schema can have records between two instants."""
        calendar, kind = calendar_of(dataset), SPECS[schema].kind
        if kind == "day":
            yield from sessions_between(days_calendar(calendar), start_ns, end_ns)
        elif kind == "event":
            yield from sessions_between(calendar, start_ns - _AROUND_NS, end_ns + _AROUND_NS)
        elif kind == "grid" or self._rate is None:
            yield from sessions_between(calendar, start_ns, end_ns)
        else:
            if start_ns < self._since_ns:
                yield from sessions_between(calendar, start_ns, min(end_ns, self._since_ns))
            if end_ns > self._since_ns:
                for day in sessions_between(ALWAYS, max(start_ns, self._since_ns), end_ns):
                    yield replace(day, start_ns=max(day.start_ns, self._since_ns))

    def count(self, selection: Selection, start_ns: int, end_ns: int) -> int:
        """How many records a selection has in `[start_ns, end_ns)`."""
        return sum(
            self._count_in(selection, session, start_ns, end_ns)
            for session in self.sessions(selection.dataset, selection.schema, start_ns, end_ns)
        )

    def parts(self, selection: Selection, start_ns: int, end_ns: int) -> list[Part]:
        """The records of a selection in `[start_ns, end_ns)`, each stream's of each session apart."""
        parts = []
        for session in self.sessions(selection.dataset, selection.schema, start_ns, end_ns):
            for stream in self.streams(selection, symbol_label(session)):
                first, last = self._indexes(stream, session, start_ns, end_ns)
                if last > first:
                    parts.append(Part(stream.schema, stream, self.rows(stream, session, first, last)))
        return parts

    def snapshot(self, selection: Selection, at_ns: int) -> list[Part]:
        """The order books of an mbo selection at an instant: a Clear, then an Add for each order that rests.

        They hold what comes before `at_ns`; `parts` from `at_ns` on goes on from there. Empty while the market is
        closed.
        """
        parts = []
        for session in self.sessions(selection.dataset, selection.schema, at_ns, at_ns + 1):
            for stream in self.streams(selection, symbol_label(session)):
                _, last = self._indexes(stream, session, at_ns, at_ns)
                if self.total(stream, session):
                    clear = self.rows(stream, session, 0, 1)
                    before = self.rows(stream, session, book_window(last), last) if last else clear
                    rows = snapshot_rows(clear, resting_orders(before), at_ns)
                    parts.append(Part(stream.schema, (stream, "snapshot", at_ns), rows))
        return parts

    def blocks(self, selection: Selection, at_ns: int, records: int) -> list[Part]:
        """A block of each tick stream of a selection, as dense as a second of it at a million records/s."""
        if SPECS[selection.schema].kind != "tick":
            return []
        model = Market(self._seed, rate=1_000_000, universe=self._universe)
        (session,) = sessions_between(ALWAYS, at_ns, at_ns + 1)
        return [
            Part(stream.schema, stream, model.rows(stream, session, 0, records))
            for stream in self.streams(selection, trading_label(date_of_ns(at_ns)))
        ]

    def rows(self, stream: Stream, session: Session, first: int, last: int) -> Rows:
        """The records of a stream's session with indexes in `[first, last)`."""
        tape = self._tape(stream, session)
        return SPECS[stream.schema].encode(
            Run(self._scene(stream, session), tape, first, last, tape.stamps(first, last))
        )

    def total(self, stream: Stream, session: Session) -> int:
        """How many records a stream has in a whole session."""
        return self._total(stream, session)

    def ordinary_volume(self, stream: Stream) -> int:
        """The records of an ordinary full session of a tick stream."""
        product, family = stream.product, SPECS[stream.schema].family
        front = self._volumes.get((family, product.name))
        if front is None:
            reference = REFERENCE_VOLUMES[calendar_of(stream.dataset)]
            front = reference.get(family, _DEFAULT_VOLUME) * product.permille // 1000
        if product.kind == "options":
            return front // product.contracts
        return front * _RANK_PERMILLE[stream.rank] // 1000

    def _find_streams(self, selection: Selection, label: date) -> tuple[Stream, ...]:
        places = {
            (one.product, one.rank): None
            for symbol in selection.symbols
            for one in self._universe.resolve(selection.dataset, symbol, selection.stype_in, label)
        }
        return tuple(Stream(selection.dataset, selection.schema, *place) for place in places)

    def _count_in(self, selection: Selection, session: Session, start_ns: int, end_ns: int) -> int:
        around_ns = _AROUND_NS if SPECS[selection.schema].kind == "event" else 0
        covered_ns = self._bounded(selection.schema, session, end_ns)
        if start_ns <= session.start_ns - around_ns and covered_ns >= session.end_ns + around_ns:
            return self._whole(selection, session)
        found = (
            self._indexes(stream, session, start_ns, end_ns)
            for stream in self.streams(selection, symbol_label(session))
        )
        return sum(last - first for first, last in found)

    def _add_up(self, selection: Selection, session: Session) -> int:
        return sum(self.total(stream, session) for stream in self.streams(selection, symbol_label(session)))

    def _indexes(self, stream: Stream, session: Session, start_ns: int, end_ns: int) -> tuple[int, int]:
        """The first record of a session that lies in an interval, and the first one after it."""
        tape = self._tape(stream, session)
        return tape.index_at(start_ns), tape.index_at(self._bounded(stream.schema, session, end_ns))

    def _bounded(self, schema: str, session: Session, end_ns: int) -> int:
        """The end of an interval; of an ordinary session no more is seen than what lies before the rate's start."""
        if self._rate is None or SPECS[schema].kind != "tick" or session.calendar == ALWAYS:
            return end_ns
        return min(end_ns, self._since_ns)

    def _scene(self, stream: Stream, session: Session) -> Scene:
        return Scene(
            stream.dataset,
            publisher_of(stream.dataset),
            stream.contract(symbol_label(session)),
            session,
            self._seed,
            self._own_seed(stream, session),
            lambda other: self._trades_by_minute(stream, other),
        )

    def _trades_by_minute(self, stream: Stream, session: Session) -> Int64s:
        tape = self._tape(replace(stream, schema="trades"), session)
        assert isinstance(tape, TickTape)
        return tape.cumulative

    def _own_seed(self, stream: Stream, session: Session) -> int:
        family = SPECS[stream.schema].family
        return seed_of(
            self._seed,
            stream.dataset,
            family,
            stream.product.name,
            stream.rank,
            session.calendar,
            session.label,
        )

    def _find_total(self, stream: Stream, session: Session) -> int:
        if SPECS[stream.schema].kind != "tick":
            return self._tape(stream, session).total
        if session.calendar == ALWAYS:
            return (self._rate or 0) * ((session.end_ns - session.start_ns) // 10**9)
        group = stream.product.group
        of_day = day_permille(self._seed, stream.dataset, group, stream.product.name, session.label)
        share = session_permille(group, session.minutes)
        return self.ordinary_volume(stream) * of_day * share // 10**6

    def _build_tape(self, stream: Stream, session: Session) -> Tape:
        spec = SPECS[stream.schema]
        if spec.kind == "tick":
            ticks = TickTape(
                self._own_seed(stream, session), session.start_ns, self._by_minute(stream, session)
            )
            return OrderTape(ticks) if stream.schema == "mbo" else ticks
        group = stream.product.group
        if spec.kind == "day":
            return EventTape(_day_events(stream, session))
        if spec.schema == "status":
            return EventTape(status_events(group, session)[0])
        if spec.schema == "statistics":
            return EventTape(statistic_events(group, session)[0])
        intervals = (imbalance_intervals if spec.schema == "imbalance" else open_hours)(group, session)
        return GridTape(intervals, spec.step_ns)

    def _by_minute(self, stream: Stream, session: Session) -> Int64s:
        """How many records a tick stream has before each minute of a session, and in all."""
        if session.calendar == ALWAYS:
            return 60 * (self._rate or 0) * np.arange(session.minutes + 1)
        own = self._own_seed(stream, session)
        weights = minute_weights(self._seed, stream.dataset, stream.product.group, session, own)
        shares = np.concatenate([[0], np.cumsum(weights)])
        by_minute: Int64s = self.total(stream, session) * shares // max(1, int(shares[-1]))
        return by_minute


def _day_events(stream: Stream, day: Session) -> Int64s:
    """The midnight of a UTC day that trades, if the stream has a record of it."""
    group = stream.product.group
    if stream.schema == "definition":
        listed = day.label.weekday() != _SATURDAY
    else:
        listed = any(
            opens < day.end_ns and closes > day.start_ns
            for session in sessions_between(calendar_of(stream.dataset), day.start_ns, day.end_ns)
            for opens, closes in open_hours(group, session)
        )
    return np.array([day.start_ns] if listed else [], dtype=np.int64)


def symbol_label(session: Session) -> date:
    """The label whose contracts a session trades."""
    return trading_label(session.label)
