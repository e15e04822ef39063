"""Rules between the parts of a policy that need nothing but the file: each yields its problems and notes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from budget_guard.policy.model import ALL_SYMBOLS, Budget, HoursClause, Mode, Policy, Stream
from budget_guard.policy.problems import Place, Problem, nearest
from budget_guard.policy.reading import Key, Marks

_CONTINUOUS = re.compile(r"[^.\s]+\.[cnv]\.[0-9]+")
_PARENT = re.compile(r"[^.\s]+\.[A-Z]+")


@dataclass(frozen=True, slots=True)
class Written:
    """A policy as it stands in its file. `policy` lacks the `broken` parts, which have problems of their own."""

    policy: Policy
    marks: Marks
    budget_indices: tuple[int, ...]  # where each of the policy's budgets stands in the file's list
    broken: frozenset[tuple[Key, ...]]

    def place_of(self, *keys: Key) -> Place:
        return self.marks.at(*keys).shown

    def has(self, *keys: Key) -> bool:
        """Whether a part is written at all."""
        return self.marks.at(*keys) is not self.marks.at(*keys[:-1])

    @property
    def budgets(self) -> Iterator[tuple[int, Budget]]:
        return zip(self.budget_indices, self.policy.budgets, strict=True)

    @property
    def stream_names(self) -> tuple[str, ...]:
        """Every stream's name, the broken ones' too."""
        return tuple(str(name) for name in self.marks.at("streams").parts) if self.has("streams") else ()

    def is_broken(self, section: str) -> bool:
        """Whether a section, or a part of it, has problems of its own."""
        return any(part[0] == section for part in self.broken)


def find_problems(written: Written) -> list[Problem]:
    """Every problem and note between the parts, in no order."""
    return [problem for rule in _RULES for problem in rule(written)]


def _something_to_guard(written: Written) -> Iterator[Problem]:
    if not written.policy.budgets and not written.is_broken("budgets") and not written.is_broken("extends"):
        message = "a policy needs a budget: write one, as {name: account, month: 200 USD} (or `unlimited`)"
        yield Problem(written.place_of("budgets"), message)
    if not written.policy.streams and not written.is_broken("streams"):
        message = "a policy needs a stream: without one every request is refused"
        yield Problem(written.place_of("streams"), message)


def _budget_names(written: Written) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, budget in written.budgets:
        if budget.name in first:
            line = written.place_of("budgets", first[budget.name], "name").line
            message = (
                f"a second budget is named '{budget.name}' (first on line {line}): each needs its own name"
            )
            yield Problem(written.place_of("budgets", index, "name"), message)
        first.setdefault(budget.name, index)


def _budget_streams(written: Written) -> Iterator[Problem]:
    names = written.stream_names
    for index, budget in written.budgets:
        for name in sorted(budget.match.stream - set(names)):
            message = f"budget '{budget.name}' matches the unknown stream '{name}'{nearest(name, names)}"
            yield Problem(written.place_of("budgets", index, "match", "stream"), message)


def _modes(stream: Stream) -> tuple[Mode, ...]:
    """A live stream covers historical requests for the same data too."""
    return ("live", "historical") if stream.mode == "live" else ("historical",)


def _matches(budget: Budget, stream: Stream) -> bool:
    return any(
        budget.match.covers(stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode=mode)
        for mode in _modes(stream)
    )


def _budget_matches(written: Written) -> Iterator[Problem]:
    if written.is_broken("streams") or not written.policy.streams:
        return
    names, streams = set(written.stream_names), written.policy.streams.values()
    for index, budget in written.budgets:
        if budget.match.stream <= names and not any(_matches(budget, stream) for stream in streams):
            message = f"budget '{budget.name}' matches nothing: no stream has {_match_text(budget)}"
            yield Problem(written.place_of("budgets", index, "match"), message)


def _match_text(budget: Budget) -> str:
    parts = ((key, sorted(getattr(budget.match, key))) for key in ("stream", "dataset", "schema", "mode"))
    return " with ".join(f"{key} {' or '.join(values)}" for key, values in parts if values)


def _budget_notes(written: Written) -> Iterator[Problem]:
    for index, budget in written.budgets:
        for limit in budget.limits:
            if limit.amount == 0:
                place = written.place_of("budgets", index, limit.period, limit.unit)
                message = f"a limit of 0 refuses everything that budget '{budget.name}' matches"
                yield Problem(place, message, "note")


def _stream_windows(written: Written) -> Iterator[Problem]:
    for name, stream in written.policy.streams.items():
        if stream.mode == "live" and not stream.windows and not written.has("streams", name, "windows"):
            message = (
                f"live stream '{name}' has no windows: write when it may run, as "
                "`windows: {session: regular}`, or `windows: always`"
            )
            yield Problem(written.place_of("streams", name), message)


def _stream_symbols(written: Written) -> Iterator[Problem]:
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
    if stype_in == "parent" and _PARENT.fullmatch(symbol) is None:
        return f"'{symbol}' is not a parent symbol: write root and kind, as ES.FUT or ES.OPT"
    if stype_in == "instrument_id" and not (symbol.isascii() and symbol.isdigit()):
        return f"'{symbol}' is not an instrument id: write its number, as 5482"
    return None


def _stream_cheaper(written: Written) -> Iterator[Problem]:
    for name, stream in written.policy.streams.items():
        if stream.schema in stream.cheaper:
            place = written.place_of("streams", name, "cheaper", stream.cheaper.index(stream.schema))
            yield Problem(
                place, f"'{stream.schema}' is the stream's own schema: list others to propose instead"
            )


def _stream_notes(written: Written) -> Iterator[Problem]:
    for name, stream in written.policy.streams.items():
        if stream.mode == "historical":
            for key in ("recovery", "fallback"):
                if written.has("streams", name, key):
                    message = f"'{key}' is for live streams and does nothing in historical stream '{name}'"
                    yield Problem(written.place_of("streams", name, key), message, "note")
        elif written.policy.account.live_billing(stream.dataset).kind == "none":
            message = f"every live request is refused: account.billing says that {stream.dataset} is not bought live"
            yield Problem(written.place_of("streams", name), message, "note")


def _hours_without_timezone(written: Written) -> Iterator[Problem]:
    if written.has("timezone"):
        return
    for name, stream in written.policy.streams.items():
        for index, clause in enumerate(stream.windows):
            if isinstance(clause, HoursClause):
                message = "these hours are UTC, because the policy has no `timezone`"
                yield Problem(written.place_of("streams", name, "windows", index), message, "note")


def _price_notes(written: Written) -> Iterator[Problem]:
    for (dataset, mode, schema), price in written.policy.account.prices.items():
        if price == 0:
            place = written.place_of("account", "prices", dataset, mode, schema)
            message = f"a price of 0 means that no money limit ever stops {mode} {schema} of {dataset}"
            yield Problem(place, message, "note")


def _historical_notes(written: Written) -> Iterator[Problem]:
    rules = written.policy.historical
    if rules.max_request_usd is None or rules.approve_above_usd is None:
        return
    if rules.approve_above_usd >= rules.max_request_usd:
        message = (
            "nothing is ever asked: what is above `approve_above` is above `max_request` too, and refused"
        )
        yield Problem(written.place_of("historical", "approve_above"), message, "note")


_RULES: tuple[Callable[[Written], Iterator[Problem]], ...] = (
    _something_to_guard,
    _budget_names,
    _budget_streams,
    _budget_matches,
    _budget_notes,
    _stream_windows,
    _stream_symbols,
    _stream_cheaper,
    _stream_notes,
    _hours_without_timezone,
    _price_notes,
    _historical_notes,
)
