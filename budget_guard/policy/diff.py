"""Two policies against each other: what one allows that the other does not.

Streams and budgets are compared by name. Windows are compared as they are written: a clause allows what another does
when it plainly reaches as far, on the same days; what cannot be told from the text is listed as allowed by its policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Literal

from budget_guard.money import decimal_text, usd_text
from budget_guard.policy.model import (
    ALL_SYMBOLS,
    CONNECTIONS_DEFAULT,
    Budget,
    HistoricalRules,
    HistoryCache,
    Limit,
    LiveBilling,
    PeriodName,
    Policy,
    Stream,
    Unit,
)
from budget_guard.policy.reach import reaches
from budget_guard.policy.words import (
    amount_text,
    counts_text,
    data_text,
    duration_text,
    kept_for,
    limits_text,
    shortly,
    window_text,
)

Side = Literal["a", "b", "both"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that policy `side` alone allows; of "both", one that they say differently without allowing more."""

    side: Side
    about: str  # stream nq-mbo, budget account, historical, prices, billing, policy
    text: str

    def as_json(self) -> dict[str, str]:
        return {"about": self.about, "text": self.text}


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """What policies A and B allow that the other does not, and what else they say differently."""

    a: str
    b: str
    differences: tuple[Difference, ...]

    def of(self, side: Side) -> tuple[Difference, ...]:
        return tuple(difference for difference in self.differences if difference.side == side)

    def as_json(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "only_a": [difference.as_json() for difference in self.of("a")],
            "only_b": [difference.as_json() for difference in self.of("b")],
            "otherwise": [difference.as_json() for difference in self.of("both")],
        }


def diff(a: Policy, b: Policy) -> PolicyDiff:
    """What each of two policies allows that the other does not."""
    rows = [*_streams(a, b), *_budgets(a, b), *_historical(a, b), *_payment(a, b)]
    return PolicyDiff(a.name, b.name, tuple(rows))


def _more(
    about: str, what: str, a: Decimal | None, b: Decimal | None, shown: Callable[[Decimal], str]
) -> Iterator[Difference]:
    """The side with the larger amount allows it; None is any amount. `what` has a place for the amount."""
    if a == b:
        return
    side: Side = "a" if a is None or (b is not None and a > b) else "b"
    larger, smaller = (a, b) if side == "a" else (b, a)
    texts = ["any amount" if one is None else shown(one) for one in (larger, smaller)]
    yield Difference(side, about, f"{what.format(texts[0])}, not {texts[1]}")


def _longer(about: str, what: str, a: timedelta, b: timedelta) -> Iterator[Difference]:
    seconds_a, seconds_b = (Decimal(int(one.total_seconds())) for one in (a, b))
    shown = {seconds_a: duration_text(a), seconds_b: duration_text(b)}
    yield from _more(about, what, seconds_a, seconds_b, shown.__getitem__)


# --- streams ----------------------------------------------------------------------------------------------


def _streams(a: Policy, b: Policy) -> Iterator[Difference]:
    for name in dict.fromkeys([*a.streams, *b.streams]):
        mine, other = a.streams.get(name), b.streams.get(name)
        if mine is not None and other is not None and _kind(mine) == _kind(other):
            yield from _stream(mine, other, a.timezone, b.timezone)
        else:
            if mine is not None:
                yield Difference("a", f"stream {name}", _whole(mine, a))
            if other is not None:
                yield Difference("b", f"stream {name}", _whole(other, b))


def _kind(stream: Stream) -> tuple[str, ...]:
    return stream.mode, stream.dataset, stream.schema, stream.stype_in


def _whole(stream: Stream, policy: Policy) -> str:
    windows = "; and ".join(window_text(clause, policy.timezone) for clause in stream.windows)
    return f"{stream.mode} {data_text(stream)}{', ' if windows else ''}{windows}"


def _stream(a: Stream, b: Stream, zone_a: str, zone_b: str) -> Iterator[Difference]:
    about = f"stream {a.name}"
    sides: tuple[tuple[Side, Stream, Stream, str], ...] = (("a", a, b, zone_a), ("b", b, a, zone_b))
    for side, mine, other, zone in sides:
        symbols = [symbol for symbol in mine.symbols if symbol not in other.symbols]
        if symbols and ALL_SYMBOLS not in other.symbols:
            text = "all symbols" if ALL_SYMBOLS in symbols else f"symbols {shortly(symbols)}"
            yield Difference(side, about, text)
        for clause in mine.windows:
            if not any(reaches(wide, clause, same_clock=zone_a == zone_b) for wide in other.windows):
                yield Difference(side, about, f"it may run {window_text(clause, zone)}")
    if a.market != b.market:
        yield Difference(
            "both", about, f"its market is {a.market or 'the usual'} in A, {b.market or 'the usual'} in B"
        )
    yield from _recovery(about, a, b)


def _recovery(about: str, a: Stream, b: Stream) -> Iterator[Difference]:
    mine, other = a.recovery, b.recovery
    yield from _longer(about, "a replay of {} after a lost connection", mine.replay, other.replay)
    yield from _longer(about, "a client's own replay of {}", mine.client_replay, other.client_replay)
    yield from _more(about, "{} to mend a gap", mine.spend_usd, other.spend_usd, usd_text)


# --- budgets ----------------------------------------------------------------------------------------------


