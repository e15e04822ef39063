"""Symbols: what they stand for, and that contracts roll between sessions."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.market.contracts import Contract, contract, roll_day, us_expiries
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.products import Product
from budget_guard.sandbox.market.sessions import session_on, sessions_between, trading_label
from budget_guard.sandbox.market.synthetic import Market
from budget_guard.sandbox.market.universe import Universe, calendar_of

UNIVERSE = Universe({"GLBX.MDP3": ("XYZ",), "XNAS.ITCH": ("ACME",)})
MARKET = Market(0, universe=UNIVERSE)
(NQZ6,) = UNIVERSE.resolve("GLBX.MDP3", "NQZ6", "raw_symbol", date(2026, 11, 10))


@pytest.mark.parametrize(
    ("dataset", "symbol", "stype_in", "found"),
    [
        ("GLBX.MDP3", "NQ.v.0", "continuous", ("NQZ6",)),
        ("GLBX.MDP3", "NQ.c.1", "continuous", ("NQH7",)),
        ("GLBX.MDP3", "CL.n.0", "continuous", ("CLX6",)),
        ("GLBX.MDP3", "NQ.v.7", "continuous", ()),
        ("GLBX.MDP3", "NQ.FUT", "parent", ("NQZ6", "NQH7", "NQM7", "NQU7")),
        ("GLBX.MDP3", "NQ", "parent", ()),
        ("GLBX.MDP3", "NQZ6", "raw_symbol", ("NQZ6",)),
        ("GLBX.MDP3", "NQZ5", "raw_symbol", ()),
        ("GLBX.MDP3", "XYZ.v.0", "continuous", ("XYZZ6",)),
        ("GLBX.MDP3", str(NQZ6.instrument_id), "instrument_id", ("NQZ6",)),
        ("XNAS.ITCH", "AAPL", "raw_symbol", ("AAPL",)),
        ("XNAS.ITCH", "ACME", "raw_symbol", ("ACME",)),
        ("XNAS.ITCH", "AAPL.v.0", "continuous", ()),
        ("OPRA.PILLAR", "SPY   261218C00680000", "raw_symbol", ("SPY   261218C00680000",)),
        ("GLBX.MDP3", "LOZ6 P6300", "raw_symbol", ("LOZ6 P6300",)),
    ],
)
def test_symbols_stand_for_contracts(
    dataset: str, symbol: str, stype_in: str, found: tuple[str, ...]
) -> None:
    """Each kind of symbol names the contracts that trade on the day."""
    instruments = MARKET.resolve(dataset, symbol, stype_in, date(2026, 11, 10))
    assert tuple(instrument.raw_symbol for instrument in instruments) == found


@pytest.mark.parametrize(("dataset", "most"), [("GLBX.MDP3", 400), ("OPRA.PILLAR", 250), ("XNAS.ITCH", 30)])
def test_all_symbols_are_few_and_distinct(dataset: str, most: int) -> None:
    """ALL_SYMBOLS is every contract of the dataset, each with a number of its own."""
    found = MARKET.resolve(dataset, "ALL_SYMBOLS", "raw_symbol", date(2026, 11, 10))
    raws, numbers = ({getattr(item, name) for item in found} for name in ("raw_symbol", "instrument_id"))
    assert 10 < len(found) == len(raws) == len(numbers) < most


@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "OPRA.PILLAR", "XNAS.ITCH"])
def test_a_number_belongs_to_one_contract_for_ever(dataset: str) -> None:
    """Over sixteen years no two contracts share a number, and none ever changes its own."""
    names: dict[int, tuple[str, date | None]] = {}
    numbers: dict[tuple[str, date | None], int] = {}
    day = date(2010, 6, 7)
    while day < date(2027, 1, 1):
        for one in UNIVERSE.resolve(dataset, "ALL_SYMBOLS", "raw_symbol", day):
            name = one.raw_symbol, one.expiry
            assert names.setdefault(one.instrument_id, name) == name
            assert numbers.setdefault(name, one.instrument_id) == one.instrument_id
        day += timedelta(days=28)
    assert max(names) < 2**32


def test_every_root_has_four_continuous_ranks() -> None:
    """Ranks 0 to 3 of a root are four contracts that expire one after the other."""
    for root in ("ES", "CL", "GC", "ZN", "6E", "ZC", "LE", "BTC"):
        found = [
            UNIVERSE.resolve("GLBX.MDP3", f"{root}.{rule}.{rank}", "continuous", date(2026, 11, 10))
            for rank, rule in enumerate("cvnc")
        ]
        expiries = [one.expiry for (one,) in found if one.expiry is not None]
        assert len(set(expiries)) == 4 and expiries == sorted(expiries)


def test_us_options_expire_on_fridays_that_trade() -> None:
    """Two weekly and two monthly expiries; before Good Friday the Thursday; never one that has passed."""
    assert us_expiries(date(2026, 11, 10)) == tuple(
        date.fromisoformat(day) for day in ("2026-11-13", "2026-11-20", "2026-12-18", "2027-01-15")
    )
    assert us_expiries(date(2025, 4, 14))[0] == date(2025, 4, 17)
    for offset in range(400):
        day = date(2026, 1, 1) + timedelta(days=offset)
        found = us_expiries(day)
        assert len(set(found)) == 4 and found[0] >= day and list(found) == sorted(found)


def test_options_name_what_they_are_on() -> None:
    """An option's underlying is a contract that is listed, by name and by number."""
    day = date(2026, 11, 10)
    for one in UNIVERSE.resolve("GLBX.MDP3", "ALL_SYMBOLS", "raw_symbol", day):
        if one.product.kind == "options":
            (future,) = UNIVERSE.resolve("GLBX.MDP3", one.underlying, "raw_symbol", day)
            assert future.instrument_id == one.underlying_id
            assert future.expiry == one.expiry


