"""The policy file as it is written: one model per mapping, with every key, its type, default and an example.

The models take what `reading` gives (dicts, lists, text) and hold parsed values. Rules that need only one mapping
are here; rules between mappings are in `checks`. The JSON Schema and the key lists in messages come from here too.
"""

from __future__ import annotations

from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from budget_guard.policy import scalars, shapes
from budget_guard.policy.fields import (
    LIMIT_PATTERN,
    MANY,
    SOME,
    AlertToName,
    BillingKind,
    Count,
    Dataset,
    Date,
    Day,
    Duration,
    Flag,
    Hours,
    ModeName,
    Name,
    NotBilledName,
    Number,
    Percent,
    Plan,
    Positive,
    Price,
    Schema,
    SessionEdge,
    SessionName,
    Shorthand,
    StypeIn,
    Symbol,
    Text,
    Timezone,
    Unlimited,
    Usd,
    UsdOrUnlimited,
    Version,
)
from budget_guard.policy.model import ALL_SYMBOLS, Edge, PeriodName, Unit
from budget_guard.policy.vocabulary import PLANS

# Every request is held against each budget that matches it, in one transaction.
BUDGETS_MAX = 200


class Part(BaseModel):
    """A mapping of the file: no key beyond its own, and nothing that changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BillingPart(Part):
    """How an account pays for a dataset's live data."""

    model_config = ConfigDict(json_schema_extra=shapes.BILLING)

    live: BillingKind = Field(
        "metered", description="metered: by the byte; flat: a plan; none: not bought", examples=["metered"]
    )
    plan: Plan | None = Field(None, description="The flat plan's name.", examples=["standard"])
    license: Usd | None = Field(
        None, description="The venue's licence fee per month, on top of the plan.", examples=["36.50 USD"]
    )
    connections: Count | None = Field(
        None,
        description="Live connections that the vendor allows the team at once, over all programs. Left out: 10.",
        examples=[50],
    )

    @model_validator(mode="after")
    def _plan_belongs_to_flat(self) -> BillingPart:
        if self.live == "flat" and self.plan is None:
            raise ValueError(f"a flat account needs its plan: one of {', '.join(PLANS)}")
        if self.live != "flat" and self.plan is not None:
            raise ValueError(f"a plan belongs to `live: flat`, found `live: {self.live}`")
        if self.live == "none" and self.license is not None:
            raise ValueError("a license belongs to live data, found `live: none`")
        if self.connections == 0:
            raise ValueError("0 connections allow nothing live: write `live: none` if that is meant")
        return self


class CreditPart(Part):
    """Money that the vendor gave."""

    amount: Usd = Field(examples=["125 USD"])
    expires: Date | None = Field(None, examples=["2027-03-01"])
    covers: ModeName | None = Field(
        None, description="Left out: live and historical.", examples=["historical"]
    )


class AccountPart(Part):
    """Who pays, and at what prices."""

    name: Name | None = Field(None, description="Left out: the policy's name.", examples=["desk"])
    billing: dict[Dataset, BillingPart] = Field({}, examples=[{"GLBX.MDP3": {"live": "metered"}}])
    prices: dict[Dataset, dict[ModeName, dict[Schema, Price]]] = Field(
        {},
        description="USD per GiB, instead of the vendor's answer or the bundled sheet.",
        examples=[{"GLBX.MDP3": {"live": {"mbo": 2.16}}}],
    )
    credits: tuple[CreditPart, ...] = ()
    not_billed: Annotated[tuple[NotBilledName, ...], MANY] = Field(
        (),
        description="What of a live stream the vendor does not bill: control records, the time of sending.",
        examples=[["control", "ts_out"]],
    )


class MatchPart(Part):
    """What a budget applies to; a key left out matches everything."""

    stream: Annotated[tuple[Name, ...], *SOME] | None = Field(None, examples=["nq-mbo"])
    dataset: Annotated[tuple[Dataset, ...], *SOME] | None = Field(None, examples=["GLBX.MDP3"])
    schema_: Annotated[tuple[Schema, ...], *SOME] | None = Field(None, alias="schema", examples=["mbo"])
    mode: Annotated[tuple[ModeName, ...], *SOME] | None = Field(None, examples=["live"])


class LimitPart(Part):
    """The amounts of one period."""

    model_config = ConfigDict(json_schema_extra=shapes.LIMIT)

    usd: Number | None = Field(None, description="Money, in USD.", examples=[8])
    gib: Number | None = Field(None, description="Billable size, in GiB (2**30 bytes).", examples=[60])
    hours: Number | None = Field(None, description="Hours of open live connections.", examples=[8])
    connections: Count | None = Field(None, description="Live connections opened.", examples=[400])

    @model_validator(mode="after")
    def _holds_something(self) -> LimitPart:
        if not self.amounts():
            raise ValueError("is empty: write a limit, as `200 USD` or {usd: 8, hours: 8}")
        return self

    def amounts(self) -> tuple[tuple[Unit, Decimal | Unlimited], ...]:
        """The amounts that are written, by unit."""
        rows = ((unit, getattr(self, unit)) for unit in get_args(Unit))
        return tuple((unit, amount) for unit, amount in rows if amount is not None)


