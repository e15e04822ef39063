"""`batch.*`, as the official client uses it: bought once, prepared by the sandbox's clock, fetched for 30 days."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import urllib.parse
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
import zstandard
from databento import DBNStore
from databento.common.error import BentoClientError, BentoServerError
from databento.historical.api.batch import BatchHttpAPI
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI

from budget_guard.clock import ManualClock
from budget_guard.sandbox.billing.bill import exact_cost
from budget_guard.sandbox.config import BatchRules, FlatPlan, Limits, Rights, SandboxConfig
from budget_guard.sandbox.server import Sandbox, running_sandbox

NOW = datetime(2026, 11, 20, 21, tzinfo=UTC)
NQ: dict[str, Any] = {"dataset": "GLBX.MDP3", "symbols": ["NQ.v.0"], "stype_in": "continuous"}
RANGE: dict[str, Any] = {**NQ, "start": "2026-11-18T23:59", "end": "2026-11-19T00:01"}
TRADES: dict[str, Any] = {**RANGE, "schema": "trades"}


def running(**fields: Any) -> Any:
    return running_sandbox(SandboxConfig(**{"clock": ManualClock(NOW), "limits": Limits.none(), **fields}))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running() as found:
        yield found


def client(sandbox: Sandbox) -> BatchHttpAPI:
    return BatchHttpAPI(key=sandbox.key, gateway=sandbox.http_url)


def wait(sandbox: Sandbox, seconds: float) -> None:
    clock = sandbox.config.clock
    assert isinstance(clock, ManualClock)
    clock.advance(seconds)


def bought(sandbox: Sandbox, **fields: Any) -> str:
    """The id of a job that is done."""
    job_id = str(client(sandbox).submit_job(**{**TRADES, **fields})["id"])
    wait(sandbox, 1)
    return job_id


def get(sandbox: Sandbox, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
    """Status, headers and body of a GET by hand."""
    token = base64.b64encode(f"{sandbox.key}:".encode()).decode()
    with closing(http.client.HTTPConnection("127.0.0.1", sandbox.http_port, timeout=30)) as asked:
        asked.request("GET", path, headers={"Authorization": f"Basic {token}", **(headers or {})})
        answer = asked.getresponse()
        return answer.status, answer.headers, answer.read()


def submit(sandbox: Sandbox, **fields: Any) -> requests.Response:
    """A submission by hand."""
    form = {**TRADES, "symbols": "NQ.v.0", "encoding": "dbn", **fields}
    form = {name: value for name, value in form.items() if value is not None}
    return requests.post(
        f"{sandbox.http_url}/v0/batch.submit_job", data=form, auth=(sandbox.key, ""), timeout=30
    )


def case_of(error: BentoClientError | BentoServerError) -> tuple[int, str]:
    assert error.json_body is not None
    return error.http_status, str(error.json_body["detail"]["case"])


def states(sandbox: Sandbox) -> list[str]:
    return [job["state"] for job in client(sandbox).list_jobs()]


# --- buying -------------------------------------------------------------------------------------------------------


def test_a_job_is_billed_whole_when_it_is_submitted(sandbox: Sandbox) -> None:
    """Bytes and cost are those of a quote, on the bill before anything is prepared; the receipt tells neither."""
    metadata = MetadataHttpAPI(key=sandbox.key, gateway=sandbox.http_url)
    told = client(sandbox).submit_job(**TRADES)
    (line,) = sandbox.bill()["connections"]
    size = metadata.get_billable_size(**TRADES)
    assert (line["bytes"], line["mode"], line["ended"]) == (size, "historical", f"batch {told['id']}")
    assert Decimal(line["cost_usd"]) == exact_cost(size, Decimal(28))
    assert (told["state"], told["cost_usd"], told["billed_size"]) == ("received", None, None)


def test_fetching_costs_nothing_more(sandbox: Sandbox, tmp_path: Path) -> None:
    """A job's files may be fetched again and again."""
    job_id = bought(sandbox)
    before = sandbox.bill()["bytes"]
    for number in range(2):
        client(sandbox).download(job_id, tmp_path / str(number))
    assert sandbox.bill()["bytes"] == before


