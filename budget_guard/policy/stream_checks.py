"""Rules about the streams of a policy that need nothing but the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from budget_guard.policy.model import ALL_SYMBOLS, HoursClause, Policy, Stream, WindowClause
from budget_guard.policy.problems import Problem
from budget_guard.policy.written import Written, matches

_CONTINUOUS = re.compile(r"[^.\s]+\.[cnv]\.[0-9]+")
_PARENT = re.compile(r"[^.\s]+\.[A-Z]+")
_FUTURES_PARENT = re.compile(r"[^.\s]+\.(FUT|OPT)")


# Each is looked up in the calendar; a thousand streams with two windows each are far from usual.
WINDOWS_MAX = 2_000


def count_windows(policy: Policy) -> int:
    """The windows of all streams together, as they are written."""
    return sum(len(stream.windows) for stream in policy.streams.values())


def _number_of_windows(written: Written) -> Iterator[Problem]:
    count = count_windows(written.policy)
    if count > WINDOWS_MAX:
        message = f"{count} windows in one policy, and {WINDOWS_MAX} at most are read: split the policy"
        yield Problem(written.place_of("streams"), message)


def _windows(written: Written) -> Iterator[Problem]:
    for name, stream in written.policy.streams.items():
        if stream.mode == "live" and not stream.windows and not written.has("streams", name, "windows"):
            message = (
                f"live stream '{name}' has no windows: write when it may run, as "
                "`windows: {session: regular}`, or `windows: always`"
            )
            yield Problem(written.place_of("streams", name), message)


def _clauses(written: Written) -> Iterator[Problem]:
    for name, stream in written.policy.streams.items():
        seen: set[WindowClause] = set()
        for index, clause in enumerate(stream.windows):
            if clause in seen:
                place = written.place_of("streams", name, "windows", index)
                yield Problem(place, "this window is written twice: keep one", "note")
            seen.add(clause)


def _symbols(written: Written) -> Iterator[Problem]:
    for name, stream in written.policy.streams.items():
        seen: set[str] = set()
        for index, symbol in enumerate(stream.symbols):
            message = _symbol_problem(symbol, stream.stype_in)
            if symbol in seen:
                message = f"symbol '{symbol}' is written twice: keep one"
            seen.add(symbol)
            if message is not None:
                yield Problem(written.place_of("streams", name, "symbols", index), message)


def _symbol_problem(symbol: str, stype_in: str) -> str | None:
    """What is wrong with a symbol for its type, as far as its spelling shows."""
    if symbol == ALL_SYMBOLS:
        return None
    if symbol.casefold() in ("all_symbols", "all-symbols", "*"):
        return f"'{symbol}' is not a symbol: the whole dataset is written {ALL_SYMBOLS}"
    if stype_in == "continuous" and _CONTINUOUS.fullmatch(symbol) is None:
        return f"'{symbol}' is not a continuous symbol: write root, roll rule (c, n or v) and rank, as NQ.v.0"
    if stype_in == "raw_symbol" and _CONTINUOUS.fullmatch(symbol) is not None:
        return f"'{symbol}' is a continuous symbol: write `stype_in: continuous`"
    if stype_in == "raw_symbol" and _FUTURES_PARENT.fullmatch(symbol) is not None:
        return f"'{symbol}' is a parent symbol: write `stype_in: parent`"
    if stype_in == "parent" and _PARENT.fullmatch(symbol) is None:
        return f"'{symbol}' is not a parent symbol: write root and kind, as ES.FUT or ES.OPT"
    if stype_in == "instrument_id" and not (symbol.isascii() and symbol.isdigit()):
        return f"'{symbol}' is not an instrument id: write its number, as 5482"
    return None


def _same_data(written: Written) -> Iterator[Problem]:
    """Of two streams for the same data in the same mode, requests that both cover are the first one's."""
    first: dict[tuple[object, ...], str] = {}
    for name, stream in written.policy.streams.items():
        kind = (
            stream.dataset,
            stream.schema,
            stream.stype_in,
            stream.mode,
            frozenset(stream.symbols),
            stream.windows,
        )
        if kind in first:
            message = f"stream '{name}' is for the same data at the same times as '{first[kind]}': keep one"
            yield Problem(written.place_of("streams", name), message, "note")
        first.setdefault(kind, name)


