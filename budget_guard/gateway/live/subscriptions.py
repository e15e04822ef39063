"""What one client has subscribed to: before the start all at once, after it line by line."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine
from dataclasses import replace
from functools import partial
from typing import Protocol

from budget_guard.errors import Refused
from budget_guard.gateway.live.counting import Counting
from budget_guard.gateway.live.downstream import ClientGone, Downstream
from budget_guard.gateway.live.purse import Purse
from budget_guard.gateway.live.voice import Voice
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.wire.lines import LineError, parse_fields
from budget_guard.gateway.wire.subscription import Subscription, parse_subscription
from budget_guard.guard.request import Request

# The vendor delays subscriptions beyond so many a second.
LINES_PER_S = 10


class Subscriber(Protocol):
    """The connection that lines are for."""

    @property
    def streaming(self) -> bool:
        """Whether data flows: neither being opened nor mended nor ended."""

    @property
    def counting(self) -> Counting:
        """What counts on the connection to the vendor."""

    async def until_streaming(self) -> None:
        """Wait for data to flow. Raises ClientGone when it never will again."""

    async def pause(self, seconds: float) -> None:
        """Wait, but not when it is over."""

    def ask(self, line: Subscription) -> None:
        """Hand a line on to the vendor."""

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run in the background, to its end."""


class Subscriptions:
    """The lines of one connection that are in force, and what each asks of the guard."""

    def __init__(
        self, shared: Shared, dataset: str, only: str | None, connection: Subscriber, purse: Purse
    ) -> None:
        self._shared = shared
        self._guard = shared.guard
        self._dataset = dataset
        self._only = only
        self._connection = connection
        self._purse = purse
        self._loop = asyncio.get_running_loop()
        self._asked_s: deque[float] = deque(maxlen=LINES_PER_S)
        self._lines: list[tuple[Subscription, Request]] = []

    @property
    def lines(self) -> list[Subscription]:
        return [line for line, _ in self._lines]

    @property
    def requests(self) -> list[Request]:
        """What the lines ask for, each once. Where a client's own replay starts was decided when it asked."""
        return list(dict.fromkeys(request for _, request in self._lines))

    async def take(self, lines: list[Subscription]) -> None:
        """The lines before the start. Raises Refused, recorded, for what no stream covers."""
        for line in lines:
            self._lines.append((line, (await self._cover(line))[0]))

    def rest(self, requests: Collection[Request]) -> list[Request]:
        """What is left without some of them."""
        return [request for request in self.requests if request not in requests]

    def drop(self, requests: Collection[Request]) -> None:
        """Some of them are over."""
        self._lines = [(line, request) for line, request in self._lines if request not in requests]

    async def _cover(self, line: Subscription) -> tuple[Request, str]:
        """A line as the guard knows it, and the name of the stream that covers it. Raises Refused, recorded."""
        request = line.request(self._dataset, self._guard.clock.now())
        stream = await self._shared.in_thread(partial(self._guard.covering, request, only=self._only))
        return replace(request, replay_from=None, snapshot=False), stream.name

    # --- after the start ----------------------------------------------------------------------------------

    async def listen(self, down: Downstream, voice: Voice) -> None:
        """Lines after the start: once their money is held they go on to the vendor, others are refused."""
        while True:
            try:
                fields = parse_fields(await down.next_line())
                if "start_session" not in fields:
                    await self._add(parse_subscription(fields))
            except ClientGone:
                return
            except LineError as error:
                voice.error(f"budget-guard: {error}")
            except Refused as refused:
                self._shared.outcome.refused.append(refused.decision)
                voice.error(refused.decision.wire_text())

    async def _add(self, line: Subscription) -> None:
        request, stream = await self._cover(line)
        await self._keep_pace()
        added = False
        while not added:
            await self._connection.until_streaming()
            answer: asyncio.Future[bool] = self._loop.create_future()
            # To its end, also when this is cancelled: a hold must not be left half opened.
            self._connection.spawn(self._admit(line, request, stream, answer))
            added = await answer

    async def _keep_pace(self) -> None:
        if len(self._asked_s) == LINES_PER_S:
            await self._connection.pause(self._asked_s[0] + 1.0 - self._loop.time())
        self._asked_s.append(self._loop.time())

    async def _admit(
        self, line: Subscription, request: Request, stream: str, answer: asyncio.Future[bool]
    ) -> None:
        """Hold, activate, then ask the vendor. The answer is False when the vendor's side was lost meanwhile."""
        refused: Refused | None = None
        added = False
        async with self._purse.lock:
            if self._connection.streaming:
                try:
                    await self._purse.take_in(request, stream, self._connection.counting)
                    self._lines.append((line, request))
                    added = True
                    self._connection.ask(line)
                except Refused as error:
                    refused = error
        if answer.cancelled():
            return
        if refused is not None:
            answer.set_exception(refused)
        else:
            answer.set_result(added)
