"""How far a dataset's history reaches, for whom, and the vendor's words for what lies beyond.

What is published ends now (less the embargo), a bar schema's with its last whole bar. A key without a live licence
sees less of it: the vendor holds the most recent data back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.account import Account
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.historical.errors import ApiError

_NEW_YORK = ZoneInfo("America/New_York")
# US stock feeds by what their datasets' names begin with.
_US_EQUITIES = (
    *("XNAS", "XNYS", "XBOS", "XPSX", "XCHI", "XCIS", "XASE", "ARCX", "BATS", "BATY"),
    *("EDGA", "EDGX", "IEXG", "MEMX", "EPRL", "EQUS", "DBEQ"),
)

_SECOND_NS = 10**9
_BAR_NS = {
    "ohlcv-1s": _SECOND_NS,
    "ohlcv-1m": 60 * _SECOND_NS,
    "ohlcv-1h": 3600 * _SECOND_NS,
    "ohlcv-1d": 86_400 * _SECOND_NS,
}


@dataclass(frozen=True, slots=True)
class Reach:
    """The half-open range of a dataset or schema that a key may ask for, in nanoseconds since 1970."""

    start_ns: int
    end_ns: int


def is_us_equities(dataset: str) -> bool:
    """Whether a dataset is of US stocks: they have no parent or continuous symbols."""
    return dataset.startswith(_US_EQUITIES)


class Horizon:
    """The reach of everything on offer, at the moment at which it was made: one answer speaks of one moment."""

    def __init__(self, config: SandboxConfig, account: Account) -> None:
        self._config = config
        self._account = account
        self.now = config.clock.now()
        published = self.now - timedelta(seconds=config.embargo_s)
        self._published = Reach(ns_from_instant(config.history_start), ns_from_instant(published))

    def of(self, key: str, dataset: str, schema: str | None = None) -> Reach:
        """What a key may ask for of a dataset, or of one of its schemas."""
        published, wall_ns = self.published_of(dataset, schema), self._wall_ns(key, dataset)
        if wall_ns is None:
            return published
        return Reach(published.start_ns, min(published.end_ns, self._whole(schema, wall_ns)))

    def published_of(self, dataset: str, schema: str | None = None) -> Reach:
        """What there is of a dataset or schema: all of its time up to now, or what was recorded of it."""
        now_ns = self._whole(schema, self._published.end_ns)
        recorded = self._config.recorded.get(dataset, {})
        ranges = [bounds for name, bounds in recorded.items() if schema in (None, name)]
        if not ranges:
            return Reach(self._published.start_ns, now_ns)
        start_ns = min(start for start, _ in ranges)
        end_ns = min(now_ns, max(end for _, end in ranges))
        return Reach(start_ns, max(start_ns, end_ns))

    def check(self, key: str, dataset: str, schema: str, start_ns: int, end_ns: int) -> None:
        """Whether a range may be asked about. Raises ApiError.

        CME's recent data is refused in every question; other markets' is quoted, and refused when it is to be sent:
        see `check_licence`.
        """
        self._check_published(dataset, start_ns, end_ns)
        wall_ns = self._wall_ns(key, dataset)
        if wall_ns is not None and end_ns > wall_ns and dataset.startswith("GLBX"):
            raise _no_licence(dataset, start_ns, end_ns, wall_ns)
        published = self.published_of(dataset, schema)
        if start_ns < published.start_ns or end_ns > published.end_ns:
            raise ApiError(
                422,
                "data_schema_not_fully_available",
                f"Schema `{schema}` for dataset `{dataset}` is only available between "
                f"{time_text(published.start_ns)} and {time_text(published.end_ns)}.",
                _payload(dataset, start_ns, end_ns, published),
            )

    def check_licence(self, key: str, dataset: str, end_ns: int) -> None:
        """Whether data up to an instant may be sent. Raises ApiError."""
        if not self._account.may_history(key, dataset):
            raise ApiError(
                403,
                "license_not_found_unauthorized",
                f"A license is required to access {dataset} historical data.",
            )
        wall_ns = self._wall_ns(key, dataset)
        if wall_ns is not None and end_ns > wall_ns:
            raise ApiError(
                403,
                "license_not_found_unauthorized",
                f"A live data license is required to access {dataset} data after {time_text(wall_ns)}.",
            )

    def check_days(self, key: str, dataset: str, start_ns: int, end_ns: int) -> None:
        """Whether symbols may be resolved over whole days, midnight to midnight. Raises ApiError."""
        day_ns = _BAR_NS["ohlcv-1d"]
        published = self.published_of(dataset)
        first_ns = published.start_ns
        if start_ns < first_ns - first_ns % day_ns:
            raise _start_before(dataset, start_ns, end_ns, published)
        last_ns = ns_from_instant(self.now)
        last_ns += -last_ns % day_ns
        wall_ns = self._wall_ns(key, dataset)
        if wall_ns is not None and dataset.startswith("GLBX"):
            last_ns = wall_ns
        if end_ns > last_ns:
            raise _no_licence(dataset, start_ns, end_ns, last_ns)

    def _whole(self, schema: str | None, end_ns: int) -> int:
        """The end of the last bar that is whole, where a schema is of bars."""
        return end_ns - end_ns % _BAR_NS.get(schema or "", 1) if self._config.whole_bars else end_ns

    def _wall_ns(self, key: str, dataset: str) -> int | None:
        """From when on data is held back from a key; None when nothing is."""
        if not self._config.recency_wall or self._account.may_live(key, dataset):
            return None
        now = self.now
        if dataset.startswith("GLBX"):
            wall = now - timedelta(hours=8)
        elif is_us_equities(dataset):
            today = now.astimezone(_NEW_YORK).date()
            wall = datetime.combine(today, time(), _NEW_YORK).astimezone(UTC)
        else:
            # OPRA's is known to be a day; that of other futures is not known, and the longest is assumed.
            wall = now - timedelta(hours=24)
        return ns_from_instant(wall)

    def _check_published(self, dataset: str, start_ns: int, end_ns: int) -> None:
        reach = self.published_of(dataset)
        payload = _payload(dataset, start_ns, end_ns, reach)
        if start_ns < reach.start_ns:
            raise _start_before(dataset, start_ns, end_ns, reach)
        if start_ns >= reach.end_ns:
            raise ApiError(
                422,
                "data_start_after_available_end",
                f"`start` in query ('{_spaced(start_ns)}') was after the available end of dataset {dataset} "
                f"('{_spaced(reach.end_ns)}'). Try requesting with an earlier `start`.",
                payload,
            )
        if end_ns > reach.end_ns:
            raise ApiError(
                422,
                "data_end_after_available_end",
                f"The dataset {dataset} has data available up to '{_spaced(reach.end_ns)}'. The `end` in the query "
                f"('{_spaced(end_ns)}') is after the available range. Try requesting with an earlier `end`.",
                payload,
            )


def _start_before(dataset: str, start_ns: int, end_ns: int, reach: Reach) -> ApiError:
    return ApiError(
        422,
        "data_start_before_available_start",
        f"`start` in query ('{_spaced(start_ns)}') was before the available start of dataset {dataset} "
        f"('{_spaced(reach.start_ns)}'). Try requesting with a later `start`.",
        _payload(dataset, start_ns, end_ns, reach),
    )


def _no_licence(dataset: str, start_ns: int, end_ns: int, wall_ns: int) -> ApiError:
    return ApiError(
        422,
        "dataset_unavailable_range",
        f"Part or all of your request for dataset '{dataset}' requires a subscription and/or license to access. "
        f"Try again with an end time before {time_text(wall_ns)}.",
        {
            "dataset": dataset,
            "start": time_text(start_ns),
            "end": time_text(end_ns),
            "available_end": time_text(wall_ns),
        },
    )


def _payload(dataset: str, start_ns: int, end_ns: int, reach: Reach) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "start": time_text(start_ns),
        "end": time_text(end_ns),
        "available_start": time_text(reach.start_ns),
        "available_end": time_text(reach.end_ns),
    }


def time_text(nanoseconds: int) -> str:
    """An instant as the vendor's JSON has it, to the nanosecond."""
    stamp, fraction = _parts(nanoseconds)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _spaced(nanoseconds: int) -> str:
    """An instant as the vendor's sentences have it, with no more of the fraction than there is."""
    stamp, fraction = _parts(nanoseconds)
    digits = (
        "" if fraction == 0 else f".{fraction // 1000:06d}" if fraction % 1000 == 0 else f".{fraction:09d}"
    )
    return f"{stamp:%Y-%m-%d %H:%M:%S}{digits}+00:00"


def _parts(nanoseconds: int) -> tuple[datetime, int]:
    seconds, fraction = divmod(nanoseconds, _SECOND_NS)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds), fraction
