"""The vendor's publishers of the datasets on offer: numbers, venues and names, as its clients' `Publisher` has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Publisher:
    """A venue in a dataset; records carry its number."""

    publisher_id: int
    dataset: str
    venue: str
    description: str


def _options(number: int, venue: str, name: str) -> Publisher:
    return Publisher(number, "OPRA.PILLAR", venue, f"OPRA - {name}")


def _basic(number: int, venue: str, name: str) -> Publisher:
    return Publisher(number, "DBEQ.BASIC", venue, f"DBEQ Basic - {name}")


# As of client version 0.87.
PUBLISHERS = (
    Publisher(1, "GLBX.MDP3", "GLBX", "CME Globex MDP 3.0"),
    Publisher(2, "XNAS.ITCH", "XNAS", "Nasdaq TotalView-ITCH"),
    _options(20, "AMXO", "NYSE American Options"),
    _options(21, "XBOX", "BOX Options"),
    _options(22, "XCBO", "Cboe Options"),
    _options(23, "EMLD", "MIAX Emerald"),
    _options(24, "EDGO", "Cboe EDGX Options"),
    _options(25, "GMNI", "Nasdaq GEMX"),
    _options(26, "XISX", "Nasdaq ISE"),
    _options(27, "MCRY", "Nasdaq MRX"),
    _options(28, "XMIO", "MIAX Options"),
    _options(29, "ARCO", "NYSE Arca Options"),
    _options(30, "OPRA", "Options Price Reporting Authority"),
    _options(31, "MPRL", "MIAX Pearl"),
    _options(32, "XNDQ", "Nasdaq Options"),
    _options(33, "XBXO", "Nasdaq Texas Options"),
    _options(34, "C2OX", "Cboe C2 Options"),
    _options(35, "XPHL", "Nasdaq PHLX"),
    _options(36, "BATO", "Cboe BZX Options"),
    _options(37, "MXOP", "MEMX Options"),
    _basic(39, "XCHI", "NYSE Texas"),
    _basic(40, "XCIS", "NYSE National"),
    _basic(41, "IEXG", "IEX"),
    _basic(42, "EPRL", "MIAX Pearl"),
    Publisher(59, "DBEQ.BASIC", "DBEQ", "Databento US Equities Basic - Consolidated"),
    _options(61, "SPHR", "MIAX Sapphire"),
    Publisher(95, "EQUS.MINI", "EQUS", "Databento US Equities Mini"),
    _options(108, "MXTO", "MEMX MX2 Options"),
    _options(109, "IEXO", "IEX Options LLC"),
)
