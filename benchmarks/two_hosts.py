"""Two hosts, one budget, one PostgreSQL, and a network between them: `python -m benchmarks.two_hosts` (as root).

Each host has a network namespace, a host name and folders of its own; vendor and database are reached over links
between them. In every round both hosts stream at full speed. One of them is killed with SIGKILL in mid-stream, the
database is crashed and restarted, the survivor goes on until it is stopped, and the dead host comes back. At every
look in between the vendor's bill must be covered by the ledger, and the ledger must not be past the limit.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.desk import Vendor, running_vendor
from budget_guard.money import decimal_text, usd_from_nano
from tests.team.hosts import Host
from tests.team.server import TeamServer, serve
from tests.team.story import Team, Told, tell

NAMES = ("alpha", "beta")
# Private addresses that little else uses: each host has a link of its own to where vendor and database are.
_NETWORK = "10.231.{number}.{end}"
CENTRE = _NETWORK.format(number=0, end=1)


@contextmanager
def separate_hosts() -> Iterator[dict[str, tuple[str, ...]]]:
    """The command that leads into each host. Raises CalledProcessError where namespaces may not be made."""
    mark = os.getpid()
    spaces = {name: f"bg-{name}-{mark}" for name in NAMES}
    try:
        for number, space in enumerate(spaces.values()):
            _link(space, f"bg{number}-{mark}", number)
        yield {
            name: ("ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", _RENAMED, name)
            for name, space in spaces.items()
        }
    finally:
        for space in spaces.values():
            # The link goes with its namespace.
            subprocess.run(["ip", "netns", "delete", space], stderr=subprocess.DEVNULL)


_RENAMED = 'hostname "$0" && exec "$@"'


def _link(space: str, device: str, number: int) -> None:
    """A namespace with a link to this one, and a way to `CENTRE` over it."""
    here, there = (_NETWORK.format(number=number, end=end) for end in (1, 2))
    for command in (
        f"ip netns add {space}",
        f"ip link add {device} type veth peer name eth0 netns {space}",
        f"ip address add {here}/30 dev {device}",
        f"ip link set {device} up",
        f"ip -n {space} address add {there}/30 dev eth0",
        f"ip -n {space} link set lo up",
        f"ip -n {space} link set eth0 up",
        f"ip -n {space} route add default via {here}",
    ):
        subprocess.run(command.split(), check=True)


def play(
    number: int,
    server: TeamServer,
    vendor: Vendor,
    folder: Path,
    prefixes: dict[str, tuple[str, ...]],
    chance: random.Random,
    limit_usd: str,
) -> Told:
    """One round with a database and folders of its own."""
    database = server.make_database("guard")
    environment = {
        "DATABENTO_API_KEY": vendor.key,
        "BUDGET_GUARD_LEDGER": server.url(database, "guard"),
        "BUDGET_GUARD_LIVE_GATEWAY": vendor.live_gateway,
        "BUDGET_GUARD_HISTORICAL_GATEWAY": vendor.http_url,
    }
    first, second = (
        Host.set_up(name, folder / str(number) / name, limit_usd, environment, prefixes[name])
        for name in NAMES
    )
    team = Team(vendor, server, database, limit_usd, first, second)
    try:
        kill_at = Decimal(chance.randrange(5, 60)) / 100
        return tell(team, kill_first=number % 2 == 1, kill_at=kill_at, restart_at=kill_at + Decimal("0.1"))
    finally:
        team.close()


def play_all(times: int, seed: int, limit_usd: str, folder: Path) -> Iterator[Told]:
    """That many rounds, one by one; the same seed draws the same moments."""
    chance = random.Random(seed)
    with separate_hosts() as prefixes, running_vendor(rate=0, host=CENTRE, now=None) as vendor:
        server = serve(CENTRE)
        server.make_role("guard")
        for number in range(1, times + 1):
            yield play(number, server, vendor, folder, prefixes, chance, limit_usd)


def main() -> int:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(
        description="Two hosts with one budget; one is killed, the database too."
    )
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", default="0.30", help="USD a month, for both hosts together")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print(
            "benchmarks.two_hosts: SKIPPED, nothing was measured: network namespaces need root. "
            "tests/team/test_two_hosts.py plays the same with processes and folders alone.",
            file=sys.stderr,
        )
        return 0
    table = Table(title=f"two hosts, one budget, seed {options.seed}; USD")
    for name in (
        "round",
        "killed",
        "looks",
        "bill",
        "ledger",
        "limit",
        "least cover",
        "bill <= ledger <= limit",
    ):
        table.add_column(name, justify="left" if name == "killed" else "right")
    good = True
    with TemporaryDirectory() as folder:
        for number, told in enumerate(play_all(options.times, options.seed, options.limit, Path(folder)), 1):
            good = good and told.holds
            table.add_row(*_row(number, told))
            if not told.holds:
                print(told.said, file=sys.stderr)
    Console(width=130).print(table)
    return 0 if good else 1


def _row(number: int, told: Told) -> list[str]:
    last = told.last
    cover = min(look.ledger_nano_usd - look.bill_nano_usd for look in told.looks if look.bill_nano_usd)
    return [
        str(number),
        f"{told.killed}, then PostgreSQL",
        str(len(told.looks)),
        f"{last.bill_nano_usd / 10**9:.6f}",
        f"{usd_from_nano(last.ledger_nano_usd):.6f}",
        decimal_text(usd_from_nano(last.limit_nano_usd)),
        f"{cover / 10**9:.6f}",
        "yes" if told.holds else "NO",
    ]


if __name__ == "__main__":
    sys.exit(main())
