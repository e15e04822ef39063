"""Definitions, and what a session's phases bring: status, statistics and imbalances.

Their instants are few and follow from the session's hours; their prices are those of its bars.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from functools import lru_cache

import databento_dbn as dbn
import numpy as np

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market.bars import session_so_far
from budget_guard.sandbox.market.contracts import Contract
from budget_guard.sandbox.market.products import USD
from budget_guard.sandbox.market.runs import SECOND_NS, Rows, Run, Scene
from budget_guard.sandbox.market.seeds import Int64s, cut, seed_of
from budget_guard.sandbox.market.sessions import MINUTE_NS, Session
from budget_guard.sandbox.market.shapes import open_hours
from budget_guard.sandbox.market.ticks import fill_delay

HOUR_NS = 60 * MINUTE_NS
# How long before the open, or the end of a pause, orders are taken.
PRE_OPEN_NS = 15 * MINUTE_NS
# In minutes from 04:00 ET: imbalances come every ten seconds for five minutes before 09:30, ten before the close.
_AUCTIONS = ((325, 330), (710, 720))
_EARLY_AUCTIONS = ((325, 330), (530, 540))
IMBALANCE_STEP_NS = 10 * SECOND_NS

_PRE_OPEN, _TRADING, _PAUSE, _CLOSE = 1, 7, 9, 12
_SCHEDULED = 1
_OPENING, _SETTLEMENT, _LOW, _HIGH, _VOLUME, _INTEREST, _CLOSING = 1, 3, 4, 5, 6, 9, 11


# --- when -----------------------------------------------------------------------------------------------------


def status_events(group: str, session: Session) -> tuple[Int64s, Int64s]:
    """The instants at which a group's status changes, and to what: at the true edges of its trading."""
    events: list[tuple[int, int]] = []
    hours = open_hours(group, session)
    for number, (opens, closes) in enumerate(hours):
        last = number == len(hours) - 1
        events += [
            (opens - PRE_OPEN_NS, _PRE_OPEN),
            (opens, _TRADING),
            (closes, _CLOSE if last else _PAUSE),
        ]
    return _columns(events)


