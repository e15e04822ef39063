"""What every answer of the HTTP side is given: the sandbox it speaks for, and the call it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from budget_guard.sandbox.account import Account
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import Faults
from budget_guard.sandbox.historical.ranges import History
from budget_guard.sandbox.market.model import MarketData

Fields = Mapping[str, str]
GET = ("GET",)
POST = ("POST",)
EITHER = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Context:
    """The sandbox behind the answers."""

    config: SandboxConfig
    account: Account
    market: MarketData
    history: History
    bill: Bill
    faults: Faults


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated call: its key, and the fields of its query and form in one."""

    request: web.Request
    key: str
    fields: Fields


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, its methods, and who answers it. The handler may raise ApiError until it has begun to answer.

    `limit` names the pace that holds for it: `metadata`, `timeseries`, `symbology`, `list_jobs` or `submit_jobs`.
    """

    methods: tuple[str, ...]
    path: str
    handler: Handler
    limit: str | None = None


def json_handler(answer: Callable[[Call], Any]) -> Handler:
    """A handler that answers with a value as JSON."""

    async def handle(call: Call) -> web.StreamResponse:
        return web.json_response(answer(call))

    return handle
