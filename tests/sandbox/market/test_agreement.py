"""Schemas of one contract tell one story: the same trades, the same quotes, bars that add up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.sessions import MINUTE_NS, Session, session_on
from budget_guard.sandbox.market.synthetic import Market

MARKET = Market(0, {("trades", "NQ"): 60_000, ("mbo", "NQ"): 20_000, ("mbp-1", "NQ"): 20_000})
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
Rows = Any


def ns(text: str) -> int:
    return ns_from_instant(datetime.fromisoformat(text).replace(tzinfo=UTC))


def session(label: date = date(2026, 11, 18)) -> Session:
    found = session_on("cme", label)
    assert found is not None
    return found


def rows_of(
    schema: str,
    start_ns: int,
    end_ns: int,
    symbol: str = "NQ.v.0",
    dataset: str = "GLBX.MDP3",
    stype_in: str = "continuous",
) -> Rows:
    selection = Selection(dataset, schema, (symbol,), stype_in)
    return np.concatenate([part.rows for part in MARKET.parts(selection, start_ns, end_ns)])


def assert_adds_up(fine: Rows, coarse: Rows, step_ns: int) -> None:
    """Each coarse bar is what its fine ones come to, and there is one for each step that has any."""
    groups = fine["ts_event"].astype(np.int64) // step_ns
    begins = np.flatnonzero(np.append(1, np.diff(groups)))
    ends = np.append(begins[1:], len(fine)) - 1
    assert np.array_equal(coarse["ts_event"].astype(np.int64), groups[begins] * step_ns)
    assert np.array_equal(coarse["open"], fine["open"][begins])
    assert np.array_equal(coarse["close"], fine["close"][ends])
    assert np.array_equal(coarse["high"], np.maximum.reduceat(fine["high"], begins))
    assert np.array_equal(coarse["low"], np.minimum.reduceat(fine["low"], begins))
    assert np.array_equal(coarse["volume"], np.add.reduceat(fine["volume"], begins))


@pytest.mark.parametrize(
    ("dataset", "symbol", "stype_in"),
    [
        ("GLBX.MDP3", "NQ.v.0", "continuous"),
        ("GLBX.MDP3", "ZC.v.0", "continuous"),
        ("GLBX.MDP3", "LE.v.1", "continuous"),
        ("GLBX.MDP3", "ESZ6 C6800", "raw_symbol"),
        ("XNAS.ITCH", "AAPL", "raw_symbol"),
        ("OPRA.PILLAR", "SPY   261218C00680000", "raw_symbol"),
    ],
)
def test_bars_add_up(dataset: str, symbol: str, stype_in: str) -> None:
    """Seconds to minutes, minutes to hours, hours to UTC days: over a week with a holiday and a short day."""
    start, end = ns("2026-11-22T00:00"), ns("2026-11-29T00:00")
    bars = {
        schema: rows_of(schema, start, end, symbol, dataset, stype_in)
        for schema in ("ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d")
    }
    assert_adds_up(bars["ohlcv-1s"], bars["ohlcv-1m"], MINUTE_NS)
    assert_adds_up(bars["ohlcv-1m"], bars["ohlcv-1h"], HOUR_NS)
    assert_adds_up(bars["ohlcv-1h"], bars["ohlcv-1d"], DAY_NS)
    assert (bars["ohlcv-1s"]["volume"] > 0).all()


def test_a_bar_holds_its_opening_and_closing_prices() -> None:
    """Low is the least of the four prices, high the greatest."""
    rows = rows_of("ohlcv-1m", session().start_ns, session().end_ns)
    for name in ("open", "close"):
        assert (rows["low"] <= rows[name]).all() and (rows[name] <= rows["high"]).all()
    assert (rows["high"] - rows["low"] > 250_000_000).mean() > 0.5


def test_trades_lie_within_the_bars_of_their_seconds() -> None:
    """No trade is higher or lower than its second's bar says."""
    start = ns("2026-11-18T14:30")
    trades, bars = (rows_of(schema, start, start + HOUR_NS) for schema in ("trades", "ohlcv-1s"))
    at = (trades["ts_recv"].astype(np.int64) - start) // 10**9
    assert len(trades) > 1000
    assert (bars["low"][at] <= trades["price"]).all() and (trades["price"] <= bars["high"][at]).all()


