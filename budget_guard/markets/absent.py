"""What is known of datasets and markets that are not in the table: enough to say why, not enough to open a window."""

from __future__ import annotations

from collections.abc import Mapping

_NO_CALENDAR = "neither calendar library has one for it, and its hours and holidays were not sourced"

ABSENT_DATASETS: Mapping[str, str] = {
    "OCEA.MEMOIR": "the venue trades overnight, unlike the other US equity feeds, and its hours were not sourced",
    "IFEU.IMPACT": f"ICE Futures Europe has no calendar here: {_NO_CALENDAR}",
    "IFLL.IMPACT": f"ICE Futures Europe Financials has no calendar here: {_NO_CALENDAR}",
    "NDEX.IMPACT": f"ICE Endex has no calendar here: {_NO_CALENDAR}",
}

ABSENT_MARKETS: Mapping[str, str] = {
    "cme-crypto": (
        "CME announced trading around the clock from 2026-05-29, with at least two hours of maintenance each weekend; "
        "when those are, and what holidays do, was not sourced, and both calendar libraries still have weekday "
        "sessions; a stream may run `always`, which asks no calendar"
    ),
    "cme-dairy": "only grains and livestock were sourced among CME's agricultural products",
    "cme-agriculture": "CME's agricultural products differ in their hours: name cme-grains or cme-livestock",
    "ice-europe": f"ICE Futures Europe: {_NO_CALENDAR}",
    "ice-endex": f"ICE Endex: {_NO_CALENDAR}",
    "ice-us-softs": "each contract has its own hours, which were not sourced: the platform's are ice-us",
}
