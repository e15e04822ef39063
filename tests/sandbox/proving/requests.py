"""One request of the official client, or a few, through a fault: what it returned or raised, and what was billed."""

from __future__ import annotations

import asyncio
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import databento
from databento.common.error import BentoError
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.clock import SteppedClock
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.proving.outcomes import Outcome, after, said

NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
MBO_BYTES = 56
ASKED: Mapping[str, Any] = {
    "dataset": "GLBX.MDP3",
    "schema": "mbo",
    "symbols": "NQ.v.0",
    "stype_in": "continuous",
    "start": "2026-11-24T14:40:00",
    "end": "2026-11-24T14:40:10",
}


class Vendor(Protocol):
    """Who is asked, and what that has cost."""

    def historical(self) -> databento.Historical: ...

    def bill(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to. `decoded_bytes` None: it was to bring no records."""

    does: str
    decoded_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RequestCase:
    """A fault on a request; `call` is one of CALLS."""

    fault: str
    where: str
    words: Mapping[str, Any]
    call: str


def request_outcome(case: RequestCase) -> Outcome:
    """What the official client alone does with a fault."""
    clock = SteppedClock(NOW)
    with running_sandbox(SandboxConfig(clock=clock, limits=Limits.none())) as sandbox:
        return play_request(case, sandbox, clock, sandbox)


def play_request(case: RequestCase, sandbox: Sandbox, clock: SteppedClock, asked: Vendor) -> Outcome:
    """Ask without the fault for what is right, then with it."""
    call = CALLS[case.call]
    right = call(asked, clock)
    due, before = right.decoded_bytes, sandbox.bill()["bytes"]
    sandbox.arm(case.fault, **case.words)
    began_s = time.monotonic()
    try:
        found = call(asked, clock)
    except Exception as error:  # noqa: BLE001 - whatever the client raises is the finding
        found = Answer(f"raises {said(error)}", None if due is None else 0)
    late = after(time.monotonic() - began_s)
    sandbox.drop()
    billed = sandbox.wait_for(lambda bill: all(line["closed_utc"] for line in bill["connections"]))
    does = _compared(right, found) + late
    if due is None:
        return Outcome(case.fault, case.where, does)
    got = found.decoded_bytes or 0
    return Outcome(
        case.fault,
        case.where,
        does,
        lost=(due - got) // MBO_BYTES,
        beyond=billed["bytes"] - before - got,
    )


def _compared(right: Answer, found: Answer) -> str:
    if found == right:
        return "returns what is right"
    if not found.does.startswith("returns"):
        return found.does
    if found.decoded_bytes is not None and found.decoded_bytes == right.decoded_bytes:
        before = right.does.partition(", ")[2]
        return f"{found.does} (before: {before})"
    return f"{found.does}, where {right.does.removeprefix('returns ')} is right; notices nothing"


def _metadata(name: str) -> Callable[[Vendor, SteppedClock], Answer]:
    def call(sandbox: Vendor, clock: SteppedClock) -> Answer:
        answer = getattr(sandbox.historical().metadata, name)(**ASKED)
        return Answer(f"returns {answer}")

    return call


def _prices(sandbox: Vendor, clock: SteppedClock) -> Answer:
    prices = sandbox.historical().metadata.list_unit_prices("GLBX.MDP3")
    shown = {row["mode"]: row["unit_prices"].get("mbo", "nothing") for row in prices}
    return Answer("returns " + ", ".join(f"{price} for {mode} mbo" for mode, price in shown.items()))


def _resolve(sandbox: Vendor, clock: SteppedClock) -> Answer:
    answer = sandbox.historical().symbology.resolve(
        "GLBX.MDP3", "NQ.v.0", "continuous", "instrument_id", start_date="2026-11-24"
    )
    return Answer(f"returns {answer['result']}")


def _get_range(sandbox: Vendor, clock: SteppedClock) -> Answer:
    return _stored(sandbox.historical().timeseries.get_range(**ASKED))


def _get_range_async(sandbox: Vendor, clock: SteppedClock) -> Answer:
    timeseries: TimeseriesHttpAPI = sandbox.historical().timeseries
    return _stored(asyncio.run(timeseries.get_range_async(**ASKED)))


def _get_range_to_file(sandbox: Vendor, clock: SteppedClock) -> Answer:
    """What an exception leaves in the file is read by the client, too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "range.dbn.zst")
        try:
            return _stored(sandbox.historical().timeseries.get_range(**ASKED, path=path))
        except Exception as error:  # noqa: BLE001 - whatever the client raises is the finding
            return _left_behind(path, error)


