"""A historical request as the vendor's HTTP form, and the range that is pinned before it is priced. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from budget_guard.clock import EPOCH
from budget_guard.guard.request import Request
from budget_guard.policy.model import ALL_SYMBOLS
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import canonical, make_range
from budget_guard.pricing.sheet import RECORD_BYTES

_INSTANT = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})(?:[T ](?P<time>\d{2}(?::\d{2}(?::\d{2})?)?)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_UNIX_NS = re.compile(r"[0-9]{12,20}")
_COUNT = re.compile(r"0*[1-9][0-9]{0,18}")
# How far the vendor fills a missing `end` forward: to the end of what `start` names.
_RESOLUTION = {
    None: timedelta(days=1),
    2: timedelta(hours=1),
    5: timedelta(minutes=1),
    8: timedelta(seconds=1),
}
# The fields of the vendor's two forms that sell data, with its defaults; None: no default, or one that is worked out.
_BOTH: Mapping[str, str | None] = {
    "dataset": None,
    "schema": "trades",
    "symbols": ALL_SYMBOLS,
    "stype_in": "raw_symbol",
    "stype_out": "instrument_id",
    "start": None,
    "end": None,
    "limit": None,
    "encoding": "csv",
    "compression": "none",
    "pretty_px": "false",
    "pretty_ts": "false",
    "map_symbols": "false",
}
_BATCH: Mapping[str, str | None] = {
    **_BOTH,
    "split_symbols": "false",
    "split_duration": "day",
    "split_size": None,
    "packaging": "none",
    "delivery": "download",
}
# Other names of the same fields, and fields that say nothing about the data.
_ALIASES = {"schema_": "schema", "symbol": "symbols"}
_ABOUT_THE_CALL = frozenset({"retry", "user-agent"})
_FLAGS = frozenset({"pretty_px", "pretty_ts", "map_symbols", "split_symbols"})
_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})


class FormError(ValueError):
    """A form that cannot be priced: what was found, and what would be right."""


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """A request for data, as the client sent it, with its range pinned."""

    request: Request
    range: DataRange
    limit: int | None  # records
    form: Mapping[str, str]  # to send upstream: the client's fields with the pinned range
    canonical: str  # the same text for every way to write the same request

    @property
    def encoding(self) -> str:
        return self.form.get("encoding") or "csv"

    @property
    def dbn(self) -> bool:
        return self.encoding == "dbn"

    @property
    def zstd(self) -> bool:
        return self.form.get("compression") == "zstd"

    @property
    def record_bytes(self) -> int | None:
        """What a record of the schema is billed as; None for a schema nobody has measured."""
        return RECORD_BYTES.get(self.range.schema)


def parse_range_request(form: Mapping[str, str], *, batch: bool = False) -> RangeRequest:
    """Read a `timeseries.get_range` form, or `batch.submit_job`'s, with the vendor's own defaults. Raises FormError.

    A range is pinned to whole microseconds, outward, and a missing `end` becomes the one that the vendor would
    fill in: what is priced is what is then requested. A field that nobody knows here is refused: it might change what
    is sold.
    """
    fields = _known_fields(form, _BATCH if batch else _BOTH)
    for name in ("dataset", "start"):
        if not fields.get(name):
            raise FormError(f"the request has no {name}")
    start, end = _parse_bounds(fields["start"], fields.get("end"))
    schema = fields.get("schema") or "trades"
    stype_in = fields.get("stype_in") or "raw_symbol"
    symbols = tuple((fields.get("symbols") or ALL_SYMBOLS).split(","))
    try:
        data_range = make_range(fields["dataset"], schema, symbols, stype_in, start, end)
    except ValueError as error:
        raise FormError(str(error)) from None
    pinned = fields | {
        "start": start.isoformat(),
        "end": end.isoformat(),
        "symbols": ",".join(data_range.symbols),
    }
    limit = _parse_limit(fields.get("limit"))
    return RangeRequest(
        request=Request(fields["dataset"], schema, data_range.symbols, stype_in, "historical"),
        range=data_range,
        limit=limit,
        form=pinned,
        canonical=_canonical_text(fields, data_range, limit, batch=batch),
    )


def canonical_of_job(job: Mapping[str, Any]) -> str:
    """The canonical text of the request that made a batch job, from the vendor's details of it. Raises FormError."""
    told = {name: _as_field(job[name]) for name in _BATCH if job.get(name) is not None}
    # The vendor tells of `none` as null.
    for name in ("compression", "split_duration"):
        if name in job and job[name] is None:
            told[name] = "none"
    return parse_range_request(told, batch=True).canonical


