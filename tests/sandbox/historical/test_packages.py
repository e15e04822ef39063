"""The files of a job: their names, their contents, and that they add up to what was bought."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from databento import DBNStore
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.sandbox.historical.encodings import Form
from budget_guard.sandbox.historical.jobs import Job, Split
from budget_guard.sandbox.historical.packages import Abandoned, Package, file_name, metadata, pack, pieces
from budget_guard.sandbox.historical.ranges import History
from budget_guard.sandbox.historical.request import Query, parse_time
from budget_guard.sandbox.historical.timeseries import Purchase
from budget_guard.sandbox.market.synthetic import Market

HISTORY = History(Market(0, {("trades", "NQ"): 5000, ("trades", "ES"): 5000}))
DAY_NS = 86_400 * 10**9


def query(start: str, end: str, schema: str = "trades", **fields: object) -> Query:
    symbols = fields.pop("symbols", ("NQ.v.0", "ES.v.0"))
    found = Query("GLBX.MDP3", schema, symbols, "continuous", parse_time(start)[0], parse_time(end)[0], None)  # type: ignore[arg-type]
    return replace(found, **fields)  # type: ignore[arg-type]


def job(asked: Query, form: Form | None = None, split: Split | None = None) -> Job:
    return Job(
        job_id="GLBX-20261120-6T3F5G5TYH",
        user_id="W7KFYTCU",
        purchase=Purchase(asked, "instrument_id", form or Form("dbn", "zstd")),
        split=split or Split(),
        record_count=HISTORY.count(asked),
        billed_bytes=HISTORY.size(asked),
        cost_usd=Decimal(1),
        received_utc=datetime(2026, 11, 20, 21, tzinfo=UTC),
        host="127.0.0.1:8080",
    )


def packed(made: Job, folder: Path) -> Package:
    return pack(HISTORY, made, [], folder, lambda: False)


def records(package: Package) -> bytes:
    """The records of all DBN files, in the order of the package."""
    return b"".join(
        DBNStore.from_bytes(file.path.read_bytes()).to_ndarray().tobytes()
        for file in package.files
        if ".dbn" in file.name
    )


def whole(asked: Query) -> bytes:
    return b"".join(rows.tobytes() for rows in HISTORY.open(asked).batches())


THREE_DAYS = query("2026-11-12T12:00", "2026-11-16T12:00")


@pytest.mark.parametrize("duration", ["day", "week", "month", "year", "none"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_the_files_of_a_job_make_what_was_bought(duration: str, compression: str, tmp_path: Path) -> None:
    """Laid end to end, the files hold the range's records, each once."""
    package = packed(job(THREE_DAYS, Form("dbn", compression), Split(duration=duration)), tmp_path)
    assert records(package) == whole(THREE_DAYS)


def test_a_day_without_records_has_no_file(tmp_path: Path) -> None:
    """Nothing is traded on a Saturday; Sunday evening has a file of its own."""
    package = packed(job(THREE_DAYS), tmp_path)
    assert [file.name for file in package.files if ".dbn" in file.name] == [
        f"glbx-mdp3-202611{day}.trades.dbn.zst" for day in ("12", "13", "15", "16")
    ]


