"""What a stream's `recovery` allows after a loss: how long a silence may be replayed, and for how much. Pure."""

from __future__ import annotations

from datetime import timedelta

from budget_guard.guard.guard import Admission
from budget_guard.money import bytes_within, nano_from_usd


def may_replay(admission: Admission, silent: timedelta) -> bool:
    """Whether a silence of this length may be replayed, and a first byte of it be paid for."""
    longest = admission.stream.recovery.replay
    return bool(longest) and silent <= longest and replay_bytes_max(admission) != 0


def replay_bytes_max(admission: Admission) -> int | None:
    """How many bytes a replay may cost: what `recovery.spend` buys at the connection's price; None for no bound."""
    spend = admission.stream.recovery.spend_usd
    if spend is None:
        return None
    return bytes_within(nano_from_usd(spend), admission.hold.terms.unit_price_usd)
