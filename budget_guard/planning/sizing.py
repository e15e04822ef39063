"""How large a stream's month is: the user's own figure, else samples of the past, else (offline) a bundled profile.

Each way gives the same value, a forecast of sized windows, or says why there is none. No way ever scales a size by a
number of hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.model import Interval, Session, Window
from budget_guard.money import GIB
from budget_guard.planning.asking import Desk
from budget_guard.planning.calendar import Calendar, MarketFacts
from budget_guard.planning.model import Forecast, Quantiles, SizedWindow, Unknown
from budget_guard.planning.profiles import find_profiles, front_root
from budget_guard.planning.sampling import (
    LOOKBACK,
    TOO_FEW,
    WindowShape,
    ordinary_labels,
    quantiles,
    sample_spans,
    shape_of,
)
from budget_guard.planning.shapes import session_share
from budget_guard.policy.model import Stream
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import aligned, make_chunks

_HOW_TO_SIZE = (
    "set DATABENTO_API_KEY to size it from past sessions, plan with --offline where a profile is bundled, "
    "or write `volume: {gib_per_session: ...}`"
)
_ASSUMED_SHAPE = "windows within a session are sized by an assumed intraday shape"
_UPPER_BOUND = "a session cut short is sized as a full one: an upper bound"
_DATED = (
    "a dated contract was quieter in its past than it will be as the front one: sample the continuous symbol"
)
_CHUNKS = "sized in {} parts of its {} symbols: an upper bound where symbols of two parts name one instrument"
_SAME_QUANTILES = "one figure per session: p50 and p90 are the same"


@dataclass(frozen=True, slots=True)
class Sizing:
    """Everything that sizes are made from. `desk` None: the vendor is not asked."""

    calendar: Calendar
    timezone: str
    offline: bool
    desk: Desk | None

    def forecast(self, stream: Stream, windows: Sequence[Window]) -> Forecast | Unknown:
        """The sizes of a stream's windows, or why they are not known."""
        if not windows:
            return Forecast((), "user", "no windows in this month")
        try:
            market = self.calendar.market_of(stream)
            if stream.gib_per_session is not None:
                return self._by_user(stream, windows, market)
            if self.offline:
                return self._by_profile(stream, windows, market)
            if self.desk is not None:
                return self._by_samples(self.desk, stream, windows, market)
        except CalendarUnknown as error:
            return Unknown("calendar_unknown", str(error))
        return Unknown("size_unknown", f"the volume of '{stream.name}' is not known: {_HOW_TO_SIZE}")

    def _by_user(self, stream: Stream, windows: Sequence[Window], market: MarketFacts) -> Forecast | Unknown:
        assert stream.gib_per_session is not None
        session_bytes = Fraction(stream.gib_per_session) * GIB
        sized = self._spread(session_bytes, windows, market)
        if isinstance(sized, Unknown):
            return sized
        source = f"the policy's own figure, {stream.gib_per_session} GiB per full session"
        return Forecast(sized, "user", source, self._spread_notes(windows, market))

    def _by_profile(
        self, stream: Stream, windows: Sequence[Window], market: MarketFacts
    ) -> Forecast | Unknown:
        profiles = find_profiles(stream.dataset, stream.schema, stream.symbols, stream.stype_in)
        if profiles is None:
            what = f"{stream.dataset} {stream.schema} of {', '.join(stream.symbols[:5])} ({stream.stype_in})"
            return Unknown("size_unknown", f"no bundled profile fits {what}: {_HOW_TO_SIZE}")
        session_bytes = Fraction(sum(profile.session_bytes for profile in profiles))
        sized = self._spread(session_bytes, windows, market)
        if isinstance(sized, Unknown):
            return sized
        source = "; ".join(dict.fromkeys(profile.source for profile in profiles))
        return Forecast(sized, "profile", source, self._spread_notes(windows, market))

    def _spread(
        self, session_bytes: Fraction, windows: Sequence[Window], market: MarketFacts
    ) -> tuple[SizedWindow, ...] | Unknown:
        full = self._full_sessions(windows, market)
        sized = []
        for window in windows:
            share = _share(market.name, window, full)
            if share is None:
                return Unknown(
                    "size_unknown",
                    f"no intraday shape is known for market '{market.name}': only windows of whole sessions can be "
                    "sized from a figure per session",
                )
            size = session_bytes * share
            sized.append(SizedWindow(window, Quantiles(size, size)))
        return tuple(sized)

    def _spread_notes(self, windows: Sequence[Window], market: MarketFacts) -> tuple[str, ...]:
        full = self._full_sessions(windows, market)
        ordinary = set(ordinary_labels(full, market.zone))
        whole = {(session.open_utc, session.close_utc) for session in full}
        notes = [_SAME_QUANTILES]
        if any(window.session not in ordinary for window in windows):
            notes.append(_UPPER_BOUND)
        if any((window.open_utc, window.close_utc) not in whole for window in windows):
            notes.append(_ASSUMED_SHAPE)
        return tuple(notes)

    def _full_sessions(self, windows: Sequence[Window], market: MarketFacts) -> list[Session]:
        labels = [window.session for window in windows]
        return self.calendar.sessions(market.name, "full", min(labels), max(labels))

    def _by_samples(
        self, desk: Desk, stream: Stream, windows: Sequence[Window], market: MarketFacts
    ) -> Forecast | Unknown:
        available = desk.available(stream.dataset, stream.schema)
        if isinstance(available, Unknown):
            return available
        spans = self._spans(stream, windows, market, available)
        few = next((shape for shape, found in spans.items() if len(found) < TOO_FEW), None)
        if few is not None:
            return Unknown(
                "size_unknown",
                f"fewer than {TOO_FEW} complete past sessions to compare the window {few.open_time:%H:%M}-"
                f"{few.close_time:%H:%M} with: {_HOW_TO_SIZE}",
            )
        ranges = {shape: [sample_ranges(stream, span) for span in found] for shape, found in spans.items()}
        asked = [group for found in ranges.values() for group in found]
        sizes = desk.sizes(asked)
        if isinstance(sizes, Unknown):
            return sizes
        if not any(sizes):
            return Unknown(
                "size_unknown",
                f"the vendor has no data of '{stream.name}' in {len(sizes)} comparable past windows: check its symbols",
            )
        answers = iter(sizes)
        by_shape = {shape: quantiles([next(answers) for _ in found]) for shape, found in ranges.items()}
        sized = tuple(SizedWindow(window, by_shape[shape_of(window, market.zone)]) for window in windows)
        notes = [_DATED] if _is_dated(stream) else []
        if len(asked[0]) > 1:
            notes.append(_CHUNKS.format(len(asked[0]), len(stream.symbols)))
        return Forecast(
            sized, "sampled", _sample_source(ranges), tuple(notes), asked_utc=desk.sizes_asked_utc(asked)
        )

    def _spans(
        self, stream: Stream, windows: Sequence[Window], market: MarketFacts, available: Interval
    ) -> dict[WindowShape, list[Interval]]:
        last = available.end_utc.astimezone(market.zone).date()
        first = last - LOOKBACK
        sessions = self.calendar.sessions(market.name, "full", first, last)
        own = self.calendar.list_windows(stream, self.timezone, first, last)
        shapes = {shape_of(window, market.zone) for window in windows}

        def fits(span: Interval) -> bool:
            asked = sample_ranges(stream, span)[0]
            return available.start_utc <= asked.start_utc and asked.end_utc <= available.end_utc

        return sample_spans(shapes, own, sessions, fits, market.zone)


