"""A TCP proxy on the loopback before a database server: it forwards, hangs, or refuses, as a network does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from sqlalchemy import make_url


class Proxy:
    """Listens on the loopback and forwards to the server of a URL. `url` leads through it."""

    def __init__(self, target: str) -> None:
        self._target = make_url(target)
        folder = self._target.query["host"]
        self._socket_path = str(Path(str(folder)) / f".s.PGSQL.{self._target.port or 5432}")
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.connections = 0

    @property
    def url(self) -> str:
        made = self._target.set(host="127.0.0.1", port=self.port, query={})
        return made.render_as_string(hide_password=False)

    def hang(self) -> None:
        """Take what comes, also new connections, and pass nothing on: nobody is told."""
        self._flowing.clear()

    def refuse(self) -> None:
        """Break every connection and refuse new ones."""
        self._close(self._listener)
        self._drop()

    def drop(self) -> None:
        """Break every connection; new ones are taken."""
        self._drop()

    def flow(self) -> None:
        """Forward again. What was hanging stays broken."""
        if not self._flowing.is_set():
            self._drop()
            self._flowing.set()
        if self._listener.fileno() == -1:
            self._listener = self._listen(self.port)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(self._listener)
        self._drop()
        self._flowing.set()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._socket_path)
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                sink.sendall(data)
        self._close(source)
        self._close(sink)

    def _drop(self) -> None:
        while self._open:
            self._close(self._open.pop())

    def _close(self, one: socket.socket) -> None:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
