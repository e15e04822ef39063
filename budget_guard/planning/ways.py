"""What would make a month cheaper: fewer hours, a day's patience, or a smaller schema."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.model import Window
from budget_guard.planning.costing import cost_of
from budget_guard.planning.model import Cost, Forecast, StreamPlan, Unknown, Way, WayDown
from budget_guard.planning.sizing import Sizing
from budget_guard.policy.model import SessionClause, Stream
from budget_guard.pricing.book import PriceBook
from budget_guard.pricing.model import UnitPrice


@dataclass(frozen=True, slots=True)
class Ways:
    """Looks for cheaper ways to have a metered live stream, and sizes each as the stream itself is sized."""

    sizing: Sizing
    book: PriceBook
    first: date
    last: date
    notes: list[str] = field(default_factory=list)  # what could not be compared, and why

    def of(self, stream: Stream, planned: StreamPlan) -> Iterator[WayDown]:
        """Every way that is known to cost less, the largest saving first."""
        if planned.cost is None or planned.cost.p50 == 0 or planned.price is None or stream.mode != "live":
            return
        found = [*self._regular_hours(stream, planned), *self._next_day(stream, planned)]
        for schema in stream.cheaper:
            found += self._schema(stream, planned, schema)
        yield from sorted(found, key=lambda way: -way.saves.p50)

    def _regular_hours(self, stream: Stream, planned: StreamPlan) -> Iterator[WayDown]:
        assert planned.price is not None
        narrower = replace(stream, windows=(SessionClause("regular"),))
        try:
            regular = self._windows(narrower)
        except CalendarUnknown:
            return
        if not reaches_beyond(planned.windows or (), regular):
            return
        inside = self.sizing.forecast(narrower, regular)
        yield from self._way(stream, planned, "regular_hours", "regular hours only", inside, planned.price)

    def _next_day(self, stream: Stream, planned: StreamPlan) -> Iterator[WayDown]:
        price = self.book.price(stream.dataset, stream.schema, "historical")
        if price is not None and planned.forecast is not None:
            text = "the same windows the day after, as historical data"
            yield from self._way(stream, planned, "next_day_historical", text, planned.forecast, price)

    def _schema(self, stream: Stream, planned: StreamPlan, schema: str) -> Iterator[WayDown]:
        price = self.book.price(stream.dataset, schema, "live")
        if planned.forecast is None:
            return
        # The user's own figure speaks of the stream's schema and of no other.
        other = replace(stream, schema=schema, gib_per_session=None)
        windows = [sized.window for sized in planned.forecast.windows]
        forecast = self.sizing.forecast(other, windows)
        if price is None or isinstance(forecast, Unknown):
            missing = "price" if price is None else "size"
            self.notes.append(f"'{stream.name}' as {schema} is not compared: its {missing} is not known")
        else:
            text = f"schema {schema} instead"
            yield from self._way(stream, planned, "cheaper_schema", text, forecast, price)

    def _windows(self, stream: Stream) -> list[Window]:
        return self.sizing.calendar.list_windows(stream, self.sizing.timezone, self.first, self.last)

    def _way(
        self,
        stream: Stream,
        planned: StreamPlan,
        way: Way,
        text: str,
        forecast: Forecast | Unknown,
        price: UnitPrice,
    ) -> Iterator[WayDown]:
        """The way, unless its size is unknown or it saves nothing."""
        assert planned.cost is not None
        if isinstance(forecast, Unknown):
            return
        cost = cost_of(forecast.size_bytes, price)
        saves = Cost(planned.cost.p50 - cost.p50, planned.cost.p90 - cost.p90)
        if saves.p50 > 0:
            yield WayDown(stream.name, way, text, forecast.size_bytes, price, cost, saves, forecast.notes)


def reaches_beyond(windows: Iterable[Window], inner: Sequence[Window]) -> bool:
    """Whether any window has an instant outside all the inner ones, which are in order and do not overlap."""
    opens = [window.open_utc for window in inner]
    for window in windows:
        index = bisect_right(opens, window.open_utc) - 1
        if index < 0 or window.close_utc > inner[index].close_utc:
            return True
    return False
