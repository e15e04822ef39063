"""Recorded files as a market: what is read comes back, whole, in order, for whoever it was recorded for."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import databento
import databento_dbn as dbn
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from budget_guard.sandbox.market import recorded_table
from budget_guard.sandbox.market.model import Selection
from budget_guard.sandbox.market.recorded import Range, Recording
from budget_guard.sandbox.market.recorded_file import RecordingError
from tests.sandbox.market.recordings import (
    DATASET,
    DAY_NS,
    MONDAY_NS,
    header,
    in_order,
    mapped,
    resolved,
    rows_of,
    served,
    write,
)

T = MONDAY_NS + 14 * 3600 * 10**9
RAW_TYPE = dbn.SType.from_str("raw_symbol")


def system(text: str, ts_out: int | None = None) -> bytes:
    stamp = {} if ts_out is None else {"ts_out": ts_out}
    return bytes(dbn.SystemMsg(T, text, dbn.SystemCode.from_int(1), **stamp))


def mapping(symbol: str, stype: str, one: int, raw: str, at_ns: int = T, start_ns: int = 0) -> bytes:
    stypes = dbn.SType.from_str(stype), RAW_TYPE
    return bytes(dbn.SymbolMappingMsg(0, one, at_ns, stypes[0], symbol, stypes[1], raw, start_ns, 2**64 - 1))


@pytest.mark.parametrize("name", ["plain.dbn", "squeezed.dbn.zst"])
def test_records_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    """A file of several instruments is served byte for byte in its own order, compressed (in two frames) or not."""
    rows = rows_of("mbo", [T, T, T, T + 5, T + 9], [9, 7, 9, 7, 8], order_id=[1, 2, 3, 4, 5])
    recording = Recording([write(tmp_path / name, header(), rows)])
    assert served(recording, "mbo").tobytes() == rows.tobytes()
    assert served(recording, "mbo", ("9",), "instrument_id").tobytes() == rows[[0, 2]].tobytes()
    assert (recording.records, recording.first_ns, recording.last_ns) == (5, T, T + 9)
    assert any("temporary file" in note for note in recording.notes) is name.endswith(".zst")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("schema", ["mbo", "definition", "statistics"])
def test_older_versions_are_upgraded_as_the_official_client_does(
    tmp_path: Path, version: int, schema: str
) -> None:
    """Records of DBN 1 and 2 are served as those of version 3 that the client's own reader makes of them."""
    fields = {"raw_symbol": [b"NQH6", b"NQM6"], "strike_price": 2**63 - 1} if schema == "definition" else {}
    rows = rows_of(schema, [T, T + 1], [7, 8], version, **fields)
    path = write(tmp_path / "old.dbn", header(schema, version=version), rows)
    expected = b"".join(bytes(record) for record in databento.DBNStore.from_bytes(path.read_bytes()))
    recording = Recording([path])
    assert served(recording, schema).tobytes() == expected
    if schema == "definition":
        assert resolved(recording, "NQH6", "raw_symbol") == {"NQH6": 7}


def test_times_of_sending_are_left_out(tmp_path: Path) -> None:
    """A file with ts_out is served without: the sandbox adds its own where it is asked to."""
    rows = rows_of("trades", [T, T + 1])
    wide = np.zeros((2, 56), dtype=np.uint8)
    wide[:, :48] = rows.view(np.uint8).reshape(2, 48)
    wide[:, 0] = 14
    recording = Recording([write(tmp_path / "a.dbn", header("trades", ts_out=True), wide.tobytes())])
    assert served(recording, "trades").tobytes() == rows.tobytes()