def test_the_same_submission_is_bought_again(sandbox: Sandbox) -> None:
    """Nothing makes two equal submissions one: each is a job and a bill of its own."""
    first, second = (client(sandbox).submit_job(**TRADES)["id"] for _ in range(2))
    assert first != second
    lines = sandbox.bill()["connections"]
    assert [line["bytes"] for line in lines] == [lines[0]["bytes"]] * 2


def test_what_a_plan_includes_is_a_job_for_nothing() -> None:
    """Its cost is told as 0, and so is the bill's; the size is the same."""
    with running(plans={"GLBX.MDP3": FlatPlan(history_days={"trades": 30})}) as sandbox:
        told = client(sandbox).get_job_details(bought(sandbox))
        assert (told["cost_usd"], sandbox.bill()["cost_usd"]) == (0.0, "0")
        assert told["billed_size"] == sandbox.bill()["bytes"] > 0


def test_symbols_that_resolve_in_part_are_206(sandbox: Sandbox) -> None:
    """The job is sold all the same."""
    assert submit(sandbox, symbols="NQ.v.0,XYZ.v.0").status_code == 206
    assert submit(sandbox).status_code == 200
    assert len(sandbox.bill()["connections"]) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset": None},
        {"symbols": None},
        {"schema": None},
        {"encoding": None},
        {"start": None},
        {"encoding": "parquet"},
        {"split_duration": "hour"},
        {"split_symbols": "true", "symbols": "ALL_SYMBOLS", "stype_in": "raw_symbol"},
        {"split_symbols": "true", "limit": "5"},
        {"split_size": "1000"},
        {"split_size": "much"},
        {"delivery": "s3"},
        {"packaging": "zip"},
        {"symbols": "XYZ.v.0"},
        {"start": "2026-11-14", "end": "2026-11-15"},
    ],
)
def test_what_cannot_be_sold_is_refused_and_costs_nothing(
    sandbox: Sandbox, fields: dict[str, str | None]
) -> None:
    """422, and nothing on the bill."""
    answer = submit(sandbox, **fields)
    assert answer.status_code == 422
    assert "detail" in answer.json()
    assert sandbox.bill()["connections"] == []


def test_who_may_not_buy_is_told_so() -> None:
    """No licence is 403, no money 402, and neither is billed."""
    with running(historical_entitlements=frozenset({"EQUS.MINI"})) as sandbox:
        with pytest.raises(BentoClientError) as caught:
            client(sandbox).submit_job(**TRADES)
        assert case_of(caught.value) == (403, "license_not_found_unauthorized")
    with running(unpaid=True) as sandbox:
        with pytest.raises(BentoClientError) as caught:
            client(sandbox).submit_job(**TRADES)
        assert case_of(caught.value) == (402, "account_insufficient_funds")
        assert sandbox.bill()["connections"] == []


def test_submissions_are_limited_by_the_minute() -> None:
    """The vendor takes 20 a minute; more get 429, with when to come again, and are not billed."""
    with running(limits=replace(Limits.none(), submit_jobs_per_min=2)) as sandbox:
        answers = [submit(sandbox) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[2].headers["Retry-After"]) > 0
        assert len(sandbox.bill()["connections"]) == 2


# --- waiting ------------------------------------------------------------------------------------------------------


def test_a_job_shows_in_the_listing_a_moment_later(sandbox: Sandbox) -> None:
    """Then it goes through its states by the sandbox's clock alone."""
    job_id = client(sandbox).submit_job(**TRADES)["id"]
    seen = [client(sandbox).list_jobs()]
    for _ in range(3):
        wait(sandbox, 0.35)
        seen.append(client(sandbox).list_jobs())
    received = "2026-11-20T21:00:00.000000000Z"
    assert seen == [
        [],
        *(
            [{"id": job_id, "state": state, "ts_received": received}]
            for state in ("queued", "processing", "done")
        ),
    ]


def test_details_are_known_at_once_and_whole_when_done(sandbox: Sandbox) -> None:
    """Count, size and cost are told when a job is done, and are the bill's; the sizes of its files are theirs."""
    job_id = client(sandbox).submit_job(**TRADES)["id"]
    early = client(sandbox).get_job_details(job_id)
    assert (early["state"], early["record_count"], early["progress"]) == ("received", None, 0)
    wait(sandbox, 1)
    told = client(sandbox).get_job_details(job_id)
    (line,) = sandbox.bill()["connections"]
    assert (told["state"], told["progress"]) == ("done", 100)
    assert told["billed_size"] == line["bytes"] == told["record_count"] * 48
    assert told["cost_usd"] == float(line["cost_usd"])
    files = client(sandbox).list_files(job_id)
    assert told["package_size"] == sum(file["size"] for file in files)
    assert told["actual_size"] == sum(file["size"] for file in files if ".dbn" in file["filename"])


