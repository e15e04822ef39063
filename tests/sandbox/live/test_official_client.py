"""The vendor's own Python client on the sandbox's live side: every schema, every way to take records, its options."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import databento
import databento_dbn as dbn
import pytest

from budget_guard.clock import ManualClock, RehearsalClock, ns_from_instant
from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.live.outgoing import Outgoing
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.prices import DEFAULT_PRICES, DatasetPrices
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import DATASET, ended

TIMEOUT_S = 15.0
# Bars of every length and the records of a new day come at midnight, in the middle of a session.
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
BEFORE_MIDNIGHT = MIDNIGHT - timedelta(seconds=0.4)
BEFORE_TEN = datetime(2026, 11, 24, 15, tzinfo=UTC) - timedelta(
    seconds=0.4
)  # in New York: stocks and options trade
SATURDAY = datetime(2026, 11, 21, 12, tzinfo=UTC)

CONSOLIDATED = frozenset({"cmbp-1", "tcbbo", "cbbo-1s", "cbbo-1m"})
# These come so seldom that a replay has to be asked for.
SELDOM = frozenset({"definition", "statistics", "status", "imbalance"})
PRICES = {**DEFAULT_PRICES, "XNAS.ITCH": DatasetPrices({"mbo": None, "imbalance": None})}


def subscription_to(schema: str) -> dict[str, Any]:
    """What a client asks for to see records of a schema soon."""
    if schema in CONSOLIDATED:
        asked = {"dataset": "OPRA.PILLAR", "symbols": "SPY.OPT", "stype_in": "parent"}
    elif schema == "imbalance":
        asked = {"dataset": "XNAS.ITCH", "symbols": "ALL_SYMBOLS"}
    else:
        asked = {"dataset": DATASET, "symbols": "NQ.v.0", "stype_in": "continuous"}
    start = {"start": MIDNIGHT - timedelta(hours=23)} if schema in SELDOM else {}
    return {**asked, "schema": schema, **start}


@contextmanager
def sandbox_at(now: datetime = BEFORE_MIDNIGHT, **fields: Any) -> Iterator[Sandbox]:
    with running_sandbox(
        SandboxConfig(**{"clock": RehearsalClock(now), "prices": PRICES, **fields})
    ) as sandbox:
        yield sandbox


def client_of(sandbox: Sandbox, **options: Any) -> databento.Live:
    return databento.Live(key=sandbox.key, gateway="127.0.0.1", port=sandbox.live_port, **options)


class Taken:
    """A callback that keeps every record and lets others wait for what they look for."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, record: Any) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    def wait(self, holds: Callable[[list[Any]], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.records), TIMEOUT_S), "it never came"

    def wait_for_data(self, count: int = 1) -> None:
        self.wait(lambda records: len(data_of(records)) >= count)


def data_of(records: list[Any]) -> list[Any]:
    control = (dbn.SystemMsg, dbn.ErrorMsg, dbn.SymbolMappingMsg)
    return [record for record in records if not isinstance(record, control)]


def system_codes(records: list[Any]) -> list[Any]:
    return [record.code for record in records if isinstance(record, dbn.SystemMsg)]


# The client's frames are made in a way that pandas is going to drop.
@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("schema", sorted(SPECS))
def test_every_schema_is_iterated_called_back_and_written(schema: str, tmp_path: Path) -> None:
    """The same records reach the loop, the callback and a file that the client's own reader makes a frame of."""
    taken, path = Taken(), tmp_path / "live.dbn"
    iterated: list[Any] = []
    clock = ManualClock(BEFORE_TEN if schema in CONSOLIDATED else BEFORE_MIDNIGHT)
    with sandbox_at(clock=clock) as sandbox:
        client = client_of(sandbox)
        client.subscribe(**subscription_to(schema))
        client.add_callback(taken)
        client.add_stream(path)
        too_late = threading.Timer(TIMEOUT_S, client.terminate)
        too_late.start()
        records = iter(client)
        while not sandbox.live_progress.streaming:  # until then the clock may not move
            assert too_late.is_alive()
        clock.advance(1)
        for record in records:
            iterated.append(record)
            if data_of([record]):
                sandbox.close_live()
        too_late.cancel()
        client.block_for_close(timeout=TIMEOUT_S)
    data = data_of(taken.records)
    assert {record.rtype for record in data} == {dbn.RType.from_schema(dbn.Schema.from_str(schema))}
    # The loop begins a moment after the callback: its queue is switched on once the session has started.
    everything = [bytes(record) for record in taken.records]
    assert [bytes(record) for record in iterated] == everything[len(everything) - len(iterated) :]
    store = databento.DBNStore.from_file(path)
    frame = store.to_df(schema=schema)
    store.reader.close()
    assert len(frame) == len(data)
    assert set(frame["instrument_id"]) == {record.instrument_id for record in data}
    assert set(client.symbology_map) >= set(frame["instrument_id"])


