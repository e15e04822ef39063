"""`batch.submit_job`: priced, decided, held, submitted once, and found again instead of bought again.

The vendor has no key that would make two equal submissions one, and its list shows a job only seconds later. So the
ledger says that a job is being asked for before it is, and whatever is not known of an earlier one is found out first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import aiohttp
from aiohttp import web

from budget_guard.decisions import deny
from budget_guard.errors import LedgerError, VendorError
from budget_guard.gateway.historical.answers import problem, refusal
from budget_guard.gateway.historical.following import Followed, Following
from budget_guard.gateway.historical.form import RangeRequest
from budget_guard.gateway.historical.jobs import Job, Jobs, job_id_in
from budget_guard.gateway.historical.passing import NOTE_HEADER
from budget_guard.gateway.historical.room import Room
from budget_guard.guard.download import RequestHold
from budget_guard.guard.purchases import Purchases
from budget_guard.ledger.batches import Submission
from budget_guard.ledger.model import Entry, Purchase

log = logging.getLogger(__name__)

# A client of the vendor's waits 100 s for an answer. So long a submission that was not answered is looked for.
FOUND_WITHIN_S = 30.0
# Another program that asks for the same job is waited for, and looked at so often.
OTHERS_WITHIN_S = 60.0
LOOK_AT_OTHERS_S = 0.5
# The vendor shows a job seconds after it was submitted; after so long one that it does not show is gone.
SHOWN_AFTER = timedelta(hours=1)
EXPIRED = "expired"


@dataclass(slots=True)
class _Asked:
    """A job that is about to be submitted."""

    wanted: RangeRequest
    hold: RequestHold
    purchase: Purchase


class _Unknown(Exception):
    """Nobody knows whether a job was sold."""


class Batch:
    """Submissions of one door. Belongs to one event loop."""

    def __init__(self, room: Room, purchases: Purchases, jobs: Jobs, following: Following) -> None:
        self._room = room
        self._purchases = purchases
        self._jobs = jobs
        self._following = following
        self._lines: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    @asynccontextmanager
    async def in_line(self, form: str) -> AsyncIterator[None]:
        """One submission of a form at a time: the second finds what the first has bought."""
        self._waiting[form] += 1
        try:
            async with self._lines.setdefault(form, asyncio.Lock()):
                yield
        finally:
            self._waiting[form] -= 1
            if not self._waiting[form]:
                del self._waiting[form], self._lines[form]

    # --- what was bought before ---------------------------------------------------------------------------

    async def find(self, wanted: RangeRequest, *, again: bool) -> web.Response | frozenset[str]:
        """The answer where the same job was bought before; else it may be bought, and these purchases were looked at.

        `again`: the policy lets a job be bought again, but for one of which nobody knows whether it was. Raises
        VendorError, LedgerError, Unknown.
        """
        form = wanted.canonical
        rows = await self._room.in_thread(partial(self._purchases.jobs, wanted.range.dataset, form))
        for row in reversed(rows):
            if row.state == "asked":
                known = await self._outcome_of(row)
                if known is None:
                    continue
                row = known
            if row.state != "bought" or not row.job_id or again:
                continue
            job = await self._shown(row)
            if job is not None and job.state != EXPIRED:
                return self._found(job)
        return frozenset(row.id for row in rows)

    async def _shown(self, row: Purchase) -> Job | None:
        """A bought job as the vendor shows it; None when it is gone. Raises VendorError, Unknown.

        One that was submitted a moment ago may not be shown yet, and is not gone for that.
        """
        time_s = asyncio.get_running_loop().time
        until_s = time_s() + FOUND_WITHIN_S
        while (job := await self._jobs.details(row.job_id)) is None:
            if self._room.guard.clock.now() - row.asked_utc >= SHOWN_AFTER:
                return None
            if time_s() >= until_s:
                raise _Unknown
            await asyncio.sleep(LOOK_AT_OTHERS_S)
        return job

    async def _outcome_of(self, row: Purchase) -> Purchase | None:
        """What became of a submission whose row says that it was asked; None: nothing was sold. Raises Unknown."""
        time_s = asyncio.get_running_loop().time
        began_s, adopted = time_s(), False
        while True:
            hold = await self._room.in_thread(partial(self._room.guard.ledger.hold, row.id))
            current = await self._current(row)
            if current.state != "asked":
                return current if current.state == "bought" else None
            if hold is None or hold.state in ("settled", "released"):
                return None  # closed by a decision, or never sent
            if self._following.get(row.id) is None and not adopted:
                adopted = True
                await self._following.adopt()
                # What dead programs had not committed to is given back.
                await self._room.in_thread(self._room.guard.aftercare.recover)
            if self._following.get(row.id) is not None:
                await self._following.look()
                current = await self._current(row)
                if current.state != "asked":
                    return current if current.state == "bought" else None
            limit_s = FOUND_WITHIN_S if self._following.get(row.id) is not None else OTHERS_WITHIN_S
            if time_s() - began_s >= limit_s:
                raise _Unknown
            await asyncio.sleep(LOOK_AT_OTHERS_S)

    async def _current(self, row: Purchase) -> Purchase:
        rows = await self._room.in_thread(partial(self._purchases.jobs, row.dataset, row.form))
        return next((one for one in rows if one.id == row.id), row)

    def _found(self, job: Job) -> web.Response:
        note = f"job {job.id} was bought before: it is given again and costs nothing"
        log.warning("%s", note)
        self._room.outcome.notes.append(note)
        return web.json_response(dict(job.told), headers={NOTE_HEADER: note})

    # --- submission ---------------------------------------------------------------------------------------

    async def submit(
        self, wanted: RangeRequest, hold: RequestHold, seen: frozenset[str]
    ) -> web.Response | None:
        """Ask for the job under a hold, once; None when another program did the same since `seen` was looked at."""
        try:
            asked = await self._ask_ledger(wanted, hold, seen)
        except LedgerError as error:
            hold.abandon()
            return refusal(deny("ledger_unavailable", str(error)), status=503)
        if asked is None:
            return None
        try:
            return await self._submit(asked)
        except BaseException:
            # Whatever went wrong, it may have been sold: somebody has to find out.
            if self._following.get(hold.terms.id) is None:
                self._follow(asked)
            raise

    async def _ask_ledger(
        self, wanted: RangeRequest, hold: RequestHold, seen: frozenset[str]
    ) -> _Asked | None:
        """Write that it is asked for, and see that nobody else does; then commit to it. Raises LedgerError.

        Each writes before it looks: of two that do so at once at least one sees the other, and steps back.
        """
        in_thread, form = self._room.in_thread, wanted.canonical
        purchase = await in_thread(partial(self._purchases.ask, hold.terms, wanted.range, form, "batch"))
        rows = await in_thread(partial(self._purchases.jobs, wanted.range.dataset, form))
        for row in rows:
            if row.id != purchase.id and await self._was_faster(row, seen):
                await in_thread(partial(self._purchases.renew, replace(purchase, state="refused")))
                await in_thread(hold.release)
                return None
        await in_thread(hold.activate)
        return _Asked(wanted, hold, purchase)

    async def _was_faster(self, row: Purchase, seen: frozenset[str]) -> bool:
        """Whether another program asks for the same job now, or has bought it since this one looked."""
        if row.state == "bought":
            return row.id not in seen
        if row.state != "asked":
            return False
        hold = await self._room.in_thread(partial(self._room.guard.ledger.hold, row.id))
        return hold is not None and hold.state in ("held", "active")

    async def _submit(self, asked: _Asked) -> web.Response:
        url = self._room.url("batch.submit_job")
        try:
            async with self._room.asked("POST", url, data=asked.wanted.form, paying=True) as answer:
                body = await self._room.said(answer)
        except aiohttp.ClientConnectorError as error:
            await self._close(asked, "the vendor could not be reached: nothing was sent")
            return problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            return await self._find_lost(asked, f"the answer to a submission was lost: {error}")
        headers = self._room.kept_headers(answer)
        job_id = job_id_in(body) if answer.status in (200, 206) else None
        if job_id is not None:
            await self._bought(asked, job_id)
            return web.Response(status=answer.status, body=body, headers=headers)
        if 400 <= answer.status < 500 and answer.status != 408:
            await self._close(asked, f"the vendor refused with {answer.status}")
            self._room.note_vendor_answer(answer.status, body)
            return web.Response(status=answer.status, body=body, headers=headers)
        return await self._find_lost(asked, f"a submission was answered with {answer.status} and no job")

    async def _bought(self, asked: _Asked, job_id: str) -> None:
        purchase = replace(asked.purchase, job_id=job_id, state="bought")
        try:
            await self._room.in_thread(partial(self._purchases.renew, purchase))
        except LedgerError as error:
            log.warning("job %s could not be recorded, and is looked up later: %s", job_id, error)
        self._follow(replace(asked, purchase=purchase))

    async def _close(self, asked: _Asked, note: str) -> None:
        """Nothing was sold."""
        settle = partial(asked.hold.settle, "exact", note=note)
        try:
            entry: Entry = await self._room.in_thread(settle)
        except LedgerError as error:
            asked.hold.abandon()
            log.error("a request stays held until the next start settles it: %s", error)
            return
        await self._room.in_thread(partial(self._purchases.close, asked.purchase, "refused", entry))
        self._room.outcome.entries.append(entry)

    async def _find_lost(self, asked: _Asked, why: str) -> web.Response:
        """The job may have been sold: look for it in the vendor's list, for as long as the client waits."""
        log.warning("%s: it is looked for in the vendor's list of jobs", why)
        followed = self._follow(asked)
        time_s = asyncio.get_running_loop().time
        until_s = time_s() + FOUND_WITHIN_S
        while time_s() < until_s:
            await self._following.look()
            if followed.purchase.state == "refused":
                break
            if followed.purchase.job_id:
                job = followed.job or await self._details(followed.purchase.job_id)
                if job is not None:
                    note = f"the answer was lost; job {job.id} was found in the vendor's list"
                    return web.json_response(dict(job.told), headers={NOTE_HEADER: note})
            await asyncio.sleep(LOOK_AT_OTHERS_S)
        return unknown(self._room, why)

    async def _details(self, job_id: str) -> Job | None:
        try:
            return await self._jobs.details(job_id)
        except VendorError:
            return None

    def _follow(self, asked: _Asked) -> Followed:
        followed = Followed(
            purchase=asked.purchase,
            form=asked.wanted.canonical,
            key_id=self._room.key_id,
            settle=asked.hold.settle_job,
            settle_quote=asked.hold.settle_quote,
            abandon=asked.hold.abandon,
            settled=asyncio.Event(),
        )
        self._following.add(followed)
        return followed

    def submission(self, wanted: RangeRequest) -> dict[str, str]:
        """What the hold of a submission says of it."""
        return Submission(wanted.canonical, self._room.key_id).details()


Unknown = _Unknown


def unknown(room: Room, why: str) -> web.Response:
    """Nobody knows yet whether a job was sold: it is not asked for again."""
    decision = deny(
        "outcome_unknown",
        f"{why}. Nobody knows yet whether the job was sold, so it is not submitted again: its price stays held and the "
        "guard goes on looking for it. The same request later gives the job if there is one",
    )
    room.outcome.refused.append(decision)
    # Not 504, of which the vendor's client shows a text of its own.
    return refusal(decision, status=503)
