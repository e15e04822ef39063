"""Batch jobs as the vendor tells of them, and the questions about them: free, and asked no faster than allowed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from budget_guard.errors import VendorUnavailable
from budget_guard.gateway.historical.form import FormError, canonical_of_job
from budget_guard.gateway.historical.room import Room
from budget_guard.ledger.batches import Billed
from budget_guard.money import nano_from_usd, usd_from_vendor
from budget_guard.vendor.errors import error_from_answer, not_understood

# Every state that the vendor's client knows: a job that has expired was sold too.
_STATES = "queued,processing,done,expired"
GONE = (404, 410)
ANSWER_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `form` is its request in canonical form, empty when that cannot be read; `billed` None: not known yet."""

    id: str
    state: str
    received_utc: datetime
    form: str
    billed: Billed | None
    told: Mapping[str, Any]


def parse_job(row: Any) -> Job:
    """A job from the vendor's details of it. Raises VendorUnavailable for what is none."""
    try:
        job_id, state = str(row["id"]), str(row["state"])
        received = _instant(row["ts_received"])
        billed = _billed(row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise not_understood(f"a batch job: {error!r}") from None
    try:
        form = canonical_of_job(row)
    except FormError:
        form = ""
    return Job(job_id, state, received, form, billed, row)


def job_id_in(body: bytes) -> str | None:
    """The id in the answer to a submission; None when it says nothing of a job."""
    try:
        found = json.loads(body)["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) and found else None


def _billed(row: Mapping[str, Any]) -> Billed | None:
    size, cost = row.get("billed_size"), row.get("cost_usd")
    if size is None or cost is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError(f"a billed size of {size!r}")
    return Billed(size, max(0, nano_from_usd(usd_from_vendor(cost))))


def _instant(text: str) -> datetime:
    """To the microsecond; the vendor writes nanoseconds."""
    head, point, rest = text.removesuffix("Z").partition(".")
    fraction, zone = rest[:6], rest[9:]
    instant = datetime.fromisoformat(f"{head}{point}{fraction}{zone}")
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


class Jobs:
    """The vendor's list of this key's jobs. What a job asked for never changes, and is asked once."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._forms: dict[str, str] = {}

    async def details(self, job_id: str) -> Job | None:
        """A job as it stands; None when the vendor has it no more. Raises VendorError."""
        answer = await self._ask("batch.get_job_details", {"job_id": job_id}, GONE)
        if answer is None:
            return None
        job = parse_job(answer)
        self._forms[job.id] = job.form
        return job

    async def of_form(self, form: str, besides: frozenset[str], since: datetime) -> list[Job]:
        """The jobs with this canonical form since an instant, but for those that are known already. Raises VendorError.

        The list tells little of each: those that it may be are looked up one by one.
        """
        params = {"states": _STATES, "since": since.replace(microsecond=0).isoformat()}
        rows = await self._ask("batch.list_jobs", params, ())
        if not isinstance(rows, list):
            raise not_understood("batch.list_jobs is not a list")
        found = []
        for row in rows:
            job_id = row.get("id") if isinstance(row, dict) else None
            if not isinstance(job_id, str):
                raise not_understood("a batch job without an id")
            if job_id in besides or self._forms.get(job_id, form) != form:
                continue
            job = await self.details(job_id)
            if job is not None and job.form == form:
                found.append(job)
        return found

    async def _ask(self, name: str, params: Mapping[str, str], gone: tuple[int, ...]) -> Any:
        """The JSON of an answer; None for one of the statuses in `gone`. Raises VendorError."""
        try:
            async with (
                asyncio.timeout(ANSWER_WITHIN_S),
                self._room.asked("GET", self._room.url(name), params=params) as answer,
            ):
                body = await self._room.said(answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise VendorUnavailable(
                f"the vendor cannot be reached: {error}", advice="check the network, or try again later"
            ) from error
        if answer.status in gone:
            return None
        try:
            said = json.loads(body)
        except ValueError:
            said = body
        if answer.status != 200:
            raise error_from_answer(answer.status, said)
        if isinstance(said, bytes):
            raise not_understood(f"{name} is not JSON")
        return said