def test_trades_and_quoted_trades_are_the_same_events() -> None:
    """tbbo and tcbbo have the stamps, prices, sizes and sides of trades, with the quote that was hit beside them."""
    start = ns("2026-11-18T14:30")
    trades, *quoted = (rows_of(schema, start, start + HOUR_NS) for schema in ("trades", "tbbo", "tcbbo"))
    for rows in quoted:
        for name in ("ts_event", "ts_recv", "price", "size", "side", "instrument_id"):
            assert np.array_equal(rows[name], trades[name])
        hit = np.where(rows["side"] == b"B", rows["ask_px_00"], rows["bid_px_00"])
        assert np.array_equal(hit, rows["price"])


def test_quotes_agree_whichever_schema_shows_them() -> None:
    """At any second mbp-1, mbp-10 and bbo-1s have the same best bid and ask, one tick apart."""
    start = ns("2026-11-18T14:30")
    bbo = rows_of("bbo-1s", start, start + HOUR_NS)
    for schema in ("mbp-1", "mbp-10", "tbbo"):
        rows = rows_of(schema, start, start + HOUR_NS)
        at = (rows["ts_recv"].astype(np.int64) - start) // 10**9
        for name in ("bid_px_00", "ask_px_00"):
            assert np.array_equal(rows[name], bbo[name][at])
    assert set((bbo["ask_px_00"] - bbo["bid_px_00"]).tolist()) == {250_000_000}


def test_a_book_of_orders_stands_where_the_quotes_do() -> None:
    """What mbo trades at is within a few ticks of the best bid of the time."""
    start = ns("2026-11-18T14:30")
    bbo, mbo = (rows_of(schema, start, start + HOUR_NS) for schema in ("bbo-1s", "mbo"))
    trades = mbo[mbo["action"] == b"T"]
    at = (trades["ts_recv"].astype(np.int64) - start) // 10**9
    away = np.abs(trades["price"] - bbo["bid_px_00"][at])
    assert len(trades) > 20 and np.median(away) < 40 * 250_000_000


def test_ten_levels_are_in_order() -> None:
    """Deeper bids are lower, deeper asks higher; a change is at one of the levels."""
    start = ns("2026-11-18T14:30")
    rows = rows_of("mbp-10", start, start + MINUTE_NS)
    for level in range(9):
        assert (rows[f"bid_px_{level:02d}"] > rows[f"bid_px_{level + 1:02d}"]).all()
        assert (rows[f"ask_px_{level:02d}"] < rows[f"ask_px_{level + 1:02d}"]).all()
    prices = np.stack([rows[f"{side}_px_{level:02d}"] for side in ("bid", "ask") for level in range(10)])
    assert (prices == rows["price"]).any(axis=0).all()


def test_statistics_agree_with_bars() -> None:
    """Opening, high, low and settlement prices are those of the session's bars."""
    bars = rows_of("ohlcv-1h", session().start_ns, session().end_ns)
    rows = rows_of("statistics", session().start_ns, session().end_ns + HOUR_NS)

    def last(kind: int) -> int:
        return int(rows["price"][rows["stat_type"] == kind][-1])

    assert last(1) == bars["open"][0]
    assert (last(4), last(5)) == (bars["low"].min(), bars["high"].max())
    assert last(3) == bars["close"][-1]
    assert (rows["quantity"][rows["stat_type"] == 9] > 0).all()
    assert set(rows["stat_type"].tolist()) == {1, 3, 4, 5, 6, 9}


