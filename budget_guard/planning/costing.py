"""What a stream's month costs: size x price, and nothing more where a plan includes the data. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

from budget_guard.markets.model import Interval, Window
from budget_guard.money import GIB, NANO
from budget_guard.planning.model import Cost, Forecast, Quantiles, SizedWindow, Unknown
from budget_guard.planning.sizing import ranges_of
from budget_guard.policy.model import Stream
from budget_guard.pricing.book import PriceBook
from budget_guard.pricing.history import included_history
from budget_guard.pricing.model import UnitPrice


@dataclass(frozen=True, slots=True)
class Costed:
    """A price, the forecast with what is included marked, and the cost; None where unknown."""

    price: UnitPrice | None
    forecast: Forecast | Unknown
    cost: Cost | None
    notes: tuple[str, ...] = ()


def cost_of(size_bytes: Quantiles, price: UnitPrice) -> Cost:
    """What sizes cost at a price, rounded up to the nano-dollar once."""
    nano_per_byte = Fraction(price.usd_per_gib) * NANO / GIB
    return Cost(_ceiling(size_bytes.p50 * nano_per_byte), _ceiling(size_bytes.p90 * nano_per_byte))


def _ceiling(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)


def cost_stream(
    stream: Stream, windows: Sequence[Window], forecast: Forecast | Unknown, book: PriceBook, now: datetime
) -> Costed:
    """The month of a stream whose data flows in `windows`.

    Data that a plan includes costs nothing more, however much it is; for anything else price and size must be known.
    """
    if stream.mode == "historical":
        included = included_windows(stream, windows, book, now)
        if included:
            return _partly_included(stream, windows, forecast, book, included)
    price = book.price(stream.dataset, stream.schema, stream.mode)
    if price is not None and price.kind == "plan":
        return Costed(price, forecast, Cost(0, 0))
    return Costed(price, forecast, _cost(forecast, price))


def included_windows(
    stream: Stream, windows: Sequence[Window], book: PriceBook, now: datetime
) -> frozenset[Window]:
    """The windows whose history a plan of the account includes whole, each asked for as soon as it can be."""
    return frozenset(window for window in windows if _is_included(stream, window, book, now))


def _is_included(stream: Stream, window: Window, book: PriceBook, now: datetime) -> bool:
    asked_for = max(now, window.close_utc)
    for data_range in ranges_of(stream, Interval(window.open_utc, window.close_utc)):
        parts = book.price_range(data_range, asked_for)
        if parts is None or any(part.price.kind != "plan" for part in parts):
            return False
    return True


def _partly_included(
    stream: Stream,
    windows: Sequence[Window],
    forecast: Forecast | Unknown,
    book: PriceBook,
    included: frozenset[Window],
) -> Costed:
    reach = included_history(stream.dataset, book.flat[stream.dataset], stream.schema)
    assert reach is not None
    if len(included) == len(windows):
        price = book.included_price(stream.dataset, stream.schema)
        note = f"included as long as it is asked for within {reach.text} of its day"
        return Costed(price, forecast, Cost(0, 0), (note,))
    price = book.price(stream.dataset, stream.schema, "historical")
    if not isinstance(forecast, Unknown):
        forecast = replace(forecast, windows=tuple(_marked(sized, included) for sized in forecast.windows))
    note = (
        f"{len(included)} of {len(windows)} windows lie whole within the {reach.text} of history that the "
        f"{book.flat[stream.dataset]} plan includes; the others are priced"
    )
    return Costed(price, forecast, _cost(forecast, price), (note,))


def _marked(sized: SizedWindow, included: frozenset[Window]) -> SizedWindow:
    return replace(sized, included=sized.window in included)


def _cost(forecast: Forecast | Unknown, price: UnitPrice | None) -> Cost | None:
    if price is None or isinstance(forecast, Unknown):
        return None
    return cost_of(forecast.billed_bytes, price)
