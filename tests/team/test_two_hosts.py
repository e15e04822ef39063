"""Two hosts with folders of their own and one ledger in PostgreSQL never spend more than their one budget."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks.desk import NOW, Vendor, running_vendor
from budget_guard.clock import instant_text
from tests.team.hosts import Host
from tests.team.server import PASSWORD, team_server
from tests.team.story import Team, tell

LIMIT_USD = "0.30"


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with running_vendor(rate=0) as running:
        yield running


@pytest.fixture
def team(tmp_path: Path, vendor: Vendor) -> Iterator[Team]:
    server = team_server()
    database = server.make_database("guard")
    environment = {
        "DATABENTO_API_KEY": vendor.key,
        "BUDGET_GUARD_LEDGER": server.url(database, "guard"),
        "BUDGET_GUARD_LIVE_GATEWAY": vendor.live_gateway,
        "BUDGET_GUARD_HISTORICAL_GATEWAY": vendor.http_url,
        "BUDGET_GUARD_NOW": instant_text(NOW),
    }
    first, second = (Host.set_up(name, tmp_path / name, LIMIT_USD, environment) for name in ("alpha", "beta"))
    made = Team(vendor, server, database, LIMIT_USD, first, second)
    yield made
    made.close()


def test_two_hosts_never_spend_more_than_one_budget_though_one_is_killed_and_the_database_too(
    team: Team, tmp_path: Path
) -> None:
    """And what the killed host held stays held until that host settles it; both hosts see the same at the end."""
    told = tell(team, kill_first=True, kill_at=Decimal("0.2"), restart_at=Decimal("0.4"))
    assert [look for look in told.looks if not look.holds] == [], told.said
    assert told.left_behind
    assert (told.untouched, told.counted, told.agreed) == (True, True, True), told.said
    assert told.last.held_nano_usd == 0
    # Both were stopped by the limit, and the budget was all but used up: the rest is too little to end safely in.
    assert all(told.exits), told.said
    assert told.last.settled_nano_usd > told.last.limit_nano_usd // 2
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if PASSWORD.encode() in path.read_bytes()] == []