@pytest.mark.parametrize(
    ("symbol", "label", "events"),
    [
        ("NQ.v.0", date(2026, 11, 18), "22:45 1, 23:00 7, 22:00 12"),
        ("NQ.v.0", date(2026, 11, 27), "22:45 1, 23:00 7, 18:15 12"),
        ("ZC.v.0", date(2026, 11, 18), "00:45 1, 01:00 7, 13:45 9, 14:15 1, 14:30 7, 19:20 12"),
    ],
)
def test_status_changes_at_the_sessions_true_edges(symbol: str, label: date, events: str) -> None:
    """Pre-open (1), trading (7), pause (9) and close (12), in UTC, short days and pauses included."""
    one = session(label)
    rows = rows_of("status", one.start_ns - HOUR_NS // 2, one.end_ns + 1, symbol)
    found = [
        f"{datetime.fromtimestamp(int(row['ts_recv']) // 10**9, UTC):%H:%M} {row['action']}" for row in rows
    ]
    assert ", ".join(found) == events


def test_stocks_have_imbalances_before_their_auctions_only() -> None:
    """Every ten seconds before the opening and the closing auction, which is at 13:00 on a short day."""
    for label, close in (("2026-11-18", "21:00"), ("2026-11-27", "18:00")):
        start = ns(f"{label}T00:00")
        rows = rows_of("imbalance", start, start + DAY_NS, "AAPL", "XNAS.ITCH", "raw_symbol")
        assert set(rows["auction_time"].tolist()) == {ns(f"{label}T14:30"), ns(f"{label}T{close}")}
        assert len(rows) == 30 + 60
        assert (rows["ts_recv"] < rows["auction_time"]).all()
    assert (
        MARKET.count(Selection("GLBX.MDP3", "imbalance", ("NQ.FUT",), "parent"), start, start + DAY_NS) == 0
    )


def test_definitions_say_what_a_contract_is() -> None:
    """Class, maturity, strike, underlying and tick of a future, an option and a stock."""
    start = ns("2026-11-18T00:00")
    future = rows_of("definition", start, start + DAY_NS)[0]
    call = rows_of("definition", start, start + DAY_NS, "ESZ6 C6800", stype_in="raw_symbol")[0]
    put = rows_of("definition", start, start + DAY_NS, "SPY   261218P00680000", "OPRA.PILLAR", "raw_symbol")[
        0
    ]
    stock = rows_of("definition", start, start + DAY_NS, "AAPL", "XNAS.ITCH", "raw_symbol")[0]
    assert [row["instrument_class"] for row in (future, call, put, stock)] == [b"F", b"C", b"P", b"K"]
    assert (future["raw_symbol"], future["asset"], future["exchange"]) == (b"NQZ6", b"NQ", b"XCME")
    assert (future["maturity_year"], future["maturity_month"]) == (2026, 12)
    assert (future["contract_multiplier"], future["min_price_increment"]) == (20, 250_000_000)
    assert call["underlying"] == b"ESZ6" and call["strike_price"] == 6800 * 10**9
    assert (
        put["strike_price"] == 680 * 10**9 and put["expiration"] // DAY_NS == ns("2026-12-18T00:00") // DAY_NS
    )
    assert put["activation"] < start < put["expiration"]


def test_a_definition_comes_once_on_every_day_that_trades() -> None:
    """At UTC midnight: CME's Sundays too, holidays and Saturdays never."""
    first = date(2026, 12, 20)
    start = ns(f"{first}T00:00")
    days = rows_of("definition", start, start + 7 * DAY_NS)["ts_recv"].astype(np.int64)
    labels = [first + timedelta(days=offset) for offset in ((days - start) // DAY_NS).tolist()]
    assert labels == MARKET.trading_days("GLBX.MDP3", first, first + timedelta(days=6))
    assert [label.day for label in labels] == [20, 21, 22, 23, 24]
