"""Faults of live streams, seen by a reader of bytes; the bill stays exact under all of them."""

from __future__ import annotations

import socket
import struct
from itertools import pairwise
from typing import Any

import pytest
import zstandard

from budget_guard.sandbox.market.records import SPECS
from budget_guard.sandbox.server import Sandbox
from tests.sandbox.bare_client import NQ_MBO, BareClient, ended
from tests.sandbox.faults.wire import (
    ERROR,
    MBO,
    SYSTEM,
    advance_until_something_comes,
    data,
    nothing_comes,
    replay,
    replay_line,
    standing,
    until_replayed,
    wait_for_strikes,
)


def line_of(sandbox: Sandbox, number: int = 1) -> dict[str, Any]:
    """A closed line of the bill."""
    line: dict[str, Any] = sandbox.wait_for(ended(number))["connections"][number - 1]
    return line


def split(stream: bytes) -> list[bytes]:
    records = []
    while stream:
        records.append(stream[: stream[0] * 4])
        stream = stream[stream[0] * 4 :]
    return records


def until_ended(client: BareClient) -> list[bytes]:
    """Whole records, up to the end of the replay or of the connection."""
    records: list[bytes] = []
    try:
        while not records or b"Finished" not in records[-1]:
            records.append(client.record())
    except EOFError:
        pass
    return records


def test_a_clean_close_comes_after_exactly_so_many_records() -> None:
    """The record in hand, then FIN; what was billed is what was read."""
    with standing() as (sandbox, _):
        with BareClient(sandbox, replay_line()) as client:
            sandbox.arm("close", after="500 records")
            client.start()
            stream = client.rest()
        line = line_of(sandbox)
    assert len(data(split(stream))) == 500
    assert (line["bytes"], line["ended"]) == (len(stream), "ended by a fault")


def test_a_close_in_the_middle_of_a_record_finishes_it() -> None:
    """Bytes count from behind the DBN header, and the client reads whole records."""
    with standing() as (sandbox, _):
        with BareClient(sandbox, replay_line()) as client:
            sandbox.arm("close", after="10001 bytes")
            client.start()
            stream = client.rest()
        line = line_of(sandbox)
    assert 10_001 <= len(stream) < 10_001 + 56
    assert all(len(record) == record[0] * 4 for record in split(stream))
    assert line["bytes"] == len(stream)


def test_a_reset_is_one() -> None:
    """The reader gets an error, not an end; what the kernel took is billed."""
    with standing() as (sandbox, _), BareClient(sandbox, replay_line()) as client:
        sandbox.arm("reset", after="20000 bytes")
        client.start()
        with pytest.raises(ConnectionResetError):
            client.rest()
        line = line_of(sandbox)
    assert (line["bytes"], line["ended"]) == (20_000, "reset by the sandbox")


def test_silence_holds_back_everything_and_then_sends_it() -> None:
    """Not even heartbeats come; nothing of it is billed until it is sent; nothing is lost."""
    with standing() as (sandbox, clock):
        expected = replay(sandbox)
        sandbox.arm("silence", after="300 records", for_="60s")
        with BareClient(sandbox, replay_line()) as client:
            client.start()
            first = client.records(300, MBO)
            wait_for_strikes(sandbox)
            clock.advance(40)
            assert nothing_comes(client)
            billed = sandbox.bill()["connections"][1]["schemas"]["mbo"]["bytes"]
            clock.advance(21)
            rest = client.records(len(data(expected)) - 300, MBO)
    assert billed == 300 * 56
    assert first + rest == data(expected)


def test_heartbeats_alone_lose_the_records_meanwhile() -> None:
    """The connection looks alive; the records of that time never come and are not billed."""
    with standing(rate=100) as (sandbox, clock), BareClient(sandbox, NQ_MBO) as client:
        client.start()
        client.records(2)
        while nothing_comes(client, 0.05):
            clock.advance(0.5)
        sandbox.arm("heartbeats_only", for_="60s")
        sent: list[bytes] = []
        while not any(b"Heartbeat" in record for record in sent):
            advance_until_something_comes(client, clock, 5)
            sent += client.records(1)
        assert {record[1] for record in sent[-1:]} == {SYSTEM}
        advance_until_something_comes(client, clock, 5)
        sent += client.records(1)
        clock.advance(60)
        sent += client.records(20, MBO)
        sent += split(client.finish())
        line = line_of(sandbox)
    stamps = [int.from_bytes(record[40:48], "little") for record in data(sent)]
    assert max(later - earlier for earlier, later in pairwise(stamps)) > 50 * 10**9
    assert line["schemas"]["mbo"]["bytes"] == len(data(sent)) * 56


def test_an_unpaid_account_gets_heartbeats_and_no_tick() -> None:
    """The connection stays up, control records come, data does not, and downloads are not tried here."""
    with standing() as (sandbox, clock), BareClient(sandbox, NQ_MBO) as client:
        sandbox.arm("unpaid")
        client.start()
        records = client.records(2)
        advance_until_something_comes(client, clock, 5)
        records += client.records(1)
        client.finish()
        line = line_of(sandbox)
    assert [record[1] for record in records] == [SYSTEM, 22, SYSTEM]
    assert b"Heartbeat" in records[-1]
    assert line["schemas"]["mbo"]["bytes"] == 0