def test_the_long_form_is_told_where_it_is_asked_for(sandbox: Sandbox) -> None:
    """`short=False`, or a sandbox set up so, lists what the details tell; `short=True` never does."""
    job_id = bought(sandbox)
    told = client(sandbox).get_job_details(job_id)
    assert client(sandbox).list_jobs(short=False) == [told]
    with running(batch=BatchRules(short_lists=False)) as other:
        bought(other)
        assert len(client(other).list_jobs()[0]) == len(told)
        assert len(client(other).list_jobs(short=True)[0]) == 3


def test_the_listing_is_filtered_by_state_and_age(sandbox: Sandbox) -> None:
    """Only jobs received since an instant, in the states asked for."""
    first = bought(sandbox)
    wait(sandbox, 60)
    second = client(sandbox).submit_job(**TRADES)["id"]
    wait(sandbox, 0.3)
    api = client(sandbox)
    assert [job["id"] for job in api.list_jobs()] == [first, second]
    assert [job["id"] for job in api.list_jobs(states="queued")] == [second]
    assert [job["id"] for job in api.list_jobs(since="2026-11-20T21:00:30")] == [second]
    assert api.list_jobs(states=["processing"]) == []
    assert get(sandbox, "/v0/batch.list_jobs?states=finished")[0] == 422
    assert get(sandbox, "/v0/batch.list_jobs?since=yesterday")[0] == 422


def test_files_are_not_there_before_a_job_is_done(sandbox: Sandbox, tmp_path: Path) -> None:
    """404 for a job that is not done, or not known."""
    job_id = client(sandbox).submit_job(**TRADES)["id"]
    for ask in (client(sandbox).list_files, lambda job: client(sandbox).download(job, tmp_path)):
        with pytest.raises(BentoClientError) as caught:
            ask(job_id)
        assert case_of(caught.value) == (404, "batch_files_not_found")
    with pytest.raises(BentoClientError) as caught:
        client(sandbox).get_job_details("GLBX-20261120-NOSUCHJOBX")
    assert case_of(caught.value) == (404, "batch_job_not_found")


def test_files_expire(sandbox: Sandbox, tmp_path: Path) -> None:
    """After 30 days the job is expired and its files are gone: 410. What it was is still told."""
    job_id = bought(sandbox)
    url = client(sandbox).list_files(job_id)[0]["urls"]["https"]
    wait(sandbox, 31 * 86_400)
    api = client(sandbox)
    assert api.list_jobs() == []
    assert [job["state"] for job in api.list_jobs(states="expired")] == ["expired"]
    for ask in (api.list_files, lambda job: api.download(job, tmp_path)):
        with pytest.raises(BentoClientError) as caught:
            ask(job_id)
        assert case_of(caught.value) == (410, "batch_job_expired")
    assert get(sandbox, urllib.parse.urlsplit(url).path)[0] == 410
    told = api.get_job_details(job_id)
    assert (told["state"], told["record_count"] > 0) == ("expired", True)


# --- fetching -----------------------------------------------------------------------------------------------------


def streamed(sandbox: Sandbox, fields: dict[str, Any]) -> bytes:
    """The body of `timeseries.get_range`, unpacked."""
    form = {**RANGE, "symbols": "NQ.v.0", **fields, "compression": "none"}
    url = f"{sandbox.http_url}/v0/timeseries.get_range"
    answer = requests.post(url, data=form, auth=(sandbox.key, ""), timeout=30)
    assert answer.status_code == 200
    return answer.content