LimitValue = Annotated[
    LimitPart,
    Shorthand(scalars.parse_limit, lambda long: [{"type": "string", "pattern": LIMIT_PATTERN}, long]),
]


class BudgetPart(Part):
    """Named limits with a match."""

    model_config = ConfigDict(json_schema_extra=shapes.BUDGET)

    name: Name = Field(examples=["account"])
    match: MatchPart | None = Field(None, examples=[{"dataset": "GLBX.MDP3", "mode": "live"}])
    session: LimitValue | None = Field(None, description="Per exchange session.", examples=["8 USD"])
    day: LimitValue | None = Field(
        None, description="Per day of the policy's time zone.", examples=["15 USD"]
    )
    week: LimitValue | None = Field(
        None, description="Per week of the policy's time zone, from Monday.", examples=["50 USD"]
    )
    month: LimitValue | None = Field(None, description="Per UTC calendar month.", examples=["200 USD"])
    total: LimitValue | None = Field(None, description="Over all time.", examples=["1000 USD"])
    alerts: Annotated[tuple[Percent, ...], MANY] = Field(
        (), description="Shares of a limit to warn at.", examples=[["50%", "80%"]]
    )
    alerts_to: Annotated[tuple[AlertToName, ...], *SOME] | None = Field(
        None,
        description="Who hears of alerts: the log (left out: only that), the clients of live connections.",
        examples=[["log", "client"]],
    )

    @model_validator(mode="after")
    def _has_a_limit(self) -> BudgetPart:
        if not self.limits():
            raise ValueError(
                f"budget '{self.name}' has no limit: write session, day, week, month or total, as "
                "`month: 200 USD`, or `month: unlimited`"
            )
        return self

    def limits(self) -> tuple[tuple[PeriodName, LimitPart], ...]:
        """The limits that are written, by period."""
        rows = ((period, getattr(self, period)) for period in get_args(PeriodName))
        return tuple((period, limit) for period, limit in rows if limit is not None)


class WindowPart(Part):
    """A clause of a stream's windows: of each exchange session, or wall-clock hours. Neither: `always`."""

    model_config = ConfigDict(json_schema_extra=shapes.WINDOW)

    session: SessionName | None = Field(None, examples=["regular"])
    start: SessionEdge | None = Field(
        None, alias="from", description="Default: open.", examples=["open - 5m"]
    )
    end: SessionEdge | None = Field(None, alias="to", description="Default: close.", examples=["close + 5m"])
    hours: Hours | None = Field(
        None, description="Wall clock in the policy's time zone.", examples=["18:00-18:30"]
    )
    days: Annotated[tuple[Day, ...], *SOME] | None = Field(None, examples=[["mon", "fri"]])
    skip: Annotated[tuple[Date, ...], *SOME] | None = Field(None, examples=[["2026-12-24"]])
    only: Annotated[tuple[Date, ...], *SOME] | None = Field(None, examples=[["2026-12-16"]])

    @model_validator(mode="after")
    def _is_one_clause(self) -> WindowPart:
        if self is ALWAYS:
            return self
        if (self.session is None) == (self.hours is None):
            raise ValueError(
                'a window has either `session`, as {session: regular}, or `hours`, as {hours: "18:00-18:30"}'
            )
        if self.hours is not None and (self.start is not None or self.end is not None):
            raise ValueError('`from` and `to` belong to a session; with hours write "18:00-18:30" alone')
        start, end = self.start or Edge("open"), self.end or Edge("close")
        if start.anchor == end.anchor and start.offset >= end.offset:
            raise ValueError("the window's end is not after its start: it would never open")
        return self


ALWAYS = WindowPart.model_construct()


def _windows(value: Any) -> Any:
    """`always`, one clause or a list of both as a list."""
    clauses = value if isinstance(value, list) else [value]
    return [ALWAYS if clause == "always" else clause for clause in clauses]


def _windows_forms(many: dict[str, Any]) -> list[dict[str, Any]]:
    one = {"anyOf": [{"const": "always"}, many["items"]]}
    return [one, many | {"items": one}]


Windows = Annotated[tuple[WindowPart, ...], Field(min_length=1), Shorthand(_windows, _windows_forms)]


class VolumePart(Part):
    """The user's own figure of how much data there is."""

    gib_per_session: Positive = Field(description="GiB in a full exchange session.", examples=[0.41])


class RecoveryPart(Part):
    """How a gap in a live stream is mended."""

    replay: Duration | None = Field(None, description="Default: 15m.", examples=["15m"])
    spend: UsdOrUnlimited | None = Field(
        None, description="Per gap. Default: 0.50 USD.", examples=["0.50 USD"]
    )
    client_replay: Duration | None = Field(
        None,
        description="How far back a client's own start may reach. Default: 0m, none.",
        examples=["5m"],
    )


