"""What a seed means: a setting (policies, prices, clocks) and the steps that are taken in it.

Every random choice is made here, as integers inside the steps; carrying them out makes none. So a schedule with some
of its steps left out still means the same, and a failure can be shrunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

from budget_guard.policy.model import (
    Account,
    Budget,
    HistoricalRules,
    Limit,
    LiveBilling,
    Match,
    PeriodName,
    Policy,
    Stream,
    Unit,
)

ACCOUNT = "desk"
MIB = 2**20

# What may go wrong with a write; `at` of a fault counts the transactions of its step.
FAULTS = ("kill_before", "kill_after", "reject", "lose_answer", "delay", "duplicate", "traffic")


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    at: int


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens. `pick` chooses who, `size` and `choice` how; a step that finds nobody does nothing."""

    kind: str
    pick: int
    size: int
    choice: int
    fault: Fault | None = None

    def __str__(self) -> str:
        fault = f" !{self.fault.kind}@{self.fault.at}" if self.fault else ""
        return f"{self.kind}(pick={self.pick}, size={self.size}, choice={self.choice}){fault}"


@dataclass(frozen=True, slots=True)
class Setting:
    """`prices` are the vendor's, by stream; a stream that is missing has no known price."""

    start_utc: datetime
    policies: tuple[Policy, ...]
    prices: Mapping[str, Decimal]
    skews_s: tuple[int, ...]  # one host each

    @property
    def budgets(self) -> dict[str, Budget]:
        return {budget.name: budget for policy in self.policies for budget in policy.budgets}


@dataclass(frozen=True, slots=True)
class Schedule:
    seed: int
    setting: Setting
    lossy: bool  # the ledger may go back by its last commits
    steps: tuple[Step, ...] = field(repr=False)


STREAMS = (
    Stream("nq", "GLBX.MDP3", "mbo", ("NQ.v.0",), "continuous"),
    Stream("es", "GLBX.MDP3", "mbp-1", ("ES.v.0",), "continuous"),
    Stream("day", "XNAS.ITCH", "trades", ("MSFT",)),  # closed for an hour each day
    Stream("flat", "DBEQ.BASIC", "mbo", ("MSFT",)),
    Stream("odd", "ODD.ODD", "mbo", ("X",)),  # nobody knows its price
)

_STARTS = (
    datetime(2026, 11, 30, 23, 50, tzinfo=UTC),  # a month's end
    datetime(2027, 1, 31, 21, 40, tzinfo=UTC),  # a week's, a month's and a session's end
    datetime(2026, 3, 8, 4, 30, tzinfo=UTC),  # the clocks of New York go forward
    datetime(2026, 11, 1, 3, 30, tzinfo=UTC),  # and back
    datetime(2026, 11, 23, 18, 20, tzinfo=UTC),  # a day's end in Kolkata
    datetime(2026, 11, 25, 14, 0, tzinfo=UTC),
)
_PRICES = ("2.16", "0.7", "11.111111", "250", "0.000001")
_ZONES = ("UTC", "America/New_York", "Asia/Kolkata")

# Step kinds and how often they are drawn.
_WEIGHTS = {
    "open": 16,
    "flow": 26,
    "tick": 12,
    "end": 8,
    "drain": 6,
    "request": 6,
    "answer": 7,
    "close_request": 5,
    "start": 5,
    "kill": 3,
    "crash": 1,
    "recover": 4,
    "approve": 2,
    "cut": 1,
    "mend": 3,
    "jump": 2,
    "suspend": 2,
    "to_period_end": 4,
    "late": 4,
    "torn": 1,
}
_FAULTY = frozenset(
    {"open", "flow", "tick", "end", "drain", "request", "close_request", "start", "recover", "to_period_end"}
)


