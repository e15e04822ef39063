"""A metadata server on the loopback that plays a script: the answers that a test wants, in order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Answer:
    """One HTTP answer; a `body` that is not text is sent as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False


@dataclass
class Asked:
    """One request as it arrived."""

    call: str
    params: dict[str, str]
    authorization: str


Script = Callable[[Asked], Answer]


@dataclass
class PlayedServer:
    """`url` is the gateway; `asked` lists the requests so far."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    def calls(self) -> list[str]:
        return [asked.call for asked in self.asked]


@contextmanager
def played_server(script: Script) -> Iterator[PlayedServer]:
    """Run a server that answers each request with what `script` says."""
    played = PlayedServer("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("content-length", 0))).decode())

        def _answer(self, params: str) -> None:
            call = urlsplit(self.path).path.rpartition("/metadata.")[2]
            asked = Asked(call, dict(parse_qsl(params)), self.headers.get("authorization", ""))
            played.asked.append(asked)
            answer = script(asked)
            if answer.hang_up:
                self.close_connection = True
                return
            is_text = isinstance(answer.body, str)
            body = (answer.body if is_text else json.dumps(answer.body)).encode()
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "text/plain" if is_text else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    played.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield played
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def in_order(*answers: Answer) -> Script:
    """A script that plays the answers one by one and then repeats the last."""
    rest = list(answers)
    return lambda asked: rest.pop(0) if len(rest) > 1 else rest[0]
