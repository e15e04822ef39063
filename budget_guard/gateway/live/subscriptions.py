"""What one client has subscribed to: before the start all at once, after it line by line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from budget_guard.decisions import deny
from budget_guard.errors import Refused
from budget_guard.gateway.live.downstream import ClientGone, Downstream
from budget_guard.gateway.live.voice import Voice
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.wire.lines import LineError, parse_fields
from budget_guard.gateway.wire.subscription import Subscription, parse_subscription
from budget_guard.guard.request import Request


class Subscriptions:
    """The lines of one connection, and the request that they come to."""

    request: Request

    def __init__(
        self, shared: Shared, dataset: str, only: str | None, ask: Callable[[Subscription], None]
    ) -> None:
        """`ask` hands a line that came after the start on to the vendor."""
        self._shared = shared
        self._guard = shared.guard
        self._dataset = dataset
        self._only = only
        self._ask = ask
        self.lines: list[Subscription] = []

    async def take(self, lines: list[Subscription]) -> None:
        """Add lines. Raises Refused, recorded, for what no stream covers; nothing is added then."""
        together = [*self.lines, *lines]
        self.request = await self._shared.in_thread(partial(self._combine, together))
        self.lines = together

    async def listen(self, down: Downstream, voice: Voice) -> None:
        """Lines after the start: of the same stream they go on to the vendor, others are refused."""
        while True:
            try:
                fields = parse_fields(await down.next_line())
                if "start_session" not in fields:
                    line = parse_subscription(fields)
                    await self.take([line])
                    self._ask(line)
            except ClientGone:
                return
            except LineError as error:
                voice.error(f"budget-guard: {error}")
            except Refused as refused:
                self._shared.outcome.refused.append(refused.decision)
                voice.error(refused.decision.wire_text())

    def _combine(self, lines: list[Subscription]) -> Request:
        """All subscription lines as one request of one stream. Raises Refused, recorded: it blocks."""
        now = self._guard.clock.now()
        requests = [line.request(self._dataset, now) for line in lines]
        streams = [self._guard.covering(request, only=self._only) for request in requests]
        if len({stream.name for stream in streams}) > 1:
            names = ", ".join(sorted({stream.name for stream in streams}))
            decision = deny(
                "not_covered",
                f"the subscriptions belong to several streams ({names}): open a connection for each",
            )
            self._guard.record_refusal(requests[0], None, decision)
            raise Refused(decision)
        symbols = dict.fromkeys(symbol for request in requests for symbol in request.symbols)
        first = requests[0]
        return Request(first.dataset, first.schema, tuple(symbols), first.stype_in)
