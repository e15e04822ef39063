"""`batch.*`: jobs that are bought whole, prepared in the background, listed and fetched.

A job is billed when it is submitted, never when it is fetched, and there is no key that would make two equal
submissions one. Where a job stands is a matter of the sandbox's clock alone. Its files are made when they are first
asked for, on a thread, in a folder that goes when the sandbox ends.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from budget_guard.clock import instant_from_ns, ns_from_instant
from budget_guard.sandbox.billing.bill import exact_cost
from budget_guard.sandbox.faults.requests import batch_fate
from budget_guard.sandbox.historical.context import GET, POST, Call, Context, Route, json_handler
from budget_guard.sandbox.historical.encodings import choice, flag
from budget_guard.sandbox.historical.errors import ApiError, invalid
from budget_guard.sandbox.historical.jobs import (
    DURATIONS,
    STATES,
    Job,
    Sizes,
    Split,
    State,
    details,
    is_listed,
    new_id,
    receipt,
    stages_of,
    summary,
    user_id,
)
from budget_guard.sandbox.historical.metadata import Metadata
from budget_guard.sandbox.historical.packages import Abandoned, Package, PackedFile, pack
from budget_guard.sandbox.historical.parameters import DATA, Parameter
from budget_guard.sandbox.historical.ranges import Download, bounds
from budget_guard.sandbox.historical.request import Query, parse_time
from budget_guard.sandbox.historical.timeseries import Purchase, check_purchase
from budget_guard.sandbox.market.model import ALL_SYMBOLS

# The vendor's bounds of `split_size`.
SPLIT_SIZES = (10**9, 10 * 10**9)
_CHUNK = 256 * 1024
_SUBMISSION = (
    Parameter("symbols", required=True),
    Parameter("schema", required=True, alias="schema_"),
    Parameter("encoding", required=True),
    *(parameter for parameter in DATA if parameter.name not in ("symbols", "schema", "encoding")),
    *map(Parameter, ("split_symbols", "split_duration", "packaging", "delivery")),
    Parameter("split_size", whole=True),
)
_JOB = (Parameter("job_id", required=True),)
# What a fault makes of a job: the state that it stays in. A job that fails is one that never gets done: the vendor has
# no state for it.
_STUCK: dict[str | None, State] = {"queued": "queued", "failed": "processing"}


def routes(context: Context) -> list[Route]:
    """The paths of `batch.*`."""
    batch = Batch(context)
    return [
        Route(POST, "/v0/batch.submit_job", batch.submit_job, "submit_jobs", _SUBMISSION),
        Route(GET, "/v0/batch.list_jobs", json_handler(batch.list_jobs), "list_jobs"),
        Route(GET, "/v0/batch.get_job_details", batch.get_job_details, None, _JOB),
        Route(GET, "/v0/batch.list_files", batch.list_files, None, _JOB),
        Route(GET, "/v0/batch.download", batch.download, None, _JOB),
        Route(GET, "/v0/batch/download/{user_id}/{job_id}/{filename}", batch.download_file),
    ]


class Batch:
    """The jobs of a sandbox, all keys' together: they belong to one team."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rules = context.config.batch
        self._user_id = user_id(context.config.seed)
        self._jobs: dict[str, Job] = {}
        self._shelf = Shelf(context)

    async def submit_job(self, call: Call) -> web.StreamResponse:
        """Sell a job: its bytes and their cost are on the bill before anything is answered."""
        purchase = check_purchase(self._context, call)
        query = purchase.query
        split = _parse_split(call, query)
        download, count, size = await asyncio.to_thread(self._weigh, purchase)
        fate = batch_fate(self._context.faults, query.dataset, call.key)
        now = self._context.config.clock.now()
        price = self._context.account.historical_price(query.dataset, query.schema)
        job_id = new_id(self._context.config.seed, query.dataset, len(self._jobs), now)
        line = self._context.bill.open("historical", call.key, query.dataset)
        line.subscribe(query.schema, price, instant_from_ns(query.start_ns))
        line.add(query.schema, size)
        line.close(f"batch {job_id}")
        paid = line.prices[query.schema].usd
        job = Job(
            job_id=job_id,
            user_id=self._user_id,
            purchase=purchase,
            split=split,
            record_count=count,
            billed_bytes=size,
            cost_usd=exact_cost(size, Decimal(0) if paid is None else paid),
            received_utc=now,
            host=call.request.host,
            stuck=_STUCK.get(fate),
        )
        self._jobs[job_id] = job
        if fate == "lost" and call.request.transport is not None:
            call.request.transport.abort()
        return web.json_response(receipt(job), status=206 if download.partial else 200)

    def _weigh(self, purchase: Purchase) -> tuple[Download, int, int]:
        """What is to be sold, its records and their bytes. Raises ApiError when it is empty."""
        query, history = purchase.query, self._context.history
        return history.open(query, purchase.stype_out), history.count(query), history.size(query)

    def list_jobs(self, call: Call) -> list[dict[str, Any]]:
        """Jobs in the order in which they were received, by state and age."""
        now = self._context.config.clock.now()
        wanted = _parse_states(call)
        since_ns = _parse_since(call)
        listed = [
            job
            for job in self._jobs.values()
            if is_listed(job, self._rules, now)
            and stages_of(job, self._rules).state_at(now) in wanted
            and ns_from_instant(job.received_utc) >= since_ns
        ]
        short = flag(call.fields, "short") if call.fields.get("short") else self._rules.short_lists
        if short:
            return [summary(job, self._rules, now) for job in listed]
        return [details(job, self._rules, now, self._shelf.sizes(job)) for job in listed]

    async def get_job_details(self, call: Call) -> web.StreamResponse:
        """Everything about a job. Of one that is done the files are made first, for their sizes."""
        job = self._find(call.fields["job_id"])
        if self._state(job) == "done" and job.billed_bytes <= self._rules.files_max_bytes:
            await self._shelf.package(job, call)
        now = self._context.config.clock.now()
        return web.json_response(details(job, self._rules, now, self._shelf.sizes(job)))

    async def list_files(self, call: Call) -> web.StreamResponse:
        """The files of a finished job."""
        job = self._find(call.fields["job_id"])
        package = await self._files(job, call)
        return web.json_response([file.listing(job) for file in package.files])

    async def download(self, call: Call) -> web.StreamResponse:
        """All files in one zip, as it is made."""
        job = self._find(call.fields["job_id"])
        package = await self._files(job, call)
        response = web.StreamResponse(headers=_attachment(f"{job.job_id}.zip"))
        response.content_type = "application/zip"
        await response.prepare(call.request)
        try:
            await _write_zip(response, package, job.received_utc)
            await response.write_eof()
        except ConnectionError:
            pass  # the client will ask again, free of charge
        return response

    async def download_file(self, call: Call) -> web.StreamResponse:
        """One file, or the range of it that is asked for."""
        place = call.request.match_info
        job = self._find(place["job_id"])
        package = await self._files(job, call)
        file = package.find(place["filename"])
        if file is None or place["user_id"] != job.user_id:
            raise ApiError(
                404, "batch_file_not_found", f"The job {job.job_id} has no file {place['filename']}"
            )
        headers = {**_attachment(file.name), hdrs.CONTENT_TYPE: _content_type(file)}
        return web.FileResponse(file.path, chunk_size=_CHUNK, headers=headers)

    def _find(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise ApiError(404, "batch_job_not_found", f"There is no job {job_id}")
        return job

    def _state(self, job: Job) -> State:
        return stages_of(job, self._rules).state_at(self._context.config.clock.now())

    async def _files(self, job: Job, call: Call) -> Package:
        """The files of a job. Raises ApiError unless there are any."""
        state = self._state(job)
        if state == "expired":
            raise ApiError(410, "batch_job_expired", f"The files of the job {job.job_id} have expired.")
        if state != "done":
            raise ApiError(404, "batch_files_not_found", f"The job {job.job_id} is not done: it is {state}")
        if job.billed_bytes > self._rules.files_max_bytes:
            raise ApiError(
                507,
                "sandbox_files_too_large",
                f"The sandbox makes files of up to {self._rules.files_max_bytes:,} record bytes a job, not of "
                f"{job.billed_bytes:,}",
            )
        return await self._shelf.package(job, call)


class Shelf:
    """The files of jobs that somebody asked for, each made once. One thread makes them, one job after the other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._packages: dict[str, asyncio.Future[Package]] = {}
        self._maker: ThreadPoolExecutor | None = None
        self._folder: Path | None = None
        self._ended = threading.Event()
        context.at_stop.append(self.end)

    async def package(self, job: Job, call: Call) -> Package:
        """The files of a job, as soon as they are made. Raises ApiError when there is no room for them."""
        making = self._packages.get(job.job_id)
        if making is None:
            making = asyncio.get_running_loop().run_in_executor(*self._order(job, call))
            # Whoever asked may be gone by the time that it fails.
            making.add_done_callback(lambda done: None if done.cancelled() else done.exception())
            self._packages[job.job_id] = making
        try:
            return await asyncio.shield(making)
        except OSError as error:
            self._packages.pop(job.job_id, None)
            raise ApiError(507, "sandbox_files_too_large", f"The files cannot be made: {error}") from None
        except Abandoned:
            raise ApiError(503, "sandbox_ends", "The sandbox ends.") from None

    def sizes(self, job: Job) -> Sizes | None:
        """What a job's files weigh, if they are made."""
        making = self._packages.get(job.job_id)
        if making is None or not making.done() or making.cancelled() or making.exception() is not None:
            return None
        return making.result().sizes

    def end(self) -> None:
        """Stop making files and remove them."""
        self._ended.set()
        if self._maker is not None:
            self._maker.shutdown(wait=True, cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._maker = self._folder = None
        self._packages.clear()
        self._ended = threading.Event()

    def _order(self, job: Job, call: Call) -> tuple[Any, ...]:
        """What the thread is to do."""
        if self._maker is None:
            self._maker = ThreadPoolExecutor(1, thread_name_prefix="sandbox-batch")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="budget-guard-sandbox-"))
            # For a sandbox that is never stopped.
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        first, after = bounds(job.purchase.query)
        days = {
            "dataset": job.purchase.query.dataset,
            "start_date": first.isoformat(),
            "end_date": (after - timedelta(days=1)).isoformat(),
        }
        conditions = Metadata(self._context).conditions(Call(call.request, call.key, days))
        folder = self._folder / job.job_id
        return self._maker, pack, self._context.history, job, conditions, folder, self._ended.is_set


