"""A sandbox's HTTP side for tests: plain requests, and the official client's API classes."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Any

from budget_guard.clock import ManualClock
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox

# A Friday, 16:00 in New York.
NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)


def config(**fields: Any) -> SandboxConfig:
    """A sandbox in a standing moment, without limits unless they are what a test is about."""
    return SandboxConfig(**{"clock": ManualClock(NOW), "limits": Limits.none(), **fields})


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers, and the body as JSON where it is."""

    status: int
    headers: Message
    body: Any


def ask(sandbox: Sandbox, method: str, path: str, key: str | None = None, **fields: Any) -> Answer:
    """One plain request, with the fields in the query or, for POST, in a form."""
    text = urllib.parse.urlencode(fields)
    url, data = f"{sandbox.http_url}{path}", None
    if method == "POST":
        data = text.encode()
    elif text:
        url += f"?{text}"
    token = base64.b64encode(f"{sandbox.key if key is None else key}:".encode()).decode()
    request = urllib.request.Request(url, data, {"Authorization": f"Basic {token}"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return _answer(answer)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error)


def _answer(answer: Any) -> Answer:
    content = answer.read()
    is_json = answer.headers.get_content_type() == "application/json"
    return Answer(answer.status, answer.headers, json.loads(content) if is_json else content)