def test_the_vendors_files_lie_beside_the_data(tmp_path: Path) -> None:
    """Condition, metadata, symbology, data, and a manifest of all of them but itself."""
    made = job(THREE_DAYS, split=Split(duration="none"))
    package = packed(made, tmp_path)
    data = "glbx-mdp3-20261112-20261116.trades.dbn.zst"
    names = ["condition.json", "metadata.json", "symbology.json", data]
    assert [file.name for file in package.files] == [*names, "manifest.json"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["job_id"] == made.job_id
    assert manifest["files"] == [file.listing(made) for file in package.files[:-1]]
    assert package.sizes.data_bytes == (tmp_path / data).stat().st_size
    assert package.sizes.package_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_lines_that_name_their_symbol_need_no_symbology(tmp_path: Path) -> None:
    """As in the vendor's packages of 2026."""
    made = job(THREE_DAYS, Form("csv", map_symbols=True))
    assert "symbology.json" not in [file.name for file in packed(made, tmp_path).files]


def test_a_package_weighs_what_the_vendors_did(tmp_path: Path) -> None:
    """A published job had 8,341 bytes of data in a package of 10,578: so long are metadata and manifest."""
    asked = Query(
        "XNAS.ITCH", "ohlcv-1m", ("MSFT",), "raw_symbol", 1654864200 * 10**9, 1654869600 * 10**9, 1000
    )
    made = replace(
        job(THREE_DAYS),
        job_id="XNAS-20260825-6T3F5G5TYH",
        purchase=Purchase(asked, "instrument_id", Form("csv", map_symbols=True)),
        split=Split(duration="none"),
        host="api.databento.com",
    )
    told = json.dumps(metadata(made), indent=4)
    assert len(told) == 687
    name = file_name(asked, made.purchase.form)
    assert name == "xnas-itch-20220610.ohlcv-1m.csv"
    # The vendor's URLs are https, ours one letter shorter, and its two hosts differ.
    entry = {
        "filename": name,
        "size": 8341,
        "hash": f"sha256:{'0' * 64}",
        "urls": {
            "https": made.url(name).replace("http:", "https:"),
            "ftp": made.ftp_url(name).replace("api.", "ftp."),
        },
    }
    condition = {"date": "2022-06-10", "condition": "available", "last_modified_date": "2025-11-27"}
    small = len(json.dumps([condition], indent=4))
    assert small == 122
    files = [
        json.loads(json.dumps(entry).replace(name, other).replace("8341", str(size)))
        for other, size in (("condition.json", small), ("metadata.json", 687), (name, 8341))
    ]
    manifest = len(json.dumps({"job_id": made.job_id, "files": files}, indent=4))
    assert 8341 + small + 687 + manifest == 10578


def test_symbols_have_files_of_their_own(tmp_path: Path) -> None:
    """Split by symbol, each file holds one symbol's records, named as it was asked for."""
    package = packed(job(THREE_DAYS, split=Split(symbols=True, duration="none")), tmp_path)
    parts = [file for file in package.files if ".dbn" in file.name]
    assert [file.name for file in parts] == [
        f"glbx-mdp3-20261112-20261116.trades.{symbol}.dbn.zst" for symbol in ("ES.v.0", "NQ.v.0")
    ]
    for file, symbol in zip(parts, ("ES.v.0", "NQ.v.0"), strict=True):
        rows = DBNStore.from_bytes(file.path.read_bytes()).to_ndarray()
        assert rows.tobytes() == whole(replace(THREE_DAYS, symbols=(symbol,)))


def test_a_parents_contracts_are_named_by_their_own_symbols(tmp_path: Path) -> None:
    """A parent stands for many contracts: each has its file."""
    asked = query("2026-11-12", "2026-11-13", symbols=("NQ.FUT",), stype_in="parent")
    package = packed(job(asked, split=Split(symbols=True)), tmp_path)
    names = [file.name for file in package.files if ".dbn" in file.name]
    assert names == sorted(names)
    assert {f"glbx-mdp3-20261112.trades.NQ{month}.dbn.zst" for month in ("H7", "Z6")} <= set(names)


@pytest.mark.parametrize("encoding", ["dbn", "csv"])
def test_large_files_are_numbered_parts(encoding: str, tmp_path: Path) -> None:
    """Split by size, no record is lost or cut in two, and every part can be read on its own."""
    asked = query("2026-11-12T14:00", "2026-11-12T15:00", "mbo", symbols=("NQ.v.0",))
    form = Form(encoding)
    package = packed(job(asked, form, Split(size_bytes=100_000)), tmp_path / "parts")
    parts = [file for file in package.files if f".{encoding}" in file.name]
    assert [file.name for file in parts[:2]] == [
        f"glbx-mdp3-20261112.mbo.000{part}.{encoding}" for part in (0, 1)
    ]
    (single,) = [file for file in packed(job(asked, form), tmp_path).files if f".{encoding}" in file.name]
    if encoding == "dbn":
        assert records(package) == whole(asked)
    else:
        texts = [file.path.read_text().splitlines() for file in parts]
        assert {lines[0] for lines in texts} == {single.path.read_text().splitlines()[0]}
        assert [line for lines in texts for line in lines[1:]] == single.path.read_text().splitlines()[1:]


def test_a_limit_holds_for_the_job_not_for_each_file(tmp_path: Path) -> None:
    """Only the first records, wherever they lie."""
    asked = replace(THREE_DAYS, limit=HISTORY.count(THREE_DAYS) - 10)
    package = packed(job(asked), tmp_path)
    assert records(package) == whole(asked)
    few = replace(THREE_DAYS, limit=7)
    assert len(records(packed(job(few), tmp_path / "few"))) == 7 * 48


def test_the_same_job_is_the_same_bytes(tmp_path: Path) -> None:
    """Hashes do not depend on when or how often files are made."""
    made = job(THREE_DAYS, Form("json", "zstd", True, True, False))
    first, second = packed(made, tmp_path / "a"), packed(made, tmp_path / "b")
    assert [file.sha256 for file in first.files] == [file.sha256 for file in second.files]


def test_making_files_can_be_called_off(tmp_path: Path) -> None:
    """A sandbox that ends does not wait for them."""
    with pytest.raises(Abandoned):
        pack(HISTORY, job(THREE_DAYS), [], tmp_path, lambda: True)


@settings(max_examples=100)
@given(
    st.integers(1_500_000_000, 1_790_000_000),
    st.integers(1, 400 * 86_400),
    st.sampled_from(["day", "week", "month", "year", "none"]),
)
def test_pieces_cover_a_range_once(start_s: int, length_s: int, duration: str) -> None:
    """They follow one another without gap or overlap, and every inner edge starts a day, week, month or year."""
    asked = query("2026-11-12", "2026-11-13", start_ns=start_s * 10**9, end_ns=(start_s + length_s) * 10**9)
    found = pieces(asked, duration)
    assert (found[0].start_ns, found[-1].end_ns) == (asked.start_ns, asked.end_ns)
    for before, after in pairwise(found):
        assert before.end_ns == after.start_ns
        edge = date(1970, 1, 1).toordinal() + after.start_ns // DAY_NS
        day = date.fromordinal(edge)
        assert after.start_ns % DAY_NS == 0
        assert duration == "day" or {
            "week": day.isoweekday() == 7,
            "month": day.day == 1,
            "year": (day.month, day.day) == (1, 1),
        }.get(duration)
    longest = {"day": 1, "week": 7, "month": 31, "year": 366}.get(duration, 10**6)
    assert all(0 < piece.end_ns - piece.start_ns <= longest * DAY_NS for piece in found)
