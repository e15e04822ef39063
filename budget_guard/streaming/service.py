"""A gateway that runs for others until it is told to end: it waits for the ledger, says where it is, hears signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from budget_guard.errors import LedgerAway
from budget_guard.streaming.assembly import OpenGateway

# How often a ledger is tried again that cannot be reached when the service starts.
TRY_LEDGER_EVERY_S = 5.0
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def open_patiently(
    open_it: Callable[[], OpenGateway], *, say: Callable[[str], None], pause: Callable[[float], None]
) -> OpenGateway:
    """What `open_it` opens, as soon as the ledger can be reached. Raises everything but LedgerAway."""
    said = ""
    while True:
        try:
            return open_it()
        except LedgerAway as error:
            if str(error) != said:
                said = str(error)
                say(f"{said}; it is tried again every {TRY_LEDGER_EVERY_S:.0f} s")
            pause(TRY_LEDGER_EVERY_S)


def facts(gateway: OpenGateway, host: str) -> dict[str, Any]:
    """Where a gateway listens, for programs."""
    shown = f"[{host}]" if ":" in host else host
    http_port = urlsplit(gateway.host.http_url).port
    return {
        "pid": os.getpid(),
        "policy": gateway.opened.guard.policy.name,
        "host": host,
        "live_port": gateway.host.live_port,
        "http_port": http_port,
        "live_gateway": f"{shown}:{gateway.host.live_port}",
        "http_url": f"http://{shown}:{http_port}",
    }


@contextlib.contextmanager
def announced(found: dict[str, Any], path: Path | None) -> Iterator[None]:
    """While it lasts, a file says where the gateway is. It is there, and whole, only when that is true."""
    if path is None:
        yield
        return
    passing = path.with_name(f"{path.name}.{os.getpid()}")
    passing.write_text(json.dumps(found) + "\n", encoding="utf-8")
    passing.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


class Ending:
    """Signals that end a service: the first asks for an orderly end, the second hurries, the third ends it at once."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._heard = 0
        self._reading, self._writing = os.pipe()

    def wait(self) -> None:
        """Until the first of them."""
        os.read(self._reading, 1)

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        self._heard += 1
        if self._heard == 1:
            os.write(self._writing, b".")
            return
        self._hurry()
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


@contextlib.contextmanager
def ended_by_signals(hurry: Callable[[], None]) -> Iterator[Ending]:
    """While it lasts, signals end the service in order. One that is ignored, as under `nohup`, stays ignored."""
    ending = Ending(hurry)
    numbers = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ending.hear) for number in numbers}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        ending.close()


def tell_manager(state: str) -> None:
    """Tell the service manager that started this process how it stands, as `READY=1` (sd_notify(3)), if it asked."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect("\0" + address[1:] if address.startswith("@") else address)
        notifier.sendall(state.encode())
