"""A ledger ready for use: opened, marked if this is a rehearsal, and with the holds of dead owners settled."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from budget_guard.clock import Clock
from budget_guard.errors import LedgerError
from budget_guard.ledger.backends import may_lose_commits, meter_directory
from budget_guard.ledger.machine import boot_id, host_name, network_file_system
from budget_guard.ledger.recovery import Recovered, recover_orphans
from budget_guard.ledger.store import SqlLedger, open_ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedLedger:
    """A ledger, the folder of its meters, this host's name, and what recovery found.

    `may_lose_commits` says that its server may come back from a failover without its last commits.
    """

    ledger: SqlLedger
    meter_dir: Path
    host: str
    recovered: tuple[Recovered, ...]
    may_lose_commits: bool = False


def open_for_use(
    url: str, data_dir: Path, *, clock: Clock, rehearsal: bool, spends_really: bool = False
) -> OpenedLedger:
    """Open a ledger and recover what dead owners on this machine left in it.

    `rehearsal` marks the ledger as one; `spends_really` says that real money will be booked in it. Raises
    LedgerError, also when a rehearsal and real spending would meet in one ledger.
    """
    ledger = open_ledger(url)
    try:
        if rehearsal:
            ledger.mark_rehearsal()
        elif spends_really and ledger.is_rehearsal():
            raise LedgerError(
                "this ledger is a rehearsal's (it was first used with BUDGET_GUARD_NOW): "
                "set BUDGET_GUARD_LEDGER to another one for real spending"
            )
        meters = meter_directory(url, data_dir)
        host = host_name()
        keep = may_lose_commits(url)
        _warn_of_network(meters)
        recovered = recover_orphans(ledger, meters, host=host, boot_id=boot_id(), clock=clock, keep=keep)
    except BaseException:
        ledger.close()
        raise
    return OpenedLedger(ledger, meters, host, tuple(recovered), keep)


def _warn_of_network(meters: Path) -> None:
    """Say that locks may mean nothing where the meters lie: beside the ledger when that is a file."""
    kind = network_file_system(meters)
    if kind is not None:
        log.warning(
            "the folder %s is on a network file system (%s), where locks and memory maps may not hold: keep a "
            "ledger in a file, and the meters of any ledger, on a local disk; for several machines use PostgreSQL "
            "(BUDGET_GUARD_LEDGER)",
            meters.parent,
            kind,
        )
