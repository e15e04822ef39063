"""A live client made of a socket and nothing else: it sees every byte that arrives."""

from __future__ import annotations

import hashlib
import socket
from typing import Any

import databento_dbn as dbn

from budget_guard.sandbox.config import DEFAULT_KEY
from budget_guard.sandbox.server import Sandbox

DATASET = "GLBX.MDP3"
NQ_MBO = "schema=mbo|stype_in=continuous|symbols=NQ.v.0"


class BareClient:
    """Authenticates, subscribes, reads; takes a sandbox or a port. `reply` is the gateway's answer to the login.

    With `greet_only` it stops before its `login_line`.
    """

    def __init__(
        self,
        sandbox: Sandbox | int,
        *subscriptions: str,
        dataset: str = DATASET,
        key: str | None = None,
        login: str = "",
        receive_buffer: int | None = None,
        greet_only: bool = False,
    ) -> None:
        port = sandbox if isinstance(sandbox, int) else sandbox.live_port
        key = key or (DEFAULT_KEY if isinstance(sandbox, int) else sandbox.key)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        # As asyncio does for the official client: else each line waits for the last one's acknowledgement.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.connect(("127.0.0.1", port))
            self.greeting = self._line()
            challenge = self._line().removeprefix("cram=")
            digest = hashlib.sha256(f"{challenge}|{key}".encode()).hexdigest()
            self.login_line = f"auth={digest}-{key[-5:]}|dataset={dataset}|encoding=dbn{login}"
            if greet_only:
                return
            self.send(self.login_line)
            self.reply = self._line()
            for line in subscriptions:
                self.send(line)
        except BaseException:
            self.close()
            raise

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def start(self) -> dbn.Metadata:
        """Start the session and read the DBN header, exactly."""
        self.send("start_session")
        prefix = self.read(8)
        rest = self.read(int.from_bytes(prefix[4:], "little"))
        return dbn.Metadata.decode(prefix + rest)

    def read(self, size: int) -> bytes:
        """Exactly that many bytes."""
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError(f"the gateway ended after {len(data)} of {size} bytes")
            data += part
        return bytes(data)

    def record(self) -> bytes:
        """The next record, whatever it is."""
        head = self.read(1)
        return head + self.read(head[0] * 4 - 1)

    def records(self, count: int, rtype: int | None = None) -> list[bytes]:
        """That many records, of one type if asked for; the others are passed over."""
        found: list[bytes] = []
        while len(found) < count:
            record = self.record()
            if rtype is None or record[1] == rtype:
                found.append(record)
        return found

    def finish(self) -> bytes:
        """Send FIN and read on to the gateway's: everything that was on the way."""
        self.socket.shutdown(socket.SHUT_WR)
        return self.rest()

    def rest(self) -> bytes:
        """Everything up to the gateway's FIN."""
        data = bytearray()
        while part := self.socket.recv(1 << 20):
            data += part
        return bytes(data)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> BareClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> str:
        data = bytearray()
        while not data.endswith(b"\n"):
            part = self.socket.recv(1)
            if not part:
                raise EOFError("the gateway closed")
            data += part
        return data.decode().rstrip("\n")


def ended(number: int = 1) -> Any:
    """Whether a line of the bill is closed; for `Sandbox.wait_for`."""
    return lambda bill: len(bill["connections"]) >= number and bill["connections"][number - 1]["closed_utc"]
