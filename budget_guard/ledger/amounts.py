"""What the ledger's integers stand for: nano-USD, bytes, milliseconds and connections, as people write them."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal

from budget_guard.money import bytes_from_gib, decimal_text, gib_from_bytes, nano_from_usd, usd_from_nano

MS_PER_HOUR = 3_600_000
# A millisecond is 0.000000277... hours, so nine places tell any two counts apart.
_HOUR_PLACES = Decimal("1E-9")
# Enough digits that no product of a written amount is ever rounded.
_EXACT = Context(prec=60)


def count_from_amount(unit: str, amount: Decimal) -> int:
    """A limit as the ledger's integer; a part of a nano-dollar, byte or millisecond is dropped, never granted."""
    if unit == "usd":
        return -nano_from_usd(-amount)
    if unit == "gib":
        return -bytes_from_gib(-amount)
    scale = MS_PER_HOUR if unit == "hours" else 1
    return int(_EXACT.multiply(amount, Decimal(scale)).to_integral_value(ROUND_FLOOR))


def amount_from_count(unit: str, count: int) -> Decimal:
    """The ledger's integer as an amount in the unit that people write: exact, but for hours.

    Thirds of an hour never end as decimals: hours are rounded to the nearest of nine places, from which the
    milliseconds can be told again.
    """
    if unit == "usd":
        return usd_from_nano(count)
    if unit == "gib":
        return gib_from_bytes(count)
    if unit == "hours":
        return _EXACT.divide(Decimal(count), Decimal(MS_PER_HOUR)).quantize(_HOUR_PLACES, context=_EXACT)
    return Decimal(count)


def amount_text(unit: str, count: int) -> str:
    """The ledger's integer as an exact decimal in USD, GiB or connections; hours to the nearest of nine places."""
    return decimal_text(amount_from_count(unit, count))