def statistic_events(group: str, session: Session) -> tuple[Int64s, Int64s]:
    """The instants of a group's statistics in a session, and which one it is.

    The last session's volume and open interest a minute after the session's start; the opening price a second after
    the first trade; low and high after each hour and at the close; the settlement (of stocks and US options: the
    closing price) five minutes after the close.
    """
    hours = open_hours(group, session)
    if not hours:
        return _columns([])
    opens, closes = hours[0][0], hours[-1][1]
    events = [(opens + MINUTE_NS, _VOLUME), (opens + MINUTE_NS, _INTEREST), (opens + SECOND_NS, _OPENING)]
    marks = [*range(opens // HOUR_NS * HOUR_NS + HOUR_NS, closes, HOUR_NS), closes]
    events += [(mark, kind) for mark in marks if mark > opens for kind in (_LOW, _HIGH)]
    final = _CLOSING if group.startswith("us-") else _SETTLEMENT
    return _columns([*events, (closes + 5 * MINUTE_NS, final)])


def imbalance_intervals(group: str, session: Session) -> tuple[tuple[int, int], ...]:
    """When a session has imbalances: before the auctions of stocks, never elsewhere."""
    if group != "us-equities":
        return ()
    auctions = _AUCTIONS if session.minutes >= 960 else _EARLY_AUCTIONS
    return tuple(
        (session.start_ns + first * MINUTE_NS, session.start_ns + last * MINUTE_NS)
        for first, last in auctions
    )


def _columns(events: list[tuple[int, int]]) -> tuple[Int64s, Int64s]:
    events = sorted(events, key=lambda event: event[0])
    instants, kinds = ([event[field] for event in events] for field in range(2))
    return np.array(instants, dtype=np.int64), np.array(kinds, dtype=np.int64)


# --- what -----------------------------------------------------------------------------------------------------


def fill_status(rows: Rows, run: Run) -> None:
    """Pre-open, trading, pause and close, as scheduled."""
    _, kinds = status_events(run.scene.contract.product.group, run.scene.session)
    kinds = kinds[run.first : run.last]
    fill_delay(rows, run)
    rows["action"] = kinds
    rows["reason"] = _SCHEDULED
    rows["is_trading"] = np.where(kinds == _TRADING, b"Y", b"N")
    rows["is_quoting"] = np.where(np.isin(kinds, (_TRADING, _PRE_OPEN)), b"Y", b"N")
    rows["is_short_sell_restricted"] = b"N"


def fill_statistics(rows: Rows, run: Run) -> None:
    """Prices that agree with the session's bars; volume and open interest."""
    scene = run.scene
    group = scene.contract.product.group
    _, kinds = statistic_events(group, scene.session)
    fill_delay(rows, run)
    rows["ts_ref"] = np.uint64(dbn.UNDEF_TIMESTAMP)
    rows["quantity"] = dbn.UNDEF_STAT_QUANTITY
    rows["price"] = dbn.UNDEF_PRICE
    rows["update_action"] = 1
    rows["sequence"] = run.indexes + 1
    kinds = kinds[run.first : run.last]
    rows["stat_type"] = kinds
    for kind in (_VOLUME, _INTEREST):
        rows["quantity"][kinds == kind] = _quantity(scene, kind)
    for kind, prices in _statistic_prices(scene.seed, scene.dataset, scene.contract, scene.session).items():
        rows["price"][kinds == kind] = prices[run.first : run.last][kinds == kind]
    rows["ts_ref"][np.isin(kinds, (_SETTLEMENT, _CLOSING))] = _midnight_ns(scene.session.label)


@lru_cache(maxsize=4096)
def _statistic_prices(seed: int, dataset: str, one: Contract, session: Session) -> dict[int, Int64s]:
    """For each kind of price, what it is at each of a session's statistics. It takes every second of the session."""
    instants, _ = statistic_events(one.product.group, session)
    hours = open_hours(one.product.group, session)
    # No price hangs on volumes.
    scene = Scene(
        dataset, 0, one, session, seed, 0, lambda other: np.zeros(other.minutes + 1, dtype=np.int64)
    )
    so_far = session_so_far(scene, np.clip(instants, hours[0][0] + SECOND_NS, hours[-1][1]))
    of_kind = {_OPENING: so_far.open, _LOW: so_far.low, _HIGH: so_far.high}
    return of_kind | dict.fromkeys((_SETTLEMENT, _CLOSING), so_far.close)


def fill_imbalances(rows: Rows, run: Run) -> None:
    """What an auction would come to; the auction's time is the end of its interval."""
    intervals = imbalance_intervals(run.scene.contract.product.group, run.scene.session)
    fill_delay(rows, run)
    ends = np.array([end for _, end in intervals])
    which = np.searchsorted(ends, run.stamps, side="right")
    tick = run.scene.contract.product.tick
    paired, left = 1000 + cut(run.bits, 0, 12), cut(run.bits, 12, 9)
    rows["ref_price"] = run.asks
    rows["auction_time"] = ends[which]
    rows["cont_book_clr_price"] = rows["auct_interest_clr_price"] = run.asks
    rows["ssr_filling_price"] = rows["ind_match_price"] = dbn.UNDEF_PRICE
    rows["upper_collar"], rows["lower_collar"] = run.asks + 50 * tick, run.asks - 50 * tick
    rows["paired_qty"], rows["total_imbalance_qty"] = paired, left
    rows["market_imbalance_qty"] = rows["unpaired_qty"] = np.uint32(dbn.UNDEF_ORDER_SIZE)
    rows["auction_type"] = np.where(which == 0, b"O", b"C")
    rows["side"] = np.where(left == 0, b"N", np.where(cut(run.bits, 30, 1) == 1, b"B", b"A"))
    rows["unpaired_side"] = b"N"
    rows["significant_imbalance"] = b"~"


def fill_definition(rows: Rows, run: Run) -> None:
    """The contract as it is listed on the day."""
    one = run.scene.contract
    product = one.product
    for name in ("high_limit_price", "low_limit_price", "max_price_variation", "leg_price", "leg_delta"):
        rows[name] = dbn.UNDEF_PRICE
    for name in ("unit_of_measure_qty", "min_price_increment_amount", "price_ratio", "strike_price"):
        rows[name] = dbn.UNDEF_PRICE
    rows["raw_symbol"] = one.raw_symbol.encode()
    rows["raw_instrument_id"] = one.instrument_id
    rows["min_price_increment"] = product.tick
    rows["display_factor"] = USD
    rows["asset"] = product.root.encode()
    rows["group"] = product.root.encode()
    rows["exchange"] = product.exchange.encode()
    rows["currency"] = rows["settl_currency"] = b"USD"
    rows["market_depth"] = 10
    rows["min_trade_vol"] = rows["min_lot_size_round_lot"] = 1
    rows["contract_multiplier"] = product.multiplier
    rows["min_price_increment_amount"] = product.tick * product.multiplier
    rows["match_algorithm"] = b"F"
    rows["security_update_action"] = b"A"
    rows["user_defined_instrument"] = b"N"
    rows["leg_side"] = b"N"
    rows["underlying"] = one.underlying.encode()
    rows["underlying_id"] = one.underlying_id
    rows["instrument_class"] = {"stock": b"K", "future": b"F"}.get(product.kind, one.right.encode())
    rows["security_type"] = {"stock": b"CS", "future": b"FUT", "options": b"OPT"}[product.kind]
    rows["cfi"] = {"stock": b"ESXXXX", "future": b"FXXXXX", "options": f"O{one.right}XXXX".encode()}[
        product.kind
    ]
    _fill_maturity(rows, run, one.expiry)
    if one.strike is not None:
        rows["strike_price"] = one.strike
        rows["strike_price_currency"] = b"USD"


def _fill_maturity(rows: Rows, run: Run, expiry: date | None) -> None:
    rows["expiration"] = rows["activation"] = np.uint64(dbn.UNDEF_TIMESTAMP)
    if expiry is not None:
        # Trading in it ends at 13:30 or 14:30 UTC; it was listed two years before.
        rows["expiration"] = _midnight_ns(expiry) + 14 * HOUR_NS + 30 * MINUTE_NS
        rows["activation"] = _midnight_ns(date(expiry.year - 2, expiry.month, 1))
        rows["maturity_year"], rows["maturity_month"] = expiry.year, expiry.month
        rows["maturity_day"] = expiry.day


def _quantity(scene: Scene, kind: int) -> int:
    one = scene.contract
    drawn = seed_of(scene.seed, scene.dataset, one.instrument_id, scene.session.label, kind)
    return 100 + drawn % 900 * max(1, one.product.permille)


def _midnight_ns(day: date) -> int:
    return ns_from_instant(datetime.combine(day, time(), UTC))
