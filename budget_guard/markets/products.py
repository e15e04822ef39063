"""Which product group of CME Globex a symbol belongs to, where its root is known: its hours are not another group's.

The roots are those of the exchange's most traded futures; a root that is not here says nothing.
"""

from __future__ import annotations

import re

# Product group -> roots (CME Group's product codes on Globex).
_ROOTS = {
    "cme-equity-index": "ES NQ RTY YM MES MNQ M2K MYM EMD NKD NIY",
    "cme-interest-rates": "ZT ZF ZN TN ZB UB ZQ SR1 SR3 2YY 5YY 10Y 30Y",
    "cme-fx": "6A 6B 6C 6E 6J 6L 6M 6N 6S E7 J7 M6A M6B M6E MJY MSF MCD",
    "cme-energy": "CL MCL QM NG QG MNG HO RB BZ HH",
    "cme-metals": "GC MGC QO SI SIL QI HG MHG QC PL PA ALI",
    "cme-grains": "ZC ZS ZW ZM ZL ZO ZR KE XC XK XW MZC MZS MZW MZL MZM",
    "cme-livestock": "LE HE GF",
    "cme-crypto": "BTC MBT ETH MET SOL MSL XRP MXP",
}
_GROUP_OF = {root: group for group, roots in _ROOTS.items() for root in roots.split()}
_GLOBEX = "GLBX.MDP3"
# NQZ6, ESH27: a root, a month's letter, the year's last digit or two.
_CONTRACT = re.compile(r"(?P<root>[A-Z0-9]{2,3}?)[FGHJKMNQUVXZ]\d{1,2}")


def product_group(dataset: str, symbol: str) -> str | None:
    """The product group of a symbol as `NQ.v.0`, `NQ.FUT`, `NQZ6` or a spread of such; None where nobody knows."""
    if dataset != _GLOBEX:
        return None
    first_leg = symbol.split("-", 1)[0]
    if "." in first_leg:
        return _GROUP_OF.get(first_leg.split(".", 1)[0])
    match = _CONTRACT.fullmatch(first_leg)
    return None if match is None else _GROUP_OF.get(match["root"])
