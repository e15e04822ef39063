"""Rules between the parts of a policy that need nothing but the file: each yields its problems and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from budget_guard.policy.limit_checks import LIMIT_RULES
from budget_guard.policy.model import Budget
from budget_guard.policy.problems import Hints, Problem
from budget_guard.policy.stream_checks import STREAM_RULES
from budget_guard.policy.written import Written, matches, modes_of


def find_problems(written: Written) -> list[Problem]:
    """Every problem and note between the parts, in no order."""
    return [problem for rule in _RULES for problem in rule(written)]


def _is_whole(written: Written) -> Iterator[Problem]:
    """A policy has a name, a budget and a stream; a file that others extend needs less."""
    if written.is_extended:
        return
    if not written.has("name") and not written.is_account_file:
        yield Problem(written.marks.shown, "'name' is missing: write it, as `name: nq-futures`")
    if not written.policy.budgets and not written.is_broken("budgets") and not written.is_broken("extends"):
        message = "a policy needs a budget: write one, as {name: account, month: 200 USD} (or `unlimited`)"
        yield Problem(written.place_of("budgets"), message)
    if written.policy.streams or written.is_broken("streams"):
        return
    if written.is_account_file:
        message = "there are no streams here, so nothing may run: this file is for policies that extend it"
        yield Problem(written.place_of("account", "name"), message, "note")
    else:
        message = "a policy needs a stream: without one every request is refused"
        yield Problem(written.place_of("streams"), message)


def _budget_names(written: Written) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, budget in written.own_budgets:
        if budget.name in first:
            line = written.place_of("budgets", first[budget.name], "name").line
            message = (
                f"a second budget is named '{budget.name}' (first on line {line}): each needs its own name"
            )
            yield Problem(written.place_of("budgets", index, "name"), message)
        first.setdefault(budget.name, index)


def _budget_streams(written: Written) -> Iterator[Problem]:
    """A budget in a file of account and budgets may match the streams of whoever extends it."""
    if written.is_extended or written.is_account_file:
        return
    names, hints = written.stream_names, Hints()
    known = set(names)
    for index, budget in written.own_budgets:
        for name in sorted(budget.match.stream - known):
            message = (
                f"budget '{budget.name}' matches the unknown stream '{name}'{hints.nearest(name, names)}"
            )
            yield Problem(written.place_of("budgets", index, "match", "stream"), message)


def _budget_matches(written: Written) -> Iterator[Problem]:
    if written.is_extended or written.is_broken("streams") or not written.policy.streams:
        return
    names, streams = set(written.stream_names), written.policy.streams.values()
    for index, budget in written.own_budgets:
        used = any(matches(budget, stream, mode) for stream in streams for mode in modes_of(stream))
        if not used and budget.match.stream <= names:
            message = f"budget '{budget.name}' matches nothing: no stream has {_match_text(budget)}"
            yield Problem(written.place_of("budgets", index, "match"), message)


def _match_text(budget: Budget) -> str:
    parts = ((key, sorted(getattr(budget.match, key))) for key in ("stream", "dataset", "schema", "mode"))
    return " with ".join(f"{key} {' or '.join(values)}" for key, values in parts if values)


def _price_notes(written: Written) -> Iterator[Problem]:
    for (dataset, mode, schema), price in written.policy.account.prices.items():
        if price == 0:
            place = written.place_of("account", "prices", dataset, mode, schema)
            message = f"a price of 0 means that no money limit ever stops {mode} {schema} of {dataset}"
            yield Problem(place, message, "note")


def _billing_notes(written: Written) -> Iterator[Problem]:
    """A live price says nothing where live data is paid for by a plan, or not bought."""
    account = written.policy.account
    for dataset, mode, schema in account.prices:
        billing = account.live_billing(dataset).kind
        if mode == "live" and billing != "metered":
            place = written.place_of("account", "prices", dataset, mode, schema)
            why = "paid for by a plan" if billing == "flat" else "not bought"
            yield Problem(place, f"this price is never used: live data of {dataset} is {why}", "note")


def _historical_notes(written: Written) -> Iterator[Problem]:
    rules = written.policy.historical
    limit, ask = rules.max_request_usd, rules.approve_above_usd
    if limit == 0:
        message = "a `max_request` of 0 refuses every historical request that costs anything"
        yield Problem(written.place_of("historical", "max_request"), message, "note")
    elif limit is not None and ask is not None and ask >= limit:
        message = (
            "nothing is ever asked: what is above `approve_above` is above `max_request` too, and refused"
        )
        yield Problem(written.place_of("historical", "approve_above"), message, "note")


_RULES: tuple[Callable[[Written], Iterator[Problem]], ...] = (
    _is_whole,
    _budget_names,
    _budget_streams,
    _budget_matches,
    _price_notes,
    _billing_notes,
    _historical_notes,
    *LIMIT_RULES,
    *STREAM_RULES,
)
