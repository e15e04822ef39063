"""A product's contracts on a day: their symbols, numbers, expiries and where their prices lie.

Contracts are numbered by rank: of futures 0 is the front one; options go by expiry, then strike, calls before puts.
Every future rolls on the Monday of its third-Friday week, and expires on that Friday. CME options follow the futures'
months; US options expire on the two next Fridays and the two next third Fridays (or the day before a holiday).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from budget_guard.sandbox.market.products import EVERY_MONTH, Kind, Product
from budget_guard.sandbox.market.sessions import session_on

_YEAR_0 = 2000
_SLOTS = 64  # numbers for the strikes of one expiry
_MONTHS, _DAYS = 1200, 40_000  # numbers for the deliveries or expiries of a product
_FUTURES_FROM, _OPTIONS_FROM, _OSI_FROM = 10_000, 10_000_000, 200_000_000


@dataclass(frozen=True, slots=True)
class Contract:
    """One instrument on one day. Prices in 1e-9 USD; `price` is where its price waves around, `swing` how far in ticks.

    `right` is "C" or "P" of an option, else empty; `expiry` is None of a stock.
    """

    product: Product
    rank: int
    raw_symbol: str
    instrument_id: int
    expiry: date | None
    price: int
    swing: int
    strike: int | None = None
    right: str = ""
    underlying: str = ""
    underlying_id: int = 0


@lru_cache(maxsize=65_536)
def contract(product: Product, rank: int, label: date) -> Contract:
    """The contract of a rank in the session of a label."""
    if product.kind == "stock":
        number = 1 + product.number
        return Contract(product, 0, product.name, number, None, product.price, _swing(product, product.price))
    if product.kind == "future":
        return _future(product, rank, label)
    expiry_rank, place = divmod(rank, 2 * len(product.strikes))
    strike, right = product.strikes[place // 2], "CP"[place % 2]
    if product.group == "us-options":
        expiry = us_expiries(label)[expiry_rank]
        raw = f"{product.root:<6}{expiry:%y%m%d}{right}{strike * product.scale // 10**9:08d}"
        days = (expiry - date(_YEAR_0, 1, 1)).days
        number = _OSI_FROM + (product.number * _DAYS + days) * _SLOTS + place
        underlying, underlying_id = product.underlying, 0
    else:
        year, month = _delivery(product.months, expiry_rank, label)
        expiry = third_friday(year, month)
        code = f"{EVERY_MONTH[month - 1]}{year % 10}"
        raw = f"{product.root}{code} {right}{strike * product.scale // 10**9}"
        number = _OPTIONS_FROM + (product.number * _MONTHS + _month_number(year, month)) * _SLOTS + place
        underlying = f"{product.underlying}{code}"
        underlying_id = _future_number(product.underlying_number, year, month)
    price = _option_price(product, strike, right, (expiry - label).days)
    swing = _swing(product, price)
    return Contract(
        product, rank, raw, number, expiry, price, swing, strike, right, underlying, underlying_id
    )


def _future(product: Product, rank: int, label: date) -> Contract:
    year, month = _delivery(product.months, rank, label)
    expiry = third_friday(year, month)
    raw = f"{product.name}{EVERY_MONTH[month - 1]}{year % 10}"
    number = _future_number(product.number, year, month)
    # A later delivery costs a tick more for every three days.
    price = product.price + product.tick * ((expiry - label).days // 3)
    return Contract(product, rank, raw, number, expiry, price, _swing(product, product.price))


def _swing(product: Product, price: int) -> int:
    return min(400, price // product.tick // 8)


def _option_price(product: Product, strike: int, right: str, days: int) -> int:
    """What it would be worth at expiry, and something for the time until then; never under 40 ticks."""
    away = product.price - strike if right == "C" else strike - product.price
    time_value = product.price * (20 + days) // 4000 * product.price // (product.price + 10 * abs(away))
    ticks: int = (max(0, away) + time_value) // product.tick
    return product.tick * max(40, ticks)


def _future_number(product_number: int, year: int, month: int) -> int:
    return _FUTURES_FROM + product_number * _MONTHS + _month_number(year, month)


def product_of(instrument_id: int) -> tuple[Kind, int]:
    """The kind and the number of the product that an instrument's number would belong to."""
    if instrument_id < _FUTURES_FROM:
        return "stock", instrument_id - 1
    if instrument_id < _OPTIONS_FROM:
        return "future", (instrument_id - _FUTURES_FROM) // _MONTHS
    if instrument_id < _OSI_FROM:
        return "options", (instrument_id - _OPTIONS_FROM) // _SLOTS // _MONTHS
    return "options", (instrument_id - _OSI_FROM) // _SLOTS // _DAYS


def _month_number(year: int, month: int) -> int:
    return (year - _YEAR_0) % 100 * 12 + month - 1


def _delivery(months: str, rank: int, label: date) -> tuple[int, int]:
    """The year and month of the rank-th contract that has not rolled yet."""
    year, month, left = label.year, label.month, rank
    while True:
        if EVERY_MONTH[month - 1] in months and label < roll_day(year, month):
            if left == 0:
                return year, month
            left -= 1
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def third_friday(year: int, month: int) -> date:
    """The third Friday of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def roll_day(year: int, month: int) -> date:
    """The session from which the next contract is the front one: the Monday of the week of the third Friday.

    Every future rolls so here, on a Monday: then a UTC day never has two front contracts.
    """
    return third_friday(year, month) - timedelta(days=4)


@lru_cache(maxsize=4096)
def us_expiries(label: date) -> tuple[date, ...]:
    """The expiries of US options that are listed on a day, in order: two weekly and two monthly ones."""
    fridays = [label + timedelta(days=(4 - label.weekday()) % 7 + 7 * week) for week in range(-1, 16)]
    monthly = {friday for friday in fridays if 15 <= friday.day <= 21}
    last_days = [(_last_day(friday), friday in monthly) for friday in fridays]
    listed = [(day, month) for day, month in last_days if day >= label]
    weeks = [day for day, _ in listed[:2]]
    months = [day for day, month in listed if month and day not in weeks][:2]
    return tuple(sorted(weeks + months))


def _last_day(friday: date) -> date:
    return friday if session_on("us", friday) is not None else friday - timedelta(days=1)
