"""The gateway's process: `python -m budget_guard.streaming.aside DESCRIPTOR`, started by the program that it guards.

It ends when the program says so, and when the program is gone, however that ended: the line to it breaks, and its
process can be seen to have died. Then it ends and settles every connection. What is sent to the whole process group
(Ctrl-C, a service manager's SIGTERM) is for the program to answer; this process outlives it by the time it takes to
settle. PR_SET_PDEATHSIG would not do: it speaks of the thread that started this process, which may end before.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from threading import Lock

from budget_guard.streaming.aside.messages import Failed, Order, Ready, Said
from budget_guard.streaming.assembly import OpenGateway

_NOT_FOR_US = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Line:
    """The way to the program; any thread may send."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = Lock()

    def send(self, message: object) -> bool:
        """Whether it could be sent: the program may be gone."""
        with self._lock, suppress(OSError):
            self._connection.send(message)
            return True
        return False


class Forwarding(logging.Handler):
    """Says in the program's log what is said here; on stderr once the program is gone."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        said = Said(record.name, record.levelno, self.format(record), record.created)
        if not self._line.send(said):
            print(f"budget-guard: {said.text}", file=sys.stderr)


def serve(connection: Connection) -> None:
    """Open a gateway as ordered, and keep it open until the program is gone."""
    try:
        order = connection.recv()
    except (EOFError, OSError):
        return
    assert isinstance(order, Order)
    line = Line(connection)
    logging.root.addHandler(Forwarding(line))
    logging.root.setLevel(order.log_level)
    try:
        gateway = _open(order)
    except Exception as error:  # noqa: BLE001 - every failure is the program's to see
        line.send(Failed.of(error))
        return
    try:
        host = gateway.host
        tokens = {stream: host.token(stream) for stream in (None, *order.policy.streams)}
        if line.send(Ready(host.live_port, host.http_url, tokens)):
            _wait_for_end(connection, order.program_pid)
    finally:
        gateway.close()


def _open(order: Order) -> OpenGateway:
    from budget_guard.streaming.approval import ask_on_terminal
    from budget_guard.streaming.assembly import open_gateway

    settings = order.settings
    return open_gateway(order.policy, settings, settings.clock(), approve=ask_on_terminal)


def _wait_for_end(connection: Connection, program_pid: int) -> None:
    """Until the program says that it is done, or is gone: a fork of it may hold its end of the line all the same."""
    with ExitStack() as stack:
        watched = [connection.fileno()]
        with suppress(AttributeError, OSError):  # Linux 5.3 and later
            process = os.pidfd_open(program_pid)
            stack.callback(os.close, process)
            watched.append(process)
        if os.getppid() == program_pid:
            select.select(watched, [], [])


def main() -> None:
    from budget_guard.streaming.child import hide_own_environment

    for number in _NOT_FOR_US:
        signal.signal(number, signal.SIG_IGN)
    # The key is about to be in this process's memory.
    hide_own_environment()
    with Connection(int(sys.argv[1])) as connection:
        serve(connection)


if __name__ == "__main__":
    main()
