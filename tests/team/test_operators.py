"""A team's PostgreSQL as its operators meet it: roles and rights, TLS, and what is said when something is wrong."""

from __future__ import annotations

import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from budget_guard.clock import ManualClock
from budget_guard.errors import LedgerError, Refused
from budget_guard.guard.quote import Quote
from budget_guard.ledger.backends import backend_of
from budget_guard.ledger.model import Approval, Gap
from budget_guard.ledger.opening import open_for_use
from budget_guard.ledger.store import SqlLedger, open_ledger
from budget_guard.money import GIB
from budget_guard.pricing.model import UnitPrice
from budget_guard.settings import load_settings
from tests.guard.samples import ALLOWANCE, HISTORY, LIVE, NOW, STREAM, Desk, data_range, only_symbols
from tests.team.server import PASSWORD, TeamServer, free_port, team_server
from tests.team.tls import make_certificate, tls_before

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def server() -> TeamServer:
    return team_server()


@pytest.fixture
def database(server: TeamServer) -> str:
    """An empty database of the role `guard`."""
    return server.make_database("guard")


def use_everything(desk: Desk, ledger: SqlLedger) -> None:
    """All that guards, reviews and commands do with a ledger."""
    guard = desk.guard()
    live = guard.open_live(LIVE, connection_id="c1", allowance_bytes=ALLOWANCE)
    live.hold.activate()
    live.hold.count(1_000_000, 0, time.monotonic_ns())
    live.hold.renew()
    live.hold.finish("done", clean=True)
    quote = Quote(data_range(), GIB, UnitPrice(Decimal("1.80"), "vendor", "a list"), Decimal("1.80"))
    guard.open_request(HISTORY, STREAM, quote).release()
    assert not guard.decide_live(only_symbols("CL.v.0"), allowance_bytes=ALLOWANCE).allowed
    gap = Gap("g1", "desk", "nq-mbo", "GLBX.MDP3", "mbo", NOW, NOW, "", "reset")
    ledger.record_gap(gap)
    ledger.record_gap(gap)
    ledger.record_approval(Approval("a1", "desk", "account", "usd", 1, NOW, NOW, "a look", "me"))
    for read in (ledger.entries, ledger.refusals, ledger.gaps, ledger.overruns):
        read("desk", "2026-11")
    assert ledger.open_holds() == []


# --- roles and rights -----------------------------------------------------------------------------------------


def documented(heading: str) -> list[str]:
    """The SQL blocks under a heading of docs/operations.md."""
    section = OPERATIONS.read_text().split(f"### {heading}\n")[1].split("\n### ")[0].split("\n## ")[0]
    return re.findall(r"```sql\n(.*?)```", section, re.DOTALL)


@cache
def documented_roles() -> tuple[str, str, str]:
    """The database, its owner and its user that the documentation makes, made by its own words."""
    running = team_server()
    as_admin, as_owner, _ = documented("Roles and rights")
    with running.admin() as sql:
        for statement in as_admin.replace("'...'", f"'{PASSWORD}'").split(";"):
            if statement.strip():
                sql.execute(statement.encode())
    with psycopg.connect(running.url("ledger", "ledger_owner"), autocommit=True) as sql:
        sql.execute(as_owner.encode())
    return "ledger", "ledger_owner", "ledger_user"


def test_a_role_that_may_only_read_and_write_rows_runs_the_guard_once_the_owner_has_made_the_tables(
    server: TeamServer, tmp_path: Path
) -> None:
    """With the roles and rights that docs/operations.md lists, by its own words."""
    name, owner, user = documented_roles()
    with pytest.raises(LedgerError, match="open it once as its owner"):
        open_ledger(server.url(name, user))
    open_ledger(server.url(name, owner)).close()
    with psycopg.connect(server.url(name, owner), autocommit=True) as sql:
        sql.execute(documented("Roles and rights")[-1].encode())
    clock = ManualClock(NOW)
    opened = open_for_use(server.url(name, user), tmp_path, clock=clock, rehearsal=True)
    use_everything(Desk(opened.ledger, opened.meter_dir, clock), opened.ledger)
    assert opened.ledger.is_rehearsal()
    opened.ledger.close()
    # It may not do what only migrations do, nor take back what was written.
    with psycopg.connect(server.url(name, user), autocommit=True) as sql:
        for statement in (
            "DELETE FROM holds",
            "UPDATE entries SET cost_nano_usd = 0",
            "UPDATE meta SET value = '9' WHERE name = 'version'",
            "TRUNCATE claims",
            "ALTER TABLE entries DISABLE TRIGGER ALL",
            "DROP TABLE meta",
            "CREATE TABLE extra (x INTEGER)",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RaiseException)):
                sql.execute(statement)


