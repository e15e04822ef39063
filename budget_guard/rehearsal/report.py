"""What was played, as a report: the ledger's word beside the sandbox's, and both beside the market."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from budget_guard.clock import month_bounds, ns_from_instant, parse_instant
from budget_guard.decisions import reason_from_json
from budget_guard.ledger.amounts import amount_from_count
from budget_guard.ledger.model import BalanceKey, Entry, Gap, Ledger, Refusal
from budget_guard.markets.model import Window
from budget_guard.money import cost_nano_usd, nano_from_usd
from budget_guard.policy.model import Budget, Limit, Policy, Stream
from budget_guard.rehearsal.model import Absence, FaultUse, Holdback, LimitUse, ProgramRun, Refused, Use
from budget_guard.rehearsal.play import Run

if TYPE_CHECKING:
    from budget_guard.sandbox.market.model import MarketData

_LIMIT_CODES = ("limit_reached", "would_exceed", "frozen")


@dataclass(frozen=True, slots=True)
class Played:
    """Everything that a rehearsal has left behind, of the windows that were played."""

    policy: Policy
    windows: tuple[Window, ...]
    runs: tuple[Run, ...]
    entries: tuple[Entry, ...]
    refusals: tuple[Refusal, ...]
    gaps: tuple[Gap, ...]
    bill: Mapping[str, Any]
    requests: Mapping[str, str]  # what each hold's client asked for, as JSON

    def session_at(self, instant: datetime) -> date:
        """The session of the run in which something happened, or of the last one before."""
        before = [run.span.session for run in self.runs if run.span.start_utc <= instant]
        return before[-1] if before else self.runs[0].span.session


def read_ledger(ledger: Ledger, account: str, months: Iterable[str]) -> tuple[Any, ...]:
    """The entries, refusals, gaps of some months, and what each hold was asked for."""
    entries: list[Entry] = []
    refusals: list[Refusal] = []
    gaps: list[Gap] = []
    for month in months:
        entries += ledger.entries(account, month)
        refusals += ledger.refusals(account, month)
        gaps += ledger.gaps(account, month)
    holds = {entry.hold_id: ledger.hold(entry.hold_id) for entry in entries}
    requests = {hold_id: hold.terms.request for hold_id, hold in holds.items() if hold is not None}
    return tuple(entries), tuple(refusals), tuple(gaps), requests


# --- what was used ------------------------------------------------------------------------------------------


def uses(played: Played, market: MarketData, streams: Sequence[Stream]) -> tuple[Use, ...]:
    """One row per session and stream, live and historical, in order."""
    rows: list[Use] = []
    for session in dict.fromkeys(run.span.session for run in played.runs):
        for stream in streams:
            windows = [w for w in played.windows if (w.session, w.stream) == (session, stream.name)]
            if windows:
                rows.append(_live_use(played, market, stream, session, windows))
        for stream in played.policy.streams.values():
            rows += _historical_use(played, stream, session)
    return tuple(rows)


def _live_use(
    played: Played, market: MarketData, stream: Stream, session: date, windows: Sequence[Window]
) -> Use:
    entries = [
        entry
        for entry in played.entries
        if (entry.stream, entry.mode) == (stream.name, "live")
        and any(window.open_utc <= entry.started_utc < window.close_utc for window in windows)
    ]
    lines = _lines(played.bill, "live", stream, [(w.open_utc, w.close_utc) for w in windows])
    delivered = sum(_records(entry) for entry in entries)
    asked = _asked(entries, played.requests) or stream
    there = sum(_count(market, asked, window.open_utc, window.close_utc) for window in windows)
    shared = _shared(played.policy, stream)
    return Use(
        session=session,
        stream=stream.name,
        mode="live",
        open_s=int(sum((w.close_utc - w.open_utc for w in windows), timedelta()).total_seconds()),
        connected_s=_covered_s([(entry.started_utc, entry.ended_utc) for entry in entries]),
        connections=len({entry.hold_id for entry in entries}) if shared else len(lines),
        size_bytes=sum(entry.size_bytes for entry in entries),
        spent_nano_usd=sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in entries),
        residual_nano_usd=sum(entry.residual_nano_usd for entry in entries),
        bill_nano_usd=None if shared else sum(_line_nano(line) for line in lines),
        delivered=delivered,
        missed=max(0, there - delivered),
    )


def _historical_use(played: Played, stream: Stream, session: date) -> list[Use]:
    entries = [
        entry
        for entry in played.entries
        if (entry.stream, entry.mode) == (stream.name, "historical")
        and played.session_at(entry.started_utc) == session
    ]
    if not entries:
        return []
    spent = sum(entry.cost_nano_usd + entry.residual_nano_usd for entry in entries)
    residual = sum(entry.residual_nano_usd for entry in entries)
    size = sum(entry.size_bytes for entry in entries)
    lines = [
        line
        for line in _lines(played.bill, "historical", stream, None)
        if played.session_at(parse_instant(line["opened_utc"])) == session
    ]
    bill = None if _shared(played.policy, stream) else sum(_line_nano(line) for line in lines)
    return [
        Use(session, stream.name, "historical", 0, 0, len(entries), size, spent, residual, bill, None, None)
    ]


# A stretch without a connection that is shorter is none to speak of.
_ABSENT_MIN = timedelta(seconds=1)


def absences(played: Played, streams: Sequence[Stream]) -> tuple[Absence, ...]:
    """Where a live stream had a window and no connection, and no replay made up for it."""
    found = []
    for stream in streams:
        covered = [
            (entry.started_utc, entry.ended_utc)
            for entry in played.entries
            if (entry.stream, entry.mode) == (stream.name, "live")
        ]
        covered += [(g.start_utc, g.end_utc) for g in played.gaps if g.stream == stream.name and g.mended]
        for window in played.windows:
            if window.stream == stream.name:
                bare = uncovered(window.open_utc, window.close_utc, covered)
                found += [Absence(stream.name, start, end) for start, end in bare]
    return tuple(found)


def uncovered(
    start: datetime, end: datetime, spans: Iterable[tuple[datetime, datetime]]
) -> list[tuple[datetime, datetime]]:
    """What of `[start, end)` lies in none of the spans, but for moments."""
    bare = []
    until = start
    for begin, finish in [*sorted(spans), (end, end)]:
        if min(begin, end) - until >= _ABSENT_MIN:
            bare.append((until, min(begin, end)))
        until = max(until, finish)
    return bare


def fault_uses(listing: Mapping[str, Any]) -> tuple[FaultUse, ...]:
    """What came of every fault, from the sandbox's own list."""
    strikes: dict[int, list[datetime]] = {}
    for row in listing["struck"]:
        strikes.setdefault(row["number"], []).append(parse_instant(row["at_utc"]))
    return tuple(
        FaultUse(
            row["number"],
            row["fault"],
            parse_instant(row["at_utc"]),
            row["struck"],
            min(strikes.get(row["number"], ()), default=None),
            max(strikes.get(row["number"], ()), default=None),
        )
        for row in listing["faults"]
    )


