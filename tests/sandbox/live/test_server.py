"""The live gateway, read by the official client and by a bare socket: its bill is the truth."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import databento
import databento_dbn as dbn
import pytest
import zstandard
from databento.common.error import BentoError

from budget_guard.clock import ManualClock, RehearsalClock, ns_from_instant
from budget_guard.sandbox.billing.bill import exact_cost
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.market.runs import F_LAST, F_SNAPSHOT
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import DATASET, NQ_MBO, BareClient, ended

TUESDAY = datetime(2026, 11, 24, 14, 40, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
MBO, TRADES, SYSTEM, ERROR = 160, 0, 23, 21

Start = Callable[..., Sandbox]


def config(now: datetime = TUESDAY, **fields: Any) -> SandboxConfig:
    return SandboxConfig(clock=RehearsalClock(now), **fields)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running_sandbox(config(rate=2000)) as running:
        yield running


def live_client(sandbox: Sandbox, **options: Any) -> databento.Live:
    return databento.Live(key=sandbox.key, gateway="127.0.0.1", port=sandbox.live_port, **options)


def has_sent(size: int, number: int = 1) -> Callable[[dict[str, Any]], bool]:
    return lambda bill: (
        len(bill["connections"]) >= number and bill["connections"][number - 1]["bytes"] >= size
    )


@pytest.mark.parametrize("ts_out", [False, True])
def test_what_the_official_client_decodes_is_what_is_billed(sandbox: Sandbox, ts_out: bool) -> None:
    """Callbacks see as many bytes of each schema and of control records as the bill says, at its prices."""
    client = live_client(sandbox, ts_out=ts_out)
    client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous")
    client.subscribe(DATASET, "trades", "ES.FUT", "parent")
    seen = {"mbo": 0, "trades": 0, "control": 0}

    def count(record: Any) -> None:
        name = {dbn.MBOMsg: "mbo", dbn.TradeMsg: "trades"}.get(type(record), "control")
        seen[name] += record.record_size()

    client.add_callback(count)
    client.start()
    sandbox.wait_for(has_sent(600_000))
    assert sandbox.close_live() == 1
    client.block_for_close(timeout=10)
    (line,) = sandbox.wait_for(ended())["connections"]
    assert {name: row["bytes"] for name, row in line["schemas"].items()} | {
        "control": line["control_bytes"]
    } == seen
    assert line["bytes"] == sum(seen.values()) >= 600_000
    cost = exact_cost(seen["mbo"], Decimal("2.16")) + exact_cost(
        seen["trades"] + seen["control"], Decimal("33.6")
    )
    assert Decimal(line["cost_usd"]) == cost
    assert (line["mode"], line["month"], line["ended"]) == ("live", "2026-11", "closed by the sandbox")


def test_the_official_client_iterates(sandbox: Sandbox) -> None:
    """Records come in the order of their index timestamps, and the client knows their symbols."""
    client = live_client(sandbox)
    client.subscribe(DATASET, "trades", "NQ.v.0", "continuous")
    client.subscribe(DATASET, "tbbo", "ES.v.0", "continuous")
    # What arrives before its queue is switched on the client does not iterate over: so only data is looked at.
    data = []
    for record in client:
        if isinstance(record, dbn.TradeMsg | dbn.MBP1Msg):
            data.append((record.ts_index, record.instrument_id))
        if len(data) == 400:
            client.stop()
            break
    client.block_for_close(timeout=10)
    assert data == sorted(data, key=lambda row: row[0])
    assert set(client.symbology_map) == {instrument for _, instrument in data}


def test_the_official_client_is_told_its_symbols(sandbox: Sandbox) -> None:
    """An acknowledgement and a mapping come before the first record."""
    client = live_client(sandbox)
    client.subscribe(DATASET, "trades", "NQ.v.0", "continuous")
    records: list[Any] = []
    client.add_callback(records.append)
    client.start()
    sandbox.wait_for(has_sent(10_000))
    sandbox.close_live()
    client.block_for_close(timeout=10)
    acknowledgement, mapping, first = records[:3]
    assert isinstance(acknowledgement, dbn.SystemMsg)
    assert acknowledgement.code == dbn.SystemCode.SUBSCRIPTION_ACK
    assert isinstance(mapping, dbn.SymbolMappingMsg)
    assert (mapping.stype_in_symbol, mapping.stype_out_symbol) == ("NQ.v.0", "NQZ6")
    assert isinstance(first, dbn.TradeMsg)
    assert first.instrument_id == mapping.instrument_id


@pytest.mark.parametrize("schema", ["mbp-1", "mbp-10", "ohlcv-1s", "bbo-1s"])
def test_other_schemas_stream_too(sandbox: Sandbox, schema: str) -> None:
    """Their records arrive, from a replay's start on, as many as there are."""
    start = ns_from_instant(TUESDAY) - 5 * 10**9
    spec = SPECS[schema]
    with BareClient(sandbox, f"schema={schema}|stype_in=raw_symbol|symbols=NQZ6|start={start}") as client:
        client.start()
        records = client.records(5, spec.rtype)
        client.finish()
    place = 32 if spec.index_field == "ts_recv" else 8
    stamps = [int.from_bytes(record[place : place + 8], "little") for record in records]
    assert {len(record) for record in records} == {spec.size}
    assert start <= stamps[0] < start + 10**9 + 1
    assert stamps == sorted(stamps)


