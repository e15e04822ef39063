"""The bill over HTTP: `/bill`, `/bill/usage` and `/bill/month`. They need no key, and are not paths of the vendor."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.typedefs import Handler

from budget_guard.clock import month_bounds
from budget_guard.sandbox.billing.bill import Bill
from budget_guard.sandbox.billing.table import bill_as_text
from budget_guard.sandbox.billing.usage import FREQUENCIES, UNITS, usage_csv, usage_json


def add_routes(app: web.Application, bill: Bill) -> None:
    """Add the paths of a bill to an application."""

    def whole(request: web.Request) -> web.Response:
        if _one_of(request, "format", ("json", "text")) == "text":
            return web.Response(text=bill_as_text(bill.as_json()))
        return web.json_response(bill.as_json())

    def usage(request: web.Request) -> web.Response:
        form = _one_of(request, "format", ("json", "csv"))
        unit = _one_of(request, "timestamps", UNITS)
        frequency = _one_of(request, "frequency", FREQUENCIES)
        rows = bill.usage(_month(request), "day" if frequency == "day" else "hour")
        if form == "csv":
            return web.Response(text=usage_csv(rows, unit), content_type="text/csv")
        return web.json_response(usage_json(rows, unit))

    def month(request: web.Request) -> web.Response:
        return web.json_response(bill.month_to_date(_month(request)))

    for path, answer in (("/bill", whole), ("/bill/usage", usage), ("/bill/month", month)):
        app.router.add_get(path, _handler(answer))


def _handler(answer: Callable[[web.Request], web.Response]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return answer(request)
        except ValueError as error:
            return web.json_response({"detail": str(error)}, status=400)

    return handle


def _one_of(request: web.Request, name: str, known: Collection[str]) -> str:
    """A query parameter; the first known value when it is left out. Raises ValueError for another."""
    value = request.query.get(name, next(iter(known)))
    if value not in known:
        raise ValueError(f"{name} is {value!r}; one of {', '.join(known)}")
    return value


def _month(request: web.Request) -> str | None:
    """The billing month asked for, if one is. Raises ValueError unless it is written `YYYY-MM`."""
    month = request.query.get("month")
    if month is not None:
        month_bounds(month)
    return month