def holdbacks(played: Played, *, here_bytes: int, network_bytes: int) -> tuple[Holdback, ...]:
    """What a connection of each live stream held for its ending, at the dearest price that it had."""
    prices: dict[str, Decimal] = {}
    for entry in played.entries:
        if entry.mode == "live" and entry.stream is not None:
            prices[entry.stream] = max(prices.get(entry.stream, Decimal(0)), entry.unit_price_usd)
    return tuple(
        Holdback(
            stream,
            here_bytes,
            cost_nano_usd(here_bytes, price),
            network_bytes,
            cost_nano_usd(network_bytes, price),
        )
        for stream, price in prices.items()
    )


def _records(entry: Entry) -> int:
    """The market's records of an entry: all of one size, unless the client asked for the time of sending too."""
    from budget_guard.pricing.sheet import RECORD_BYTES, TS_OUT_BYTES

    size = entry.size_bytes - entry.control_bytes
    record = RECORD_BYTES.get(entry.schema)
    if not record:
        return 0
    stamped = record + TS_OUT_BYTES
    return size // stamped if size % record and size % stamped == 0 else size // record


def _asked(entries: Sequence[Entry], requests: Mapping[str, str]) -> Stream | None:
    """What the program subscribed to, which may be less than its stream allows."""
    symbols: dict[str, None] = {}
    stream: dict[str, Any] = {}
    for entry in entries:
        stream = json.loads(requests.get(entry.hold_id, "{}"))
        symbols |= dict.fromkeys(stream.get("symbols", ()))
    if not symbols:
        return None
    return Stream("", stream["dataset"], stream["schema"], tuple(symbols), stream["stype_in"])


def _count(market: MarketData, stream: Stream, start: datetime, end: datetime) -> int:
    """How many records the market publishes in an interval: a bar only when its interval is over."""
    from budget_guard.sandbox.market.model import Selection
    from budget_guard.sandbox.market.records import SPECS

    spec = SPECS.get(stream.schema)
    if spec is None:
        return 0
    selection = Selection(stream.dataset, stream.schema, stream.symbols, stream.stype_in)
    return market.count(selection, ns_from_instant(start) - spec.lag_ns, ns_from_instant(end) - spec.lag_ns)


def _covered_s(spans: Iterable[tuple[datetime, datetime]]) -> int:
    """The length of a union."""
    total, until = timedelta(), datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(spans):
        total += max(timedelta(), end - max(start, until))
        until = max(until, end)
    return int(total.total_seconds())