@pytest.mark.parametrize(
    "right", ["SELECT ON balances", "INSERT ON holds", "UPDATE ON balances", "USAGE ON SCHEMA public"]
)
def test_a_missing_right_is_named_with_what_to_do(
    server: TeamServer, database: str, right: str, tmp_path: Path
) -> None:
    user = f"user_{database}"
    open_ledger(server.url(database, "guard")).close()
    server.make_role(user)
    with server.admin(database) as sql:
        sql.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {user}")
        sql.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {user}")
        sql.execute(f"REVOKE {right} FROM {user}, PUBLIC".encode())
    with pytest.raises(
        (LedgerError, Refused), match=r"rights that docs/operations\.md lists \((permission denied|no schema)"
    ):
        open_and_use(server.url(database, user), tmp_path)


def open_and_use(url: str, folder: Path) -> None:
    ledger = open_ledger(url)
    try:
        use_everything(Desk(ledger, folder / "meters", ManualClock(NOW)), ledger)
    finally:
        ledger.close()


def test_every_commit_is_on_the_servers_disk_whatever_the_role_says(
    server: TeamServer, database: str
) -> None:
    """A role that asks for less gets `on`; one that asks for more, as for standbys that have applied it, keeps it."""
    found = {}
    for asked in ("off", "local", "remote_write", "on", "remote_apply"):
        with server.admin() as sql:
            sql.execute(f"ALTER ROLE guard IN DATABASE {database} SET synchronous_commit = {asked}")
        ledger = open_ledger(server.url(database, "guard"))
        found[asked] = ledger._read(lambda tx: tx.exec_driver_sql("SHOW synchronous_commit").scalar())
        ledger.close()
    assert found == {
        "off": "on",
        "local": "on",
        "remote_write": "remote_write",
        "on": "on",
        "remote_apply": "remote_apply",
    }


def test_the_queries_to_watch_a_ledger_by_run(server: TeamServer, database: str) -> None:
    open_ledger(server.url(database, "guard")).close()
    queries = documented("What to watch")
    assert len(queries) >= 3
    with psycopg.connect(server.url(database, "guard")) as sql:
        for query in queries:
            sql.execute(query.encode()).fetchall()


# --- TLS ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(server: TeamServer, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes the end of a ledger's URL, of a server with a certificate for `localhost`."""
    if shutil.which("openssl") is None:
        pytest.skip("TLS IS NOT TESTED: there is no openssl program to make a certificate with")
    certificate, key = make_certificate(tmp_path / "server", "localhost")
    with tls_before(server.port, certificate, key) as port:
        yield lambda host: f"{host}:{port}/{{database}}?sslmode=verify-full&sslrootcert={{root}}"


def tls_url(end: str, database: str, root: Path) -> str:
    return f"postgresql://guard:{PASSWORD}@" + end.format(database=database, root=root)


def test_a_ledger_is_kept_over_tls_with_the_servers_name_proved(
    tls: Callable[[str], str], database: str, tmp_path: Path
) -> None:
    url = tls_url(tls("localhost"), database, tmp_path / "server" / "server.crt")
    ledger = open_ledger(url)
    with ledger._backend.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.pgconn.ssl_in_use
    use_everything(Desk(ledger, tmp_path / "meters", ManualClock(NOW)), ledger)
    ledger.close()


@pytest.mark.parametrize("wrong", ["another name", "another certificate", "no such file"])
def test_a_server_that_does_not_prove_its_name_is_not_spoken_to(
    tls: Callable[[str], str], database: str, tmp_path: Path, wrong: str
) -> None:
    root = {
        "another name": tmp_path / "server" / "server.crt",
        "another certificate": make_certificate(tmp_path / "other", "localhost")[0],
        "no such file": tmp_path / "none.crt",
    }[wrong]
    host = "127.0.0.1" if wrong == "another name" else "localhost"
    with pytest.raises(
        LedgerError, match="check sslmode, sslrootcert and the server's certificate"
    ) as caught:
        open_ledger(tls_url(tls(host), database, root))
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_a_server_without_tls_is_not_spoken_to_where_the_url_asks_for_it(
    server: TeamServer, database: str
) -> None:
    with pytest.raises(LedgerError, match="as safely as the URL asks"):
        open_ledger(server.url(database, "guard", options="?sslmode=require"))