def _cheaper(written: Written) -> Iterator[Problem]:
    for name, stream in written.policy.streams.items():
        if stream.schema in stream.cheaper:
            place = written.place_of("streams", name, "cheaper", stream.cheaper.index(stream.schema))
            message = f"'{stream.schema}' is the stream's own schema: list others to propose instead"
            yield Problem(place, message)
        if stream.cheaper and stream.mode == "live" and not _is_metered(written, stream):
            message = "nothing is cheaper than live data that costs nothing by the byte: `cheaper` does nothing here"
            yield Problem(written.place_of("streams", name, "cheaper"), message, "note")


def _is_metered(written: Written, stream: Stream) -> bool:
    return written.policy.account.live_billing(stream.dataset).kind == "metered"


def _without_use(written: Written) -> Iterator[Problem]:
    """What is written for a stream and can do nothing there."""
    for name, stream in written.policy.streams.items():
        if stream.mode == "historical":
            for key in ("recovery", "fallback", "cheaper"):
                if written.has("streams", name, key):
                    message = f"'{key}' is for live streams and does nothing in historical stream '{name}'"
                    yield Problem(written.place_of("streams", name, key), message, "note")
        if stream.gib_per_session is not None and _is_free(written, stream):
            message = f"'volume' changes no cost: live data of {stream.dataset} is not paid for by the byte"
            yield Problem(written.place_of("streams", name, "volume"), message, "note")


def _is_free(written: Written, stream: Stream) -> bool:
    """Whether no figure of the plan needs the stream's size: no price, and no limit in GiB."""
    if stream.mode != "live" or _is_metered(written, stream):
        return False
    limits = (
        limit for _, budget in written.budgets if matches(budget, stream, "live") for limit in budget.limits
    )
    return all(limit.unit != "gib" for limit in limits)


def _refused(written: Written) -> Iterator[Problem]:
    """Streams that no request will ever be let through for, though nothing in them is wrong."""
    budgets_known = (
        not written.is_broken("budgets") and not written.is_broken("extends") and written.policy.budgets
    )
    for name, stream in written.policy.streams.items():
        if stream.mode == "live" and written.policy.account.live_billing(stream.dataset).kind == "none":
            message = f"every live request is refused: account.billing says that {stream.dataset} is not bought live"
            yield Problem(written.place_of("streams", name), message, "note")
        elif budgets_known and not any(matches(budget, stream, stream.mode) for _, budget in written.budgets):
            message = (
                f"every {stream.mode} request of stream '{name}' is refused: no budget matches it; "
                "what needs no limit is written `month: unlimited`"
            )
            yield Problem(written.place_of("streams", name), message, "note")


# Names of the time zone database that look like a market's zone and keep one offset all year.
_FIXED_ZONES = {"EST": "America/New_York", "MST": "America/Denver"}


def _fixed_zone(written: Written) -> Iterator[Problem]:
    zone = written.policy.timezone
    if zone in _FIXED_ZONES:
        message = f"'{zone}' knows no daylight saving time: '{_FIXED_ZONES[zone]}' does"
        yield Problem(written.place_of("timezone"), message, "note")


def _hours_without_timezone(written: Written) -> Iterator[Problem]:
    if written.has("timezone"):
        return
    for name, stream in written.policy.streams.items():
        for index, clause in enumerate(stream.windows):
            if isinstance(clause, HoursClause):
                message = "these hours are UTC, because the policy has no `timezone`"
                yield Problem(written.place_of("streams", name, "windows", index), message, "note")


STREAM_RULES: tuple[Callable[[Written], Iterator[Problem]], ...] = (
    _number_of_windows,
    _windows,
    _clauses,
    _symbols,
    _same_data,
    _cheaper,
    _without_use,
    _refused,
    _fixed_zone,
    _hours_without_timezone,
)