def test_every_byte_after_the_header_is_billed(sandbox: Sandbox) -> None:
    """A client that half-closes and reads on to the gateway's FIN has read exactly the bill, in whole records."""
    with BareClient(sandbox, NQ_MBO) as client:
        metadata = client.start()
        records = client.records(1000)
        rest = client.finish()
    (line,) = sandbox.wait_for(ended())["connections"]
    assert (metadata.version, metadata.dataset, metadata.schema) == (3, DATASET, None)
    assert line["bytes"] == sum(map(len, records)) + len(rest)
    assert line["schemas"]["mbo"]["bytes"] % 56 == 0
    assert line["ended"] == "closed by the client"


@pytest.mark.parametrize("rate", [0, 200_000])
def test_a_reader_that_is_killed_has_read_no_more_than_the_bill(rate: int) -> None:
    """However a client disappears, what it read is billed, and no more than the buffers beyond it."""
    with running_sandbox(config(rate=rate)) as sandbox, BareClient(sandbox, NQ_MBO) as client:
        client.start()
        read = len(client.read(3_000_000))
        client.close()
        (line,) = sandbox.wait_for(ended())["connections"]
        assert read <= line["bytes"]
        assert line["ended"].startswith(("lost", "closed by the client"))


def test_a_reader_that_does_not_read_stops_the_bill() -> None:
    """With nobody reading, no more is billed than the buffers hold; what comes later is still whole and in order."""
    with (
        running_sandbox(config(rate=0, send_buffer_bytes=65536)) as sandbox,
        BareClient(sandbox, NQ_MBO, receive_buffer=65536) as client,
    ):
        client.start()
        before = sandbox.bill()["bytes"]
        while (now := sandbox.wait_for(lambda _: True)["bytes"]) != before:
            before = now
        assert now < 2**22
        rest = client.finish()
        (line,) = sandbox.wait_for(ended())["connections"]
        assert line["bytes"] == len(rest)
        assert line["control_bytes"] == 320 + 176
        assert (len(rest) - 320 - 176) % 56 == 0


def test_two_connections_agree_record_by_record(sandbox: Sandbox) -> None:
    """The market does not depend on who is looking: where two connections overlap they got the same bytes."""
    with BareClient(sandbox, NQ_MBO) as one, BareClient(sandbox, NQ_MBO) as two:
        one.start()
        one.records(1, MBO)
        two.start()
        late = two.records(200, MBO)
        early = one.records(1, MBO)
        while early[-1] != late[-1]:
            early += one.records(1, MBO)
    first = early.index(late[0])
    assert early[first:] == late


def test_a_replay_after_a_break_is_what_live_was(sandbox: Sandbox) -> None:
    """What the exchange stamped from an instant on is repeated to the byte, then the end is said, then live goes on."""
    with BareClient(sandbox, NQ_MBO) as client:
        client.start()
        live = client.records(500, MBO)
        client.close()
    start = int.from_bytes(live[100][40:48], "little")
    stamped = [record for record in live if int.from_bytes(record[8:16], "little") >= start]
    assert 0 < len(stamped) < 400
    with BareClient(sandbox, f"{NQ_MBO}|start={start}") as client:
        client.start()
        again = client.records(len(stamped), MBO)
        assert again == stamped
        codes = []
        while 3 not in codes:
            record = client.record()
            if record[1] == SYSTEM:
                codes.append(record[319])
            else:
                again.append(record)
        again += client.records(100, MBO)
    stamps = [int.from_bytes(record[40:48], "little") for record in again]
    sequences = [int.from_bytes(record[52:56], "little") for record in again]
    assert stamps == sorted(stamps)
    assert sequences == list(range(sequences[0], sequences[0] + len(again)))


