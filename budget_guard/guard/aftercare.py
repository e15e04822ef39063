"""What is seen to after holds have ended: booking what could not be booked then, removing meters that were kept."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Lock

from budget_guard.clock import Clock
from budget_guard.errors import LedgerError
from budget_guard.ledger.machine import boot_id
from budget_guard.ledger.model import Ledger
from budget_guard.ledger.recovery import KEPT_S, recover_orphans

log = logging.getLogger(__name__)


class Aftercare:
    """Recovery for a program that runs on."""

    def __init__(self, ledger: Ledger, meter_dir: Path, *, host: str, clock: Clock, keep: bool) -> None:
        """`keep`: the ledger may lose its last commits, so meters outlive their bookings for a while."""
        self._ledger = ledger
        self._meter_dir = meter_dir
        self._host = host
        self._clock = clock
        self._keep = keep
        self._one_at_a_time = Lock()
        self._tidied_s = clock.monotonic_s()

    def recover(self) -> None:
        """Book what ended while the ledger was away, here or in programs that died. Never raises LedgerError."""
        if not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            self._tidied_s = self._clock.monotonic_s()
            found = recover_orphans(
                self._ledger,
                self._meter_dir,
                host=self._host,
                boot_id=boot_id(),
                clock=self._clock,
                keep=self._keep,
            )
        except LedgerError as error:
            log.warning("what could not be booked is booked at the next start: %s", error)
            return
        finally:
            self._one_at_a_time.release()
        for one in found:
            log.warning("%s", one.message)

    def tidy(self) -> None:
        """Now and then, look through the meters that were kept. Cheap to call after every settlement."""
        if self._keep and self._clock.monotonic_s() - self._tidied_s >= KEPT_S:
            self.recover()
