"""Follows the batch jobs whose bill is not known yet, until the vendor says what it is, or that there is none.

A job is sold when it is submitted. Its hold stays open until the vendor has said what it billed: at once while this
process runs, else when the next one starts. Nothing but the vendor's word closes it, and money is given back for one
reason only: its list of jobs, looked at long after the submission with the same key, has no such job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from budget_guard.clock import instant_text
from budget_guard.errors import LedgerError, VendorError
from budget_guard.gateway.historical.jobs import Job, Jobs
from budget_guard.gateway.historical.room import Room
from budget_guard.guard.orphans import Orphan, find_orphans
from budget_guard.guard.purchases import Purchases
from budget_guard.ledger.batches import Billed, submission_of
from budget_guard.ledger.model import Entry, Purchase

log = logging.getLogger(__name__)

# How far the vendor's clock and this machine's may be apart, and how long a submission may have been on its way.
SKEW = timedelta(minutes=15)
# A job that was received so long before is another one's, however wrong a clock is.
LISTED_SINCE = timedelta(days=1)
# The list shows a job seconds after it was submitted. One that it does not show after so long was never sold.
NOT_SOLD_AFTER = timedelta(hours=1)
# A job that is not done after so long counts as what was quoted.
QUOTED_AFTER = timedelta(hours=24)
FIRST_LOOK_S = 0.3
SLOWEST_LOOK_S = 30.0
LAST_LOOK_S = 3.0


@dataclass(slots=True)
class Followed:
    """A purchase whose bill is not known, and how its hold is closed. `settled` is set when it is."""

    purchase: Purchase
    form: str
    key_id: str
    settle: Callable[[Billed, str], Entry]
    settle_quote: Callable[[str], Entry]
    abandon: Callable[[], None]
    settled: asyncio.Event
    job: Job | None = None
    said: str = ""  # what the log said of it last


class Following:
    """Belongs to one event loop, from `start` to `stop`."""

    def __init__(self, room: Room, purchases: Purchases, jobs: Jobs) -> None:
        self._room = room
        self._purchases = purchases
        self._jobs = jobs
        self._followed: dict[str, Followed] = {}
        self._new = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._stopping = False

    async def start(self) -> None:
        """Take over what dead processes left, and follow it."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look once more, then leave what is open to the next start."""
        self._stopping = True
        self._new.set()
        if self._task is not None:
            # What is being booked is booked; an answer that does not come is not waited for.
            await asyncio.wait([self._task], timeout=LAST_LOOK_S)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for one in self._followed.values():
            log.warning(
                "%s: its hold stays open, and the next guard that runs settles it",
                _told(one),
            )
            one.abandon()
        self._followed.clear()

    def add(self, followed: Followed) -> None:
        """Follow one more."""
        self._followed[followed.purchase.id] = followed
        self._new.set()

    def get(self, purchase_id: str) -> Followed | None:
        """One that is followed by this process."""
        return self._followed.get(purchase_id)

    async def look(self) -> None:
        """Ask the vendor about everything that is followed, once."""
        async with self._looking:
            for one in list(self._followed.values()):
                if one.settled.is_set():
                    continue
                try:
                    await self._look_at(one)
                except (VendorError, LedgerError) as error:
                    _say(one, str(error))

    async def adopt(self) -> None:
        """Take over what dead processes of this account left open."""
        guard = self._room.guard
        try:
            orphans = await self._room.in_thread(
                partial(find_orphans, guard, self._room.account, frozenset(self._followed))
            )
        except LedgerError as error:
            log.warning("batch jobs of dead programs cannot be looked up: %s", error)
            return
        for orphan in orphans:
            self.add(self._follow_orphan(orphan))

    # --- inside -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self.adopt()
        wait_s = FIRST_LOOK_S
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("looking for batch jobs failed")
            if self._stopping:
                return
            try:
                async with asyncio.timeout(wait_s if self._followed else None):
                    await self._new.wait()
                wait_s = FIRST_LOOK_S
            except TimeoutError:
                wait_s = min(SLOWEST_LOOK_S, wait_s * 1.5)
            self._new.clear()

    async def _look_at(self, one: Followed) -> None:
        now = self._room.guard.clock.now()
        if not one.purchase.job_id:
            await self._find(one, now)
            if not one.purchase.job_id:
                return
        job = await self._jobs.details(one.purchase.job_id)
        one.job = job or one.job
        if job is not None and job.billed is not None:
            await self._close(one, partial(one.settle, job.billed, f"batch job {job.id}"), "bought")
        elif now - one.purchase.asked_utc >= QUOTED_AFTER:
            why = "is not shown by the vendor" if job is None else "is not done"
            note = f"batch job {one.purchase.job_id} {why}: settled at its quote"
            await self._close(one, partial(one.settle_quote, note), "bought")

    async def _find(self, one: Followed, now: datetime) -> None:
        """Look for the job of a submission that was never answered."""
        if one.key_id != self._room.key_id:
            _say(one, "only the key that submitted it sees its job")
            return
        rows = await self._room.in_thread(partial(self._purchases.of, one.purchase.dataset))
        known = frozenset(row.job_id for row in rows if row.job_id)
        asked = one.purchase.asked_utc
        jobs = await self._jobs.of_form(one.form, known, asked - LISTED_SINCE)
        near = [job for job in jobs if abs(job.received_utc - asked) <= SKEW]
        if near:
            job = min(near, key=lambda found: abs(found.received_utc - asked))
            told = _told(one)
            one.purchase = replace(one.purchase, job_id=job.id, state="bought")
            await self._room.in_thread(partial(self._purchases.renew, one.purchase))
            log.warning("%s was sold all the same, as %s: it is not bought again", told, job.id)
        elif not jobs and now - asked >= NOT_SOLD_AFTER:
            note = f"never sold: the vendor's list of {instant_text(now)} has no such job"
            await self._close(one, partial(one.settle, Billed(0, 0), note), "refused")
        elif jobs:
            _say(
                one, f"the vendor has {jobs[0].id} and no job of that time: see `budget-guard ledger resolve`"
            )

    async def _close(self, one: Followed, settle: Callable[[], Entry], state: str) -> None:
        entry = await self._room.in_thread(settle)
        await self._room.in_thread(partial(self._purchases.close, one.purchase, state, entry))
        one.purchase = replace(one.purchase, state=state)
        self._followed.pop(one.purchase.id, None)
        self._room.outcome.entries.append(entry)
        one.settled.set()

    def _follow_orphan(self, orphan: Orphan) -> Followed:
        said = submission_of(orphan.hold.terms)
        assert said is not None
        return Followed(
            purchase=orphan.purchase,
            form=said.form,
            key_id=said.key_id,
            settle=orphan.settle,
            settle_quote=orphan.settle_quote,
            abandon=orphan.abandon,
            settled=asyncio.Event(),
        )


def _say(one: Followed, text: str) -> None:
    """Once, until there is something else to say."""
    if text != one.said:
        one.said = text
        log.warning("%s: %s", _told(one), text)


def _told(one: Followed) -> str:
    purchase = one.purchase
    job = f"job {purchase.job_id}" if purchase.job_id else "a job whose submission was not answered"
    return f"{job} ({purchase.schema} of {purchase.dataset}, asked for at {instant_text(purchase.asked_utc)})"