def test_a_slow_link_lets_so_many_bytes_a_second_through() -> None:
    """By the sandbox's clock: one that stands still lets nothing through."""
    with standing() as (sandbox, clock), BareClient(sandbox, replay_line()) as client:
        sandbox.arm("slow_link", bytes_per_s=10_000, after="1 bytes")
        client.start()
        client.read(1)
        assert nothing_comes(client)
        for seconds in (1, 2, 3):
            clock.advance(1)
            client.read(10_000)
            assert nothing_comes(client)
            assert sandbox.bill()["bytes"] == 1 + seconds * 10_000


def test_a_delay_holds_every_write() -> None:
    """Nothing comes before its time."""
    with standing() as (sandbox, clock), BareClient(sandbox, replay_line()) as client:
        sandbox.arm("delay", ms=500)
        client.send("start_session")
        assert advance_until_something_comes(client, clock, 0.1) >= 0.49
        assert client.read(3) == b"DBN"


def test_one_byte_at_a_time_is_a_segment_each() -> None:
    """Each is sent for itself, for as many bytes as were asked for; the stream is the same."""
    with standing() as (sandbox, _):
        expected = replay(sandbox)
        sandbox.arm("one_byte", bytes=3000)
        with BareClient(sandbox, replay_line()) as client:
            client.start()
            records = until_replayed(client)
            info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    segments = struct.unpack_from("I", info, 152)[0]  # tcpi_data_segs_in
    assert data(records) == data(expected)
    # A sender may join what waits for acknowledgements, more of it on a busy machine; without the fault there are 14.
    assert segments > 100


@pytest.mark.parametrize("ts_out", ["", "|ts_out=1"])
def test_a_corrupt_length_is_one_byte_of_one_record(ts_out: str) -> None:
    """Everything else stays where it was, so a reader that trusts lengths is lost from there on."""
    with standing() as (sandbox, _):
        streams = []
        for fault in (None, "corrupt_length"):
            if fault:
                sandbox.arm(fault, after="100 records")
            with BareClient(sandbox, replay_line(), login=ts_out) as client:
                client.start()
                streams.append(client.read(30_000))
    sound, corrupt = streams
    wrong = [place for place in range(30_000) if sound[place] != corrupt[place]]
    assert len(wrong) == 1
    assert corrupt[wrong[0]] == sound[wrong[0]] + 1 == (17 if ts_out else 15)


def test_a_corrupt_type_is_of_no_known_record() -> None:
    """Its length is right, so a reader can step over it."""
    with standing() as (sandbox, _):
        sandbox.arm("corrupt_rtype", after="100 records")
        records = replay(sandbox)
        expected = replay(sandbox)
    differing = [pair for pair in zip(expected, records, strict=True) if pair[0] != pair[1]]
    ((sound, corrupt),) = differing
    assert (sound[0], sound[2:]) == (corrupt[0], corrupt[2:])
    assert corrupt[1] == 160 ^ 0xFF
    assert corrupt[1] not in {spec.rtype for spec in SPECS.values()} | {ERROR, SYSTEM, 22}


def test_an_unknown_record_comes_in_between() -> None:
    """A sound record of a type nobody knows, billed as control; the others are all there."""
    with standing() as (sandbox, _):
        expected = replay(sandbox)
        sandbox.arm("unknown_record", after="100 records", rtype=0xEE)
        with BareClient(sandbox, replay_line()) as client:
            client.start()
            records = until_replayed(client)
            client.finish()
        line = line_of(sandbox, 2)
    (unknown,) = [record for record in records if record[1] == 0xEE]
    assert data(records) == data(expected)
    assert records.index(unknown) == expected.index(data(expected)[100])
    assert line["bytes"] == sum(map(len, records))
    assert line["control_bytes"] == sum(len(record) for record in records if record[1] != MBO)


def test_records_come_twice_and_are_billed_twice() -> None:
    """As a reconnection's replay may repeat what was there before."""
    with standing() as (sandbox, _):
        expected = data(replay(sandbox))
        sandbox.arm("duplicate", records=3, after="100 records")
        with BareClient(sandbox, replay_line()) as client:
            client.start()
            records = data(until_replayed(client))
            client.finish()
        line = line_of(sandbox, 2)
    twice = [record for record in expected[100:103] for _ in range(2)]
    assert records == [*expected[:100], *twice, *expected[103:]]
    assert line["schemas"]["mbo"]["bytes"] == len(records) * 56


def test_a_record_comes_after_its_successor() -> None:
    """On the second connection, where `skip` lets the first pass."""
    with standing() as (sandbox, _):
        sandbox.arm("out_of_order", after="100 records", skip=1)
        first, second = data(replay(sandbox)), data(replay(sandbox))
    assert second == [*first[:100], first[101], first[100], *first[102:]]


