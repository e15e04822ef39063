"""What is written is what the vendor's tools write, whatever it is cut into."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import zstandard
from databento import DBNStore
from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.sandbox.historical.encodings import Encoder, Form, parse_form, slices
from budget_guard.sandbox.historical.ranges import Download, History
from budget_guard.sandbox.historical.request import ApiError, Query, parse_time
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.synthetic import Market

# The client's own, against a pandas newer than it.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

MARKET = Market(0)
HISTORY = History(MARKET)


def download(schema: str, stype_out: str = "instrument_id") -> Download:
    """A little of a schema: a tenth of a second, or two days of what is rare."""
    times = ("2026-03-10T14:30", "2026-03-10T14:30:00.5")
    if SPECS[schema].kind != "tick":
        times = ("2026-03-10T14:30", "2026-03-10T14:31") if "1s" in schema else ("2026-03-10", "2026-03-12")
    start_ns, end_ns = (parse_time(time)[0] for time in times)
    options = ("OPRA.PILLAR", ("SPY.OPT",), "parent")
    places: dict[str, tuple[str, tuple[str, ...], str]]
    places = {"cmbp-1": options, "tcbbo": options, "cbbo-1s": options, "cbbo-1m": options}
    places["imbalance"] = ("XNAS.ITCH", ("AAPL", "SPY"), "raw_symbol")
    dataset, symbols, stype_in = places.get(schema, ("GLBX.MDP3", ("NQ.v.0", "ES.v.0"), "continuous"))
    query = Query(dataset, schema, symbols, stype_in, start_ns, end_ns, 200)
    return HISTORY.open(query, stype_out)


def written(part: Download, form: Form) -> bytes:
    return b"".join(frame for _, frame in part.frames(form))


def plain(data: bytes, form: Form) -> bytes:
    if form.compression == "none":
        return data
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()


@pytest.mark.parametrize("schema", SPECS)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_every_schema_is_read_back_as_dbn(schema: str, compression: str) -> None:
    """The client reads the same records, and their number, from either compression."""
    part = download(schema)
    store = DBNStore.from_bytes(written(part, Form("dbn", compression)))
    assert store.to_ndarray().tobytes() == b"".join(rows.tobytes() for rows in part.batches())
    assert len(store.to_df()) == HISTORY.count(part.query) > 0


@pytest.mark.parametrize("schema", SPECS)
@pytest.mark.parametrize("pretty", [False, True])
def test_text_is_what_the_official_client_writes(schema: str, pretty: bool, tmp_path: Path) -> None:
    """CSV and JSON are to the byte what `DBNStore.to_csv` and `to_json` make of the same DBN."""
    part = download(schema)
    store = DBNStore.from_bytes(written(part, Form("dbn")))
    store.to_csv(tmp_path / "csv", pretty_px=pretty, pretty_ts=pretty, map_symbols=pretty)
    store.to_json(tmp_path / "json", pretty_px=pretty, pretty_ts=pretty, map_symbols=pretty)
    for encoding in ("csv", "json"):
        form = Form(encoding, "none", pretty, pretty, pretty)
        text = written(part, form)
        assert text == (tmp_path / encoding).read_bytes()
        assert text.count(b"\n") == HISTORY.count(part.query) + (encoding == "csv")


@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
def test_compressed_is_the_same_when_it_is_unpacked(encoding: str) -> None:
    """zstd holds the very bytes that come without it."""
    part = download("mbp-1")
    form = Form(encoding, "zstd", pretty_px=True)
    assert plain(written(part, form), form) == written(part, Form(encoding, "none", pretty_px=True))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["dbn", "csv", "json"]),
    st.sampled_from(["none", "zstd"]),
    st.lists(st.integers(1, 700), min_size=1, max_size=30),
)
def test_however_it_is_cut_it_says_the_same(encoding: str, compression: str, cuts: list[int]) -> None:
    """Pieces may end within a record."""
    part = download("trades")
    records = b"".join(rows.tobytes() for rows in part.batches())
    form = Form(encoding, compression)
    encoder = Encoder(form, part.header)
    pieces = [encoder.begin()]
    for cut in cuts:
        pieces.append(encoder.add(records[:cut]))
        records = records[cut:]
    pieces += [encoder.add(records), encoder.end()]
    assert plain(b"".join(pieces), form) == plain(written(part, form), form)


@pytest.mark.parametrize("encoding", ["dbn", "csv", "json"])
def test_what_was_written_so_far_can_be_read(encoding: str) -> None:
    """A download that is cut off after so many record bytes holds exactly those, compressed or not."""
    part = download("trades")
    whole = [frame for size, frame in part.frames(Form(encoding, "zstd"), 48 * 5)]
    reader = zstandard.ZstdDecompressor().decompressobj()
    text = b"".join(reader.decompress(frame) for frame in whole)
    assert text == b"".join(frame for _, frame in part.frames(Form(encoding), 48 * 5))
    assert text.count(b"\n") == {"csv": 6, "json": 5}.get(encoding, text.count(b"\n"))


def test_a_frame_counts_dbn_bytes_whatever_it_is_written_as() -> None:
    """The bill's figure is that of the uncompressed DBN records."""
    part = download("mbo")
    sizes = {
        sum(size for size, _ in part.frames(Form(encoding, compression)))
        for encoding in ("dbn", "csv", "json")
        for compression in ("none", "zstd")
    }
    assert sizes == {HISTORY.size(part.query)}