class FallbackPart(Part):
    """A command that runs instead."""

    name: Name = Field(examples=["barchart"])
    run: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(examples=[["python", "other_feed.py"]])


class StreamPart(Part):
    """One approved kind of data."""

    model_config = ConfigDict(json_schema_extra=shapes.STREAM)

    dataset: Dataset = Field(examples=["GLBX.MDP3"])
    schema_: Schema = Field(alias="schema", examples=["mbo"])
    symbols: Annotated[tuple[Symbol, ...], *SOME] = Field(
        description="ALL_SYMBOLS, written out, is the whole dataset.",
        examples=[["NQ.v.0"]],
        json_schema_extra={"uniqueItems": True},
    )
    stype_in: StypeIn = Field("raw_symbol", examples=["continuous"])
    mode: ModeName = Field("live", examples=["historical"])
    market: Name | None = Field(None, description="Default: the dataset's.", examples=["cme-equity-index"])
    windows: Windows | None = Field(
        None,
        description="When the stream may run. A live stream needs them.",
        examples=[[{"session": "regular"}]],
    )
    volume: VolumePart | None = Field(None, examples=[{"gib_per_session": 0.41}])
    cheaper: Annotated[tuple[Schema, ...], *SOME] | None = Field(
        None, description="Schemas that the planner may propose instead.", examples=[["mbp-10", "mbp-1"]]
    )
    recovery: RecoveryPart | None = Field(None, examples=[{"replay": "15m", "spend": "0.50 USD"}])
    fallback: tuple[FallbackPart, ...] = ()

    @model_validator(mode="after")
    def _all_symbols_stand_alone(self) -> StreamPart:
        if ALL_SYMBOLS in self.symbols and len(self.symbols) > 1:
            raise ValueError(f"{ALL_SYMBOLS} is the whole dataset: write it alone, or the symbols without it")
        return self


class CachePart(Part):
    """Answers of historical requests that are kept, and given again for nothing."""

    folder: Text = Field(
        description="Where they lie; a relative path starts at this file's folder, ~ at home.",
        examples=["~/budget-guard/history"],
    )
    keep_days: Count = Field(Decimal(30), description="How long an answer is given again.", examples=[30])


class HistoricalPart(Part):
    """What the historical door lets through, on top of the budgets."""

    max_request: UsdOrUnlimited | None = Field(
        None, description="A request that costs more is refused.", examples=["5 USD"]
    )
    approve_above: UsdOrUnlimited | None = Field(
        None,
        description="A request that costs more is asked on a terminal and refused elsewhere.",
        examples=["2 USD"],
    )
    all_symbols: Flag = Field(
        False, description="Whether a request may leave its symbols out.", examples=[True]
    )
    buy_again: Flag = Field(
        False,
        description="Whether a batch job that was bought before is bought again while the vendor has its files.",
        examples=[True],
    )
    cache: CachePart | None = Field(
        None,
        description="Keep answers, and give them again for the same request. Left out: every request is bought.",
        examples=[{"folder": "~/budget-guard/history", "keep_days": 30}],
    )


class PolicyPart(Part):
    """A whole policy file."""

    version: Version = Field(examples=[1])
    name: Name | None = Field(
        None,
        description="Required, but in a file of account and budgets that others extend.",
        examples=["nq-futures"],
    )
    extends: Text | None = Field(
        None,
        description="A file whose account and budgets are this policy's too; its path, from this file's folder.",
        examples=["account.yaml"],
    )
    timezone: Timezone = Field(
        "UTC", description="Of wall-clock hours, days and weeks.", examples=["America/New_York"]
    )
    account: AccountPart = Field(default_factory=lambda: AccountPart.model_validate({}))
    budgets: tuple[BudgetPart, ...] = Field(
        (),
        max_length=BUDGETS_MAX,
        description="Every budget that matches must have room.",
        examples=[[{"name": "account", "month": "200 USD"}]],
    )
    streams: dict[Name, StreamPart] = Field(
        {},
        description="What is approved. What no stream covers is refused.",
        json_schema_extra={"minProperties": 1, **shapes.NAMED},
    )
    historical: HistoricalPart = Field(default_factory=lambda: HistoricalPart.model_validate({}))


def keys_at(loc: tuple[str | int, ...]) -> dict[str, str]:
    """The keys of the mapping at a place of the document, each with an example; none where keys are the user's."""
    here: Any = PolicyPart
    for step in loc:
        here = _bare(here)
        if _is_part(here):
            known = {_key(name, field): field.annotation for name, field in here.model_fields.items()}
            here = known.get(str(step))
        elif get_origin(here) in (tuple, dict):
            here = get_args(here)[0 if get_origin(here) is tuple else 1]
        else:
            return {}
    here = _bare(here)
    if not _is_part(here):
        return {}
    return {
        _key(name, field): _flow(field.examples[0]) if field.examples else ""
        for name, field in here.model_fields.items()
    }


def _is_part(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Part)


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _bare(annotation: Any) -> Any:
    """An annotation without `Annotated` and `| None`."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _flow(value: Any) -> str:
    """An example as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return str(value)