def _as_field(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _known_fields(form: Mapping[str, str], known: Mapping[str, str | None]) -> dict[str, str]:
    """The fields that say something, under their own names. Raises FormError for one that nobody knows."""
    fields: dict[str, str] = {}
    for name, value in form.items():
        own = _ALIASES.get(name, name)
        if own in _ABOUT_THE_CALL or not value:
            continue
        if own not in known:
            raise FormError(f"the field {name!r} is not known here, and might change what the request costs")
        if fields.setdefault(own, value) != value:
            raise FormError(f"the request has two different values for {own}")
    return fields


def _canonical_text(
    fields: Mapping[str, str], data_range: DataRange, limit: int | None, *, batch: bool
) -> str:
    """Every field with its default filled in, symbols sorted, instants in one form: equal for equal requests."""
    same = canonical(data_range)
    row: dict[str, Any] = {
        name: _flag(fields.get(name)) if name in _FLAGS else fields.get(name) or default
        for name, default in (_BATCH if batch else _BOTH).items()
    }
    row |= {
        "symbols": list(same.symbols),
        "start": same.start_utc.isoformat(),
        "end": same.end_utc.isoformat(),
        "limit": limit,
    }
    if batch and row["split_size"] is not None:
        row["split_size"] = row["split_size"].lstrip("0")
    return json.dumps(row, sort_keys=True)


def _flag(text: str | None) -> bool:
    return (text or "").lower() in _TRUE


def _parse_bounds(start_text: str, end_text: str | None) -> tuple[datetime, datetime]:
    """Start and end; a missing end is where the vendor would fill it in."""
    try:
        start, step = _parse_instant("start", start_text)
        return start, start + step if end_text is None else _parse_instant("end", end_text, up=True)[0]
    except OverflowError:
        raise FormError(f"{start_text} to {end_text or 'its end'}: no such dates") from None


def _parse_instant(name: str, text: str, *, up: bool = False) -> tuple[datetime, timedelta]:
    """An instant, cut to microseconds (`up`: to the next one), and the span that its digits name."""
    if _UNIX_NS.fullmatch(text):
        microseconds = -(-int(text) // 1000) if up else int(text) // 1000
        return EPOCH + timedelta(microseconds=microseconds), timedelta(microseconds=1)
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise FormError(f"{name} is {text!r}; write it as 2026-11-23T14:30 or in nanoseconds since 1970")
    time, fraction = match["time"], match["fraction"]
    clock_time = {None: "00:00:00", 2: f"{time}:00:00", 5: f"{time}:00", 8: time}[len(time) if time else None]
    try:
        instant = datetime.fromisoformat(f"{match['date']}T{clock_time}{match['zone'] or '+00:00'}")
    except ValueError as error:
        raise FormError(f"{name} is {text!r}: {error}") from None
    digits = int((fraction or "").ljust(9, "0"))
    instant += timedelta(microseconds=-(-digits // 1000) if up else digits // 1000)
    step = timedelta(microseconds=1) if fraction else _RESOLUTION[len(time) if time else None]
    return instant.astimezone(UTC), step


def _parse_limit(text: str | None) -> int | None:
    if not text:
        return None
    if not _COUNT.fullmatch(text):
        raise FormError(f"limit is {text!r}; it should be a whole number of records, 1 or more")
    return int(text)
