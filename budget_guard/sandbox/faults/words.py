"""Single words of the language of scenarios and commands: YAML or JSON scalars to values.

Each reader takes a scalar and raises BadWord with what it should be. Decimal numbers come as Decimal or text, so that
money is never a float.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from budget_guard.clock import parse_instant

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)\s*)+")
_PART = re.compile(r"(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)")
_AFTER = re.compile(r"(?P<amount>\d[\d_,]*)\s*(?P<unit>bytes|records)")
_UNIT_S = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86_400),
}
# A scenario is about minutes or days; what is longer is a slip of the pen and would overflow dates.
_DURATION_MAX_S = 366 * 86_400
_NUMBER_MAX = Decimal(10) ** 12


class BadWord(ValueError):
    """A value that cannot be meant; its text says what it should be."""


def duration_s(value: Any) -> float:
    """`10s`, `500ms`, `5m`, `1h30m`, `1d` as seconds: each unit at most once, the largest first."""
    whole = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    parts = [] if whole is None else [(part["amount"], part["unit"]) for part in _PART.finditer(whole[0])]
    units = [_UNIT_S[unit] for _, unit in parts]
    if not parts or units != sorted(set(units), reverse=True):
        raise BadWord(f"should be a duration, as 10s, 500ms, 5m or 1h30m; got {value!r}")
    seconds = sum((Decimal(amount) * _UNIT_S[unit] for amount, unit in parts), Decimal(0))
    if not 0 < seconds <= _DURATION_MAX_S:
        raise BadWord(f"should be more than nothing and at most 366 days; got {value!r}")
    return float(seconds)


def after(value: Any) -> tuple[float, Literal["s", "bytes", "records"]]:
    """`10s`, `100000 bytes` or `500 records` as an amount and `s`, `bytes` or `records`."""
    match = _AFTER.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        amount = Decimal(match["amount"].replace("_", "").replace(",", ""))
        if amount > _NUMBER_MAX:
            raise BadWord(f"should be at most {_NUMBER_MAX:,} {match['unit']}; got {_shown(value)}")
        return float(amount), "bytes" if match["unit"] == "bytes" else "records"
    try:
        return duration_s(value), "s"
    except BadWord:
        raise BadWord(f"should be as 10s, 100000 bytes or 500 records; got {value!r}") from None


def moment(value: Any) -> datetime | timedelta:
    """An instant, or `+10s`: so long after now."""
    if isinstance(value, str) and value.startswith("+"):
        return timedelta(seconds=duration_s(value[1:]))
    try:
        return instant(value)
    except BadWord:
        raise BadWord(
            f"should be an instant, as 2026-11-23T14:30:00Z, or +10s; got {_shown(value)}"
        ) from None


def instant(value: Any) -> datetime:
    """`2026-11-23T14:30:00Z`, in UTC."""
    try:
        return parse_instant(value)
    except (TypeError, ValueError):
        raise BadWord(f"should be an instant, as 2026-11-23T14:30:00Z; got {_shown(value)}") from None


def day(value: Any) -> date:
    """`2027-05-01`."""
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise BadWord(f"should be a date, as 2027-05-01; got {_shown(value)}") from None


def whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    """A reader of whole numbers between bounds."""
    bounds = f"{least} or more" if most is None else f"{least} to {most:,}"

    def read(value: Any) -> int:
        if (
            not isinstance(value, int)
            or isinstance(value, bool)
            or not least <= value <= (most or _NUMBER_MAX)
        ):
            raise BadWord(f"should be a whole number, {bounds}; got {_shown(value)}")
        return value

    return read


def times(value: Any) -> int | None:
    """How often: a whole number, or `all` (None)."""
    if value == "all":
        return None
    try:
        return whole(1)(value)
    except BadWord:
        raise BadWord(f"should be a whole number, 1 or more, or all; got {_shown(value)}") from None


def price(value: Any) -> Decimal:
    """A number that is not negative, exactly as it was written."""
    amount = _decimal(value)
    if amount is None or not 0 <= amount <= _NUMBER_MAX:
        raise BadWord(f"should be a number, 0 or more; got {_shown(value)}")
    return amount


def share(value: Any) -> Decimal:
    """A number above 0 and up to 1."""
    amount = _decimal(value)
    if amount is None or not 0 < amount <= 1:
        raise BadWord(f"should be a share, more than 0 and at most 1; got {_shown(value)}")
    return amount


def text(value: Any) -> str:
    """Words; not empty."""
    if not isinstance(value, str) or not value or "\n" in value:
        raise BadWord(f"should be a line of text; got {_shown(value)}")
    return value


def flag(value: Any) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise BadWord(f"should be true or false; got {_shown(value)}")
    return value


def choice(*known: str) -> Callable[[Any], str]:
    """A reader of one of some words."""

    def read(value: Any) -> str:
        if value not in known:
            raise BadWord(
                f"should be one of {', '.join(known)}; got {_shown(value)}{hint(str(value), known)}"
            )
        return str(value)

    return read


def hint(name: str, known: Iterable[str]) -> str:
    """`: did you mean NAME?` where a known name is near, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return number if number.is_finite() else None


def _shown(value: Any) -> str:
    """A value for a message, short."""
    said = str(value) if isinstance(value, Decimal) else repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."