def make_schedule(seed: int, length: int = 60, *, lossy: bool = False) -> Schedule:
    """The schedule of a seed. A lossy one has failovers, and no machine that goes down as well."""
    random = Random(seed)
    setting = _make_setting(random)
    opening = [Step("start", n, 0, random.getrandbits(16)) for n in range(len(setting.skews_s))]
    chances = {**_WEIGHTS, "crash": 0, "failover": 5} if lossy else _WEIGHTS
    kinds, weights = list(chances), list(chances.values())
    drawn: list[str] = []
    for kind in random.choices(kinds, weights, k=random.randrange(length // 3, length + 1)):
        drawn.append(kind)
        if kind == "to_period_end" and random.random() < 0.2:
            # A clock that is set back over the edge that it has just passed.
            drawn += ["jump", "tick"]
    return Schedule(seed, setting, lossy, (*opening, *(_make_step(random, kind) for kind in drawn)))


def _make_step(random: Random, kind: str) -> Step:
    fault = None
    if kind in _FAULTY and random.random() < 0.25:
        # When gateways look at their connections, leases shrink: that is when bytes come at the wrong moment.
        kinds = (*FAULTS, "traffic", "traffic", "traffic") if kind == "tick" else FAULTS
        fault = Fault(random.choice(kinds), random.choice((0, 0, 0, 1, 1, 2, 3)))
    # Sizes are spread over their orders of magnitude: bytes for flows, seconds for time.
    return Step(kind, random.getrandbits(16), int(2 ** random.uniform(0, 24)), random.getrandbits(16), fault)


def _make_setting(random: Random) -> Setting:
    prices = {stream.name: Decimal(random.choice(_PRICES)) for stream in STREAMS if stream.name != "odd"}
    prices["flat"] = Decimal(0)
    budgets = _make_budgets(random, max(prices.values()))
    account = Account(ACCOUNT, billing={"DBEQ.BASIC": LiveBilling("flat", "standard")})
    streams = {stream.name: stream for stream in STREAMS}
    rules = HistoricalRules(
        max_request_usd=_usd(random, prices["nq"], 40),
        approve_above_usd=random.choice((None, _usd(random, prices["nq"], 8))),
    )
    first = Policy("first", "UTC", account, budgets, streams, rules)
    fewer = {name: streams[name] for name in ("nq", "flat")}
    second = Policy("second", "UTC", account, budgets[: max(1, len(budgets) - 1)], fewer, rules)
    skews = tuple(random.choice((0, 0, -7, 90, 1800)) for _ in range(random.randrange(1, 4)))
    return Setting(random.choice(_STARTS), (first, second), prices, skews)


def _make_budgets(random: Random, price: Decimal) -> tuple[Budget, ...]:
    spots: list[tuple[str, Match, list[tuple[PeriodName, Unit]]]] = [
        (
            "glbx",
            Match(dataset=frozenset({"GLBX.MDP3"})),
            [("session", "usd"), ("session", "hours"), ("month", "gib"), ("month", "connections")],
        ),
        (
            "live",
            Match(mode=frozenset({"live"})),
            [("day", "connections"), ("day", "hours"), ("week", "gib"), ("session", "connections")],
        ),
        ("past", Match(mode=frozenset({"historical"})), [("week", "usd"), ("total", "gib")]),
        (
            "nq-only",
            Match(stream=frozenset({"nq"}), schema=frozenset({"mbo"})),
            [("day", "gib"), ("total", "usd"), ("total", "hours"), ("week", "connections")],
        ),
    ]
    made = [Budget("account", _make_limits(random, price, [("month", "usd"), ("day", "usd")]), Match())]
    for name, match, kinds in random.sample(spots, random.randrange(1, 5)):
        chosen = random.sample(kinds, random.randrange(1, len(kinds) + 1))
        made.append(Budget(name, _make_limits(random, price, chosen), match, timezone=random.choice(_ZONES)))
    return tuple(made)


def _make_limits(random: Random, price: Decimal, kinds: list[tuple[PeriodName, Unit]]) -> tuple[Limit, ...]:
    return tuple(Limit(period, unit, _amount(random, unit, price)) for period, unit in kinds)


def _amount(random: Random, unit: Unit, price: Decimal) -> Decimal | None:
    """Enough for a few leases, seldom for everything; now and then nothing, or no limit at all."""
    chance = random.random()
    if chance < 0.03:
        return Decimal(0)
    if chance < 0.1:
        return None
    if unit == "usd":
        return _usd(random, price, 120)
    if unit == "gib":
        return (Decimal(_mib(random, 200)) / 1024).quantize(Decimal("1E-7"))
    if unit == "hours":
        return Decimal(random.choice(("0.02", "0.1", "0.333333333", "1.5", "9")))
    return Decimal(random.choice((1, 2, 3, 5, 9, 30)))


def _usd(random: Random, price: Decimal, most_mib: int) -> Decimal:
    return (price * _mib(random, most_mib) / 1024).quantize(Decimal("1E-10"))


def _mib(random: Random, most: int) -> int:
    return 1 + int(2 ** random.uniform(0, 1) * random.uniform(0.5, most / 2))