# --- what is said, and what is never said ---------------------------------------------------------------------

SECRET = "hush-Hush/9?#[1"


def troubles(server: TeamServer, database: str) -> dict[str, tuple[str, str]]:
    """URLs that lead nowhere, with a word of what is said."""
    escaped = SECRET.replace("/", "%2F").replace("?", "%3F").replace("#", "%23").replace("[", "%5B")
    place = f"{server.address}:{server.port}"
    return {
        "wrong password": (
            f"postgresql://guard:{escaped}@{place}/{database}",
            "check the user and the password",
        ),
        "wrong password, written raw": (
            f"postgresql://guard:{SECRET}@{place}/{database}",
            "check the user and the pass",
        ),
        "no such role": (
            f"postgresql://stranger:{escaped}@{place}/{database}",
            "check the user and the password",
        ),
        "no such database": (server.url("nowhere", "guard"), "create the database first"),
        "nobody listens": (
            f"postgresql://guard:{escaped}@{server.address}:{free_port(server.address)}/{database}",
            "check that the server runs",
        ),
        "no such host": (
            f"postgresql://guard:{escaped}@no-such-host.invalid/{database}",
            "check that the server runs",
        ),
        "an @ in the password": (
            f"postgresql://guard:{PASSWORD}@{SECRET}@{place}/{database}",
            "write @ as %40",
        ),
        "password as an option": (
            f"postgresql://{place}/{database}?user=guard&password={escaped}",
            "check the user and the password",
        ),
        "a port that is none": (
            f"postgresql://guard:{escaped}@{server.address}:54x/{database}",
            "URL is not one",
        ),
        "an unknown option": (server.url(database, "guard", options="?nonsense=1"), "nonsense"),
    }


NAMES = sorted(troubles(TeamServer(Path(), "127.0.0.1", 1, Path(), None), "x"))


def leaks(text: str) -> list[str]:
    """The secrets, and tell-tale parts of them, that stand in a text."""
    return [
        secret for secret in (PASSWORD, SECRET, "hush", "Hush", "harbour") if secret.lower() in text.lower()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_trouble_says_what_to_do_and_never_the_password(server: TeamServer, database: str, name: str) -> None:
    url, says = troubles(server, database)[name]
    with pytest.raises(LedgerError) as caught:
        open_ledger(url)
    assert says in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))
    assert leaks(re.sub(r'File ".*?".*\n.*\n', "", told)) == []


def test_a_role_without_the_right_to_connect_and_a_full_server_are_told_apart(
    server: TeamServer, database: str
) -> None:
    user = f"kept_out_of_{database}"
    server.make_role(user)
    with server.admin() as sql:
        sql.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    with pytest.raises(LedgerError, match="may not be used like this by this role"):
        open_ledger(server.url(database, user))
    with server.admin() as sql:
        sql.execute(f"GRANT CONNECT ON DATABASE {database} TO {user}")
        sql.execute(f"ALTER ROLE {user} CONNECTION LIMIT 0")
    with pytest.raises(LedgerError, match="max_connections"):
        open_ledger(server.url(database, user))


def test_nothing_that_knows_the_password_shows_it(server: TeamServer, database: str, tmp_path: Path) -> None:
    for url in (
        server.url(database, "guard"),
        f"postgresql://{server.address}:{server.port}/{database}?user=guard&password={PASSWORD}",
    ):
        opened = open_for_use(url, tmp_path, clock=ManualClock(NOW), rehearsal=True)
        settings = load_settings(
            {"BUDGET_GUARD_LEDGER": url, "DATABENTO_API_KEY": "db-a-very-secret-key-of-mine"}
        )
        shown = (opened, opened.ledger, opened.ledger.place, opened.meter_dir, backend_of(url), settings)
        assert leaks(" ".join(f"{thing!r} {thing}" for thing in shown)) == []
        assert "db-a-very-secret-key-of-mine" not in f"{settings!r} {settings}"
        assert make_url(url).render_as_string(hide_password=False).count(PASSWORD) == 1
        opened.ledger.close()
