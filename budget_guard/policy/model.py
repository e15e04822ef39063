"""What a policy says, as values: the YAML dialect has been read, its defaults filled in, its amounts parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Literal

Mode = Literal["live", "historical"]
PeriodName = Literal["session", "day", "week", "month", "total"]
Unit = Literal["usd", "gib", "hours", "connections"]
SessionKind = Literal["regular", "extended", "full"]
AlertTo = Literal["log", "client"]
NotBilled = Literal["control", "ts_out"]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ALL_SYMBOLS = "ALL_SYMBOLS"
# The vendor lets a team have so many live connections to a dataset at once; its higher plans allow more.
CONNECTIONS_DEFAULT = 10


@dataclass(frozen=True, slots=True)
class Limit:
    """An amount per period, in `unit` (USD, GiB, hours or connections). `amount` None was written `unlimited`."""

    period: PeriodName
    unit: Unit
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class Match:
    """What a budget applies to; an empty field matches everything."""

    stream: frozenset[str] = frozenset()
    dataset: frozenset[str] = frozenset()
    schema: frozenset[str] = frozenset()
    mode: frozenset[str] = frozenset()

    def covers(self, *, stream: str | None, dataset: str, schema: str, mode: Mode) -> bool:
        """Whether spending with these properties counts against the budget."""
        return (
            (not self.stream or stream in self.stream)
            and (not self.dataset or dataset in self.dataset)
            and (not self.schema or schema in self.schema)
            and (not self.mode or mode in self.mode)
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """Named limits with a match. Day and week periods follow `timezone`, that of the file that defines it.

    `alerts_to` says who hears of alerts: the log, and the clients of the connections that the budget counts.
    """

    name: str
    limits: tuple[Limit, ...]
    match: Match = Match()
    alerts: tuple[Decimal, ...] = ()  # fractions: 50% is Decimal("0.5")
    timezone: str = "UTC"
    alerts_to: frozenset[AlertTo] = frozenset({"log"})


@dataclass(frozen=True, slots=True)
class Edge:
    """An end of a session window: `open - 5m` is Edge("open", -5 minutes)."""

    anchor: Literal["open", "close"]
    offset: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class SessionClause:
    """Part of each exchange session. `days`, `skip` and `only` speak of the session's label."""

    session: SessionKind
    start: Edge = Edge("open")
    end: Edge = Edge("close")
    days: frozenset[Weekday] = frozenset()  # empty: every day
    skip: frozenset[date] = frozenset()
    only: frozenset[date] = frozenset()  # empty: no restriction


@dataclass(frozen=True, slots=True)
class HoursClause:
    """Wall-clock hours in the policy's time zone; an end at or before the start is on the next day.

    `days`, `skip` and `only` speak of the local date on which the window opens.
    """

    start: time
    end: time
    days: frozenset[Weekday] = frozenset()
    skip: frozenset[date] = frozenset()
    only: frozenset[date] = frozenset()


@dataclass(frozen=True, slots=True)
class AlwaysClause:
    """Open at every instant."""


WindowClause = SessionClause | HoursClause | AlwaysClause


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a gap is mended: replayed when no longer than `replay` and no dearer than `spend_usd`.

    `client_replay` is how far back a client's own `start` may reach; zero covers none (a `snapshot` neither).
    """

    replay: timedelta = timedelta(minutes=15)
    spend_usd: Decimal | None = Decimal("0.50")
    client_replay: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Fallback:
    """A command to run instead while the vendor refuses or the money is out."""

    name: str
    run: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """One approved kind of data. `market` None means the dataset's default market."""

    name: str
    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str = "raw_symbol"
    mode: Mode = "live"
    market: str | None = None
    windows: tuple[WindowClause, ...] = ()
    gib_per_session: Decimal | None = None
    cheaper: tuple[str, ...] = ()
    recovery: Recovery = Recovery()
    fallback: tuple[Fallback, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveBilling:
    """How live data of a dataset is paid for: by the byte, by a plan, or not sold to this account."""

    kind: Literal["metered", "none", "flat"] = "metered"
    plan: str | None = None
    license_usd: Decimal = Decimal(0)  # per month, on top of the plan
    connections: int | None = CONNECTIONS_DEFAULT  # at once, over all programs; None for any number


@dataclass(frozen=True, slots=True)
class Credit:
    amount_usd: Decimal
    expires: date | None = None
    covers: Mode | None = None  # None: both


@dataclass(frozen=True, slots=True)
class Account:
    """Who pays, and at what prices. `prices` holds overrides: (dataset, mode, schema) to USD per GiB.

    `not_billed` is what of a live stream the vendor does not bill; by default it is taken to bill everything.
    """

    name: str
    billing: Mapping[str, LiveBilling] = field(default_factory=dict)
    prices: Mapping[tuple[str, Mode, str], Decimal] = field(default_factory=dict)
    credits: tuple[Credit, ...] = ()
    not_billed: frozenset[NotBilled] = frozenset()

    def live_billing(self, dataset: str) -> LiveBilling:
        """How the dataset's live data is billed; metered unless the policy says otherwise."""
        return self.billing.get(dataset, LiveBilling())


@dataclass(frozen=True, slots=True)
class HistoryCache:
    """Where answers of historical requests are kept, as written (from the policy's folder), and for how many days.

    `keep_days` None: for ever.
    """

    folder: str
    keep_days: int | None = 30


@dataclass(frozen=True, slots=True)
class HistoricalRules:
    """What the historical door lets through, on top of the budgets. None means no rule of its own.

    `buy_again`: whether a batch job that was bought before may be bought once more.
    """

    max_request_usd: Decimal | None = None
    approve_above_usd: Decimal | None = None
    all_symbols: bool = False
    buy_again: bool = False
    cache: HistoryCache | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file."""

    name: str
    timezone: str
    account: Account
    budgets: tuple[Budget, ...]
    streams: Mapping[str, Stream]
    historical: HistoricalRules = HistoricalRules()
    path: str | None = None

    def budgets_for(self, *, stream: str | None, dataset: str, schema: str, mode: Mode) -> tuple[Budget, ...]:
        """Every budget that spending with these properties counts against, in file order."""
        return tuple(
            budget
            for budget in self.budgets
            if budget.match.covers(stream=stream, dataset=dataset, schema=schema, mode=mode)
        )
