"""Bundled volumes fit what they were measured on, and nothing wider."""

from __future__ import annotations

import pytest

from budget_guard.planning.profiles import find_profiles, front_root


@pytest.mark.parametrize(
    ("symbol", "stype_in", "root"),
    [
        ("NQ.v.0", "continuous", "NQ"),
        ("ES.c.0", "continuous", "ES"),
        ("NQ.n.0", "continuous", "NQ"),
        ("NQ.v.1", "continuous", None),
        ("NQZ6", "raw_symbol", "NQ"),
        ("ESH27", "raw_symbol", "ES"),
        ("MNQZ6", "raw_symbol", "MNQ"),
        ("NQZ6-NQH7", "raw_symbol", None),
        ("NQ.FUT", "parent", None),
        ("ALL_SYMBOLS", "raw_symbol", None),
        ("12345", "instrument_id", None),
    ],
)
def test_a_front_contract_is_recognised(symbol: str, stype_in: str, root: str | None) -> None:
    """A front or outright contract has a root; a parent, a spread or a whole dataset has none."""
    assert front_root(symbol, stype_in) == root


def test_the_measured_volumes_are_decimal_gigabytes() -> None:
    """0.59 and 0.44 GB a day, as they were published."""
    found = find_profiles("GLBX.MDP3", "mbo", ("ES.v.0", "NQ.v.0"), "continuous")
    assert found is not None
    assert [profile.session_bytes for profile in found] == [590_000_000, 440_000_000]
    assert "2026" in found[0].source


@pytest.mark.parametrize(
    ("dataset", "schema", "symbols"),
    [
        ("GLBX.MDP3", "mbp-10", ("NQ.v.0",)),
        ("GLBX.MDP3", "mbo", ("NQ.v.0", "CL.v.0")),
        ("GLBX.MDP3", "mbo", ("MNQ.v.0",)),
        ("XNAS.ITCH", "mbo", ("NQ.v.0",)),
        ("GLBX.MDP3", "mbo", ()),
    ],
)
def test_what_has_no_profile_is_unknown(dataset: str, schema: str, symbols: tuple[str, ...]) -> None:
    """One symbol without a profile leaves the whole stream without."""
    assert find_profiles(dataset, schema, symbols, "continuous") is None
