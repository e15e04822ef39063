"""Batch jobs as values: what was bought, how far it is at an instant, and how the vendor tells of it.

Field names, nulls and the times between states follow a job that somebody bought in August 2026 and published; what
may be null, and until when, follows the vendor's reference of `batch.submit_job`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from budget_guard.clock import ns_from_instant
from budget_guard.sandbox.config import BatchRules
from budget_guard.sandbox.historical.request import time_text
from budget_guard.sandbox.historical.timeseries import Purchase

State = Literal["received", "queued", "processing", "done", "expired"]
STATES: tuple[State, ...] = ("received", "queued", "processing", "done", "expired")
FINISHED = ("done", "expired")
DURATIONS = ("day", "week", "month", "year", "none")

# What job and user ids are made of: no vowels that make words, no digits that look like letters.
_ALPHABET = "3456789ABCDEFGHJKLMNPQRSTUVWXY"


@dataclass(frozen=True, slots=True)
class Split:
    """How a job's data is cut into files: by symbol, by time (`none`: not), and by bytes (None: not)."""

    symbols: bool = False
    duration: str = "day"
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job, bought and paid. `stuck` is the state that it never leaves, if something is wrong with it.

    `host` is where its files are fetched: the address, with port, at which it was submitted.
    """

    job_id: str
    user_id: str
    purchase: Purchase
    split: Split
    record_count: int
    billed_bytes: int
    cost_usd: Decimal
    received_utc: datetime
    host: str
    stuck: State | None = None

    def url(self, filename: str) -> str:
        """Where one of its files is fetched."""
        return f"http://{self.host}/v0/batch/download/{self.user_id}/{self.job_id}/{filename}"

    def ftp_url(self, filename: str) -> str:
        """Where the vendor has it too; nobody listens there here."""
        return f"ftp://{self.host.partition(':')[0]}/{self.user_id}/{self.job_id}/{filename}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a finished job weighs: its data files, and everything."""

    data_bytes: int
    package_bytes: int


@dataclass(frozen=True, slots=True)
class Stages:
    """When a job enters its states; a state that it never enters is None."""

    queued: datetime
    processing: datetime | None
    done: datetime | None
    expired: datetime | None

    def state_at(self, now: datetime) -> State:
        """Where it is."""
        entered: list[tuple[State, datetime | None]] = [
            ("queued", self.queued),
            ("processing", self.processing),
            ("done", self.done),
            ("expired", self.expired),
        ]
        reached: State = "received"
        for state, at in entered:
            if at is not None and at <= now:
                reached = state
        return reached


def stages_of(job: Job, rules: BatchRules) -> Stages:
    """When a job enters its states. Its files expire at the first whole hour `kept_days` after it is done."""
    queued, processing, done = (
        job.received_utc + timedelta(seconds=seconds)
        for seconds in (rules.queued_after_s, rules.processing_after_s, rules.done_after_s)
    )
    kept_until = done + timedelta(days=rules.kept_days)
    whole_hour = kept_until.replace(minute=0, second=0, microsecond=0)
    expired = whole_hour if whole_hour == kept_until else whole_hour + timedelta(hours=1)
    if job.stuck == "queued":
        return Stages(queued, None, None, None)
    if job.stuck == "processing":
        return Stages(queued, processing, None, None)
    return Stages(queued, processing, done, expired)


def is_listed(job: Job, rules: BatchRules, now: datetime) -> bool:
    """Whether the listing knows a job already."""
    return now >= job.received_utc + timedelta(seconds=rules.listed_after_s)


def summary(job: Job, rules: BatchRules, now: datetime) -> dict[str, Any]:
    """The short form of the listing."""
    return {
        "id": job.job_id,
        "state": stages_of(job, rules).state_at(now),
        "ts_received": _text(job.received_utc),
    }


def receipt(job: Job) -> dict[str, Any]:
    """The answer to a submission: nothing is known yet of size, cost and progress."""
    return _told(job, "received", {}, None, None)


def details(job: Job, rules: BatchRules, now: datetime, sizes: Sizes | None) -> dict[str, Any]:
    """Everything about a job. Its count, size and cost are null until it is done; `sizes` are None without files."""
    stages = stages_of(job, rules)
    state = stages.state_at(now)
    entered = {"queued": stages.queued, "process_start": stages.processing, "process_done": stages.done}
    times = {name: at for name, at in entered.items() if at is not None and at <= now}
    if state in FINISHED and stages.expired is not None:
        times["expiration"] = stages.expired
    return _told(job, state, times, sizes, _progress(job, rules, now, state))


def _told(
    job: Job, state: State, times: Mapping[str, datetime], sizes: Sizes | None, progress: int | None
) -> dict[str, Any]:
    """A job in the vendor's words and order. What is 'none' is null there, and so is what is not known yet."""
    query, form, finished = job.purchase.query, job.purchase.form, state in FINISHED
    return {
        "id": job.job_id,
        "user_id": job.user_id,
        "bill_id": None,
        "cost_usd": float(job.cost_usd) if finished else None,
        "dataset": query.dataset,
        "symbols": ",".join(query.symbols),
        "stype_in": query.stype_in,
        "stype_out": job.purchase.stype_out,
        "schema": query.schema,
        "start": time_text(query.start_ns),
        "end": time_text(query.end_ns),
        "limit": query.limit,
        "encoding": form.encoding,
        "compression": null_if_none(form.compression),
        **customizations(job),
        "record_count": job.record_count if finished else None,
        "billed_size": job.billed_bytes if finished else None,
        "actual_size": None if sizes is None else sizes.data_bytes,
        "package_size": None if sizes is None else sizes.package_bytes,
        "state": state,
        "ts_received": _text(job.received_utc),
        **{
            f"ts_{name}": _text(times[name]) if name in times else None
            for name in ("queued", "process_start", "process_done", "expiration")
        },
        "progress": progress,
    }


def customizations(job: Job) -> dict[str, Any]:
    """What was asked of the files, as a job and its `metadata.json` tell it."""
    form, split = job.purchase.form, job.split
    return {
        "pretty_px": form.pretty_px,
        "pretty_ts": form.pretty_ts,
        "map_symbols": form.map_symbols,
        "split_symbols": split.symbols,
        "split_duration": null_if_none(split.duration),
        "split_size": split.size_bytes,
        "packaging": None,
        "delivery": "download",
    }


def null_if_none(value: str) -> str | None:
    """The vendor tells of `none` as null."""
    return None if value == "none" else value


def _text(instant: datetime) -> str:
    return time_text(ns_from_instant(instant))


def _progress(job: Job, rules: BatchRules, now: datetime, state: State) -> int:
    if state != "processing":
        return 100 if state in FINISHED else 0
    whole_s = rules.done_after_s - rules.processing_after_s
    since_s = (now - job.received_utc).total_seconds() - rules.processing_after_s
    return min(99, int(100 * since_s / whole_s)) if whole_s > 0 else 99


def new_id(seed: int, dataset: str, number: int, received: datetime) -> str:
    """The id of a seed's so-manieth job, as `GLBX-20260825-6T3F5G5TYH`."""
    return f"{dataset.partition('.')[0]}-{received:%Y%m%d}-{_letters(f'job/{seed}/{number}', 10)}"


def user_id(seed: int) -> str:
    """The id of a seed's user, as `W7KFYTCU`."""
    return _letters(f"user/{seed}", 8)


def _letters(text: str, length: int) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:length])
