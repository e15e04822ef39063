"""How requests come in: who may connect, for how long, and whose they are, before anything is done for them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from budget_guard.gateway.historical.answers import problem
from budget_guard.gateway.keyring import Bearer
from budget_guard.gateway.shared import LISTEN_BACKLOG, Shared
from budget_guard.gateway.visitors import PLACES_MAX, network_of

log = logging.getLogger(__name__)
# What the HTTP library has to say of other people's bad requests is no news, and would be said of each.
_library_log = logging.getLogger(f"{__name__}.http")
_library_log.setLevel(logging.CRITICAL)

DOOR = "historical door"
BODY_MAX_BYTES = 1 << 20
# A request line, and one header.
LINE_MAX_BYTES = 8190
CONNECTIONS_MAX = 256
# Connections of one address that have not shown a token yet. One more, and the oldest is closed.
STRANGERS_MAX = 64
# From connecting to a whole first request with a token.
LOGON_S = 10.0
BODY_S = 30.0
KEEPALIVE_S = 75.0
LINGER_S = 2.0
# A client that takes nothing of its answer for so long is given up.
STALLED_S = 300.0
STOP_S = 5.0
_TLS_HANDSHAKE = b"\x16\x03"

Serve = Callable[[web.Request, Bearer], Awaitable[web.StreamResponse]]


class Entrance:
    """Listens, and hands every request with a token to `serve`."""

    def __init__(self, shared: Shared, serve: Serve) -> None:
        self._shared = shared
        self._serve = serve
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._ending = asyncio.Event()
        self._visitors: dict[_Visitor, None] = {}  # in the order in which they came
        self.url = ""

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application(client_max_size=BODY_MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=STOP_S)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make_visitor, host, port, backlog=LISTEN_BACKLOG)
        bound_host, bound_port = self._server.sockets[0].getsockname()[:2]
        self.url = (
            f"http://[{bound_host}]:{bound_port}"
            if ":" in bound_host
            else f"http://{bound_host}:{bound_port}"
        )

    async def stop(self) -> None:
        """Let running requests end, for a few seconds; what goes on after that is cancelled."""
        self._ending.set()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()

    def hurry(self) -> None:
        """Break off what is still running."""
        for visitor in list(self._visitors):
            visitor.break_off()

    def _make_visitor(self) -> _Visitor:
        assert self._runner is not None and self._runner.server is not None
        return _Visitor(
            self,
            self._runner.server,
            loop=asyncio.get_running_loop(),
            access_log=None,
            logger=_library_log,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            max_line_size=LINE_MAX_BYTES,
            max_field_size=LINE_MAX_BYTES,
        )

    # --- connections --------------------------------------------------------------------------------------

    def admit(self, visitor: _Visitor) -> bool:
        """Make room for a new connection; False when there is none."""
        strangers = [one for one in self._visitors if not one.known and not one.leaving]
        neighbours = [one for one in strangers if one.network == visitor.network]
        if len(neighbours) >= STRANGERS_MAX:
            neighbours[0].break_off()
        elif len(self._visitors) >= CONNECTIONS_MAX:
            if not strangers:
                return False
            strangers[0].break_off()
        self._visitors[visitor] = None
        return True

    def forget(self, visitor: _Visitor) -> None:
        self._visitors.pop(visitor, None)

    def note_bad(self, address: str, why: str) -> float:
        """Seconds that the answer to a bad logon should wait."""
        return self._shared.visitors.bad_logon(address, DOOR, why)

    # --- requests -----------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        bearer = await self._identify(request)
        if isinstance(bearer, web.Response):
            return bearer
        if isinstance(request.protocol, _Visitor):
            request.protocol.known = True
        if not self._shared.visitors.take_place(DOOR, bearer.token):
            return problem(
                429,
                "budget_guard_too_many",
                f"{bearer} has {PLACES_MAX} requests running: wait for one to end",
            )
        try:
            return await self._read_and_serve(request, bearer)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            log.exception("a request failed")
            return problem(500, "budget_guard_failed", "the guard failed; its log says why")
        finally:
            self._shared.visitors.give_place(DOOR, bearer.token)

    async def _identify(self, request: web.Request) -> Bearer | web.Response:
        given = _token_in(request)
        bearer = None if given is None else self._shared.keyring.who_showed(given)
        if bearer is not None and not bearer.revoked:
            return bearer
        why = (
            "not this guard's token: give the program no API key of its own. DATABENTO_API_KEY is the token: "
            "`run` sets it, and for a gateway it is what `token make` showed"
        )
        if bearer is not None:
            why = f"{bearer} was revoked: ask whoever runs this guard for another"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.note_bad(request.remote or "", why)):
                await self._ending.wait()
        return problem(401, "auth_authentication_failed", why)

    async def _read_and_serve(self, request: web.Request, bearer: Bearer) -> web.StreamResponse:
        if request.can_read_body and not request.content_type.startswith("multipart/"):
            try:
                async with asyncio.timeout(BODY_S):
                    await request.read()
            except TimeoutError:
                return problem(408, "budget_guard_slow", f"the request did not come within {BODY_S:.0f} s")
        return await self._serve(request, bearer)


class _Visitor(web.RequestHandler):
    """One connection: bounded in time until it has shown a token, and while it takes nothing of an answer."""

    __slots__ = ("_entrance", "_first", "_timer", "known", "network")

    def __init__(self, entrance: Entrance, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._entrance = entrance
        self._first = True
        self._timer: asyncio.TimerHandle | None = None
        self.known = False
        self.network = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.network = network_of(peer[0]) if peer else ""
        if not self._entrance.admit(self):
            self._answer(
                503, "budget_guard_too_many", f"{CONNECTIONS_MAX} connections are open: try again later"
            )
            return
        self._timer = asyncio.get_running_loop().call_later(LOGON_S, self._look)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._entrance.forget(self)
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._first:
            self._first = False
            if data.startswith(_TLS_HANDSHAKE[: len(data)]):
                self._entrance.note_bad(self.network, "TLS on a port that speaks plain HTTP")
                self._answer(
                    400,
                    "budget_guard_no_tls",
                    "this port speaks HTTP without TLS: use http://, through a tunnel",
                )
                return
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(STALLED_S, self.break_off)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_timer()

    @property
    def leaving(self) -> bool:
        """Whether it is being closed already."""
        return self.transport is None or self.transport.is_closing()

    def break_off(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def _look(self) -> None:
        if not self.known:
            self._answer(408, "budget_guard_slow", f"no request with a token within {LOGON_S:.0f} s")

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _answer(self, status: int, case: str, message: str) -> None:
        """Answer without a request, and close."""
        if self.transport is None or self.transport.is_closing():
            return
        body = json.dumps({"detail": {"case": case, "message": message, "status_code": status}}).encode()
        head = (
            f"HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.force_close()


def _token_in(request: web.Request) -> str | None:
    """The user of HTTP Basic, which is where clients put their key."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(text, validate=True).decode("utf-8").split(":", 1)[0]
    except (binascii.Error, UnicodeDecodeError):
        return None