@pytest.mark.parametrize("schema", ["mbo", "trades", "mbp-10", "ohlcv-1s", "bbo-1s"])
@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_what_is_fetched_is_what_would_have_been_streamed(
    sandbox: Sandbox, schema: str, encoding: str, compression: str, tmp_path: Path
) -> None:
    """In one file, a job's data is to the byte what `get_range` sends."""
    form = {"encoding": encoding, "pretty_px": True, "pretty_ts": True, "map_symbols": encoding != "dbn"}
    fields = {"schema": schema, **form}
    job_id = bought(sandbox, **fields, compression=compression, split_duration="none")
    paths = client(sandbox).download(job_id, tmp_path)
    (data,) = [path for path in paths if path.name.startswith("glbx-")]
    suffix = f"{encoding}.zst" if compression == "zstd" else encoding
    assert data.name == f"glbx-mdp3-20261118-20261119.{schema}.{suffix}"
    body = data.read_bytes()
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(body) if compression == "zstd" else body
    assert plain == streamed(sandbox, fields)


def test_the_days_of_a_job_make_its_range(sandbox: Sandbox, tmp_path: Path) -> None:
    """By default a file a day: together they hold the records that `get_range` gives, as the client decodes them."""
    job_id = bought(sandbox)
    paths = sorted(path for path in client(sandbox).download(job_id, tmp_path) if ".dbn" in path.name)
    names = [f"glbx-mdp3-202611{day}.trades.dbn.zst" for day in (18, 19)]
    assert [path.name for path in paths] == names
    data = b"".join(DBNStore.from_bytes(path.read_bytes()).to_ndarray().tobytes() for path in paths)
    store = TimeseriesHttpAPI(key=sandbox.key, gateway=sandbox.http_url).get_range(**TRADES)
    assert data == store.to_ndarray().tobytes()


