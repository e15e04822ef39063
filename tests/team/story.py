"""Two hosts spend one budget at full speed; one of them is killed, and so is the database. Looks are taken throughout.

A look reads the vendor's bill first and the ledger after it: what is billed by then must be covered by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from benchmarks.desk import Vendor
from tests.team.hosts import TIMEOUT_S, Host, Program
from tests.team.server import TeamServer

_BALANCE = "SELECT coalesce(sum(settled), 0)::bigint, coalesce(sum(held), 0)::bigint FROM balances WHERE unit = 'usd'"


@dataclass(frozen=True, slots=True)
class Look:
    """Bill and ledger at one moment, since the story began; money in nano-USD, the bill exact."""

    moment: str
    bill_nano_usd: Decimal
    settled_nano_usd: int
    held_nano_usd: int
    limit_nano_usd: int

    @property
    def ledger_nano_usd(self) -> int:
        return self.settled_nano_usd + self.held_nano_usd

    @property
    def holds(self) -> bool:
        return self.bill_nano_usd <= self.ledger_nano_usd <= self.limit_nano_usd


@dataclass
class Team:
    """One vendor, one database, hosts with a budget in common."""

    vendor: Vendor
    server: TeamServer
    database: str
    limit_usd: str
    first: Host  # its guard is `budget-guard run`
    second: Host  # its guard is `budget_guard.Live`
    looks: list[Look] = field(default_factory=list)
    billed_before: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        self.billed_before = Decimal(self.vendor.bill()["cost_usd"])

    def look(self, moment: str) -> Look:
        """Take a look, and keep it if anything has changed."""
        bill = Decimal(self.vendor.bill()["cost_usd"]) - self.billed_before
        settled, held = self.rows(_BALANCE)[0]
        look = Look(moment, bill * 10**9, settled, held, int(Decimal(self.limit_usd) * 10**9))
        if not self.looks or look != self.looks[-1]:
            self.looks.append(look)
        return look

    def look_until(self, moment: str, reached: Callable[[Look], object]) -> Look:
        """Look again and again until something is so. Raises TimeoutError."""
        deadline = time.monotonic() + TIMEOUT_S
        while not reached(look := self.look(moment)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{moment}: {look}; {self.errors()}")
        return look

    def claims(self, host: Host) -> list[tuple[Any, ...]]:
        """Everything that the ledger says of the money that a host holds open."""
        return self.rows(
            "SELECT h.id, h.state, h.version, c.settled, c.held FROM holds h JOIN claims c ON c.hold_seq = h.seq "
            f"WHERE h.state IN ('held', 'active') AND h.host = '{host.name}' AND h.mode = 'live' "
            "ORDER BY h.seq, c.balance_seq"
        )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query finds, on a fresh connection: the server may have been restarted."""
        with self.server.admin(self.database) as sql:
            return sql.execute(query.encode()).fetchall()

    def open_lines(self) -> int:
        """Connections that the vendor still has."""
        return sum(line["closed_utc"] is None for line in self.vendor.bill()["connections"])

    def errors(self) -> str:
        return "\n".join(program.said for host in (self.first, self.second) for program in host.programs)

    def close(self) -> None:
        self.first.close()
        self.second.close()


@dataclass(frozen=True, slots=True)
class Told:
    """What a story came to."""

    killed: str
    looks: tuple[Look, ...]
    left_behind: int  # claims of the dead host's holds
    untouched: bool  # nobody moved the dead host's holds until it came back
    counted: bool  # the living host's status showed them, held
    agreed: bool  # at the end both hosts see the same, and nothing is held
    exits: tuple[int, ...]
    said: str

    @property
    def last(self) -> Look:
        return self.looks[-1]

    @property
    def holds(self) -> bool:
        return all(look.holds for look in self.looks) and self.untouched and self.counted and self.agreed


def tell(team: Team, *, kill_first: bool, kill_at: Decimal, restart_at: Decimal) -> Told:
    """Stream on both hosts, kill one as the bill reaches a part of the limit, and the database soon after.

    The survivor goes on until it is cut; then the dead host comes back, settles what it left, and spends the rest.
    """
    limit = Decimal(team.limit_usd) * 10**9
    running = [team.first.start_run(), team.second.start_live()]
    for program in running:
        program.await_ready()
    for program in running:
        program.go()
    dead, alive = (team.first, team.second) if kill_first else (team.second, team.first)
    victim, survivor = running if kill_first else reversed(running)
    team.look_until("streaming", lambda _: team.claims(dead) and team.claims(alive))
    team.look_until("streaming", lambda look: look.bill_nano_usd >= limit * kill_at or _ended(victim))
    victim.kill()
    team.look_until("killed", lambda look: look.bill_nano_usd >= limit * restart_at or _ended(survivor))
    team.server.restart("immediate")
    # Only now: what the victim had sent just before its death may have been committed just after it.
    left_behind = team.claims(dead)
    team.look_until("restarted", lambda _: _ended(survivor))
    survivor.close()
    seen = alive.status()
    untouched = team.claims(dead) == left_behind
    counted = [row["hold"] for row in seen["connections"]] == list(
        dict.fromkeys(row[0] for row in left_behind)
    )
    team.look("survivor cut")
    back = _come_back(team, dead, kill_first=kill_first)
    team.look_until("everything ended", lambda _: _ended(back) and team.open_lines() == 0)
    back.close()
    with ThreadPoolExecutor() as both:
        first, second = both.map(Host.status, (team.first, team.second))
    team.look("at the end")
    agreed = first["budgets"] == second["budgets"] and first["connections"] == second["connections"] == []
    exits = tuple(program.process.returncode for program in (survivor, back))
    return Told(
        dead.name, tuple(team.looks), len(left_behind), untouched, counted, agreed, exits, team.errors()
    )


def _come_back(team: Team, host: Host, *, kill_first: bool) -> Program:
    program = host.start_run() if kill_first else host.start_live()
    program.await_ready()
    team.look("dead host back")
    program.go()
    return program


def _ended(program: Program) -> bool:
    return program.process.poll() is not None
