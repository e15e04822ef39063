"""Exact money, bytes and the arithmetic between them.

Inside the program money is `Decimal` USD or an integer count of nano-dollars; sizes are integer bytes.
A price is USD per GiB, where a GiB is 2**30 bytes: the vendor's "GB" is that too. A float may enter through
`usd_from_vendor` only, which takes the shortest decimal that prints like it.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation

GIB = 2**30
NANO = 10**9

# Enough digits that no sum or product of real budgets and byte counts is ever rounded.
_EXACT = Context(prec=60)

# A comma only between groups of three digits: "1,5" is one and a half to half the world, and never fifteen.
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+(?:_[0-9]+)*)(?:\.[0-9]+)?|\.[0-9]+"
_AMOUNT = re.compile(rf"\s*\$?\s*(?P<number>{_NUMBER})\s*(?P<unit>[A-Za-z]*)\s*")


def usd_from_vendor(value: float | int | str | Decimal) -> Decimal:
    """The exact decimal of an amount as a vendor's client hands it over (JSON numbers arrive as floats).

    Raises ValueError for a bool, a NaN, an infinity or anything that is not a number.
    """
    if isinstance(value, bool):
        raise ValueError(f"not an amount of money: {value!r}")
    try:
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError) as error:
        raise ValueError(f"not an amount of money: {value!r}") from error
    if not amount.is_finite():
        raise ValueError(f"not an amount of money: {value!r}")
    return amount


def parse_amount(text: str) -> tuple[Decimal, str]:
    """Split `"200 USD"` into `(Decimal("200"), "USD")`; the unit is `""` when there is none.

    Raises ValueError for anything else, a negative number included.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"not an amount: {text!r}")
    number = match["number"].replace("_", "").replace(",", "")
    return Decimal(number), match["unit"]


def cost_nano_usd(size_bytes: int, price_usd_per_gib: Decimal) -> int:
    """What `size_bytes` cost at a price, in nano-dollars, rounded up: against the user by less than one.

    Work costs out from a running total, never by adding rounded parts: then rounding never accumulates.
    """
    numerator, denominator = price_usd_per_gib.as_integer_ratio()
    return -(-size_bytes * numerator * NANO // (denominator * GIB))


def bytes_within(budget_nano_usd: int, price_usd_per_gib: Decimal) -> int | None:
    """The most bytes that cost no more than a budget; None when the price is 0 and no count is too many."""
    numerator, denominator = price_usd_per_gib.as_integer_ratio()
    if numerator == 0:
        return None
    return max(0, budget_nano_usd) * denominator * GIB // (numerator * NANO)


def usd_from_nano(nano_usd: int) -> Decimal:
    """Nano-dollars as exact USD."""
    return _EXACT.divide(Decimal(nano_usd), Decimal(NANO))


def nano_from_usd(amount_usd: Decimal) -> int:
    """USD as nano-dollars, rounded up."""
    scaled = _EXACT.multiply(amount_usd, Decimal(NANO))
    return int(scaled.to_integral_value(rounding=ROUND_CEILING))


def gib_from_bytes(size_bytes: int) -> Decimal:
    """Bytes as exact GiB (a division by a power of two always ends)."""
    return _EXACT.divide(Decimal(size_bytes), Decimal(GIB))


def bytes_from_gib(size_gib: Decimal) -> int:
    """GiB as bytes, rounded up."""
    scaled = _EXACT.multiply(size_gib, Decimal(GIB))
    return int(scaled.to_integral_value(rounding=ROUND_CEILING))


def decimal_text(value: Decimal) -> str:
    """The plain, exact decimal that JSON carries as a string: no exponent, no trailing zeros after a point."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def nano_exact_text(nano_usd: int) -> str:
    """Nano-dollars as the exact decimal of USD that JSON carries: `0.000000001`."""
    return decimal_text(usd_from_nano(nano_usd))


def usd_text(amount_usd: Decimal, places: int | None = None) -> str:
    """A dollar amount for people: `$1,234.50`, and below a dollar `$0.0469`.

    An amount that would show as zero and is not keeps its digits.
    """
    if places is None:
        places = 2 if amount_usd == 0 or abs(amount_usd) >= 1 or amount_usd == round(amount_usd, 2) else 4
    step = Decimal(1).scaleb(-places)
    shown = amount_usd.quantize(step, context=_EXACT)
    if shown == 0 and amount_usd != 0:
        return f"${decimal_text(amount_usd.normalize(Context(prec=3)))}"
    sign = "-" if shown < 0 else ""
    return f"{sign}${abs(shown):,f}"


def size_text(size_bytes: int) -> str:
    """A size for people, in binary units: `1.50 GiB`."""
    for unit, scale in (("GiB", GIB), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(size_bytes) >= scale:
            return f"{Decimal(size_bytes) / scale:,.2f} {unit}"
    return f"{size_bytes} B"