def _shared(policy: Policy, stream: Stream) -> bool:
    """Whether the bill cannot tell this stream from another one."""
    alike = [
        other
        for other in policy.streams.values()
        if (other.dataset, other.schema) == (stream.dataset, stream.schema)
    ]
    return len(alike) > 1


def _lines(
    bill: Mapping[str, Any],
    mode: str,
    stream: Stream,
    spans: Sequence[tuple[datetime, datetime]] | None,
) -> list[Mapping[str, Any]]:
    """The bill's lines for a stream's data, of connections opened in one of the spans."""
    return [
        line
        for line in bill["connections"]
        if (line["mode"], line["dataset"]) == (mode, stream.dataset)
        and stream.schema in line["schemas"]
        and (spans is None or any(start <= parse_instant(line["opened_utc"]) < end for start, end in spans))
    ]


def _line_nano(line: Mapping[str, Any]) -> int:
    return nano_from_usd(Decimal(line["cost_usd"]))


# --- what was refused ---------------------------------------------------------------------------------------


def refused(played: Played) -> tuple[Refused, ...]:
    """Refusals and cuts, those of a kind in one session together, in order of the first."""
    groups: dict[tuple[date, str, str | None, str], list[Refusal]] = {}
    cuts = {json.dumps(decision.as_json()) for run in played.runs for decision in run.cut}
    vendor = {json.dumps(decision.as_json()) for run in played.runs for decision in run.vendor}
    for refusal in sorted(played.refusals, key=lambda refusal: refusal.at_utc):
        said = refusal.decision
        kind = "cut" if said in cuts else "vendor" if said in vendor else "refused"
        place = (played.session_at(refusal.at_utc), kind, refusal.stream, refusal.code)
        groups.setdefault(place, []).append(refusal)
    return tuple(
        Refused(
            session,
            kind,  # type: ignore[arg-type] # one of the three above
            stream,
            code,
            len(rows),
            rows[0].at_utc,
            rows[-1].at_utc,
            _reasons(rows[0])[0].message if _reasons(rows[0]) else code,
        )
        for (session, kind, stream, code), rows in groups.items()
    )


def _reasons(refusal: Refusal) -> list[Any]:
    return [reason_from_json(row) for row in json.loads(refusal.decision).get("reasons", [])]


def program_runs(played: Played) -> tuple[ProgramRun, ...]:
    """The runs; connected is also who was seen by the bill and not by the one who moved the clock."""
    opened = [
        *(entry.started_utc for entry in played.entries if entry.mode == "live"),
        *(parse_instant(line["opened_utc"]) for line in played.bill["connections"] if line["mode"] == "live"),
    ]
    return tuple(
        ProgramRun(
            run.span.session,
            run.span.start_utc,
            run.ended_utc,
            run.code,
            run.ended,
            run.connected or any(run.span.start_utc <= at <= run.ended_utc for at in opened),
            run.waited,
        )
        for run in played.runs
    )


# --- what it means for the limits ---------------------------------------------------------------------------


def limit_uses(
    played: Played, balances: Mapping[BalanceKey, int], *, sessions: int, month_sessions: int
) -> tuple[LimitUse, ...]:
    """Every limit of the policy, in file order. `balances` is what was settled on each, as the ledger counts.

    `sessions` is how many the month is projected from; from none, nothing is.
    """
    return tuple(
        _limit_use(played, budget, limit, balances, Fraction(month_sessions, sessions) if sessions else None)
        for budget in played.policy.budgets
        for limit in budget.limits
    )


def _limit_use(
    played: Played, budget: Budget, limit: Limit, balances: Mapping[BalanceKey, int], scale: Fraction | None
) -> LimitUse:
    counts = [
        count
        for key, count in balances.items()
        if (key.budget, key.period, key.unit) == (budget.name, limit.period, limit.unit)
    ]
    reached = [
        refusal.at_utc
        for refusal in played.refusals
        for reason in _reasons(refusal)
        if (reason.budget, reason.period, reason.unit) == (budget.name, limit.period, limit.unit)
        and reason.code in _LIMIT_CODES
    ]
    projected = None
    if limit.period == "month" and scale is not None:
        scaled = sum(counts) * scale
        projected = amount_from_count(limit.unit, -(-scaled.numerator // scaled.denominator))
    return LimitUse(
        budget.name,
        limit.period,
        limit.unit,
        limit.amount,
        amount_from_count(limit.unit, max(counts, default=0)),
        min(reached, default=None),
        projected,
    )


def count_sessions(
    streams: Sequence[Stream], list_windows: Callable[[Stream, date, date], list[Window]], month: str
) -> int:
    """How many sessions with a window a month has. Raises CalendarUnknown."""
    start, end = month_bounds(month)
    last = (end - timedelta(days=1)).date()
    return len({w.session for stream in streams for w in list_windows(stream, start.date(), last)})