@pytest.mark.parametrize("options", [{"ts_out": True}, {"compression": dbn.Compression.ZSTD}, {}])
def test_what_arrives_is_what_is_billed(options: dict[str, Any]) -> None:
    """With the time of sending, compressed, or neither: the bill counts the bytes of the records that are decoded."""
    taken = Taken()
    with sandbox_at(rate=20_000) as sandbox:
        client = client_of(sandbox, **options)
        client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous")
        client.subscribe(DATASET, "mbp-10", "ES.FUT", "parent")
        client.subscribe(DATASET, "ohlcv-1s", "NQ.FUT", "parent")
        client.add_callback(taken)
        client.start()
        taken.wait(lambda records: {dbn.MBOMsg, dbn.MBP10Msg, dbn.OHLCVMsg} <= set(map(type, records)))
        sandbox.close_live()
        client.block_for_close(timeout=TIMEOUT_S)
        (line,) = sandbox.wait_for(ended())["connections"]
    by_schema = {dbn.MBOMsg: "mbo", dbn.MBP10Msg: "mbp-10", dbn.OHLCVMsg: "ohlcv-1s"}
    seen = {"mbo": 0, "mbp-10": 0, "ohlcv-1s": 0, "control": 0}
    for record in taken.records:
        seen[by_schema.get(type(record), "control")] += record.record_size()
    billed = {name: row["bytes"] for name, row in line["schemas"].items() if name != "control"}
    assert {**billed, "control": line["control_bytes"]} == seen
    sent = {record.ts_out is not None and record.ts_out < dbn.UNDEF_TIMESTAMP for record in taken.records}
    assert sent == {options.get("ts_out", False)}


def test_the_time_of_sending_is_after_the_time_of_capture() -> None:
    """On market data and on control records alike."""
    taken = Taken()
    with sandbox_at() as sandbox:
        client = client_of(sandbox, ts_out=True)
        client.subscribe(DATASET, "trades", "NQ.v.0", "continuous")
        client.add_callback(taken)
        client.start()
        taken.wait_for_data(20)
        client.stop()
        client.block_for_close(timeout=TIMEOUT_S)
    assert {type(record) for record in taken.records} == {dbn.SystemMsg, dbn.SymbolMappingMsg, dbn.TradeMsg}
    assert all(record.ts_index <= record.ts_out for record in taken.records)
    assert all(ns_from_instant(BEFORE_MIDNIGHT) <= record.ts_out for record in taken.records)


def test_every_record_is_stamped_as_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    stamped, taken = Outgoing.stamped, Taken()
    monkeypatch.setattr(Outgoing, "stamped", lambda outgoing, _now_ns: stamped(outgoing, 7))
    with sandbox_at() as sandbox:
        client = client_of(sandbox, ts_out=True)
        client.subscribe(DATASET, "trades", "NQ.v.0", "continuous")
        client.add_callback(taken)
        client.start()
        taken.wait_for_data(20)
        client.stop()
        client.block_for_close(timeout=TIMEOUT_S)
    assert {record.ts_out for record in taken.records} == {7}


def test_a_reset_is_mended_once_by_the_clients_own_policy() -> None:
    """`reconnect` logs on again, subscribes again, and is told the gap; the records go on."""
    taken, gaps = Taken(), []
    with sandbox_at(rate=2000) as sandbox:
        client = client_of(sandbox, reconnect_policy="reconnect")
        client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous")
        client.add_callback(taken)
        client.add_reconnect_callback(lambda start, end: gaps.append((start, end)))
        client.start()
        taken.wait_for_data(10)
        before = len(taken.records)
        sandbox.reset_live()
        taken.wait(lambda records: len(data_of(records[before:])) > 200 and gaps)
        client.stop()
        client.block_for_close(timeout=TIMEOUT_S)
        lines = sandbox.wait_for(ended(2))["connections"]
    assert len(lines) == 2
    assert system_codes(taken.records).count(dbn.SystemCode.SUBSCRIPTION_ACK) == 2
    ((start, end),) = gaps
    assert start < end
    first, second = data_of(taken.records[:before]), data_of(taken.records[before:])
    assert first[-1].sequence < second[-1].sequence


def test_a_clean_close_is_an_end() -> None:
    """`reconnect` does not reconnect after one, and waiting for the close returns."""
    taken = Taken()
    with sandbox_at() as sandbox:
        client = client_of(sandbox, reconnect_policy="reconnect")
        client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous")
        client.add_callback(taken)
        client.start()
        taken.wait_for_data()
        sandbox.close_live()
        client.block_for_close(timeout=TIMEOUT_S)
        assert not client.is_connected()
        assert len(sandbox.wait_for(ended())["connections"]) == 1


