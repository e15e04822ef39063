"""How a sandbox is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from budget_guard.clock import Clock, SystemClock
from budget_guard.sandbox.billing.rules import BillingRules
from budget_guard.sandbox.faults.model import Fault
from budget_guard.sandbox.faults.names import Names
from budget_guard.sandbox.prices import DEFAULT_PRICES, DatasetPrices

# 32 characters, as the vendor's keys are.
DEFAULT_KEY = "db-sandbox-000000000000000000001"

# Within a minute of one stream, (index * 60e9) must fit into 63 bits: see market.TickTape.
RATE_MAX = 2_000_000
DEFAULT_RATE = 1000

# What the vendor says of a day of a dataset.
Condition = Literal["available", "degraded", "pending", "missing"]


@dataclass(frozen=True, slots=True)
class Rights:
    """The datasets that a key may use; None is all of them."""

    live: frozenset[str] | None = None
    historical: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be asked at once and per second; None lifts a limit. The defaults are the vendor's published ones.

    Live connections are counted by dataset over all keys, new ones by address; requests by address. Subscriptions
    beyond theirs are delayed, new connections closed, requests answered with 429 and `Retry-After`.
    """

    connections_per_dataset: int | None = 10
    new_connections_per_s: int | None = 5
    subscriptions_per_s: int | None = 10
    metadata_per_s: int | None = 20
    timeseries_per_s: int | None = 100
    symbology_per_s: int | None = 100
    list_jobs_per_s: int | None = 20
    submit_jobs_per_min: int | None = 20
    http_connections: int | None = 100

    @classmethod
    def none(cls) -> Limits:
        """No limit at all."""
        return cls(None, None, None, None, None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class FlatPlan:
    """A flat plan of one dataset: its live data costs nothing more, nor does history of the last days of a schema.

    `history_days` counts days back from the request, by schema; a schema that is not in it is sold by the byte.
    """

    live: bool = True
    history_days: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credit:
    """Money that pays bills before the account does, up to and including the day it expires (None: never)."""

    amount_usd: Decimal
    expires: date | None = None
    covers: Literal["historical", "live", "all"] = "all"


@dataclass(frozen=True, slots=True)
class BatchRules:
    """How long a batch job takes, in seconds after its submission by the sandbox's clock, and how jobs are listed.

    The vendor was seen to queue a small job after 20 s, to begin it 10 s later and to be done 1 s after that
    (2026-08-25), and the listing to know a job only seconds after its submission; here all of it takes a second.
    Files are kept for `kept_days` after that. `short_lists`: the listing tells id, state and `ts_received` only, as the
    vendor's does since 2026-09-29; a client's own `short` decides where it is given. `files_max_bytes`: jobs with more
    record bytes than that are sold, but their files are not made.
    """

    listed_after_s: float = 0.25
    queued_after_s: float = 0.25
    processing_after_s: float = 0.5
    done_after_s: float = 1.0
    kept_days: int = 30
    short_lists: bool = True
    files_max_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        if not 0 <= self.queued_after_s <= self.processing_after_s <= self.done_after_s:
            raise ValueError("a batch job is queued first, then processed, then done")


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Everything that makes a sandbox; the defaults make one that lets its key read everything.

    `rate` is live records/s of each subscribed instrument in the tick schemas (mbo, trades, mbp-1 and so on), around
    the clock, from the minute of the clock's start on, in history too; 0 is as fast as the reader takes them, and
    history has none of them; None is the market's own pace.
    Entitlements name datasets; None is all of them; `rights` gives a key others than these. `plans` are flat plans by
    dataset; `credits` pay what is due; `billing` says which live bytes are billed where the vendor does not. `faults`
    are armed when the sandbox starts.
    `records_per_session` maps (schema, product), as
    `("mbo", "NQ")`, to the records of an ordinary session of its front contract. `products` adds stock or futures
    roots by dataset. `heartbeat_interval_s` overrides what the client asks for. A live client that is `slow_reader_s`
    of market time behind and does not read is a slow one (the vendor publishes no figure: assumed).
    Live records leave together every `slot_ms` of market time.
    `remap_continuous` lets a running continuous subscription follow a roll, where the vendor's documentation says that
    one keeps its contract. `replay_by_event_time` starts replays by `ts_event`, as the vendor documents for all schemas
    but bbo and cbbo; without it they start by the index timestamp, as history does.

    `batch` says how long batch jobs take and how they are listed.

    History reaches to now less `embargo_s`, bars to the last whole one (`whole_bars`). A key without a live licence
    sees less (`recency_wall`): CME's to 8 hours ago, OPRA's to 24, US stocks' to the last midnight in New York. Sizes
    and costs are exact; with `coarse_sizes` they overstate as the vendor's do, from one 10-minute boundary to another.
    `get_cost` quotes list prices, as measured; with `quote_discounts` less what a flat plan includes, as documented.
    `conditions` are days of a dataset that are not `available`. Requests for more than `timeout_symbols` symbols get
    504 (the vendor names no figure). A `locked` account is refused everything over HTTP.

    `replay` names recorded DBN files: they are all the market there is, live at the pace at which they were recorded,
    from the first record on where `clock` is the machine's own. What they hold is then in `recorded`, by dataset and
    schema: half-open ranges in nanoseconds since 1970.
    """

    host: str = "127.0.0.1"
    live_port: int = 0
    http_port: int = 0
    keys: tuple[str, ...] = (DEFAULT_KEY,)
    live_entitlements: frozenset[str] | None = None
    historical_entitlements: frozenset[str] | None = None
    prices: Mapping[str, DatasetPrices] = field(default_factory=lambda: DEFAULT_PRICES)
    rate: int | None = DEFAULT_RATE
    seed: int = 0
    clock: Clock = field(default_factory=SystemClock)
    history_start: datetime = datetime(2010, 6, 6, tzinfo=UTC)
    embargo_s: float = 0.0
    records_per_session: Mapping[tuple[str, str], int] = field(default_factory=dict)
    products: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    batch: BatchRules = field(default_factory=BatchRules)
    rights: Mapping[str, Rights] = field(default_factory=dict)
    plans: Mapping[str, FlatPlan] = field(default_factory=dict)
    credits: tuple[Credit, ...] = ()
    faults: tuple[Fault, ...] = ()
    billing: BillingRules = field(default_factory=BillingRules)
    recency_wall: bool = True
    whole_bars: bool = True
    coarse_sizes: bool = False
    quote_discounts: bool = False
    conditions: Mapping[str, Mapping[date, Condition]] = field(default_factory=dict)
    timeout_symbols: int | None = None
    replay_limit_s: float = 86_400.0
    replay_by_event_time: bool = True
    remap_continuous: bool = True
    slow_reader_s: float = 5.0
    slot_ms: int = 10
    heartbeat_interval_s: float | None = None
    send_buffer_bytes: int = 2**20
    unpaid: bool = False
    locked: bool = False
    bill_path: Path | None = None
    replay: tuple[Path, ...] = ()
    recorded: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 <= self.rate <= RATE_MAX:
            raise ValueError(
                f"rate is {self.rate}; it should be 0 (no limit) to {RATE_MAX:,} records/s, or None"
            )
        if self.replay and self.rate not in (None, DEFAULT_RATE):
            raise ValueError("recorded files have a pace of their own: a rate does not go with replay")
        if not 1 <= self.slot_ms <= 10 or 10 % self.slot_ms:
            raise ValueError(f"slot_ms is {self.slot_ms}; it should be 1, 2, 5 or 10")
        if not self.keys or any(len(key) < 6 or "|" in key for key in self.keys):
            raise ValueError("a sandbox needs at least one key, of 6 characters or more and without '|'")
        self._check_names()
        if not 0 < self.send_buffer_bytes <= 2**22:
            raise ValueError("send_buffer_bytes should be at most 4 MiB: it bounds what is billed and unread")

    @property
    def slot_ns(self) -> int:
        return self.slot_ms * 10**6

    def _check_names(self) -> None:
        """What is licensed and what goes wrong is about datasets and keys that there are. Raises ValueError."""
        if self.recorded:
            return  # checked before a recording narrowed what is on offer
        names = Names(tuple(self.prices), self.keys)
        licensed = {"live": self.live_entitlements, "historical": self.historical_entitlements}
        wrong = [
            f"{side} {said}"
            for side, datasets in licensed.items()
            for dataset in sorted(datasets or ())
            if (said := names.dataset(dataset)) is not None
        ]
        wrong += [
            f"{fault.do}: {word} {said}" for fault in self.faults for word, said in names.problems(fault)
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