def test_a_live_file_is_taken_apart_by_type(tmp_path: Path) -> None:
    """Records of several types and the session's own messages lie in one file; the messages are no data."""
    mbo, trades = rows_of("mbo", [T, T + 2, T + 2]), rows_of("trades", [T + 1, T + 2])
    parts: list[Any] = [mbo[:1], trades[:1], mbo[1:2], system("Heartbeat"), trades[1:], mbo[2:]]
    start = mapping("NQ.v.0", "continuous", 7, "NQH6")
    recording = Recording([write(tmp_path / "live.dbn", header(None, stype_in=None), start, *parts)])
    assert served(recording, "mbo").tobytes() == mbo.tobytes()
    assert served(recording, "trades", ("NQ.v.0",), "continuous").tobytes() == trades.tobytes()
    assert recording.records == 5
    both = [
        part
        for schema in ("trades", "mbo")
        for part in recording.parts(Selection(DATASET, schema, ("7",), "instrument_id"), 0, 2**62)
    ]
    order = np.concatenate([part.order for part in both if part.order is not None])
    assert np.argsort(order).tolist() == [2, 0, 3, 1, 4]  # equal times keep the file's order across types


def test_an_old_live_file_does_not_say_what_kind_of_symbols_it_maps(tmp_path: Path) -> None:
    """Mappings of DBN 1 have no kinds of symbols: they are told by their form."""
    old: list[Any] = []
    for name in (b"NQ.v.0", b"NQ.FUT", b"NQH6"):
        message = np.zeros(1, dtype=np.dtype(dbn.SymbolMappingMsgV1._dtypes))
        message["length"], message["rtype"], message["instrument_id"] = 20, 0x16, 7
        message["stype_in_symbol"], message["stype_out_symbol"] = name, b"NQH6"
        old.append(message)
    rows = rows_of("statistics", [T], 7, 1)
    path = write(tmp_path / "live.dbn", header(None, stype_in=None, version=1), *old, rows)
    recording = Recording([path])
    for symbol, stype in (("NQ.v.0", "continuous"), ("NQ.FUT", "parent"), ("NQH6", "raw_symbol")):
        assert resolved(recording, symbol, stype) == {"NQH6": 7}
        assert len(served(recording, "statistics", (symbol,), stype)) == 1


@pytest.mark.parametrize(
    ("acknowledged", "action", "schema"),
    [
        (["tbbo"], b"A", "tbbo"),
        (["mbp-1"], b"T", "mbp-1"),
        ([], b"T", "tbbo"),
        ([], b"A", "mbp-1"),
        (["mbp-1", "tbbo"], b"T", "mbp-1"),
    ],
)
def test_mbp_1_and_tbbo_of_a_live_file(
    tmp_path: Path, acknowledged: list[str], action: bytes, schema: str
) -> None:
    """They share a record type: the session's acknowledgements tell, else the trades do, and a note says it."""
    said = [system(f"Subscription request for {name} data succeeded") for name in acknowledged]
    rows = rows_of("mbp-1", [T, T + 1], action=action)
    recording = Recording([write(tmp_path / "live.dbn", header(None, stype_in=None), *said, rows)])
    assert list(recording.ranges[DATASET]) == [schema]
    assert any("may be mbp-1 or tbbo" in note for note in recording.notes) is (len(said) != 1)


def test_a_continuous_symbol_follows_its_days(tmp_path: Path) -> None:
    """It stands for each day's instrument, whatever else the file has of that instrument on other days."""
    symbols = [mapped("NQ.v.0", (0, 1, 7), (1, 2, 8))]
    rows = rows_of("mbo", [T, T + 1, T + DAY_NS, T + DAY_NS + 1], [7, 8, 7, 8])
    recording = Recording(
        [
            write(
                tmp_path / "a.dbn",
                header(stype_in="continuous", symbols=["NQ.v.0"], mappings=symbols),
                rows,
            )
        ]
    )
    found = served(recording, "mbo", ("NQ.v.0",), "continuous")
    assert found.tobytes() == rows[[0, 3]].tobytes()
    assert resolved(recording, "NQ.v.0", "continuous", 0) == {"7": 7}
    assert resolved(recording, "NQ.v.0", "continuous", 1) == {"8": 8}
    assert resolved(recording, "NQ.v.0", "continuous", 2) == {}
    assert served(recording, "mbo", ("7", "8"), "raw_symbol").tobytes() == rows.tobytes()


