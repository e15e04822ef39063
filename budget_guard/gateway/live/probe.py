"""Whether a key may use live data: log on, and leave. No session is started, so nothing is sent and nothing billed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from budget_guard.errors import KeyRejected, VendorError, VendorUnavailable
from budget_guard.gateway.live.upstream import Endpoint, connect
from budget_guard.gateway.wire.subscription import Logon

# The vendor closes connections at once when more than five a second come from one address.
PAUSE_S = 0.25
_CLOSE_TIMEOUT_S = 5.0
_HEARTBEAT_S = 30
_ADVICE = "check the network and BUDGET_GUARD_LIVE_GATEWAY, and try again"


class _Nobody:
    """Hears nothing: without a session there is no data."""

    def upstream_data(self, data: bytes, *, filled: bool = False) -> None:
        """Not called before a session is started."""

    def room_bytes(self) -> int | None:
        return None


def probe_live(
    endpoint: Endpoint,
    key: str,
    datasets: Sequence[str],
    *,
    pause_s: float = PAUSE_S,
    done: Callable[[int, int], None] | None = None,
) -> dict[str, VendorError | None]:
    """What the live gateway says to a logon for each dataset: None is welcome.

    One after the other, `pause_s` apart. A key that is rejected once is not tried again. Not from a running event loop.
    """
    return asyncio.run(_probe_all(endpoint, key, datasets, pause_s, done))


async def _probe_all(
    endpoint: Endpoint,
    key: str,
    datasets: Sequence[str],
    pause_s: float,
    done: Callable[[int, int], None] | None,
) -> dict[str, VendorError | None]:
    answers: dict[str, VendorError | None] = {}
    rejected: KeyRejected | None = None
    for number, dataset in enumerate(datasets):
        if number and rejected is None:
            await asyncio.sleep(pause_s)
        answers[dataset] = rejected or await _probe(endpoint, key, dataset)
        if isinstance(answers[dataset], KeyRejected):
            rejected = answers[dataset]  # type: ignore[assignment]
        if done is not None:
            done(number + 1, len(datasets))
    return answers


async def _probe(endpoint: Endpoint, key: str, dataset: str) -> VendorError | None:
    logon = Logon(dataset, False, False, _HEARTBEAT_S, None)
    try:
        upstream = await connect(endpoint, key, logon, _Nobody())
    except VendorUnavailable as error:
        return VendorUnavailable(error.message, advice=_ADVICE)
    except VendorError as error:
        return error
    upstream.finish()
    await asyncio.wait([upstream.ended], timeout=_CLOSE_TIMEOUT_S)
    upstream.abort()
    return None