def test_files_are_what_the_listing_says(sandbox: Sandbox, tmp_path: Path) -> None:
    """Names, sizes and hashes, whether they come in a zip, one by one, or from their URLs."""
    job_id = bought(sandbox, compression="zstd")
    listed = {file["filename"]: file for file in client(sandbox).list_files(job_id)}
    zipped = client(sandbox).download(job_id, tmp_path / "zip")
    assert {path.name for path in zipped} == set(listed)
    for path in zipped:
        file = listed[path.name]
        (single,) = client(sandbox).download(job_id, tmp_path / "one", filename_to_download=path.name)
        status, headers, body = get(sandbox, urllib.parse.urlsplit(file["urls"]["https"]).path)
        assert file["urls"]["https"].startswith(sandbox.http_url)
        assert path.read_bytes() == single.read_bytes() == body
        assert (status, len(body)) == (200, file["size"])
        assert file["hash"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert headers["Content-Disposition"] == f'attachment; filename="{path.name}"'


def test_the_client_may_keep_the_zip_or_await_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """`keep_zip` and `download_async` work as they are."""
    job_id = bought(sandbox)
    (kept,) = client(sandbox).download(job_id, tmp_path / "kept", keep_zip=True)
    names = sorted(file["filename"] for file in client(sandbox).list_files(job_id))
    with zipfile.ZipFile(kept) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == names
    awaited = asyncio.run(client(sandbox).download_async(tmp_path / "awaited", job_id))
    assert sorted(path.name for path in awaited) == names
    (one,) = asyncio.run(client(sandbox).download_async(tmp_path / "one", job_id, names[1]))
    assert one.read_bytes() == (tmp_path / "awaited" / job_id / names[1]).read_bytes()


def test_the_files_beside_the_data_tell_of_the_job(sandbox: Sandbox, tmp_path: Path) -> None:
    """What was asked, what the symbols stood for, and which days there were."""
    job_id = bought(sandbox)
    found = {path.name: path for path in client(sandbox).download(job_id, tmp_path)}
    told = {name: json.loads(path.read_text()) for name, path in found.items() if path.suffix == ".json"}
    assert told["metadata.json"]["query"]["symbols"] == ["NQ.v.0"]
    assert [day["date"] for day in told["condition.json"]] == ["2026-11-18", "2026-11-19"]
    assert list(told["symbology.json"]["result"]) == ["NQ.v.0"]
    listed = client(sandbox).list_files(job_id)
    assert told["manifest.json"] == {"job_id": job_id, "files": listed[:-1]}


def test_a_cut_off_file_is_resumed(sandbox: Sandbox, tmp_path: Path) -> None:
    """The client asks for the rest of a file that is there in part, and its hash comes out right."""
    job_id = bought(sandbox, schema="mbo")
    data = next(file for file in client(sandbox).list_files(job_id) if ".dbn" in file["filename"])
    (whole,) = client(sandbox).download(job_id, tmp_path / "whole", filename_to_download=data["filename"])
    part = tmp_path / "part" / job_id / data["filename"]
    part.parent.mkdir(parents=True)
    part.write_bytes(whole.read_bytes()[: data["size"] // 3])
    (resumed,) = client(sandbox).download(job_id, tmp_path / "part", filename_to_download=data["filename"])
    assert resumed == part
    assert part.read_bytes() == whole.read_bytes()


def test_ranges_of_a_file_are_served(sandbox: Sandbox) -> None:
    """206 with what was asked for; 416 for what lies beyond the end."""
    job_id = bought(sandbox)
    file = client(sandbox).list_files(job_id)[-2]
    path, size = urllib.parse.urlsplit(file["urls"]["https"]).path, file["size"]
    whole = get(sandbox, path)[2]
    status, headers, body = get(sandbox, path, {"Range": f"bytes=10-{size - 1}"})
    assert (status, body) == (206, whole[10:])
    assert headers["Content-Range"] == f"bytes 10-{size - 1}/{size}"
    assert get(sandbox, path, {"Range": f"bytes={size}-{size + 9}"})[0] == 416


def test_only_its_own_files_are_found(sandbox: Sandbox) -> None:
    """No other name, no other user, and nothing outside a job's folder."""
    job_id = bought(sandbox)
    path = urllib.parse.urlsplit(client(sandbox).list_files(job_id)[0]["urls"]["https"]).path
    folder = path.rpartition("/")[0]
    for wrong in (
        f"{folder}/none.json",
        f"{folder}/..%2f..%2fpasswd",
        path.replace(path.split("/")[4], "SOMEBODY"),
    ):
        assert get(sandbox, wrong)[0] == 404
    assert get(sandbox, path, {"Authorization": "Basic bm9ib2R5Og=="})[0] == 401


def test_jobs_belong_to_the_team() -> None:
    """What one key bought another may fetch, as at the vendor's."""
    keys = ("db-one-000000000000000000000001", "db-two-000000000000000000000002")
    with running(keys=keys, rights={keys[1]: Rights(historical=frozenset())}) as sandbox:
        job_id = bought(sandbox)
        other = BatchHttpAPI(key=keys[1], gateway=sandbox.http_url)
        assert [job["id"] for job in other.list_jobs()] == [job_id]
        assert len(other.list_files(job_id)) > 3


def test_jobs_that_are_too_large_have_no_files() -> None:
    """They are sold and told of, but a sandbox does not fill the disk: 507."""
    with running(batch=BatchRules(files_max_bytes=1000)) as sandbox:
        job_id = bought(sandbox)
        with pytest.raises(BentoServerError) as caught:
            client(sandbox).list_files(job_id)
        assert case_of(caught.value) == (507, "sandbox_files_too_large")
        told = client(sandbox).get_job_details(job_id)
        assert (told["state"], told["package_size"]) == ("done", None)
        assert told["billed_size"] == sandbox.bill()["bytes"]


def test_files_go_when_the_sandbox_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie in a temporary folder, of which nothing is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with running() as sandbox:
        client(sandbox).list_files(bought(sandbox))
        assert list(tmp_path.rglob("manifest.json"))
    assert list(tmp_path.iterdir()) == []


# --- going wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "state"), [("batch_queued", "queued"), ("batch_failed", "processing")])
def test_a_job_may_never_be_done(sandbox: Sandbox, fault: str, state: str) -> None:
    """It is paid for all the same, and the next one is made."""
    sandbox.arm(fault)
    bought(sandbox)
    wait(sandbox, 86_400)
    assert states(sandbox) == [state]
    assert sandbox.bill()["connections"][0]["bytes"] > 0
    bought(sandbox)
    assert states(sandbox) == [state, "done"]


def test_the_answer_to_a_submission_may_be_lost(sandbox: Sandbox) -> None:
    """The connection is cut after the job was sold: it is on the bill, and shows in the listing in a moment."""
    sandbox.arm("batch_lost")
    with pytest.raises(requests.ConnectionError):
        client(sandbox).submit_job(**TRADES)
    (line,) = sandbox.bill()["connections"]
    assert line["bytes"] > 0
    assert client(sandbox).list_jobs() == []
    wait(sandbox, 1)
    (job,) = client(sandbox).list_jobs()
    assert line["ended"] == f"batch {job['id']}"