def test_a_live_continuous_symbol_holds_until_it_is_mapped_anew(tmp_path: Path) -> None:
    """The second mapping ends the first where its own interval begins."""
    rows = rows_of("mbo", [T, T + 10, T + 20], [7, 8, 7])
    said = [
        mapping("NQ.v.0", "continuous", 7, "NQH6"),
        mapping("NQ.v.0", "continuous", 8, "NQM6", T + 9, T + 5),
    ]
    recording = Recording([write(tmp_path / "live.dbn", header(None, stype_in=None), *said, rows)])
    assert served(recording, "mbo", ("NQ.v.0",), "continuous").tobytes() == rows[:2].tobytes()
    assert resolved(recording, "ALL_SYMBOLS", "raw_symbol") == {"NQH6": 7, "NQM6": 8}


@pytest.mark.parametrize("spelt_out", [False, True])
def test_a_parent_has_its_children(tmp_path: Path, spelt_out: bool) -> None:
    """Whether a header maps the parents themselves or spells their children out, both can be asked for."""
    children = {"ESH6": 1, "ESH6-ESM6": 2, "ESXH6": 3, "ESH6 C5000": 4}
    parents = ["ES.FUT", "ESX.FUT", "ES.OPT"]
    mappings = [mapped(raw, (0, 1, one)) for raw, one in children.items()]
    if not spelt_out:
        mappings = [
            mapped("ES.FUT", (0, 1, 1), (0, 1, 2)),
            mapped("ESX.FUT", (0, 1, 3)),
            mapped("ES.OPT", (0, 1, 4)),
        ]
    rows = rows_of("mbo", [T] * 4, [1, 2, 3, 4])
    head = header(stype_in="parent", symbols=parents, mappings=mappings)
    recording = Recording([write(tmp_path / "a.dbn", head, rows)])
    for parent, own in zip(parents, ([1, 2], [3], [4]), strict=True):
        assert served(recording, "mbo", (parent,), "parent")["instrument_id"].tolist() == own
        assert sorted(resolved(recording, parent, "parent").values()) == own
    if spelt_out:
        assert resolved(recording, "ALL_SYMBOLS", "raw_symbol") == children


def test_what_no_file_has_stands_for_nothing(tmp_path: Path) -> None:
    """Unknown symbols, kinds and datasets resolve to nothing, and the recording says what it has instead."""
    head = header(mappings=[mapped("NQH6", (0, 1, 7))])
    recording = Recording([write(tmp_path / "a.dbn", head, rows_of("mbo", [T]))])
    for symbol, stype in [
        ("ESH6", "raw_symbol"),
        ("NQH6", "continuous"),
        ("8", "instrument_id"),
        ("x", "parent"),
    ]:
        assert resolved(recording, symbol, stype) == {}
        assert len(served(recording, "mbo", (symbol,), stype)) == 0
    assert recording.describe(DATASET) == "raw_symbol NQH6; instrument_id 7; ALL_SYMBOLS"
    assert recording.describe("XNAS.ITCH") == ""
    assert recording.count(Selection("XNAS.ITCH", "mbo", ("ALL_SYMBOLS",), "raw_symbol"), 0, 2**62) == 0


