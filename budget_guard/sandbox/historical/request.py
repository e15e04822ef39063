"""What an HTTP client asks for, checked: forms to values, and the vendor's errors for what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.historical.errors import ApiError as ApiError
from budget_guard.sandbox.historical.errors import GatewayTimeout, not_one_of
from budget_guard.sandbox.historical.errors import invalid as invalid
from budget_guard.sandbox.historical.errors import unpriced as unpriced
from budget_guard.sandbox.historical.parameters import DATASET, check_fields
from budget_guard.sandbox.historical.reach import is_us_equities
from budget_guard.sandbox.historical.reach import time_text as time_text
from budget_guard.sandbox.market.model import ALL_SYMBOLS
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.sessions import date_of_ns

if TYPE_CHECKING:
    from budget_guard.sandbox.historical.context import Call, Context

SYMBOLS_MAX = 2000
# What a DBN header has room for; it takes ASCII only.
_SYMBOL_CHARACTERS_MAX = 70
_U64_MAX = 2**64 - 1
# The vendor's own four; other symbology types that DBN has numbers for are not served.
STYPES = ("raw_symbol", "instrument_id", "continuous", "parent")
# What the vendor's table of symbology combinations allows.
CONVERSIONS: Mapping[str, tuple[str, ...]] = {
    "raw_symbol": ("instrument_id",),
    "instrument_id": ("instrument_id", "raw_symbol"),
    "continuous": ("instrument_id",),
    "parent": ("instrument_id",),
}

_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?)?)?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
# An end that is left out is the start filled forward by the unit it was written to.
_FILL_NS = {"date": 86_400 * 10**9, "hour": 3600 * 10**9, "minute": 60 * 10**9, "second": 10**9}
# The form of each kind of symbol, and how the vendor names it.
_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "parent": (re.compile(r"[^.]+\.(FUT|OPT|SPOT)"), "'[ROOT].FUT' or '[ROOT].OPT'"),
    "continuous": (re.compile(r"[^.]+\.[cnv]\.\d{1,3}"), "'[ROOT].[ROLL_RULE].[RANK]'"),
    "instrument_id": (re.compile(r"\d{1,10}"), "a whole number"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """A range of data that is asked for: `[start_ns, end_ns)`, at most `limit` records."""

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str
    start_ns: int
    end_ns: int
    limit: int | None


def parse_time(text: str) -> tuple[int, int]:
    """Nanoseconds since 1970, and the unit (ns) to which the text was written. Raises ValueError.

    Takes what the clients send: whole nanoseconds, or an ISO date or time, UTC unless it says otherwise.
    """
    if text.isascii() and text.isdigit():
        return int(text), 1
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time: {text!r}")
    clock = f"{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}"
    zone = match["zone"] or "+00:00"
    instant = datetime.fromisoformat(f"{match['date']}T{clock}{'+00:00' if zone == 'Z' else zone}")
    fraction = int((match["fraction"] or "0").ljust(9, "0"))
    written = next((unit for unit in ("second", "minute", "hour") if match[unit]), "date")
    unit_ns = 1 if match["fraction"] else _FILL_NS[written]
    try:
        return ns_from_instant(instant.astimezone(UTC)) + fraction, unit_ns
    except OverflowError:
        raise ValueError(f"not a time: {text!r}") from None


def check_dataset(fields: Mapping[str, str], config: SandboxConfig) -> str:
    """The dataset asked for. Raises ApiError."""
    check_fields((DATASET,), fields)
    dataset = fields["dataset"]
    if dataset not in config.prices:
        known = ", ".join(sorted(config.prices))
        raise ApiError(404, "dataset_not_found", f"The dataset {dataset!r} is not known here; one of {known}")
    return dataset


def check_schema(fields: Mapping[str, str]) -> str:
    """The schema asked for, of any dataset; trades when it is left out. Raises ApiError."""
    schema = fields.get("schema") or fields.get("schema_") or "trades"
    if schema not in SPECS:
        raise not_one_of("schema", SPECS)
    return schema


def check_query(context: Context, call: Call) -> Query:
    """A range of data, with the vendor's defaults, that may be asked about. Raises ApiError."""
    fields, config = call.fields, context.config
    dataset, schema = check_dataset(fields, config), check_schema(fields)
    if schema not in config.prices[dataset].historical:
        raise ApiError(
            422, "dataset_schema_not_supported", f"Schema `{schema}` is not supported on dataset `{dataset}`."
        )
    stype_in = check_stype(fields, "stype_in", "raw_symbol")
    check_conversion(dataset, stype_in, "instrument_id")
    symbols = parse_symbols(fields, stype_in, config.timeout_symbols)
    limit = _check_limit(fields)
    start_ns, end_ns = _check_range(context, call.key, dataset, schema, fields)
    return Query(dataset, schema, symbols, stype_in, start_ns, end_ns, limit)


def check_download(context: Context, call: Call) -> Query:
    """A range of data that may be sent, and paid for. Raises ApiError; warns of days of reduced quality."""
    query = check_query(context, call)
    context.horizon.check_licence(call.key, query.dataset, query.end_ns)
    if context.account.unpaid:
        raise ApiError(402, "account_insufficient_funds", "The account has insufficient funds.")
    if context.account.historical_price(query.dataset, query.schema) is None:
        raise unpriced(query.dataset, query.schema)
    reduced = ", ".join(f"{day} ({condition})" for day, condition in _reduced_days(context.config, query))
    if reduced:
        call.warnings.append(
            f"BentoWarning: The streaming request contained one or more days which have reduced quality: {reduced}"
        )
    return query


