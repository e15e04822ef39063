"""A symbol's product group: its hours are not those of the dataset's default market."""

from __future__ import annotations

import pytest

from budget_guard.errors import CalendarUnknown
from budget_guard.markets.products import product_group
from budget_guard.markets.table import MARKETS, market_of
from budget_guard.policy.model import Stream


def stream(*symbols: str, market: str | None = None) -> Stream:
    return Stream("s", "GLBX.MDP3", "mbo", symbols, market=market)


@pytest.mark.parametrize(
    ("symbol", "group"),
    [
        ("NQ.v.0", "cme-equity-index"),
        ("ES.FUT", "cme-equity-index"),
        ("ESH7", "cme-equity-index"),
        ("ZCZ26", "cme-grains"),
        ("CL.c.1", "cme-energy"),
        ("GCG7-GCJ7", "cme-metals"),
        ("6EZ6", "cme-fx"),
        ("BTC.n.0", "cme-crypto"),
        ("SR3H7", "cme-interest-rates"),
        ("ALL_SYMBOLS", None),
        ("QQQ.v.0", None),
        ("42140878", None),
    ],
)
def test_a_known_root_names_its_group_and_an_unknown_one_says_nothing(symbol: str, group: str | None) -> None:
    assert product_group("GLBX.MDP3", symbol) == group


def test_other_datasets_have_no_product_groups_here() -> None:
    assert product_group("XNAS.ITCH", "ES.v.0") is None


def test_the_default_market_does_not_stand_for_another_groups_product() -> None:
    with pytest.raises(
        CalendarUnknown, match=r"'ZC\.v\.0' is a product of cme-grains.*write `market: cme-grains`"
    ):
        market_of(stream("ES.v.0", "ZC.v.0"))


def test_a_product_whose_group_is_not_known_here_says_why() -> None:
    with pytest.raises(CalendarUnknown, match=r"'BTC\.v\.0' is a product of cme-crypto"):
        market_of(stream("BTC.v.0"))


def test_a_market_that_is_written_is_followed() -> None:
    assert market_of(stream("ZC.v.0", market="cme-grains")) is MARKETS["cme-grains"]
    assert market_of(stream("NQ.v.0", "RTY.v.0")).name == "cme-equity-index"
