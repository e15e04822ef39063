"""What an HTTP client asks for, checked: forms to values, and the vendor's errors for what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.market.model import ALL_SYMBOLS
from budget_guard.sandbox.market.records import SPECS

SYMBOLS_MAX = 2000
STYPES_IN = ("raw_symbol", "instrument_id", "continuous", "parent")

_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[T ](?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?)?)?"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
# An end that is left out is the start filled forward by the unit it was written to.
_FILL_NS = {"date": 86_400 * 10**9, "hour": 3600 * 10**9, "minute": 60 * 10**9, "second": 10**9}


class ApiError(Exception):
    """An answer with an error status; `case` is the vendor's name for it."""

    def __init__(
        self, status: int, case: str, message: str, payload: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.case = case
        self.payload = dict(payload or {})

    def body(self) -> dict[str, Any]:
        return {
            "detail": {
                "case": self.case,
                "message": str(self),
                "status_code": self.status,
                "docs": "https://databento.com/docs/api-reference-historical/basics/errors",
                "payload": self.payload,
            }
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
    if text.isdigit():
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
    return ns_from_instant(instant.astimezone(UTC)) + fraction, unit_ns


def available_end_ns(config: SandboxConfig) -> int:
    """Up to where history reaches: the sandbox's now, less the embargo."""
    return ns_from_instant(config.clock.now() - timedelta(seconds=config.embargo_s))


def check_dataset(fields: Mapping[str, str], config: SandboxConfig) -> str:
    """The dataset asked for. Raises ApiError."""
    dataset = _required(fields, "dataset")
    if dataset not in config.prices:
        known = ", ".join(sorted(config.prices))
        raise ApiError(422, "dataset_unknown", f"The dataset {dataset!r} is not known here; one of {known}")
    return dataset


def check_query(fields: Mapping[str, str], config: SandboxConfig) -> Query:
    """A range of data, with the vendor's defaults. Raises ApiError."""
    dataset = check_dataset(fields, config)
    schema = fields.get("schema") or fields.get("schema_") or "trades"
    if schema not in config.prices[dataset].historical or schema not in SPECS:
        offered = ", ".join(sorted(config.prices[dataset].historical))
        raise ApiError(
            422, "data_schema_not_supported", f"{dataset} has no schema {schema!r} here; one of {offered}"
        )
    stype_in = fields.get("stype_in") or "raw_symbol"
    if stype_in not in STYPES_IN:
        raise ApiError(
            422, "symbology_invalid_request", f"stype_in {stype_in!r} is not one of {', '.join(STYPES_IN)}"
        )
    start_ns, end_ns = _check_range(fields, config)
    return Query(dataset, schema, parse_symbols(fields), stype_in, start_ns, end_ns, _check_limit(fields))


def parse_symbols(fields: Mapping[str, str]) -> tuple[str, ...]:
    """The symbols asked for; all of them when the field is left out, as at the vendor's. Raises ApiError."""
    text = fields.get("symbols") or fields.get("symbol") or ALL_SYMBOLS
    symbols = tuple(dict.fromkeys(symbol.strip() for symbol in text.split(",") if symbol.strip()))
    if not symbols or len(symbols) > SYMBOLS_MAX:
        raise ApiError(
            422,
            "symbology_invalid_request",
            f"{len(symbols)} symbols asked for; 1 to {SYMBOLS_MAX:,} are allowed",
        )
    return symbols


def parse_day(fields: Mapping[str, str], name: str, default: date | None = None) -> date:
    """A date field. Raises ApiError."""
    if default is not None and not fields.get(name):
        return default
    text = _required(fields, name)
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise invalid(name, f"not a date: {text!r}") from None


def _required(fields: Mapping[str, str], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise invalid(name, "field required")
    return value


def invalid(name: str, why: str) -> ApiError:
    """A field that cannot be understood."""
    return ApiError(422, "validation_failed", f"{name}: {why}", {"field": name})


def _check_limit(fields: Mapping[str, str]) -> int | None:
    text = fields.get("limit")
    if not text:
        return None
    if not text.isdigit() or int(text) == 0:
        raise invalid("limit", f"should be a whole number above 0; got {text!r}")
    return int(text)


def _check_range(fields: Mapping[str, str], config: SandboxConfig) -> tuple[int, int]:
    times: dict[str, tuple[int, int]] = {}
    for name in ("start", "end"):
        text = _required(fields, name) if name == "start" else fields.get(name)
        if text:
            try:
                times[name] = parse_time(text)
            except ValueError as error:
                raise invalid(name, str(error)) from None
    start_ns, unit_ns = times["start"]
    first_ns, last_ns = ns_from_instant(config.history_start), available_end_ns(config)
    if start_ns < first_ns:
        raise ApiError(
            422, "data_start_before_available_start", _bound("start", start_ns, "before", first_ns)
        )
    if start_ns >= last_ns:
        raise ApiError(422, "data_start_after_available_end", _bound("start", start_ns, "after", last_ns))
    if "end" not in times:
        return start_ns, min(start_ns + unit_ns, last_ns)
    end_ns = times["end"][0]
    if end_ns <= start_ns:
        raise ApiError(422, "data_time_range_start_on_or_after_end", "`start` cannot be on or after `end`")
    if end_ns > last_ns:
        raise ApiError(422, "data_end_after_available_end", _bound("end", end_ns, "after", last_ns))
    return start_ns, end_ns


def _bound(name: str, value_ns: int, side: str, bound_ns: int) -> str:
    return f"The `{name}` of the query ({time_text(value_ns)}) is {side} the available range ({time_text(bound_ns)})"


def unpriced(dataset: str, schema: str) -> ApiError:
    """The answer for data whose price nobody knows."""
    return ApiError(422, "data_price_unknown", f"{dataset} {schema} has no published price")


def time_text(nanoseconds: int) -> str:
    """An instant as the vendor writes it, to the nanosecond."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    stamp = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{fraction:09d}Z"
