"""A historical request as the vendor's HTTP form, and the range that is pinned before it is priced. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from budget_guard.clock import EPOCH
from budget_guard.guard.request import Request
from budget_guard.policy.model import ALL_SYMBOLS
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import make_range

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


class FormError(ValueError):
    """A form that cannot be priced: what was found, and what would be right."""


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """A request for data, as the client sent it, with its range pinned."""

    request: Request
    range: DataRange
    limit: int | None  # records
    dbn: bool
    zstd: bool
    form: Mapping[str, str]  # to send upstream: the client's fields with the pinned range


def parse_range_request(form: Mapping[str, str]) -> RangeRequest:
    """Read a `timeseries.get_range` form with the vendor's own defaults. Raises FormError.

    A range is pinned to whole microseconds, outward, and a missing `end` becomes the one that the vendor would
    fill in: what is priced is what is then requested.
    """
    for name in ("dataset", "start"):
        if not form.get(name):
            raise FormError(f"the request has no {name}")
    start, end = _parse_bounds(form["start"], form.get("end") or None)
    schema = form.get("schema") or form.get("schema_") or "trades"
    stype_in = form.get("stype_in") or "raw_symbol"
    symbols = tuple((form.get("symbols") or ALL_SYMBOLS).split(","))
    try:
        data_range = make_range(form["dataset"], schema, symbols, stype_in, start, end)
    except ValueError as error:
        raise FormError(str(error)) from None
    request = Request(form["dataset"], schema, data_range.symbols, stype_in, "historical")
    pinned = dict(form) | {
        "start": start.isoformat(),
        "end": end.isoformat(),
        "symbols": ",".join(data_range.symbols),
    }
    return RangeRequest(
        request=request,
        range=data_range,
        limit=_parse_limit(form.get("limit")),
        dbn=form.get("encoding", "csv") == "dbn",
        zstd=form.get("compression", "none") == "zstd",
        form=pinned,
    )


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