def test_at_the_markets_own_pace_live_is_what_history_has() -> None:
    """With no rate, a replay holds exactly the records that the historical API counts."""
    with running_sandbox(config(rate=None)) as sandbox:
        start = ns_from_instant(TUESDAY) - 60 * 10**9
        body = f"dataset={DATASET}&schema=trades&symbols=NQ.v.0&stype_in=continuous&start={start}"
        request = urllib.request.Request(
            f"{sandbox.http_url}/v0/metadata.get_record_count",
            data=f"{body}&end={ns_from_instant(TUESDAY)}".encode(),
            headers={"Authorization": basic(sandbox.key)},
        )
        count = json.load(urllib.request.urlopen(request))
        line = f"schema=trades|stype_in=continuous|symbols=NQ.v.0|start={start}"
        with BareClient(sandbox, line) as client:
            client.start()
            records = client.records(count + 1, TRADES)
    stamps = [int.from_bytes(record[32:40], "little") for record in records]
    assert start <= stamps[0]
    assert stamps[count - 1] < ns_from_instant(TUESDAY) <= stamps[count]


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


def test_a_rate_is_kept() -> None:
    """At 50,000 records/s, each second of market time has that many."""
    with running_sandbox(config(rate=50_000)) as sandbox, BareClient(sandbox, NQ_MBO) as client:
        client.start()
        records = client.records(60_000, MBO)
    stamps = [int.from_bytes(record[40:48], "little") for record in records]
    assert sum(1 for stamp in stamps if stamp < stamps[0] + 10**9) == pytest.approx(50_000, abs=2)


def test_without_a_limit_a_bare_reader_is_not_kept_waiting() -> None:
    """At rate 0 the gateway gives well over 100,000 mbo records/s, numbered without a hole."""
    with running_sandbox(config(rate=0)) as sandbox, BareClient(sandbox, NQ_MBO) as client:
        client.start()
        client.records(2)
        began = time.perf_counter()
        data = client.read(500_000 * 56)
        took = time.perf_counter() - began
    sequences = [int.from_bytes(data[at + 52 : at + 56], "little") for at in range(0, len(data), 56)]
    assert sequences == list(range(sequences[0], sequences[0] + 500_000))
    assert 500_000 / took > 100_000


def test_a_quiet_market_has_heartbeats() -> None:
    """On a weekend nothing but heartbeats comes, and they are billed as control."""
    quiet = config(SATURDAY, rate=None, heartbeat_interval_s=0.02)
    with running_sandbox(quiet) as sandbox, BareClient(sandbox, NQ_MBO) as client:
        client.start()
        records = client.records(5, SYSTEM)
        assert [record[319] for record in records] == [1, 0, 0, 0, 0]
        client.finish()
        (line,) = sandbox.wait_for(ended())["connections"]
        assert line["bytes"] == line["control_bytes"] >= 5 * 320


def test_a_snapshot_comes_first_and_is_marked(sandbox: Sandbox) -> None:
    """`snapshot=1` gives the book, marked, before live records, of which the first is no older than it."""
    with BareClient(sandbox, f"{NQ_MBO}|snapshot=1") as client:
        client.start()
        records = client.records(1, MBO)
        while records[-1][36] & F_SNAPSHOT:
            records += client.records(1, MBO)
    *book, first = records
    assert {int.from_bytes(record[40:48], "little") for record in book} == {
        int.from_bytes(book[0][40:48], "little")
    }
    assert [bool(record[36] & F_LAST) for record in book] == [False] * (len(book) - 1) + [True]
    assert first[40:48][::-1] >= book[0][40:48][::-1]


def test_a_subscription_can_come_later(sandbox: Sandbox) -> None:
    """After the start another subscription is acknowledged and its records join."""
    with BareClient(sandbox, NQ_MBO) as client:
        client.start()
        client.records(10, MBO)
        client.send("schema=trades|stype_in=continuous|symbols=ES.v.0|id=7")
        assert b"request 7 for trades" in client.records(1, SYSTEM)[0]
        assert client.records(10, TRADES)


def error_of(client: BareClient) -> tuple[str, int]:
    record = client.records(1, ERROR)[0]
    return record[16:318].rstrip(b"\0").decode(), record[318]


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("schema=imbalance|symbols=NQZ6", 5, "Invalid schema 'imbalance'"),
        ("schema=mbo|stype_in=isin|symbols=NQZ6", 5, "stype_in 'isin'"),
        (f"{NQ_MBO}|start=1000", 8, "replay reaches back 24 h"),
        (f"{NQ_MBO}|start=9000000000000000000", 5, "not from the future"),
        ("schema=trades|symbols=NQZ6|snapshot=1", 5, "only mbo"),
    ],
)
def test_a_subscription_that_cannot_be_ends_the_session(
    sandbox: Sandbox, line: str, code: int, text: str
) -> None:
    """Header, an error record that says why, FIN."""
    with BareClient(sandbox, line) as client:
        client.start()
        message, number = error_of(client)
        assert client.rest() == b""
    assert text in message
    assert number == code