def test_a_replay_loses_a_share_and_says_that_it_is_complete() -> None:
    """Every fourth record of the replay is missing; live data after it is not."""
    with standing() as (sandbox, clock):
        expected = data(replay(sandbox))
        sandbox.arm("lose_replay", share=0.25)
        with BareClient(sandbox, replay_line()) as client:
            client.start()
            records = until_replayed(client)
            clock.advance(0.5)
            live = client.records(200, MBO)
    kept = [record for number, record in enumerate(expected) if number % 4 != 3]
    assert data(records) == kept
    assert b"Finished mbo replay" in records[-1]
    assert len(live) == 200


def test_a_replay_loses_a_range() -> None:
    """Records between two instants; a stream without a replay does not use the fault up."""
    with standing() as (sandbox, _):
        expected = data(replay(sandbox))
        sandbox.arm("lose_replay", from_="2026-11-24T14:39:58.25Z", to="2026-11-24T14:39:58.50Z")
        with BareClient(sandbox, NQ_MBO) as client:
            client.start()
        records = data(replay(sandbox))
    missing = [record for record in expected if record not in records]
    assert records == [record for record in expected if record not in missing]
    assert len(missing) > 50
    assert missing == expected[expected.index(missing[0]) :][: len(missing)]


def test_an_error_record_says_its_code_and_ends_the_stream() -> None:
    """A key that is deactivated while it streams: ErrorMsg code 2, then FIN."""
    with standing() as (sandbox, _):
        with BareClient(sandbox, replay_line()) as client:
            sandbox.arm(
                "error_record", code="key_deactivated", text="API key deactivated", after="10 records"
            )
            client.start()
            stream = client.rest()
        line = line_of(sandbox)
    records = split(stream)
    assert len(data(records)) == 10
    assert records[-1][1] == ERROR
    assert records[-1][16:].startswith(b"API key deactivated\0")
    assert records[-1][-2] == 2
    assert line["bytes"] == len(stream)


def test_a_fault_strikes_only_what_it_names_and_as_often_as_it_says() -> None:
    """Another key and another dataset go on; after `times` connections so does the one it named."""
    keys = ("db-one-111111", "db-two-222222")
    with standing(keys=keys) as (sandbox, _):
        sandbox.arm("close", after="10 records", key="22222", dataset="GLBX.MDP3", times=1)
        sandbox.arm("close", dataset="OPRA.PILLAR")
        counts = []
        for key in (keys[0], keys[1], keys[1]):
            with BareClient(sandbox, replay_line(), key=key) as client:
                client.start()
                records = until_ended(client)
            counts.append(len(data(records)))
    assert counts[1] == 10
    assert counts[0] == counts[2] > 10


def test_a_fault_waits_for_its_instant_and_for_the_connections_own_time() -> None:
    """`at` is the sandbox's clock, `after` that of the connection since its login."""
    with standing() as (sandbox, clock):
        sandbox.arm("close", at="+10s", after="5s")
        with BareClient(sandbox, NQ_MBO) as client:
            client.start()
            client.records(2)
            clock.advance(9 - advance_until_something_comes(client, clock, 0.5))
            client.records(1000, MBO)
            assert sandbox.faults()["faults"][0]["state"] == "waiting"
            clock.advance(1.1)
            client.rest()
        assert sandbox.faults()["faults"][0] | {"fault": 0} == {
            "number": 1,
            "state": "over",
            "struck": 1,
            "at_utc": "2026-11-24T14:40:10Z",
            "fault": 0,
        }


def test_a_fault_that_is_called_off_lets_go() -> None:
    """A silence ends, and what was held back comes."""
    with standing() as (sandbox, _), BareClient(sandbox, replay_line()) as client:
        number = sandbox.arm("silence", after="100 records")
        client.start()
        client.records(100, MBO)
        assert nothing_comes(client)
        assert sandbox.drop(number=number) == 1
        assert len(client.records(500, MBO)) == 500


def test_compressed_streams_have_faults_too() -> None:
    """Records are changed before they are squeezed."""
    with standing() as (sandbox, _):
        sandbox.arm("error_record", after="0 records")
        with BareClient(sandbox, replay_line(), login="|compression=zstd") as client:
            client.send("start_session")
            stream = client.rest()
    squeezed = zstandard.ZstdDecompressor().decompressobj().decompress(stream)
    assert b"key deactivated" in squeezed


def test_whoever_moves_the_clock_does_not_wait_for_what_is_held_back() -> None:
    """A silent connection counts as one that has come along."""
    with standing() as (sandbox, clock), BareClient(sandbox, NQ_MBO) as client:
        client.start()
        client.records(2)
        sandbox.arm("silence")
        for _ in range(20):
            clock.advance(1)
            sandbox.wake()
            assert nothing_comes(client, 0.02)
        assert sandbox.live_progress.lag_s < 1
        assert sandbox.live_progress.streaming == 1
