"""What every answer of the HTTP side is given: the sandbox it speaks for, and the call it answers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.engine import Faults
from budget_guard.sandbox.historical.parameters import Parameter
from budget_guard.sandbox.historical.ranges import History
from budget_guard.sandbox.historical.reach import Horizon
from budget_guard.sandbox.market.model import MarketData

Fields = Mapping[str, str]
GET = ("GET",)
POST = ("POST",)
EITHER = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Context:
    """The sandbox behind the answers. What is in `at_stop` is called when the HTTP side ends."""

    config: SandboxConfig
    account: Account
    market: MarketData
    history: History
    bill: Bill
    faults: Faults
    at_stop: list[Callable[[], None]] = field(default_factory=list)

    @property
    def horizon(self) -> Horizon:
        """How far its history reaches."""
        return Horizon(self.config, self.account)


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated call: its key, and the fields of its query and form in one.

    `warnings` go out with the answer's headers; the vendor's clients show them.
    """

    request: web.Request
    key: str
    fields: Fields
    warnings: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        """What an answer's headers say beside what it is; whoever prepares a response of his own sends them."""
        return {"X-Warning": json.dumps(self.warnings)} if self.warnings else {}


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, its methods, and who answers it. The handler may raise ApiError until it has begun to answer.

    `limit` names the pace that holds for it: `metadata`, `timeseries`, `symbology`, `list_jobs` or `submit_jobs`.
    `parameters` are checked before it is called: those that are required are there, and numbers are numbers.
    """

    methods: tuple[str, ...]
    path: str
    handler: Handler
    limit: str | None = None
    parameters: tuple[Parameter, ...] = ()


def json_handler(answer: Callable[[Call], Any]) -> Handler:
    """A handler that answers with a value as JSON: `answer`'s, or what it waits for."""

    async def handle(call: Call) -> web.StreamResponse:
        value = answer(call)
        return web.json_response(await value if inspect.isawaitable(value) else value)

    return handle