def test_an_unknown_symbol_ends_nothing(sandbox: Sandbox) -> None:
    """The error names it, and the other symbols stream."""
    with BareClient(sandbox, "schema=mbo|stype_in=continuous|symbols=XX.v.0,NQ.v.0") as client:
        client.start()
        text, code = error_of(client)
        assert text.startswith("Failed to resolve symbol: XX.v.0")
        assert code == 4
        assert client.records(10, MBO)


def test_a_wrong_key_is_refused(sandbox: Sandbox) -> None:
    """The official client raises the gateway's words, and nothing is on the bill."""
    client = databento.Live(key="db-wrong", gateway="127.0.0.1", port=sandbox.live_port)
    with pytest.raises(BentoError, match=r"^Authentication failed\.$"):
        client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous")
    assert sandbox.bill()["connections"] == []


def test_an_unlicensed_dataset_is_refused() -> None:
    """In the vendor's words."""
    with running_sandbox(config(live_entitlements=frozenset({"EQUS.MINI"}))) as sandbox:
        with pytest.raises(BentoError, match=r"^A live data license is required to access GLBX\.MDP3\.$"):
            live_client(sandbox).subscribe(DATASET, "mbo", "NQ.v.0", "continuous")
        with BareClient(sandbox, dataset="EQUS.MINI") as client:
            assert client.reply.startswith("success=1|session_id=")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dataset": "NOPE.NOPE"}, "Unknown dataset"),
        ({"login": "|compression=gzip"}, "Unsupported compression"),
        ({"login": "|heartbeat_interval_s=3"}, "Invalid heartbeat_interval_s"),
    ],
)
def test_other_logins_are_refused_with_a_reason(
    sandbox: Sandbox, options: dict[str, Any], error: str
) -> None:
    """The reply names what is wrong."""
    with BareClient(sandbox, **options) as client:
        assert client.reply.startswith(f"success=0|error={error}")
        assert client.rest() == b""


def test_connections_are_limited_by_dataset_over_all_keys() -> None:
    """One more than allowed is refused, whatever its key; another dataset has room; an end makes room."""
    keys = ("db-first-key-1", "db-second-key-2")
    with running_sandbox(config(limits=Limits(connections_per_dataset=2), keys=keys)) as sandbox:
        first = BareClient(sandbox, key=keys[0])
        with BareClient(sandbox, key=keys[1]), BareClient(sandbox, dataset="EQUS.MINI") as other:
            assert other.reply.startswith("success=1")
            with BareClient(sandbox, key=keys[1]) as third:
                assert third.reply == "success=0|error=User has reached their open connection limit"
            first.close()
            sandbox.wait_for(ended(1))
            with BareClient(sandbox, key=keys[1]) as fourth:
                assert fourth.reply.startswith("success=1")


def test_a_reset_is_a_reset(sandbox: Sandbox) -> None:
    """The client sees its connection reset, and what was sent stays billed."""
    with BareClient(sandbox, NQ_MBO) as client:
        client.start()
        read = sum(map(len, client.records(50)))
        assert sandbox.reset_live() == 1
        with pytest.raises(ConnectionResetError):
            client.rest()
    (line,) = sandbox.wait_for(ended())["connections"]
    assert line["ended"] == "reset by the sandbox"
    assert line["bytes"] >= read


def test_refused_connections_are_closed_at_once(sandbox: Sandbox) -> None:
    """As many as asked for, then the door is open again."""
    sandbox.refuse_live(2)
    for _ in range(2):
        with pytest.raises((EOFError, ConnectionResetError)):
            BareClient(sandbox)
    with BareClient(sandbox) as client:
        assert client.reply.startswith("success=1")


def test_a_revoked_licence_refuses_the_next_login(sandbox: Sandbox) -> None:
    """Open connections go on; new ones are refused until it is restored."""
    with BareClient(sandbox, NQ_MBO) as open_one:
        open_one.start()
        sandbox.revoke_live(DATASET)
        with BareClient(sandbox) as client:
            assert "A live data license is required" in client.reply
        assert open_one.records(50, MBO)
        sandbox.restore_live(DATASET)
        with BareClient(sandbox) as client:
            assert client.reply.startswith("success=1")


