"""Records that no client could read are not handed to one: the stream is opened again, or they are left out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from budget_guard.gateway.live.sieve import AGAIN, Sieve
from budget_guard.gateway.wire.framer import Framed, Framer
from budget_guard.gateway.wire.kinds import has_wrong_size, is_known
from budget_guard.sandbox.market.records import SPECS
from tests.gateway.desk import policy, recovery, running_desk, stream

MBO, STRANGE = 0xA0, 238
REPLAYING = recovery(replay=timedelta(minutes=15))


def framed(*records: bytes) -> Framed:
    """What a framer makes of records after a header."""
    framer = Framer()
    framer.feed(b"DBN\x03" + (100).to_bytes(4, "little") + bytes(100))
    return framer.feed(b"".join(records))


def record(rtype: int, size: int) -> bytes:
    return bytes([size // 4, rtype]) + bytes(size - 2)


@pytest.mark.parametrize("schema", SPECS)
@pytest.mark.parametrize("ts_out", [False, True])
def test_every_schema_has_a_known_type_of_its_own_size(schema: str, ts_out: bool) -> None:
    spec = SPECS[schema]
    kind = record(spec.rtype, spec.dtype.itemsize + 8 * ts_out)[:2]
    assert is_known(kind)
    assert not has_wrong_size(kind, ts_out=ts_out)
    assert has_wrong_size(kind, ts_out=not ts_out)


def test_a_type_that_nobody_knows_has_no_wrong_size() -> None:
    kind = record(STRANGE, 64)[:2]
    assert not is_known(kind)
    assert not has_wrong_size(kind, ts_out=False)


@pytest.mark.parametrize("damaged", [(60,), (52, 60)])
def test_records_of_another_size_than_their_type_has_are_seen_among_others(damaged: tuple[int, ...]) -> None:
    """Also where they are as long, all together, as sound ones would be."""
    sieve = Sieve(lambda _text: None)
    sound = [record(MBO, 56)] * 5
    for _ in range(2):
        assert sieve.sift(framed(*sound), ts_out=False) == b"".join(sound)
        assert sieve.sift(framed(*sound, *(record(MBO, size) for size in damaged)), ts_out=False) is None


@pytest.mark.parametrize("fault", ["corrupt_length", "corrupt_rtype", "unknown_record"])
def test_a_damaged_record_costs_a_client_nothing(tmp_path: Path, fault: str) -> None:
    """The stream is opened again, and brings it once more."""
    with running_desk(tmp_path, policy(stream(recovery=REPLAYING)), rate=1000) as desk:
        _, collector = desk.streaming()
        desk.begin(collector)
        desk.sandbox.arm(fault)
        desk.until(collector, lambda _: len(desk.sandbox.bill()["connections"]) == 2 and desk.gaps())
        desk.until(collector, lambda _: desk.gaps()[0].mended)
        assert {one[1] for one in collector.records} <= {MBO, 0x16, 0x17}
        assert len(set(collector.data)) == len(collector.data)


def test_a_type_that_comes_all_the_same_is_left_out_and_said_once() -> None:
    said: list[str] = []
    sieve = Sieve(said.append)
    sound, strange = record(MBO, 56), record(STRANGE, 64)
    for _ in range(AGAIN):
        assert sieve.sift(framed(sound, strange), ts_out=False) is None
    for _ in range(2):
        assert sieve.sift(framed(sound, strange, sound), ts_out=False) == sound + sound
    assert said == ["budget-guard: records of type 238, which nobody knows, are left out"]
    assert sieve.sift(framed(sound), ts_out=False) == sound
    assert sieve.sift(framed(sound, record(MBO, 60)), ts_out=False) is None