def _parse_split(call: Call, query: Query) -> Split:
    """How the files are to be cut. Raises ApiError."""
    fields = call.fields
    choice(fields, "delivery", ("download",), "download")
    if (fields.get("packaging") or "none") != "none":
        raise invalid("packaging", "should be none: batch.download packs all files of a job into a zip")
    by_symbol = flag(fields, "split_symbols")
    if by_symbol and ALL_SYMBOLS in query.symbols:
        raise invalid("split_symbols", "cannot be used with ALL_SYMBOLS")
    if by_symbol and query.limit is not None:
        raise invalid("split_symbols", "cannot be used with limit")
    size = int(fields["split_size"]) if fields.get("split_size") else None
    if size is not None and not SPLIT_SIZES[0] <= size <= SPLIT_SIZES[1]:
        raise invalid("split_size", f"should be {SPLIT_SIZES[0]:,} to {SPLIT_SIZES[1]:,} bytes; got {size:,}")
    return Split(by_symbol, choice(fields, "split_duration", DURATIONS, "day"), size)


def _parse_states(call: Call) -> set[str]:
    """The states asked for; all but expired when nothing is said. Raises ApiError."""
    text = call.fields.get("states")
    if not text:
        return {state for state in STATES if state != "expired"}
    wanted = {state.strip() for state in text.split(",") if state.strip()}
    if unknown := sorted(wanted - set(STATES)):
        raise invalid("states", f"{unknown[0]!r} is not one of {', '.join(STATES)}")
    return wanted


def _parse_since(call: Call) -> int:
    text = call.fields.get("since")
    if not text:
        return 0
    try:
        return parse_time(text)[0]
    except ValueError as error:
        raise invalid("since", str(error)) from None


def _attachment(name: str) -> dict[str, str]:
    return {hdrs.CONTENT_DISPOSITION: f'attachment; filename="{name}"'}


def _content_type(file: PackedFile) -> str:
    return "application/json" if file.path.name.endswith(".json") else "application/octet-stream"


class _Sink:
    """What a zip is written to: kept until it is taken. Without `tell` and `seek`, so the zip is made for a stream."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


async def _write_zip(response: web.StreamResponse, package: Package, stamp: datetime) -> None:
    """Stored, not compressed: the data is already, where that was asked for."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]
        for file in package.files:
            info = zipfile.ZipInfo(file.name, stamp.timetuple()[:6])
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as entry, file.path.open("rb") as source:
                while chunk := source.read(_CHUNK):
                    entry.write(chunk)
                    await response.write(sink.take())
    await response.write(sink.take())
