"""Bundled volumes of a few well-known streams, for planning without a key.

Each is somebody's measurement, with its year. A "GB" in these sources is 10**9 bytes. What is not here is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GB, MB = 10**9, 10**6

# NQ.v.0, ES.c.0, NQ.n.0: the front contract by volume, calendar or open interest; NQZ6: one outright contract.
_CONTINUOUS = re.compile(r"(?P<root>[A-Z0-9]+)\.[vcn]\.(?P<rank>\d+)", re.IGNORECASE)
_OUTRIGHT = re.compile(r"(?P<root>[A-Z0-9]{1,4}?)[FGHJKMNQUVXZ]\d{1,2}")


@dataclass(frozen=True, slots=True)
class Profile:
    """Bytes of one full session of one front contract."""

    session_bytes: int
    source: str


def _measured(session_bytes: int, year: str) -> Profile:
    return Profile(session_bytes, f"bundled profile, measured {year}")


PROFILES: Mapping[tuple[str, str, str], Profile] = {
    ("GLBX.MDP3", "mbo", "ES"): _measured(590 * MB, "2026"),
    ("GLBX.MDP3", "mbo", "NQ"): _measured(440 * MB, "2026"),
    ("GLBX.MDP3", "trades", "NQ"): _measured(12 * MB, "2026"),
    ("GLBX.MDP3", "trades", "ES"): _measured(22 * MB, "2022"),
    ("GLBX.MDP3", "bbo-1s", "NQ"): _measured(4 * MB, "2026"),
}


def front_root(symbol: str, stype_in: str) -> str | None:
    """The product of a symbol that names a front contract or one outright, or None for anything wider."""
    if stype_in == "continuous":
        match = _CONTINUOUS.fullmatch(symbol)
        return match["root"].upper() if match and match["rank"] == "0" else None
    if stype_in == "raw_symbol":
        match = _OUTRIGHT.fullmatch(symbol)
        return match["root"] if match else None
    return None


def find_profiles(dataset: str, schema: str, symbols: Sequence[str], stype_in: str) -> list[Profile] | None:
    """One profile per symbol, or None as soon as one symbol has none: part of a stream is not the stream."""
    found = []
    for symbol in symbols:
        root = front_root(symbol, stype_in)
        profile = None if root is None else PROFILES.get((dataset, schema, root))
        if profile is None:
            return None
        found.append(profile)
    return found or None
