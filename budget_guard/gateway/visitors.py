"""Who is at the gateway's doors: bad logons slowed down and logged once, and how many places a token takes."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

log = logging.getLogger(__name__)

# Bad logons of one address that are answered at once, within a quiet time of each other.
FREE_TRIES = 5
FIRST_DELAY_S = 0.25
MOST_DELAY_S = 4.0
QUIET_S = 60.0
# Addresses that are remembered, so that a flood from many does not grow; the oldest is forgotten first.
ADDRESSES_MAX = 1024
# Connections, or requests, of one token at a time.
PLACES_MAX = 64


@dataclass(slots=True)
class _Tries:
    """Bad logons of one address since `first_s`; `said` of them are in the log."""

    first_s: float
    last_s: float
    count: int = 0
    said: int = 0


class Visitors:
    """Belongs to one event loop. `now_s` is a monotonic clock."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._places: Counter[tuple[str, str]] = Counter()
        self.visits = 0  # connections and requests so far whose token was right

    def bad_logon(self, address: str, door: str, why: str) -> float:
        """Note a logon that failed, and say how many seconds its answer should wait."""
        now_s = self._now_s()
        key = network_of(address)
        tries = self._tries.get(key)
        if tries is not None and now_s - tries.last_s > QUIET_S:
            self._sum_up(key, tries)
            tries = None
        if tries is None:
            tries = self._tries[key] = _Tries(now_s, now_s)
            while len(self._tries) > ADDRESSES_MAX:
                self._sum_up(*self._tries.popitem(last=False))
        self._tries.move_to_end(key)
        tries.count += 1
        tries.last_s = now_s
        if tries.said == 0:
            tries.said = 1
            log.warning("a bad logon at the %s from %s: %s", door, address, why)
        elif now_s - tries.first_s > QUIET_S:
            self._sum_up(key, tries)
            tries.first_s = now_s
        over = tries.count - FREE_TRIES
        return 0.0 if over <= 0 else min(MOST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(over - 1, 10))

    def _sum_up(self, key: str, tries: _Tries) -> None:
        if tries.count > tries.said:
            log.warning("%d more bad logons from %s", tries.count - tries.said, key)
            tries.said = tries.count

    def take_place(self, door: str, token: str) -> bool:
        """Count one more of a token's connections; False, and nothing counted, when it has as many as it may."""
        self.visits += 1
        if self._places[door, token] >= PLACES_MAX:
            return False
        self._places[door, token] += 1
        return True

    def give_place(self, door: str, token: str) -> None:
        """One connection less."""
        self._places[door, token] -= 1
        if self._places[door, token] <= 0:
            del self._places[door, token]


def network_of(address: str) -> str:
    """What counts as one address: for IPv6 the network of 64 bits that one machine may choose from."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address) or found.is_loopback:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
