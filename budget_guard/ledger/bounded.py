"""Connections to PostgreSQL that wait for an answer no longer than they are told to.

The server's own time-outs, and TCP's, say nothing where something in between takes what is sent and brings no
answer: a proxy that hangs, a network that was cut behind it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, event

from budget_guard.clock import uptime_ns

T = TypeVar("T")

# How long a round trip may take beyond the time that the server gives a statement.
MARGIN_S = 2.0
_NS = 10**9


class BoundedConnection(psycopg.Connection[Any]):
    """Breaks when one round trip takes longer than `answer_within_s`; 0 is without a bound."""

    answer_within_s = 0.0

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """The same steps, until it has taken too long. Waiting comes back here several times a second."""
        within_s = self.answer_within_s
        ends_ns = uptime_ns() + int(within_s * _NS)
        try:
            step = next(gen)
            while True:
                ready = yield step
                if not ready and within_s and uptime_ns() > ends_ns:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer from the server within {within_s:.0f} s")
                step = gen.send(ready)
        except StopIteration as done:
            value: T = done.value
            return value


def bound_waits(engine: Engine, answer_within_s: float) -> None:
    """Let every connection of an engine break when an answer takes longer than that."""

    def connect(_dialect: object, _record: object, args: list[Any], options: dict[str, Any]) -> Any:
        connection = BoundedConnection.connect(*args, **options)
        connection.answer_within_s = answer_within_s
        return connection

    def check_out(connection: BoundedConnection, _record: object, _proxy: object) -> None:
        connection.answer_within_s = answer_within_s

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "checkout", check_out)


def wait_for_ever(tx: Connection) -> None:
    """Lift the bound until the connection goes back to its pool."""
    connection = tx.connection.dbapi_connection
    assert isinstance(connection, BoundedConnection)
    connection.answer_within_s = 0.0
