"""A month before it is spent: every stream's windows, sizes and cost, the fees, the budgets, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from budget_guard.clock import month_bounds
from budget_guard.errors import CalendarUnknown
from budget_guard.markets.model import Window
from budget_guard.money import nano_from_usd
from budget_guard.planning.asking import Desk, Metadata, Progress
from budget_guard.planning.calendar import Calendar, flowing, market_calendar, month_labels
from budget_guard.planning.costing import cost_stream
from budget_guard.planning.fixed import fixed_lines, fixed_total_usd
from budget_guard.planning.limits import braking, limit_rows, verdict_of
from budget_guard.planning.model import Cost, LimitRow, Plan, StreamPlan, Unknown
from budget_guard.planning.prices import book_of, why_no_price
from budget_guard.planning.sizing import Sizing
from budget_guard.planning.ways import Ways
from budget_guard.policy.model import Policy, Stream
from budget_guard.pricing.book import PriceBook

_ON_DEMAND = "no windows: planned as one purchase of every full session"
_ALWAYS = "always connected; data is expected in the market's full sessions only"


def plan(
    policy: Policy,
    month: str,
    *,
    now: datetime,
    vendor: Metadata | None = None,
    offline: bool = False,
    calendar: Calendar | None = None,
    progress: Progress | None = None,
) -> Plan:
    """The plan of a billing month, `YYYY-MM`.

    A session belongs to the month of its label. With a `vendor` (a `VendorClient`), sizes are sampled from comparable
    past sessions and prices are the account's own; `offline` uses bundled profiles and prices and asks nobody.
    What cannot be known is None in the plan, with a reason, and never zero.

    Raises ValueError for a month that is not one, KeyRejected and PaymentRequired when the vendor says so.
    """
    first, last = month_labels(month)
    desk = None if vendor is None or offline else Desk(vendor, now, progress)
    book = book_of(policy.account, _datasets(policy), desk)
    sizing = Sizing(calendar or market_calendar(), policy.timezone, offline, desk)
    work = _Work(policy, first, last, book, sizing, now)
    streams = tuple(work.stream_plan(stream) for stream in policy.streams.values())
    fixed = fixed_lines(policy.account, policy.streams.values(), first)
    fixed_usd = fixed_total_usd(fixed)
    rows = limit_rows(policy, streams, fixed)
    total = _total(fixed_usd, streams)
    ways = Ways(sizing, book, first, last)
    ways_down = tuple(
        way
        for stream, planned in zip(policy.streams.values(), streams, strict=True)
        for way in ways.of(stream, planned)
    )
    asked = [] if desk is None else desk.notes
    return Plan(
        policy=policy.name,
        month=month,
        generated_utc=now,
        source=_source(desk, offline),
        timezone=policy.timezone,
        streams=streams,
        fixed=fixed,
        fixed_usd=fixed_usd,
        total=total,
        budgets=rows,
        verdict=verdict_of(total is not None, rows),
        ways_down=ways_down,
        notes=tuple(dict.fromkeys([*_notes(month, streams, rows), *asked, *ways.notes])),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """What the plan of each stream is made with."""

    policy: Policy
    first: date
    last: date
    book: PriceBook
    sizing: Sizing
    now: datetime

    def stream_plan(self, stream: Stream) -> StreamPlan:
        """One stream's month. Each figure stands on its own: a missing price leaves the size known."""
        windows = self._windows(stream)
        carrying = windows if isinstance(windows, Unknown) else self._carrying(stream, windows)
        forecast = (
            carrying if isinstance(carrying, Unknown) else self.sizing.forecast(flowing(stream), carrying)
        )
        costed = cost_stream(
            stream, () if isinstance(carrying, Unknown) else carrying, forecast, self.book, self.now
        )
        forecast, price = costed.forecast, costed.price
        unknown = (
            [] if price is not None else [why_no_price(self.book, stream.dataset, stream.schema, stream.mode)]
        )
        if isinstance(forecast, Unknown):
            unknown.append(forecast)
        notes = () if isinstance(forecast, Unknown) else forecast.notes
        return StreamPlan(
            name=stream.name,
            dataset=stream.dataset,
            schema=stream.schema,
            mode=stream.mode,
            windows=None if isinstance(windows, Unknown) else tuple(windows),
            forecast=None if isinstance(forecast, Unknown) else forecast,
            price=price,
            cost=costed.cost,
            unknown=tuple(unknown),
            notes=(*notes, *costed.notes, *_stream_notes(stream)),
        )

    def _windows(self, stream: Stream) -> list[Window] | Unknown:
        on_demand = stream.mode == "historical" and not stream.windows
        listed = flowing(stream) if on_demand else stream
        try:
            return self.sizing.calendar.list_windows(listed, self.policy.timezone, self.first, self.last)
        except CalendarUnknown as error:
            return Unknown("calendar_unknown", str(error))

    def _carrying(self, stream: Stream, windows: list[Window]) -> list[Window] | Unknown:
        """The windows in which the stream's bytes flow: its own, or full sessions where it has no hours of its own."""
        carrying = flowing(stream)
        if carrying is stream:
            return windows
        try:
            return self.sizing.calendar.list_windows(carrying, self.policy.timezone, self.first, self.last)
        except CalendarUnknown as error:
            return Unknown("calendar_unknown", str(error))


def _total(fixed_usd: Decimal | None, streams: Sequence[StreamPlan]) -> Cost | None:
    costs = [stream.cost for stream in streams]
    if fixed_usd is None or any(cost is None for cost in costs):
        return None
    fixed = nano_from_usd(fixed_usd)
    known = [cost for cost in costs if cost is not None]
    return Cost(fixed + sum(cost.p50 for cost in known), fixed + sum(cost.p90 for cost in known))


def _datasets(policy: Policy) -> list[str]:
    return list(dict.fromkeys(stream.dataset for stream in policy.streams.values()))


def _source(desk: Desk | None, offline: bool) -> str:
    if offline:
        return "the policy's figures, bundled profiles and the bundled price sheet (offline)"
    if desk is None:
        return "the policy's figures and the bundled price sheet (no key)"
    if desk.is_down:
        return (
            f"the policy's figures and the bundled price sheet ({desk.vendor.gateway} could not be reached)"
        )
    return f"the vendor's metadata at {desk.vendor.gateway}"


def _stream_notes(stream: Stream) -> tuple[str, ...]:
    if flowing(stream) is stream:
        return ()
    return (_ALWAYS if stream.windows else _ON_DEMAND,)


def _notes(month: str, streams: Sequence[StreamPlan], rows: Sequence[LimitRow]) -> list[str]:
    notes = [
        f"the {row.period} limit of budget '{row.budget}' ({row.unit}) is below what the largest {row.period} uses: "
        "the guard will cut it there, and starts nothing where less is left than a connection keeps for its ending"
        for row in braking(rows)
    ]
    if any(stream.forecast is not None and stream.forecast.grade == "sampled" for stream in streams):
        notes.append("sizes are sampled over windows widened to ten minutes: slightly above the windows' own")
    start_utc, end_utc = month_bounds(month)
    if any(
        window.open_utc < start_utc or window.close_utc > end_utc
        for stream in streams
        for window in stream.windows or ()
    ):
        notes.append(
            "a session is planned in the month of its label; hours of the first or last one may be billed in the "
            "UTC month next to it"
        )
    return notes
