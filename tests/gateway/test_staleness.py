"""A vendor that sends heartbeats and no data is left, and a quiet market is not taken for one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from budget_guard.gateway.live.staleness import HELPED_S, LEAST_S, TIMES, Staleness
from budget_guard.gateway.wire.framer import RTYPE_SYSTEM
from tests.gateway.desk import policy, running_desk, stream

RATE = 50


def test_data_that_stays_away_in_an_open_market_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_desk(tmp_path, rate=RATE) as desk:
        client, got = desk.streaming()
        desk.begin(got)
        had = len(got.data)
        desk.sandbox.arm("heartbeats_only")
        for _ in range(100):
            desk.advance(3)
            with suppress(AssertionError):
                got.wait_for(lambda _: "no market data" in " ".join(got.texts(RTYPE_SYSTEM)), 0.1)
                break
        got.wait_for(lambda _: len(got.data) > had + RATE * (LEAST_S - 1))
        client.stop()
        desk.close()
        sequences = [int.from_bytes(record[52:56], "little") for record in got.data]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
        assert [gap.mended for gap in desk.gaps()] == ["replayed"]
        assert desk.sandbox.bill()["bytes"] == sum(entry.size_bytes for entry in desk.entries())
    assert "no market data for" in caplog.text


@pytest.mark.parametrize(
    ("schemas", "patience"),
    [
        (["mbo"], LEAST_S),
        (["ohlcv-1m"], LEAST_S + 60),
        (["status"], None),
        (["definition", "statistics", "ohlcv-1d", "a schema of next year"], None),
        (["status", "trades"], LEAST_S),
    ],
)
def test_what_is_rare_by_nature_is_never_missed(schemas: list[str], patience: float | None) -> None:
    assert Staleness().patience_s(schemas) == patience


def look(one: Staleness, now_s: float, level_s: float, *, is_open: bool = True) -> bool:
    patience_s = one.patience_s(["mbo"])
    assert patience_s is not None
    if not one.wants_to_know(now_s, level_s, patience_s):
        return False
    return one.is_stale(now_s, patience_s, is_open=is_open)


def first_strike(one: Staleness, from_s: float, level_s: float) -> float:
    """When it has lasted too long, looking every second."""
    now_s = from_s
    while not look(one, now_s, level_s):
        now_s += 1
        assert now_s < from_s + 10**6
    one.struck(now_s)
    return now_s


def test_a_market_that_opens_after_hours_of_silence_is_given_its_time() -> None:
    one = Staleness()
    assert not any(look(one, 1000.0 + at, 1000.0, is_open=False) for at in range(10_000))
    assert first_strike(one, 11_000.0, 1000.0) == 11_000 + LEAST_S / 2


def test_each_reconnection_that_brings_nothing_makes_the_next_twice_as_patient() -> None:
    one, at = Staleness(), 0.0
    waits = []
    for _ in range(5):
        struck = first_strike(one, at, at)
        waits.append(struck - at)
        at = struck
    assert waits == [LEAST_S * 2**n for n in range(5)]


def test_pauses_that_end_by_themselves_teach_patience() -> None:
    one = Staleness()
    look(one, 0.0, 0.0)
    look(one, 100.0, 100.0)
    assert one.patience_s(["mbo"]) == TIMES * 100


def test_a_quiet_market_that_was_struck_is_not_struck_again_for_the_same_pause() -> None:
    one = Staleness()
    struck = first_strike(one, 0.0, 0.0)
    look(one, struck + 60, struck + 60)
    assert one.patience_s(["mbo"]) == TIMES * (struck + 60)


def test_a_pause_that_a_reconnection_ended_teaches_nothing() -> None:
    one = Staleness()
    struck = first_strike(one, 0.0, 0.0)
    look(one, struck + HELPED_S, struck + HELPED_S)
    assert one.patience_s(["mbo"]) == LEAST_S


def test_a_stream_of_rare_data_keeps_its_connection(tmp_path: Path) -> None:
    rules = policy(stream(schema="status"))
    with running_desk(tmp_path, rules, rate=RATE) as desk:
        client = desk.live()
        client.subscribe("GLBX.MDP3", "status", "NQ.v.0", "continuous")
        client.start()
        for _ in range(30):
            desk.advance(20)
            assert len(desk.sandbox.bill()["connections"]) <= 1
        client.stop()