def test_records_that_come_late_are_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows after later ones are sorted, those of equal time as they stood, across chunks too; a note counts them."""
    monkeypatch.setattr(recorded_table, "_CHUNK_ROWS", 3)
    offsets = [5, 6, 7, 5, 6, 1, 8, 9, 9, 2]
    rows = rows_of("mbo", [T + n for n in offsets])
    path = write(tmp_path / "a.dbn", header(), rows)
    recording = Recording([path])
    assert served(recording, "mbo").tobytes() == rows[np.argsort(offsets, kind="stable")].tobytes()
    assert recording.notes == [f"{path}: 4 mbo records came after later ones and were put in order"]


def test_several_files_make_one_market(tmp_path: Path) -> None:
    """Consecutive files of a schema are one; other schemas and datasets stand beside it."""
    one, two = rows_of("mbo", [T, T + 1]), rows_of("mbo", [T + 2])
    other = rows_of("trades", [T + 5])
    recording = Recording(
        [
            write(tmp_path / "2.dbn", header(start=T, end=T + 2), two),
            write(tmp_path / "1.dbn", header(start=T, end=T + 2), one),
            write(
                tmp_path / "3.dbn", header("trades", dataset="XNAS.ITCH", start=T, limit=1, end=T + 9), other
            ),
        ]
    )
    assert served(recording, "mbo").tobytes() == np.concatenate([one, two]).tobytes()
    assert dict(recording.ranges) == {
        DATASET: {"mbo": Range(T, T + 3)},
        "XNAS.ITCH": {"trades": Range(T + 5, T + 6)},
    }


def test_the_same_records_are_not_served_twice(tmp_path: Path) -> None:
    """Two files with one instrument over the same time are refused, by name; different instruments are not."""
    paths = [
        write(tmp_path / name, header(), rows_of("mbo", [T, T + 9], one))
        for name, one in (("a.dbn", 7), ("b.dbn", 8), ("c.dbn", 7))
    ]
    assert Recording(paths[:2]).records == 4
    with pytest.raises(RecordingError, match=r"a\.dbn and .*c\.dbn both have mbo of instrument 7"):
        Recording(paths)


def _files() -> list[tuple[bytes, str]]:
    head, rows = header(), rows_of("mbo", [T, T + 1, T + 2]).tobytes()
    first = len(head)
    return [
        (b"", "empty"),
        (head, "no market data: nothing but a header and no record"),
        (head + system("Heartbeat"), "no market data"),
        (b"ts_event,price\n", "not DBN"),
        (b"DBN\x07" + head[4:], "DBN version 07 at byte 3"),
        (head[:40], "truncated at byte 40, within the DBN header"),
        (
            head + rows[:-1],
            f"truncated: the record at byte {first + 112:,} is 56 bytes long, and 55 are left",
        ),
        (
            head + rows[:56] + b"\0" + rows[57:],
            f"corrupt at byte {first + 56:,}: a record cannot be 0 bytes long",
        ),
        (
            head + rows[:57] + b"\x99" + rows[58:],
            f"corrupt at byte {first + 56:,}: no record has the type 0x99",
        ),
        (
            head + b"\x0c" + rows[1:48] + rows[56:],
            f"corrupt at byte {first:,}: a record of type 0xA0 is 48 bytes",
        ),
        (
            head + rows_of("mbo", [T, 2**64 - 1]).tobytes(),
            f"the record at byte {first + 56:,} has no ts_recv",
        ),
    ]


@pytest.mark.parametrize(("data", "error"), _files())
@pytest.mark.parametrize("suffix", [".dbn", ".dbn.zst"])
def test_what_cannot_be_read_is_refused_by_name_and_byte(
    tmp_path: Path, data: bytes, error: str, suffix: str
) -> None:
    """Every defect has an error of its own that names the file and the byte."""
    path = write(tmp_path / f"bad{suffix}", data)
    with pytest.raises(RecordingError) as caught:
        Recording([path])
    text = str(caught.value).replace(" (decompressed)", "")
    assert text.startswith(str(path))
    assert error in text


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_zstd_file_is_refused(tmp_path: Path, damage: str) -> None:
    """A frame that does not end, or does not decompress, is an error that says how far it went."""
    path = write(tmp_path / "bad.dbn.zst", header(), rows_of("mbo", range(T, T + 500)))
    data = path.read_bytes()
    magic, second = data[:4], data.rindex(data[:4])
    path.write_bytes(data[:-7] if damage == "cut" else data[:second] + bytes(4) + data[second + len(magic) :])
    word = "truncated" if damage == "cut" else "corrupt"
    with pytest.raises(RecordingError, match=rf"bad\.dbn\.zst: {word} .*\(compressed\)"):
        Recording([path])


def test_no_temporary_file_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written beside a file cannot outlive the sandbox, however it ends."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    rows = rows_of("mbo", [T, T - 1, T + 3], [7, 8, 7])
    recording = Recording([write(tmp_path / "a.dbn.zst", header(), rows)])
    assert served(recording, "mbo").tobytes() == rows[[1, 0, 2]].tobytes()
    assert list(folder.iterdir()) == []


def test_a_record_type_without_a_schema_here_is_left_out(tmp_path: Path) -> None:
    """Bars of a kind that the sandbox does not sell are noted; a file of nothing else is refused."""
    bars = rows_of("ohlcv-1m", [T], rtype=0x11)
    mixed = write(tmp_path / "a.dbn", header(None, stype_in=None), bars, rows_of("mbo", [T]))
    recording = Recording([mixed])
    assert list(recording.ranges[DATASET]) == ["mbo"]
    assert recording.notes[0] == f"{mixed}: records of type 0x11 are not served"
    with pytest.raises(RecordingError, match=r"nothing to serve: .*0x11"):
        Recording([write(tmp_path / "b.dbn", header(None, stype_in=None), bars)])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), min_size=1, max_size=60),
    wanted=st.sets(st.integers(1, 7), min_size=1),
    first=st.integers(-2, 32),
    length=st.integers(1, 34),
    scan=st.integers(0, 40),
)
def test_any_selection_of_any_interval(
    tmp_path: Path, rows: list[tuple[int, int]], wanted: set[int], first: int, length: int, scan: int
) -> None:
    """Whatever was recorded, a selection has its rows in order of time, then of the file; `count` agrees."""
    stamps, ids = [T + at for at, _ in rows], [one for _, one in rows]
    recorded = rows_of("mbo", stamps, ids)
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(recorded_table, "_CHUNK_ROWS", 7)
        patched.setattr(recorded_table, "_SCAN_ROWS", scan)
        recording = Recording([write(tmp_path / "a.dbn", header(), recorded)])
        between = (T + first, T + first + length)
        ordered = recorded[np.argsort(recorded["ts_recv"], kind="stable")]
        inside = (ordered["ts_recv"] >= between[0]) & (ordered["ts_recv"] < between[1])
        chosen = inside & np.isin(ordered["instrument_id"], list(wanted))
        symbols: Any = tuple(str(one) for one in wanted)
        assert (
            served(recording, "mbo", symbols, "instrument_id", between).tobytes() == ordered[chosen].tobytes()
        )
        assert served(recording, "mbo", between=between).tobytes() == ordered[inside].tobytes()


def test_two_selections_name_the_same_rows_alike(tmp_path: Path) -> None:
    """A connection that subscribed to an instrument twice is sent it once: equal sources hold equal rows."""
    symbols = [mapped("NQ.v.0", (0, 1, 7), (1, 2, 8))]
    rows = rows_of("mbo", [T, T + 1, T + DAY_NS], [7, 8, 7])
    head = header(stype_in="continuous", symbols=["NQ.v.0"], mappings=symbols)
    recording = Recording([write(tmp_path / "a.dbn", head, rows)])
    selections = [
        Selection(DATASET, "mbo", ("NQ.v.0",), "continuous"),
        Selection(DATASET, "mbo", ("ALL_SYMBOLS",), "raw_symbol"),
    ]
    found: dict[Any, bytes] = {}
    for selection in selections:
        for part in recording.parts(selection, 0, 2**62):
            assert found.setdefault(part.source, part.rows.tobytes()) == part.rows.tobytes()
    assert sum(map(len, found.values())) == rows.nbytes
    assert in_order(recording.parts(selections[1], 0, 2**62)).tobytes() == rows.tobytes()