def ranges_of(stream: Stream, span: Interval) -> tuple[DataRange, ...]:
    """A stream's data in a span, exactly: what is priced and what would be requested, 2,000 symbols at a time."""
    return make_chunks(
        stream.dataset, stream.schema, stream.symbols, stream.stype_in, span.start_utc, span.end_utc
    )


def sample_ranges(stream: Stream, span: Interval) -> tuple[DataRange, ...]:
    """What the vendor is asked to size: the same, widened to the steps in which its figures are exact."""
    return tuple(aligned(exact) for exact in ranges_of(stream, span))


def _is_dated(stream: Stream) -> bool:
    return stream.dataset == "GLBX.MDP3" and any(
        front_root(symbol, stream.stype_in) for symbol in stream.symbols if stream.stype_in == "raw_symbol"
    )


def _share(market: str, window: Window, full: Sequence[Session]) -> Fraction | None:
    span = Interval(window.open_utc, window.close_utc)
    total = Fraction(0)
    for session in full:
        if session.label == window.session:
            share = session_share(market, span, Interval(session.open_utc, session.close_utc))
            if share is None:
                return None
            total += share
    return total


def _sample_source(ranges: dict[WindowShape, list[tuple[DataRange, ...]]]) -> str:
    asked = [one for found in ranges.values() for group in found for one in group]
    fewest = min(len(found) for found in ranges.values())
    first = min(one.start_utc for one in asked).date()
    last = max(one.end_utc for one in asked).date()
    return f"get_billable_size of {fewest} comparable past sessions, {first} to {last}"