def _left_behind(path: Path, error: Exception) -> Answer:
    raises = f"raises {said(error)}"
    if not path.exists():
        return Answer(f"{raises}, leaves no file", 0)
    try:
        left = _stored(databento.DBNStore.from_file(path))
    except Exception as unread:  # noqa: BLE001 - whatever the client raises is the finding
        return Answer(f"{raises}, leaves a file of which reading {said(unread)}", 0)
    return Answer(
        f"{raises}, leaves a file that reads as {left.does.removeprefix('returns ')}", left.decoded_bytes
    )


def _stored(store: databento.DBNStore) -> Answer:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = store.to_ndarray().tobytes()
    finally:
        store.reader.close()
    return Answer(f"returns {len(data) // MBO_BYTES:,} records", len(data))


def _bought(sandbox: Vendor, clock: SteppedClock) -> Answer:
    """A quote, and then what the download that it was for was billed."""
    quoted = Decimal(str(sandbox.historical().metadata.get_cost(**ASKED)))
    found = _get_range(sandbox, clock)
    billed = Decimal(sandbox.bill()["connections"][-1]["cost_usd"])
    shown = f"{found.does}, quoted at ${quoted:.6f}, billed ${billed:.6f}"
    noticed = "" if round(quoted, 6) == round(billed, 6) else "; notices nothing"
    return Answer(shown + noticed, found.decoded_bytes)


def _batch(sandbox: Vendor, clock: SteppedClock) -> Answer:
    """A job, and half a minute later its files."""
    batch = sandbox.historical().batch
    try:
        job = batch.submit_job(**ASKED, split_duration="day")["id"]
    except (BentoError, OSError) as error:
        clock.step_to(clock.now() + timedelta(seconds=30))
        return Answer(f"`submit_job` raises {said(error)}; {_unheard_of(sandbox)}", 0)
    clock.step_to(clock.now() + timedelta(seconds=30))
    state = {found["id"]: found["state"] for found in batch.list_jobs()}.get(job, "unknown")
    with tempfile.TemporaryDirectory() as folder:
        try:
            paths = batch.download(job, folder)
        except Exception as error:  # noqa: BLE001 - whatever the client raises is the finding
            return Answer(f"`list_jobs` says {state}; `download` raises {said(error)}", 0)
        (data,) = (path for path in paths if path.name.endswith(".dbn.zst"))
        return _stored(databento.DBNStore.from_file(data))


def _unheard_of(sandbox: Vendor) -> str:
    """Whether a job was sold of which the client was told nothing: beside the first, that was right."""
    sold = len(sandbox.bill()["connections"]) > 1
    return "the job is sold" if sold else "no job is sold"


CALLS: Mapping[str, Callable[[Vendor, SteppedClock], Answer]] = {
    "get_record_count": _metadata("get_record_count"),
    "get_billable_size": _metadata("get_billable_size"),
    "get_cost": _metadata("get_cost"),
    "list_unit_prices": _prices,
    "resolve": _resolve,
    "get_range": _get_range,
    "get_range_async": _get_range_async,
    "get_range(path=...)": _get_range_to_file,
    "get_cost, get_range": _bought,
    "submit_job, download": _batch,
}