def test_stopping_ends_connections_cleanly() -> None:
    """A sandbox that stops lets its clients read whole records to a FIN, and its bill stays readable."""
    with running_sandbox(config(rate=5000)) as sandbox:
        client = BareClient(sandbox, NQ_MBO)
        client.start()
        read = sum(map(len, client.records(100)))
    with client:
        read += len(client.rest())
    assert sandbox.bill()["bytes"] == read


def test_a_compressed_session_is_billed_by_what_it_holds() -> None:
    """Records as they are decompressed, to the byte when it ends cleanly; the frame is never finished."""
    with (
        running_sandbox(config(rate=50_000)) as sandbox,
        BareClient(sandbox, NQ_MBO, login="|compression=zstd") as client,
    ):
        client.send("start_session")
        sandbox.wait_for(has_sent(1_000_000))
        unpack = zstandard.ZstdDecompressor().decompressobj()
        data = unpack.decompress(client.finish())
        (line,) = sandbox.wait_for(ended())["connections"]
    header = 8 + int.from_bytes(data[4:8], "little")
    assert dbn.Metadata.decode(data[:header]).version == 3
    assert line["bytes"] == len(data) - header
    assert not unpack.eof


def test_a_compressed_reader_that_is_killed_has_decoded_no_more_than_the_bill() -> None:
    """A buffer is billed whole with the first of its compressed bytes."""
    with (
        running_sandbox(config(rate=0)) as sandbox,
        BareClient(sandbox, NQ_MBO, login="|compression=zstd") as client,
    ):
        client.send("start_session")
        data = zstandard.ZstdDecompressor().decompressobj().decompress(client.read(1_000_001))
        client.close()
        (line,) = sandbox.wait_for(ended())["connections"]
    assert 0 < len(data) - 8 - int.from_bytes(data[4:8], "little") <= line["bytes"]


@pytest.mark.parametrize(
    ("schema", "login", "code"),
    [
        ("mbo", "", SYSTEM),
        ("mbp-1", "|slow_reader_behavior=warn", SYSTEM),
        ("mbp-1", "", ERROR),
    ],
)
def test_a_reader_that_falls_behind_is_told(schema: str, login: str, code: int) -> None:
    """Somebody who reads nothing while the market goes on finds a warning or a skip, and then live data."""
    clock = ManualClock(TUESDAY)
    fields = {"send_buffer_bytes": 65536, "slow_reader_s": 2.0}
    with (
        running_sandbox(SandboxConfig(clock=clock, rate=100_000, **fields)) as sandbox,  # type: ignore[arg-type]
        BareClient(
            sandbox,
            f"schema={schema}|stype_in=continuous|symbols=NQ.v.0",
            login=login,
            receive_buffer=65536,
        ) as client,
    ):
        client.start()
        client.records(2)
        while not sandbox.live_progress.streaming:
            pass
        clock.advance(10)
        told = client.records(1, code)[0]
        if code == SYSTEM:
            assert told[319] == 2
            assert told[16:].startswith(f"Warning: slow reading of {schema}, ".encode())
        else:
            assert told[318] == 7
            assert told[16:].startswith(f"Slow client detected for {schema}: skipped ".encode())
            clock.advance(0.05)
            late = client.records(1, SPECS[schema].rtype)[0]
            assert int.from_bytes(late[32:40], "little") >= ns_from_instant(TUESDAY) + 10**10 - 10**7


def test_subscriptions_beyond_the_limit_are_delayed() -> None:
    """Three a second here: the fourth is answered when a second has passed, and none is refused."""
    clock = ManualClock(SATURDAY)
    limits = Limits(subscriptions_per_s=3)
    with (
        running_sandbox(SandboxConfig(clock=clock, rate=None, limits=limits)) as sandbox,
        BareClient(sandbox, NQ_MBO) as client,
    ):
        client.start()
        client.records(2)
        for number in range(4):
            client.send(f"schema=trades|stype_in=continuous|symbols=NQ.v.0|id={number}")
        assert [client.record()[1] for _ in range(4)] == [SYSTEM, 22, SYSTEM, 22]
        before = sandbox.bill()["bytes"]
        clock.advance(0.5)
        assert sandbox.wait_for(lambda _: True)["bytes"] == before
        clock.advance(0.6)
        assert b"request 2" in client.record()


def test_unknown_fields_are_passed_over(sandbox: Sandbox) -> None:
    """In the login and in a subscription: newer clients say more."""
    with BareClient(sandbox, f"{NQ_MBO}|new=1", login="|details=x|client=me|later=2") as client:
        assert client.reply.startswith("success=1")
        client.start()
        assert client.records(1, MBO)
