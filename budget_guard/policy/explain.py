"""A policy in sentences: what may run when, up to what, what happens at a limit, what a historical request may cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from budget_guard.money import decimal_text, usd_text
from budget_guard.policy.model import ALL_SYMBOLS, CONNECTIONS_DEFAULT, Budget, Mode, Policy, Stream
from budget_guard.policy.words import (
    counts_text,
    data_text,
    duration_text,
    kept_for,
    limits_text,
    listed,
    window_text,
)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Sentences about one thing, with its name where it has one, and what they were made of, for other programs."""

    name: str
    sentences: tuple[str, ...]
    facts: tuple[tuple[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, **dict(self.facts), "sentences": list(self.sentences)}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A policy in sentences, by topic."""

    policy: str
    account: str
    timezone: str
    streams: tuple[Paragraph, ...]
    budgets: tuple[Paragraph, ...]
    at_a_limit: tuple[str, ...]
    historical: tuple[str, ...]
    payment: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; amounts are strings of exact decimals."""
        return {
            "policy": self.policy,
            "account": self.account,
            "timezone": self.timezone,
            "streams": [stream.as_json() for stream in self.streams],
            "budgets": [budget.as_json() for budget in self.budgets],
            "at_a_limit": list(self.at_a_limit),
            "historical": list(self.historical),
            "payment": list(self.payment),
        }


def explain(policy: Policy) -> Explanation:
    """What a policy lets happen, in sentences that need no knowledge of its file format."""
    return Explanation(
        policy=policy.name,
        account=policy.account.name,
        timezone=policy.timezone,
        streams=tuple(_stream(policy, stream) for stream in policy.streams.values()),
        budgets=tuple(_budget(budget) for budget in policy.budgets),
        at_a_limit=tuple(_at_a_limit(policy)),
        historical=tuple(_historical(policy)),
        payment=tuple(_payment(policy)),
    )


def _stream(policy: Policy, stream: Stream) -> Paragraph:
    budgets = {mode: _budget_names(policy, stream, mode) for mode in _modes(stream)}
    sentences = [f"{stream.mode.capitalize()}: {data_text(stream)}."]
    if stream.mode == "live":
        sentences += _live(policy, stream, budgets["live"])
    sentences.append(_historical_use(policy, stream, budgets["historical"]))
    facts = (
        ("mode", stream.mode),
        ("dataset", stream.dataset),
        ("schema", stream.schema),
        ("stype_in", stream.stype_in),
        ("symbols", list(stream.symbols)),
        ("windows", [window_text(clause, policy.timezone) for clause in stream.windows]),
        ("budgets", budgets),
    )
    return Paragraph(stream.name, tuple(sentences), facts)


def _modes(stream: Stream) -> tuple[Mode, ...]:
    return ("live", "historical") if stream.mode == "live" else ("historical",)


def _budget_names(policy: Policy, stream: Stream, mode: Mode) -> list[str]:
    matching = policy.budgets_for(stream=stream.name, dataset=stream.dataset, schema=stream.schema, mode=mode)
    return [budget.name for budget in matching]


def _live(policy: Policy, stream: Stream, budgets: list[str]) -> Iterator[str]:
    kind = policy.account.live_billing(stream.dataset).kind
    if kind == "none":
        yield f"Every live request is refused: {stream.dataset} is not bought live."
        return
    if not budgets:
        yield "Every live request is refused: no budget matches it."
        return
    windows = [window_text(clause, policy.timezone) for clause in stream.windows]
    yield f"It may run {'; and '.join(windows)}."
    yield f"It counts against {_budgets(budgets)}."
    if kind == "flat":
        yield "Its bytes cost nothing: the plan of the dataset includes them."
    elif price := policy.account.prices.get((stream.dataset, "live", stream.schema)):
        yield f"Its bytes cost {usd_text(price)} per GiB, as the policy says."
    yield _recovery(stream, costs=kind == "metered")
    if stream.fallback:
        names = listed([fallback.name for fallback in stream.fallback])
        yield f"While the vendor refuses or the money is out, its fallback is {names}."


def _recovery(stream: Stream, *, costs: bool) -> str:
    recovery = stream.recovery
    spend = (
        ""
        if recovery.spend_usd is None or not costs
        else f", for at most {usd_text(recovery.spend_usd)} a gap"
    )
    own = (
        f"; a client may ask for the last {duration_text(recovery.client_replay)} itself"
        if recovery.client_replay
        else "; a client's own replay or snapshot is refused"
    )
    if not recovery.replay:
        return f"What a lost connection missed is not replayed{own}."
    return f"What a lost connection missed is replayed, at most {duration_text(recovery.replay)}{spend}{own}."


def _historical_use(policy: Policy, stream: Stream, budgets: list[str]) -> str:
    what = "Historical requests for it" if stream.mode == "live" else "Requests for it"
    if not budgets:
        return f"{what} are refused: no budget matches them."
    if ALL_SYMBOLS in stream.symbols and not policy.historical.all_symbols:
        return f"{what} have to name their symbols, and count against {_budgets(budgets)}."
    return f"{what} count against {_budgets(budgets)}."


def _budgets(names: list[str]) -> str:
    return f"budget {names[0]}" if len(names) == 1 else f"budgets {listed(names)}"


def _budget(budget: Budget) -> Paragraph:
    limited = [limit for limit in budget.limits if limit.amount is not None]
    most = f"at most {limits_text(limited)}" if limited else "no limit"
    counts = counts_text(budget)
    sentences = [f"{counts[0].upper()}{counts[1:]}: {most}."]
    if any(limit.amount == 0 for limit in limited):
        sentences.append("A limit of 0 refuses all of it.")
    local = [f"{period}s" for period in ("day", "week") if any(limit.period == period for limit in limited)]
    if local:
        sentences.append(f"Its {listed(local)} begin at midnight in {budget.timezone}.")
    if budget.alerts and limited:
        shares = listed([f"{decimal_text(share * 100)}%" for share in budget.alerts])
        told = ", told to live clients too" if "client" in budget.alerts_to else ""
        sentences.append(f"Alerts are at {shares} of each limit{told}.")
    facts = (
        (
            "limits",
            [
                {
                    "period": limit.period,
                    "unit": limit.unit,
                    "limit": None if limit.amount is None else decimal_text(limit.amount),
                }
                for limit in budget.limits
            ],
        ),
        (
            "match",
            {key: sorted(getattr(budget.match, key)) for key in ("stream", "dataset", "schema", "mode")},
        ),
        ("timezone", budget.timezone),
        ("alerts", [decimal_text(share) for share in budget.alerts]),
        ("alerts_to", sorted(budget.alerts_to)),
    )
    return Paragraph(budget.name, tuple(sentences), facts)


# When a period begins anew; a limit over all time has no next one.
_BEGINS = {
    "session": "a session at the open of the next one",
    "day": "a day at midnight",
    "week": "a week on Monday",
    "month": "a month on the 1st (UTC)",
}


def _at_a_limit(policy: Policy) -> Iterator[str]:
    limits = [limit for budget in policy.budgets for limit in budget.limits if limit.amount is not None]
    if not limits:
        yield "There is no limit: nothing is ever ended or refused for what it costs."
        return
    yield "Every budget that matches must have room; one that has none is enough to refuse."
    if any(stream.mode == "live" for stream in policy.streams.values()):
        if any(limit.unit in ("usd", "gib", "hours") for limit in limits):
            yield (
                "A live connection is ended before it passes a limit; the client gets an error that names the budget, "
                "the limit and when to try again."
            )
        if any(limit.unit == "connections" for limit in limits):
            yield "When the connections of a period are used up, the next one is refused; open ones go on."
    yield "A historical request that does not fit is refused before it is made, and costs nothing."
    begins = [text for period, text in _BEGINS.items() if any(limit.period == period for limit in limits)]
    if begins:
        yield f"There is room again when the next period begins: {listed(begins)}."
    if any(limit.period == "total" for limit in limits):
        yield "A limit in total stays reached until the policy is changed."


def _historical(policy: Policy) -> Iterator[str]:
    rules = policy.historical
    most, ask = rules.max_request_usd, rules.approve_above_usd
    yield "A request is let through for the data of a stream, at any time of day."
    if most is None:
        yield "One request may cost as much as its budgets have left."
    else:
        yield f"A request that costs more than {usd_text(most)} is refused."
    if ask is not None and (most is None or ask < most):
        yield f"One that costs more than {usd_text(ask)} is asked about on a terminal, and refused where there is none."
    yield (
        "A request may leave its symbols out, which means the whole dataset."
        if rules.all_symbols
        else "A request that leaves its symbols out is refused: that means the whole dataset."
    )
    if rules.buy_again:
        yield "A batch job is bought again whenever it is submitted again."
    if rules.cache is not None:
        yield (
            f"The answer of a request is kept in {rules.cache.folder} {kept_for(rules.cache.keep_days)}; the same "
            "request is then answered from there and costs nothing."
        )


def _payment(policy: Policy) -> Iterator[str]:
    for dataset, billing in policy.account.billing.items():
        licence = (
            f", and {usd_text(billing.license_usd)} a month for the licence" if billing.license_usd else ""
        )
        if billing.kind == "none":
            yield f"Live data of {dataset} is not bought."
        elif billing.kind == "metered":
            yield f"Live data of {dataset} is paid for by the byte{licence}."
        else:
            yield f"Live data of {dataset} is paid for by the {billing.plan} plan{licence}: no budget counts that."
        if billing.kind != "none" and billing.connections != CONNECTIONS_DEFAULT:
            most = "any number of" if billing.connections is None else f"at most {billing.connections}"
            yield f"The team may have {most} live connections to {dataset} at once."
    if policy.account.not_billed:
        names = {"control": "control records", "ts_out": "the time of sending (ts_out)"}
        parts = listed([names[part] for part in sorted(policy.account.not_billed)])
        yield f"Of a live stream {parts} are taken to cost nothing, and are not counted."
    for (dataset, mode, schema), price in policy.account.prices.items():
        yield f"{mode.capitalize()} {schema} of {dataset} is taken to cost {usd_text(price)} per GiB."
    for credit in policy.account.credits:
        covers = f" for {credit.covers} data" if credit.covers else ""
        until = f" until {credit.expires}" if credit.expires else ""
        yield f"There is a credit of {usd_text(credit.amount_usd)}{covers}{until}."