def check_stype(fields: Mapping[str, str], name: str, default: str | None = None) -> str:
    """A field that is a symbology type. Raises ApiError."""
    stype = fields.get(name) or default
    if stype not in STYPES:
        raise not_one_of(name, STYPES)
    return stype


def check_conversion(dataset: str, stype_in: str, stype_out: str) -> None:
    """Whether symbols of one kind can be turned into another's in a dataset. Raises ApiError."""
    futures = not is_us_equities(dataset)
    allowed = stype_out in CONVERSIONS[stype_in]
    if stype_in == "parent":
        allowed = allowed and futures
    if stype_in == "continuous":
        allowed = allowed and futures and not dataset.startswith("OPRA")
    if not allowed:
        raise ApiError(
            422,
            "symbology_invalid_request",
            f"Resolving `stype_in` {stype_in} to `stype_out` {stype_out} is not supported for dataset {dataset}.",
        )


def parse_symbols(
    fields: Mapping[str, str], stype_in: str = "raw_symbol", timeout_symbols: int | None = None
) -> tuple[str, ...]:
    """The symbols asked for; all of them when the field is left out, as at the vendor's. Raises ApiError."""
    text = fields.get("symbols") or fields.get("symbol") or ALL_SYMBOLS
    symbols = tuple(dict.fromkeys(symbol.strip() for symbol in text.split(",") if symbol.strip()))
    if not symbols or len(symbols) > SYMBOLS_MAX:
        raise ApiError(
            422,
            "symbology_invalid_request",
            f"{len(symbols)} symbols asked for; 1 to {SYMBOLS_MAX:,} are allowed",
        )
    if timeout_symbols is not None and len(symbols) > timeout_symbols:
        raise GatewayTimeout
    form, expected = _FORMS.get(stype_in, (None, ""))
    for symbol in symbols:
        if len(symbol) > _SYMBOL_CHARACTERS_MAX or not (symbol.isascii() and symbol.isprintable()):
            raise ApiError(
                400,
                "symbology_invalid_symbol",
                f"Invalid symbol {symbol[:_SYMBOL_CHARACTERS_MAX]!r}, expected printable ASCII of up to "
                f"{_SYMBOL_CHARACTERS_MAX} characters.",
            )
        if form is not None and symbol != ALL_SYMBOLS and not form.fullmatch(symbol):
            raise ApiError(
                400,
                "symbology_invalid_symbol",
                f"Invalid format for `{stype_in}` symbol '{symbol}', expected format: {expected}.",
            )
    return symbols


def parse_day(fields: Mapping[str, str], name: str, default: date | None = None) -> date:
    """A date field; a time is cut to its date. Raises ApiError."""
    text = fields.get(name)
    if not text:
        if default is None:
            raise invalid(name, "Field required", "missing")
        return default
    try:
        return date_of_ns(parse_time(text)[0])
    except (ValueError, OverflowError):
        raise invalid(name, f"not a date: {text!r}") from None


def _check_limit(fields: Mapping[str, str]) -> int | None:
    text = fields.get("limit")
    if not text:
        return None
    digits = text.lstrip("0")
    if not text.isascii() or not text.isdigit() or not 0 < len(digits) <= 20 or int(digits) > _U64_MAX:
        raise invalid("limit", f"should be a whole number from 1 to {_U64_MAX}; got {text[:40]!r}")
    return int(text)


def _check_range(
    context: Context, key: str, dataset: str, schema: str, fields: Mapping[str, str]
) -> tuple[int, int]:
    horizon = context.horizon
    start_ns, unit_ns = _time_field(fields, "start")
    if fields.get("end"):
        end_ns = _time_field(fields, "end")[0]
    else:
        reach = horizon.of(key, dataset, schema)
        end_ns = start_ns + unit_ns
        if start_ns < reach.end_ns:
            end_ns = min(end_ns, reach.end_ns)
    if start_ns >= end_ns:
        raise ApiError(
            422,
            "data_time_range_start_on_or_after_end",
            f"Invalid time range query, `start` {time_text(start_ns)} cannot be on or after "
            f"`end` {time_text(end_ns)}.",
            {"start": time_text(start_ns), "end": time_text(end_ns)},
        )
    horizon.check(key, dataset, schema, start_ns, end_ns)
    return start_ns, end_ns


def _time_field(fields: Mapping[str, str], name: str) -> tuple[int, int]:
    text = fields.get(name)
    if not text:
        raise invalid(name, "Field required", "missing")
    try:
        found = parse_time(text)
        time_text(found[0])
    except (ValueError, OverflowError):
        raise invalid(name, f"not a time: {text!r}") from None
    return found


def _reduced_days(config: SandboxConfig, query: Query) -> Iterator[tuple[date, str]]:
    first, last = date_of_ns(query.start_ns), date_of_ns(query.end_ns - 1)
    for day, condition in sorted(config.conditions.get(query.dataset, {}).items()):
        if first <= day <= last and condition != "available":
            yield day, condition


def utc_midnight_ns(day: date) -> int:
    """The instant at which a UTC day begins."""
    return (day - date(1970, 1, 1)) // timedelta(days=1) * _FILL_NS["date"]
