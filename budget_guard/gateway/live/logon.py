"""The conversation before a session starts: challenge, token, subscriptions."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets

from budget_guard.gateway.keyring import Bearer
from budget_guard.gateway.live.downstream import Downstream
from budget_guard.gateway.shared import Shared
from budget_guard.gateway.visitors import PLACES_MAX
from budget_guard.gateway.wire.lines import LineError, format_line, parse_fields
from budget_guard.gateway.wire.subscription import Logon, Subscription, parse_logon, parse_subscription
from budget_guard.wording import one_line

log = logging.getLogger(__name__)

LSG_VERSION = "0.8.0"
SUBSCRIPTIONS_MAX = 2000
DOOR = "relay"
_HTTP_REQUEST = re.compile(r"[A-Z]+ \S+ HTTP/[0-9.]+")


def greet(down: Downstream) -> str:
    """Send the greeting and the challenge; return the challenge."""
    challenge = secrets.token_hex(16)
    down.write(format_line({"lsg_version": LSG_VERSION}) + format_line({"cram": challenge}))
    return challenge


async def identify(down: Downstream, challenge: str, shared: Shared) -> tuple[Bearer, Logon]:
    """Who the client is, and what it asks for; it has a place from then on. Raises LineError, ClientGone.

    Who fails often waits longer and longer for the answer.
    """
    try:
        response, logon = await read_logon(down)
        bearer = shared.keyring.who_answered(response, challenge)
        if bearer is None:
            raise LineError(
                "not this guard's token: give the program no API key of its own. DATABENTO_API_KEY is the token: "
                "`run` sets it, and for a gateway it is what `token make` showed"
            )
        if bearer.revoked:
            raise LineError(f"{bearer} was revoked: ask whoever runs this guard for another")
    except LineError as error:
        await asyncio.sleep(shared.visitors.bad_logon(down.address, DOOR, str(error)))
        raise
    if not shared.visitors.take_place(DOOR, bearer.token):
        raise LineError(f"{bearer} has {PLACES_MAX} connections open: close one first")
    log.info("%s from %s logs on for %s", bearer, down.address, logon.dataset)
    down.trust()
    return bearer, logon


async def read_logon(down: Downstream) -> tuple[str, Logon]:
    """The client's answer to the challenge and what it asks for. Raises LineError, ClientGone."""
    line = await down.next_line()
    if _HTTP_REQUEST.fullmatch(line):
        raise LineError(
            "this port speaks the live protocol, not HTTP (the first line should answer the challenge): "
            "historical requests go to the guard's other port"
        )
    fields = parse_fields(line)
    if "auth" not in fields:
        raise LineError("the first line should answer the challenge: auth=...")
    return fields["auth"], parse_logon(fields)


def accept(down: Downstream, logon: Logon, session_id: str) -> None:
    """Let the client in; what follows this line is compressed if it asked for that."""
    down.write(format_line({"success": 1, "session_id": session_id}))
    if logon.zstd:
        down.compress()


def reject(down: Downstream, text: str) -> None:
    """The protocol's own refusal. The official client cannot read a `|` in it."""
    down.write(format_line({"success": 0, "error": one_line(text.replace("|", "/"))}))


async def read_subscriptions(down: Downstream) -> list[Subscription]:
    """Subscription lines up to `start_session`. Raises LineError, ClientGone.

    The error for a line that cannot be used waits for the start: told earlier, the client would hide it.
    """
    subscriptions: list[Subscription] = []
    wrong: LineError | None = None
    while True:
        line = await down.next_line()
        try:
            fields = parse_fields(line)
            if "start_session" in fields:
                break
            subscriptions.append(parse_subscription(fields))
        except LineError as error:
            wrong = wrong or error
        if len(subscriptions) > SUBSCRIPTIONS_MAX:
            raise LineError(f"more than {SUBSCRIPTIONS_MAX} subscription lines")
    if wrong is not None:
        raise wrong
    if not subscriptions:
        raise LineError("the session was started without a subscription")
    return subscriptions