def test_heartbeats_come_at_the_asked_interval() -> None:
    """Five seconds after the last record and not before; nobody waits for them here."""
    clock, taken = ManualClock(SATURDAY), Taken()
    with sandbox_at(clock=clock, rate=None) as sandbox:
        client = client_of(sandbox, heartbeat_interval_s=5)
        client.subscribe(DATASET, "trades", "NQ.v.0", "continuous")
        client.add_callback(taken)
        client.start()
        taken.wait(lambda records: len(records) == 2)
        for beats in (1, 2):
            clock.advance(4.0)
            clock.advance(1.5)
            taken.wait(lambda records, beats=beats: len(records) == 2 + beats)  # type: ignore[misc]
        client.stop()
        client.block_for_close(timeout=TIMEOUT_S)
    assert system_codes(taken.records)[1:] == [dbn.SystemCode.HEARTBEAT] * 2


@pytest.mark.parametrize("compression", [dbn.Compression.NONE, dbn.Compression.ZSTD])
def test_a_replay_catches_up_and_says_so(compression: dbn.Compression) -> None:
    """From a date, an ISO text or nanoseconds; every bar since then, in order, once."""
    for start in (
        MIDNIGHT - timedelta(hours=1),
        "2026-11-24T23:00:00",
        ns_from_instant(MIDNIGHT) - 3600 * 10**9,
    ):
        taken = Taken()
        with sandbox_at(MIDNIGHT + timedelta(seconds=1)) as sandbox:
            client = client_of(sandbox, compression=compression)
            client.subscribe(DATASET, "ohlcv-1m", "NQ.v.0", "continuous", start=start)
            client.add_callback(taken)
            client.start()
            taken.wait(lambda records: dbn.SystemCode.REPLAY_COMPLETED in system_codes(records))
            client.stop()
            client.block_for_close(timeout=TIMEOUT_S)
            assert client.metadata is None  # the client forgets it with the session
        stamps = [record.ts_event for record in data_of(taken.records)]
        assert stamps == sorted(set(stamps))
        assert len(stamps) == pytest.approx(60, abs=5)  # a minute without a trade has no bar
        ends = [
            one.ts_event
            for one in taken.records
            if getattr(one, "code", None) == dbn.SystemCode.END_OF_INTERVAL
        ]
        assert len(ends) == 61


def test_everything_there_is_can_be_asked_for() -> None:
    """`start=0` is the whole weekly session of definitions: one for each day since Sunday evening."""
    taken = Taken()
    with sandbox_at() as sandbox:
        client = client_of(sandbox)
        client.subscribe(DATASET, "definition", "NQ.v.0", "continuous", start=0)
        client.add_callback(taken)
        client.start()
        taken.wait(lambda records: dbn.SystemCode.REPLAY_COMPLETED in system_codes(records))
        client.stop()
        client.block_for_close(timeout=TIMEOUT_S)
    sunday = ns_from_instant(datetime(2026, 11, 22, 23, tzinfo=UTC))
    stamps = [record.ts_recv for record in data_of(taken.records)]
    assert stamps
    assert min(stamps) >= sunday
    assert {record.raw_symbol for record in data_of(taken.records)} == {"NQZ6"}


def test_a_snapshot_comes_before_live_records() -> None:
    """Marked as one, ended by the last flag, and nothing of it afterwards."""
    taken = Taken()
    with sandbox_at() as sandbox:
        client = client_of(sandbox)
        client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous", snapshot=True)
        client.add_callback(taken)
        client.start()
        taken.wait(lambda records: any(not record.flags & dbn.F_SNAPSHOT for record in data_of(records)))
        client.stop()
        client.block_for_close(timeout=TIMEOUT_S)
    marked = [bool(record.flags & dbn.F_SNAPSHOT) for record in data_of(taken.records)]
    assert marked == sorted(marked, reverse=True)
    book = data_of(taken.records)[: sum(marked)]
    assert [bool(record.flags & dbn.F_LAST) for record in book] == [False] * (len(book) - 1) + [True]


def test_more_symbols_than_fit_on_a_line_are_one_subscription() -> None:
    """The client sends several lines; they are acknowledged once, and each symbol is resolved."""
    taken = Taken()
    symbols = [f"NO{number}" for number in range(600)] + ["NQZ6"]
    with sandbox_at() as sandbox:
        client = client_of(sandbox)
        client.subscribe(DATASET, "trades", symbols)
        client.add_callback(taken)
        client.start()
        taken.wait_for_data()
        sandbox.close_live()
        with pytest.raises(databento.BentoError, match="Failed to resolve symbol"):
            client.block_for_close(timeout=TIMEOUT_S)
    assert system_codes(taken.records) == [dbn.SystemCode.SUBSCRIPTION_ACK]
    unresolved = [record.err for record in taken.records if isinstance(record, dbn.ErrorMsg)]
    assert len(unresolved) == 600
    assert unresolved[7].startswith("Failed to resolve symbol: NO7")
