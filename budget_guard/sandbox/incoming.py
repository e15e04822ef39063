"""What an HTTP request says of itself, read so that nothing a client sends is an error of the sandbox's."""

from __future__ import annotations

import base64

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

# What reading a body raises when it is not what its headers say (encodings, character sets, the parts of a form) or
# never comes whole: then nobody hears the answer.
UNREADABLE = (ValueError, LookupError, RequestPayloadError, ConnectionError)


async def form_of(request: web.Request) -> dict[str, str]:
    """The text fields of a request's form. Raises HTTPBadRequest when the body cannot be read."""
    try:
        form = await request.post()
    except UNREADABLE:
        raise web.HTTPBadRequest(reason="There was an error parsing the body") from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


def key_of(request: web.Request) -> str:
    """The user name of HTTP Basic authentication, which is the API key; empty when there is none to read."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(token, validate=True).decode().partition(":")[0]
    except ValueError:  # of the token's characters, of its encoding or of the key's
        return ""
