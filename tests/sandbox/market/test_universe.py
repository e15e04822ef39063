"""Symbols: what they stand for, and that contracts roll between sessions."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.sessions import session_on, sessions_between, trading_label
from budget_guard.sandbox.market.synthetic import Market
from budget_guard.sandbox.market.universe import (
    Universe,
    calendar_of,
    instrument_id,
    raw_symbol,
    roll_day,
)

MARKET = Market(0, universe=Universe({"GLBX.MDP3": ("SI",), "XNAS.ITCH": ("IBM",)}))


@pytest.mark.parametrize(
    ("dataset", "symbol", "stype_in", "found"),
    [
        ("GLBX.MDP3", "NQ.v.0", "continuous", ("NQZ6",)),
        ("GLBX.MDP3", "NQ.c.1", "continuous", ("NQH7",)),
        ("GLBX.MDP3", "CL.n.0", "continuous", ("CLX6",)),
        ("GLBX.MDP3", "NQ.v.7", "continuous", ()),
        ("GLBX.MDP3", "NQ.FUT", "parent", ("NQZ6", "NQH7")),
        ("GLBX.MDP3", "NQ", "parent", ()),
        ("GLBX.MDP3", "NQZ6", "raw_symbol", ("NQZ6",)),
        ("GLBX.MDP3", "NQZ5", "raw_symbol", ()),
        ("GLBX.MDP3", "SI.v.0", "continuous", ("SIZ6",)),
        ("GLBX.MDP3", str(instrument_id("GLBX.MDP3", "NQZ6")), "instrument_id", ("NQZ6",)),
        ("XNAS.ITCH", "AAPL", "raw_symbol", ("AAPL",)),
        ("XNAS.ITCH", "IBM", "raw_symbol", ("IBM",)),
        ("XNAS.ITCH", "AAPL.v.0", "continuous", ()),
        (
            "OPRA.PILLAR",
            "SPY.OPT",
            "parent",
            tuple(f"SPYZ6 C{strike}" for strike in (5000, 5100, 5200, 5300)),
        ),
    ],
)
def test_symbols_stand_for_contracts(
    dataset: str, symbol: str, stype_in: str, found: tuple[str, ...]
) -> None:
    """Each kind of symbol names the contracts that trade on the day."""
    instruments = MARKET.resolve(dataset, symbol, stype_in, date(2026, 11, 10))
    assert tuple(instrument.raw_symbol for instrument in instruments) == found


def test_all_symbols_are_few_and_distinct() -> None:
    """ALL_SYMBOLS is every contract of the dataset, each with a number of its own."""
    found = MARKET.resolve("GLBX.MDP3", "ALL_SYMBOLS", "raw_symbol", date(2026, 11, 10))
    raws, numbers = ({getattr(item, name) for item in found} for name in ("raw_symbol", "instrument_id"))
    assert len(found) == len(raws) == len(numbers) > 20


def test_the_front_contract_rolls_on_a_monday() -> None:
    """The session after the roll trades the next contract, and the weekend before it belongs to it."""
    monday = roll_day(2026, 12)
    assert monday == date(2026, 12, 14)
    product = Universe().resolve("GLBX.MDP3", "NQ.v.0", "continuous", monday)[0][0]
    assert raw_symbol(product, 0, date(2026, 12, 11)) == "NQZ6"
    assert raw_symbol(product, 0, monday) == "NQH7"
    assert trading_label(date(2026, 12, 12)) == trading_label(date(2026, 12, 13)) == monday


def test_a_selection_names_each_stream_once() -> None:
    """Symbols that overlap do not make records double."""
    chosen = Selection("GLBX.MDP3", "mbo", ("NQ.FUT", "NQ.FUT"), "parent")
    assert len(MARKET.streams(chosen, date(2026, 11, 10))) == 2


def test_a_cme_session_is_23_hours_on_either_side_of_a_clock_change() -> None:
    """Sessions open at 18:00 New York time of the day before, in summer and in winter."""
    for label, opens in ((date(2026, 10, 30), "2026-10-29T22:00"), (date(2026, 11, 2), "2026-11-01T23:00")):
        session = session_on("cme", label)
        assert session is not None
        assert session.start_ns == ns_from_instant(datetime.fromisoformat(opens).replace(tzinfo=UTC))
        assert session.end_ns - session.start_ns == 23 * 3600 * 10**9


def test_a_week_has_five_sessions() -> None:
    """Every session that overlaps a week is found, once and in order."""
    start = ns_from_instant(datetime(2026, 11, 15, tzinfo=UTC))
    labels = [session.label for session in sessions_between("us", start, start + 7 * 86_400 * 10**9)]
    assert labels == [date(2026, 11, day) for day in range(16, 21)]


def test_stock_datasets_keep_stock_hours() -> None:
    """Calendars go by dataset."""
    assert [calendar_of(name) for name in ("XNAS.ITCH", "OPRA.PILLAR", "GLBX.MDP3")] == ["us", "us", "cme"]