def _budgets(a: Policy, b: Policy) -> Iterator[Difference]:
    """A budget only takes away: what one policy limits, the other allows beyond that limit."""
    left, right = ({budget.name: budget for budget in policy.budgets} for policy in (a, b))
    for name in dict.fromkeys([*left, *right]):
        mine, other = left.get(name), right.get(name)
        if mine is not None and other is not None:
            yield from _budget(mine, other)
        elif other is not None:
            yield Difference("a", f"budget {name}", _without(other))
        elif mine is not None:
            yield Difference("b", f"budget {name}", _without(mine))
    if a.account.name != b.account.name:
        text = f"A books on account {a.account.name}, B on {b.account.name}: they share no balance"
        yield Difference("both", "account", text)


def _without(budget: Budget) -> str:
    return f"{counts_text(budget)} without its limit of {limits_text(budget.limits)}"


def _budget(a: Budget, b: Budget) -> Iterator[Difference]:
    about = f"budget {a.name}"
    if a.match != b.match:
        yield Difference("both", about, f"it counts {counts_text(a)} in A, {counts_text(b)} in B")
    rows_a, rows_b = _amounts(a.limits), _amounts(b.limits)
    for period, unit in dict.fromkeys([*rows_a, *rows_b]):
        left, right = (rows.get((period, unit)) for rows in (rows_a, rows_b))
        per = "{} in total" if period == "total" else f"{{}} a {period}"
        yield from _more(about, per, left, right, partial(amount_text, unit))
    in_both = {period for period, _ in rows_a} & {period for period, _ in rows_b}
    if a.timezone != b.timezone and in_both & {"day", "week"}:
        yield Difference(
            "both", about, f"its days and weeks begin in {a.timezone} in A, in {b.timezone} in B"
        )


def _amounts(limits: Iterable[Limit]) -> dict[tuple[PeriodName, Unit], Decimal | None]:
    """Limits by period and unit; one that is not there and one of any amount are the same."""
    return {(limit.period, limit.unit): limit.amount for limit in limits}


# --- historical requests, prices, billing -----------------------------------------------------------------


def _historical(a: Policy, b: Policy) -> Iterator[Difference]:
    mine, other = a.historical, b.historical
    about = "historical"
    yield from _more(about, "one request of {}", mine.max_request_usd, other.max_request_usd, usd_text)
    unasked = (_unasked_usd(mine), _unasked_usd(other))
    if unasked != (mine.max_request_usd, other.max_request_usd):
        yield from _more(about, "one request of {} without asking anybody", *unasked, usd_text)
    if mine.all_symbols != other.all_symbols:
        text = "requests that leave their symbols out, which means the whole dataset"
        yield Difference("a" if mine.all_symbols else "b", about, text)
    if mine.buy_again != other.buy_again:
        text = "buying a batch job again that was bought before"
        yield Difference("a" if mine.buy_again else "b", about, text)
    if mine.cache != other.cache:
        text = f"answers are {_cache_text(mine.cache)} in A, {_cache_text(other.cache)} in B"
        yield Difference("both", about, text)


def _cache_text(cache: HistoryCache | None) -> str:
    if cache is None:
        return "not kept"
    return f"kept in {cache.folder} {kept_for(cache.keep_days)}"


def _unasked_usd(rules: HistoricalRules) -> Decimal | None:
    """The dearest request that nobody is asked about; None is any."""
    bounds = [one for one in (rules.max_request_usd, rules.approve_above_usd) if one is not None]
    return min(bounds, default=None)


def _payment(a: Policy, b: Policy) -> Iterator[Difference]:
    for dataset in dict.fromkeys([*a.account.billing, *b.account.billing]):
        left, right = a.account.live_billing(dataset), b.account.live_billing(dataset)
        if left != right:
            if "none" in (left.kind, right.kind):
                yield Difference("b" if left.kind == "none" else "a", "billing", f"live data of {dataset}")
                continue
            text = f"live data of {dataset} is {_billing_text(left)} in A, {_billing_text(right)} in B"
            yield Difference("both", "billing", text)
    left_out, other = a.account.not_billed, b.account.not_billed
    if left_out != other:
        texts = [" and ".join(sorted(parts)) or "nothing" for parts in (left_out, other)]
        text = f"of a live stream {texts[0]} is taken to be not billed in A, {texts[1]} in B"
        yield Difference("both", "billing", text)
    for key in dict.fromkeys([*a.account.prices, *b.account.prices]):
        dataset, mode, schema = key
        prices = [_price_text(policy.account.prices.get(key)) for policy in (a, b)]
        if prices[0] != prices[1]:
            text = f"{mode} {schema} of {dataset} costs {prices[0]} in A, {prices[1]} in B"
            yield Difference("both", "prices", text)


def _billing_text(billing: LiveBilling) -> str:
    kind = "paid for by the byte" if billing.kind == "metered" else f"paid for by plan {billing.plan}"
    licence = f" with a licence of {usd_text(billing.license_usd)} a month" if billing.license_usd else ""
    most = "any number of" if billing.connections is None else f"{billing.connections}"
    at_once = "" if billing.connections == CONNECTIONS_DEFAULT else f", with {most} connections at once"
    return f"{kind}{licence}{at_once}"


def _price_text(price: Decimal | None) -> str:
    return "what the vendor says" if price is None else f"${decimal_text(price)} per GiB"
