"""Runs the relay and the historical door on an event loop of their own, in a thread of this process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from budget_guard.gateway.breakers import Breakers
from budget_guard.gateway.historical.door import Door, DoorTerms
from budget_guard.gateway.keyring import Bearer, Keyring, ListedKeyring
from budget_guard.gateway.live.pace import Pacer
from budget_guard.gateway.live.relay import Relay
from budget_guard.gateway.live.upstream import Endpoint, ending_allowance_bytes
from budget_guard.gateway.outcome import Outcome, Standing, recent_outcome
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.token_store import TokenStore
from budget_guard.gateway.visitors import Visitors
from budget_guard.gateway.wire.scrub import Scrubber
from budget_guard.gateway.wire.tokens import make_token, new_secret
from budget_guard.guard.guard import Guard

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; port 0 is any that is free."""

    host: str = LOOPBACK
    live_port: int = 0
    http_port: int = 0


class GatewayHost:
    """The guard's gateway: on the loopback of this machine and with a secret that ends with the process.

    With `store` it is a service instead: it listens where `listen` says, lets in the tokens that the store lists for
    the policy and no other, and of what it came to it remembers the end only.

    A fork of the process does not take the gateway along: `pid` says whose it is.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        key: str,
        live: Endpoint,
        door: DoorTerms,
        look_every_s: float | None = None,
        listen: Listen | None = None,
        store: TokenStore | None = None,
    ) -> None:
        """Raises TokenError when the store cannot be read."""
        self._listen = listen or Listen()
        self._secret = new_secret()
        self._executor = ThreadPoolExecutor(max_workers=8, thread_name_prefix="budget-guard")
        self._shared = Shared(
            guard=guard,
            endpoint=live,
            key=key,
            keyring=self._make_keyring(guard, store),
            visitors=Visitors(guard.clock.monotonic_s),
            scrubber=Scrubber(key),
            breakers=Breakers(guard, key),
            pacer=Pacer(guard.meter_dir / "connections.pace"),
            executor=self._executor,
            allowance_bytes=ending_allowance_bytes(live),
            outcome=Outcome() if store is None else recent_outcome(),
            look_every_s=look_every_s,
        )
        self._relay = Relay(self._shared)
        self._door = Door(self._shared, door)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="budget-guard", daemon=True)
        self.pid = os.getpid()
        self.live_port = 0
        self.http_url = ""

    def _make_keyring(self, guard: Guard, store: TokenStore | None) -> Keyring:
        if store is not None:
            return ListedKeyring(store, guard.policy.name)
        streams = (None, *guard.policy.streams)
        return Keyring(Bearer(self.token(stream), stream) for stream in streams)

    @property
    def outcome(self) -> Outcome:
        """What its connections and requests have come to so far."""
        return self._shared.outcome

    @property
    def standing(self) -> Standing:
        """The refusals that still stand."""
        return self._shared.standing

    @property
    def clients(self) -> int:
        """How many live clients are connected."""
        return self._relay.clients

    def welcome(self, dataset: str) -> None:
        """The vendor has let this key in after it had refused: connections may ask it again. Asks the ledger."""
        self._shared.standing.forget(dataset)
        self._shared.breakers.close(dataset)

    @property
    def visits(self) -> int:
        """How often a live client or a historical request came with a right token."""
        return self._shared.visitors.visits

    @property
    def mending(self) -> int:
        """How many live clients wait for a lost connection to the vendor to be opened again."""
        return self._relay.mending

    @property
    def going_on(self) -> int:
        """How many live clients have a stream that goes on, those that wait for a lost connection included."""
        return self._relay.going_on

    @property
    def allowance_bytes(self) -> int:
        """What a live connection keeps free for its ending."""
        return self._shared.allowance_bytes

    def token(self, stream: str | None = None) -> str:
        """The token of one stream, or one that any stream of the policy accepts."""
        return make_token(self._secret) if stream is None else make_token(self._secret, stream)

    def start(self) -> None:
        """Listen. Raises OSError, with everything closed, when that fails."""
        self._thread.start()
        try:
            self._call(self._start()).result(START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End and settle every connection, then stop. Safe to call twice. Raises TimeoutError when one goes on."""
        if not self._thread.is_alive() or os.getpid() != self.pid:
            return
        try:
            self._call(self._stop()).result(STOP_TIMEOUT_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_TIMEOUT_S)
            self._loop.close()
            self._executor.shutdown(wait=True)

    def hurry(self) -> None:
        """Break off what a stop still waits for; it is settled with what is assumed of it. From any thread."""
        self._loop.call_soon_threadsafe(self._relay.hurry)
        self._loop.call_soon_threadsafe(self._door.hurry)

    async def _start(self) -> None:
        await self._relay.start(self._listen.host, self._listen.live_port)
        await self._door.start(self._listen.host, self._listen.http_port)
        self.live_port = self._relay.port
        self.http_url = self._door.url

    async def _stop(self) -> None:
        await asyncio.gather(self._relay.stop(), self._door.stop())

    def _call(self, coroutine: Coroutine[None, None, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
