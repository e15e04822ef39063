"""The dialect's single values: text to amounts, durations, hours, dates and names.

Every `parse_` function takes what `reading` made of a value and returns the parsed one, or raises ValueError with
a message that says what was found and what would be right. A misspelt name is a `misspelt` error, to which the
nearest valid name is added by whoever reports it: comparing names is slow, and a file may hold thousands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic_core import PydanticCustomError

from budget_guard.money import parse_amount
from budget_guard.policy.model import Edge, Unit
from budget_guard.policy.problems import found, nearest
from budget_guard.policy.reading import Plain

UNLIMITED = "unlimited"
MISSPELT = "misspelt"

# Longer than any amount, duration, date or hours; patterns that allow spaces get slow on thousands of them.
_SHORT_MAX = 40

# Twelve digits before the point and nine after: far beyond any bill, and exact in nano-dollars.
_NUMBER_MAX = Decimal(10) ** 12
_PLACES_MAX = 9
_DURATION_MAX = timedelta(days=7)  # the vendor replays at most a weekly session
_OFFSET_MAX = timedelta(hours=24)

_US_ZONES = {
    name: zone
    for zone, names in {
        "America/New_York": ("et", "edt", "eastern", "us_eastern"),
        "America/Chicago": ("ct", "cst", "cdt", "central", "us_central"),
        "America/Los_Angeles": ("pt", "pst", "pdt", "pacific", "us_pacific"),
    }.items()
    for name in names
}

_NUMBER = re.compile(r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DURATION = re.compile(r"(?=[0-9])(?:([0-9]{1,6})h)?\s*(?:([0-9]{1,6})m)?\s*(?:([0-9]{1,6})s)?")
_EDGE = re.compile(r"(?P<anchor>[A-Za-z]+)\s*(?:(?P<sign>[+-])\s*(?P<offset>\S.*))?")
_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})")
_WITH_UNIT = re.compile(r"\$? *(?P<number>[0-9]+(?:\.[0-9]+)?) *[A-Za-z]*")
_DATE_PARTS = re.compile(r"([0-9]{4})[-/. ]?([0-9]{1,2})[-/. ]?([0-9]{1,2})")
_WHOLE_HOURS = re.compile(r"([0-9]{1,2})(?::00)? *(?:-|to|–) *([0-9]{1,2})(?::00)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PERCENT = re.compile(r"(?P<number>[0-9]{1,3}(?:\.[0-9]{1,4})?)\s*%")


def parse_text(value: Any) -> str:
    """Any text that is not blank."""
    if not isinstance(value, str):
        raise ValueError(f"should be text, found {found(value)}")
    if not value.strip():
        raise ValueError("is blank: write a value")
    return str(value)


def _short(value: Any, what: str) -> str:
    """Text without spaces around it, short enough to be what it should be."""
    if not isinstance(value, str):
        raise ValueError(f"should be {what}, found {found(value)}")
    text = parse_text(value).strip()
    if len(text) > _SHORT_MAX:
        raise ValueError(f"{found(text)} is too long to be {what}")
    return text


def _misspelt(message: str, name: str, valid: tuple[str, ...], example: str) -> PydanticCustomError:
    context = {"message": message, "name": name, "valid": valid, "example": example}
    return PydanticCustomError(MISSPELT, "{message}", context)


def parse_name(value: Any) -> str:
    """A name as output, file names and the live protocol can carry it."""
    text = parse_text(value)
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            f"{found(text)} is not a name: up to 64 letters, digits, '-', '_' and '.', as {_as_name(text)}"
        )
    return text


def _as_name(text: str) -> str:
    """The name that a text comes nearest to."""
    parts = re.findall(r"[A-Za-z0-9_.]+", text[:100])
    return "-".join(parts).lstrip("_.")[:64] or "nq-mbo"


def choice(what: str, valid: tuple[str, ...], example: str | None = None) -> Callable[[Any], str]:
    """A parser of one word out of `valid`; `what` names it in messages, and `example` shows one of many."""

    def parse_choice(value: Any) -> str:
        text = parse_text(value)
        if text not in valid:
            raise _misspelt(f"unknown {what} {found(text)}", text, valid, example or valid[0])
        return text

    return parse_choice


def parse_version(value: Any) -> int:
    if value != "1":
        raise ValueError(f"unknown version {found(value)}: this program reads `version: 1`")
    return 1


def parse_flag(value: Any) -> bool:
    """`true` or `false`, without quotes."""
    if isinstance(value, Plain) and value in ("true", "false"):
        return value == "true"
    word = str(value).casefold() if isinstance(value, str) else ""
    meant = "true" if word in ("true", "yes", "on", "y", "1") else "false"
    hint = (
        f": write {meant}" if word in ("true", "yes", "on", "y", "1", "false", "no", "off", "n", "0") else ""
    )
    raise ValueError(f"should be true or false, found {found(value)}{hint}")


def parse_number(value: Any) -> Decimal:
    """A bare number, exact: `8`, `0.41`."""
    text = _short(value, "a number")
    if _NUMBER.fullmatch(text) is None:
        what = "is negative" if text.startswith("-") else "is not a plain number"
        with_unit = _WITH_UNIT.fullmatch(text)
        example = "8 or 0.5" if with_unit is None else with_unit["number"]
        raise ValueError(f"{found(text)} {what}: write digits alone, as {example}")
    if not isinstance(value, Plain):
        raise ValueError(f"{found(text)} is in quotes: write the number without them")
    return _bounded(Decimal(text.replace("_", "")), text)


def parse_positive(value: Any) -> Decimal:
    """A bare number above 0."""
    number = parse_number(value)
    if number == 0:
        raise ValueError("should be above 0")
    return number


def parse_limit_number(value: Any) -> Decimal | str:
    """A bare number or `unlimited`, inside `{usd: 8}`."""
    return UNLIMITED if value == UNLIMITED else parse_number(value)


def parse_count(value: Any) -> Decimal | str:
    """A whole number or `unlimited`."""
    number = parse_limit_number(value)
    if isinstance(number, Decimal) and number != int(number):
        raise ValueError(f"{found(value)} is not a whole number")
    return number


def _bounded(number: Decimal, text: str) -> Decimal:
    if number >= _NUMBER_MAX:
        raise ValueError(f"{found(text)} is too large; `unlimited` says that there is no limit")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > _PLACES_MAX:
        raise ValueError(f"{found(text)} has more than {_PLACES_MAX} digits after the point")
    return number


def _amount(value: Any, example: str) -> tuple[Decimal, str]:
    """A number and its unit in lower case; `$200` is `200 USD`."""
    text = _short(value, "an amount")
    try:
        number, unit = parse_amount(text)
    except ValueError:
        what = "is negative" if text.lstrip("$").startswith("-") else "is not an amount"
        example = _as_amount(text) or example
        raise ValueError(f"{found(text)} {what}: write a number and its unit, as `{example}`") from None
    if text.startswith("$") and unit.lower() not in ("", "usd"):
        raise ValueError(f"{found(text)} has two units: write one, as `{example}`")
    return _bounded(number, text), "usd" if text.startswith("$") else unit.lower()


def _as_amount(text: str) -> str | None:
    """The amount that a text comes nearest to: `USD 200` and `1,5 USD` are written otherwise here."""
    comma = re.fullmatch(r"([0-9]+),([0-9]{1,2}) *([A-Za-z]*)", text)
    if comma is not None:
        return f"{comma[1]}.{comma[2]} {comma[3] or 'USD'}"
    turned = re.fullmatch(r"([A-Za-z]+) *([0-9]+(?:\.[0-9]+)?)", text)
    return None if turned is None else f"{turned[2]} {turned[1]}"


def parse_usd(value: Any) -> Decimal:
    """`200 USD` or `$200`."""
    number, unit = _amount(value, "200 USD")
    if unit == "":
        raise ValueError(f"{found(value)} has no unit: write `{value} USD`")
    if unit != "usd":
        raise ValueError(f"{found(value)} is not in USD: write money as `200 USD`")
    return number


def parse_usd_or_unlimited(value: Any) -> Decimal | str:
    return UNLIMITED if value == UNLIMITED else parse_usd(value)


def parse_limit(value: Any) -> Any:
    """The short forms of a limit as its long one: `200 USD` is `{usd: 200}`; a mapping stays as it is."""
    if isinstance(value, dict):
        return value
    if value == UNLIMITED:
        return {"usd": UNLIMITED}
    number, unit = _amount(value, "200 USD")
    if unit == "":
        raise ValueError(f"{found(value)} has no unit: write `{value} USD`")
    if unit in ("g", "gb"):
        raise ValueError(f"{found(value)}: say GiB (2**30 bytes, which is the vendor's GB): `{number:f} GiB`")
    if unit in ("b", "kb", "kib", "mb", "mib", "tb", "tib", "bytes"):
        raise ValueError(f"{found(value)}: sizes are in GiB (2**30 bytes), as `60 GiB`")
    if unit not in get_args(Unit):
        plural = {"h": "hours", "hrs": "hours"}.get(unit, f"{unit}s")
        example = f"{number:f} {plural}" if plural in get_args(Unit) else "200 USD"
        raise ValueError(f"{found(value)}: a limit is in USD, GiB, hours or connections, as `{example}`")
    return {unit: Plain(f"{number:f}")}


def parse_percent(value: Any) -> Decimal:
    """`50%` as the fraction 0.5; above 0, at most 100%."""
    text = _short(value, "a percentage")
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError(f"{found(text)} is not a percentage: write as {_as_percent(text)}")
    fraction = Decimal(match["number"]).scaleb(-2)
    if not 0 < fraction <= 1:
        raise ValueError(f"{found(text)}: an alert is above 0% and at most 100%")
    return fraction


def _as_percent(text: str) -> str:
    """What a bare number most likely means: `80` and `0.8` are 80%."""
    if re.fullmatch(r"[0-9]{1,2}|100", text):
        return f"{int(text)}%"
    if re.fullmatch(r"0?\.[0-9]{1,2}", text):
        return f"{Decimal(text) * 100:.0f}%"
    return "80%"


def parse_duration(value: Any) -> timedelta:
    """`15m`, `90s`, `1h30m`."""
    text = _short(value, "a duration")
    match = _DURATION.fullmatch(text)
    if match is None:
        example = f"{text}m, {text}s or {text}h" if text.isascii() and text.isdigit() else "15m, 90s or 1h30m"
        raise ValueError(f"{found(text)} is not a duration: write as {example}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if duration > _DURATION_MAX:
        raise ValueError(f"{found(text)} is longer than 7 days")
    return duration


def parse_edge(value: Any) -> Edge:
    """`open`, `close`, `open - 5m`, `close + 1h`."""
    text = _short(value, "an end of a session")
    match = _EDGE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{found(text)} is not an end of a session: write as `open`, `open - 5m` or `close + 5m`"
        )
    anchor = match["anchor"]
    if anchor not in ("open", "close"):
        message = f"{found(text)} should start with open or close"
        raise _misspelt(message, anchor, ("open", "close"), "open - 5m")
    offset = parse_duration(match["offset"] or "0m")
    if offset > _OFFSET_MAX:
        raise ValueError(f"{found(text)}: an offset is at most 24h")
    return Edge("open" if anchor == "open" else "close", -offset if match["sign"] == "-" else offset)


def parse_hours(value: Any) -> tuple[time, time]:
    """`18:00-18:30`, wall clock; an end before the start is on the next day, `24:00` is midnight."""
    text = _short(value, "hours of the day")
    match = _HOURS.fullmatch(text)
    if match is None:
        whole = _WHOLE_HOURS.fullmatch(text)
        example = "18:00-18:30" if whole is None else f"{int(whole[1]):02}:00-{int(whole[2]):02}:00"
        raise ValueError(f'{found(text)} should be two times of day, as "{example}"')
    start_hour, start_minute, end_hour, end_minute = (int(part) for part in match.groups())
    if (end_hour, end_minute) == (24, 0):
        end_hour = 0
    elif (start_hour, start_minute) == (end_hour, end_minute):
        raise ValueError(f'{found(text)}: the end is not after the start; a whole day is "00:00-24:00"')
    try:
        return time(start_hour, start_minute), time(end_hour, end_minute)
    except ValueError:
        raise ValueError(f"{found(text)}: times of day run from 00:00 to 24:00") from None


def parse_date(value: Any) -> date:
    """`2026-12-24`."""
    text = _short(value, "a date")
    try:
        if _DATE.fullmatch(text) is not None:
            return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{found(text)}: there is no such day") from None
    parts = _DATE_PARTS.fullmatch(text)
    example = "2026-12-24" if parts is None else f"{parts[1]}-{int(parts[2]):02}-{int(parts[3]):02}"
    raise ValueError(f"{found(text)} is not a date: write as {example}")


def parse_timezone(value: Any) -> str:
    """A name of the IANA time zone database."""
    text = parse_text(value)
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):  # unknown, a folder of the database, or no legal key at all
        raise ValueError(f"unknown time zone {found(text)}{_time_zone_meant(text)}") from None
    return text


def _time_zone_meant(text: str) -> str:
    """What a wrong time zone most likely means: a US zone's short name, a city, a typing error."""
    name = text.strip().casefold().replace(" ", "_")
    known = available_timezones()
    cities = sorted(zone for zone in known if zone.rpartition("/")[2].casefold() == name)
    meant = _US_ZONES.get(name) or next(iter(cities), None)
    if meant is not None:
        return f"; did you mean {meant!r}?"
    return (nearest(text, known) if len(name) > 3 else "") or ": write as America/New_York"


def parse_symbol(value: Any) -> str:
    """A symbol as the vendor spells it; the live protocol separates symbols by commas and fields by bars."""
    text = parse_text(value)
    if text != text.strip() or not text.isprintable() or "," in text or "|" in text:
        raise ValueError(f"{found(text)} is not a symbol: write each as an item of its own, as [ESZ6, NQZ6]")
    return text
