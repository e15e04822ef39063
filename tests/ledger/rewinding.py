"""A database server that comes back from a failover without its last commits."""

from __future__ import annotations

import psycopg
from sqlalchemy import make_url

from tests.postgres import admin_url


class Rewindable:
    """A database of the tests' server that can be put back to how it was when `keep` was last called."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._name = str(make_url(url).database)

    def keep(self) -> None:
        """Remember the database as it is."""
        self._run(
            f"DROP DATABASE IF EXISTS {self._name}_kept",
            self._end_sessions(),
            f"CREATE DATABASE {self._name}_kept TEMPLATE {self._name} STRATEGY file_copy",
        )

    def rewind(self) -> None:
        """Lose every commit since `keep`, and every connection."""
        self._run(
            f"DROP DATABASE {self._name} WITH (FORCE)",
            f"ALTER DATABASE {self._name}_kept RENAME TO {self._name}",
        )

    def _end_sessions(self) -> str:
        return f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self._name}'"

    def _run(self, *statements: str) -> None:
        url = admin_url().set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as sql:
            for statement in statements:
                sql.execute(statement.encode())