def test_the_front_contract_rolls_on_a_monday() -> None:
    """The session after the roll trades the next contract, and the weekend before it belongs to it."""
    monday = roll_day(2026, 12)
    assert monday == date(2026, 12, 14)
    assert contract(NQZ6.product, 0, date(2026, 12, 11)).raw_symbol == "NQZ6"
    assert contract(NQZ6.product, 0, monday).raw_symbol == "NQH7"
    assert trading_label(date(2026, 12, 12)) == trading_label(date(2026, 12, 13)) == monday


def test_a_selection_names_each_stream_once() -> None:
    """Symbols that overlap do not make records double."""
    chosen = Selection("GLBX.MDP3", "mbo", ("NQ.FUT", "NQ.FUT"), "parent")
    assert len(MARKET.streams(chosen, date(2026, 11, 10))) == 4


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


@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "OPRA.PILLAR", "XNAS.ITCH"])
def test_every_contract_is_found_by_each_of_its_names(dataset: str) -> None:
    """Raw symbols and numbers lead back to what ALL_SYMBOLS lists, and to nothing else."""
    for day in (date(2010, 6, 7), date(2026, 9, 14), date(2026, 12, 31), date(2039, 2, 28)):
        label = trading_label(day)
        for one in UNIVERSE.resolve(dataset, "ALL_SYMBOLS", "raw_symbol", label):
            number = str(one.instrument_id)
            assert UNIVERSE.resolve(dataset, one.raw_symbol, "raw_symbol", label) == (one,)
            assert UNIVERSE.resolve(dataset, number, "instrument_id", label) == (one,)
            assert UNIVERSE.resolve(dataset, f"0{number}", "instrument_id", label) == ()
            assert UNIVERSE.resolve(dataset, f"{one.raw_symbol} ", "raw_symbol", label) == ()


def test_a_symbol_over_all_of_history_lists_no_other_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolving one name for sixteen years makes its contracts only: else it would take a minute."""
    made: list[str] = []

    def counted(product: Product, rank: int, label: date) -> Contract:
        made.append(product.name)
        return contract(product, rank, label)

    monkeypatch.setattr("budget_guard.sandbox.market.universe.contract", counted)
    universe = Universe()
    first = date(2010, 6, 7)
    for symbol, stype_in in (
        ("NQ.v.0", "continuous"),
        ("NQ.FUT", "parent"),
        (str(NQZ6.instrument_id), "instrument_id"),
    ):
        for offset in range(0, 6000, 20):
            universe.resolve("GLBX.MDP3", symbol, stype_in, trading_label(first + timedelta(days=offset)))
    assert set(made) == {"NQ"}
    universe.resolve("GLBX.MDP3", "NQZ6", "raw_symbol", first)
    assert set(made) == {"NQ", "NQ.OPT"}
