"""Asking the historical door as any HTTP client does."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.gateway.desk import Desk


class BrokeOff(Exception):
    """An answer that is not whole, as its client sees it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask_door(
    desk: Desk, method: str, path: str, form: dict[str, Any] | None = None, **headers: str
) -> Answered:
    """One request with the desk's token. Raises BrokeOff when the answer is not whole."""
    connection = http.client.HTTPConnection(desk.gateway.host.http_url.removeprefix("http://"), timeout=60)
    headers["Authorization"] = "Basic " + base64.b64encode(f"{desk.token}:".encode()).decode()
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, None if form is None else urlencode(form), headers)
        response = connection.getresponse()
        return Answered(response.status, dict(response.headers), response.read())
    except (http.client.IncompleteRead, ConnectionError) as error:
        raise BrokeOff from error
    finally:
        connection.close()