def test_slices_are_small_and_make_the_whole() -> None:
    """Nobody waits long for one slice to be written."""
    rows = np.zeros(50_000, dtype=SPECS["trades"].dtype)
    for form in (Form("csv"), Form("dbn", "zstd")):
        parts = list(slices(form, rows))
        assert b"".join(parts) == rows.tobytes()
        assert all(len(part) <= 1024 * 1024 and len(part) % 48 == 0 for part in parts)
        assert len(parts) > 1


def test_ids_map_to_raw_symbols_when_asked() -> None:
    """With `stype_in=instrument_id` and `stype_out=raw_symbol` each record's symbol is its contract."""
    (instrument,) = MARKET.resolve("GLBX.MDP3", "NQ.v.0", "continuous", date(2026, 3, 10))
    start_ns = parse_time("2026-03-10T14:30")[0]
    query = Query(
        "GLBX.MDP3",
        "ohlcv-1s",
        (str(instrument.instrument_id),),
        "instrument_id",
        start_ns,
        start_ns + 10**10,
        None,
    )
    part = HISTORY.open(query, "raw_symbol")
    lines = written(part, Form("csv", map_symbols=True)).decode().splitlines()
    assert {line.rpartition(",")[2] for line in lines[1:]} == {instrument.raw_symbol}
    frame = DBNStore.from_bytes(written(part, Form("dbn"))).to_df()
    assert set(frame["symbol"]) == {instrument.raw_symbol}


def test_a_parent_maps_to_its_contracts() -> None:
    """The symbol of a record that was bought by its parent is its own contract's."""
    start_ns = parse_time("2026-03-10T14:30")[0]
    query = Query("GLBX.MDP3", "ohlcv-1s", ("NQ.FUT",), "parent", start_ns, start_ns + 10**10, None)
    frame = DBNStore.from_bytes(written(HISTORY.open(query), Form("dbn"))).to_df()
    assert {"NQH6", "NQM6"} <= set(frame["symbol"])
    assert all(len(symbol) == 4 for symbol in frame["symbol"])


def test_nothing_said_is_csv() -> None:
    """The vendor's HTTP defaults: CSV, uncompressed, raw numbers, no symbols."""
    assert parse_form({}) == Form("csv")


def test_flags_are_read_as_clients_spell_them() -> None:
    """Python sends True, others true or 1."""
    fields = {"encoding": "json", "pretty_px": "True", "pretty_ts": "1", "map_symbols": "false"}
    assert parse_form(fields) == Form("json", pretty_px=True, pretty_ts=True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoding": "parquet"}, "encoding: 'parquet' is not one of dbn, csv, json"),
        ({"compression": "gzip"}, "compression: 'gzip' is not one of none, zstd"),
        ({"pretty_px": "maybe"}, "pretty_px: should be true or false; got 'maybe'"),
    ],
)
def test_a_form_that_does_not_exist_is_refused(fields: dict[str, str], said: str) -> None:
    """It says what would be right."""
    with pytest.raises(ApiError, match=said) as caught:
        parse_form(fields)
    assert caught.value.status == 422
