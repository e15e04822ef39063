"""How a stream that was lost is mended, or not: before a gateway that is a script."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from databento import BentoError

from budget_guard.gateway.live import watch
from budget_guard.gateway.live.recovery import SLACK_NS
from budget_guard.gateway.wire.framer import RTYPE_ERROR, RTYPE_SYSTEM
from tests.gateway.desk import NOW, NQ, TIMEOUT_S, Collector, eventually, policy, recovery, stream
from tests.gateway.fake_gateway import (
    NOW_NS,
    FakeGateway,
    Session,
    desk_before,
    error,
    order,
    orders,
    replay_completed,
)
from tests.gateway.versions import in_version

FIRST = orders(NOW_NS, 100)


def test_a_silent_vendor_is_left_and_the_stream_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STALE_MARGIN_S", 1.0)
    more = orders(NOW_NS + 10**6, 100)

    async def script(session: Session) -> None:
        session.header()
        if session.number == 1:
            session.send(b"".join(FIRST))
        else:
            session.send(b"".join(FIRST + more) + replay_completed())
        await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        _, got = desk.streaming(heartbeat_interval_s=5)
        got.wait_for_data(100)
        desk.advance(5.5)
        assert len(vendor.sessions) == 1
        desk.advance(1)
        got.wait_for_data(200)
        assert got.data == FIRST + more
        assert vendor.sessions[1].lines[0]["start"] == str(NOW_NS + 99_000 - SLACK_NS)
        assert desk.entries()[0].ending == "residual"


def test_a_client_that_does_not_read_is_no_silent_vendor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that stands in a debugger must not have its connection to the vendor torn down."""
    monkeypatch.setattr("budget_guard.gateway.live.downstream.WRITE_BUFFER_BYTES", 1 << 16)
    block = b"".join(orders(NOW_NS, 20_000))
    full = asyncio.Event()

    async def script(session: Session) -> None:
        session.header()
        for _ in range(12):
            session.send(block)
        full.set()
        await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        with desk.bare("schema=mbo|stype_in=continuous|symbols=NQ.v.0", receive_buffer=1 << 16) as client:
            client.start()
            for _ in range(5):
                desk.advance(60)
                client.read(1 << 16)
            rest = client.read(12 * len(block) - 5 * (1 << 16))
        assert len(rest) and len(vendor.sessions) == 1


def test_bytes_that_are_no_records_end_the_connection_and_the_stream_is_mended(tmp_path: Path) -> None:
    more = orders(NOW_NS + 10**6, 10)

    async def script(session: Session) -> None:
        session.header()
        if session.number == 1:
            session.send(b"".join(FIRST))
            await vendor.turn()
            session.send(b"\x00" * 1000)
            # What looks like records again must not be believed.
            session.send(b"".join(orders(NOW_NS + 10**9, 10)))
            await session.until_fin()
        else:
            session.send(b"".join(FIRST + more) + replay_completed())
            await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        vendor.go_on()
        got.wait_for_data(110)
        client.stop()
        desk.settled.wait_for_length(2)
        assert got.data == FIRST + more
        assert desk.entries()[0].size_bytes == 5600 + 1000 + 560


def test_another_dbn_version_after_a_loss_ends_the_client_with_a_reason(tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        session.header(version=3 if session.number == 1 else 2)
        session.send(b"".join(FIRST) if session.number == 1 else order(NOW_NS + 10**9))
        if session.number > 1:
            await session.until_fin()

    with desk_before(FakeGateway(script), tmp_path) as desk:
        client, got = desk.streaming()
        with pytest.raises(BentoError, match="changed its DBN version"):
            client.block_for_close(TIMEOUT_S)
        assert got.data == FIRST


@pytest.mark.parametrize("ts_out", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_what_the_relay_says_fits_the_version_that_the_vendor_speaks(
    tmp_path: Path, version: int, ts_out: bool
) -> None:
    async def script(session: Session) -> None:
        session.header(version=version, ts_out=ts_out)
        session.send(in_version(FIRST[0], ts_out=ts_out))
        await session.until_fin()

    with desk_before(FakeGateway(script), tmp_path) as desk:
        client, got = desk.streaming(ts_out=ts_out)
        got.wait_for_data(1)
        client.subscribe(**{**NQ, "symbols": "ES.v.0"})  # type: ignore[arg-type]
        got.wait_for(lambda _: got.texts(RTYPE_ERROR))
        assert "not_covered" in got.texts(RTYPE_ERROR)[0]
        client.stop()
        with pytest.raises(BentoError, match="not_covered"):
            client.block_for_close(TIMEOUT_S)


def test_a_vendor_that_ends_every_session_at_once_is_not_stormed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five connections a second are all that the vendor takes from an address."""
    monkeypatch.setattr("budget_guard.gateway.live.backoff.FIRST_S", 0.25)

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST[:1]))

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, _ = desk.streaming()
        with pytest.raises(AssertionError):
            vendor.wait_for_sessions(4, timeout_s=0.7)
        client.stop()


def test_an_outage_is_one_line_of_the_log_and_no_lesson_about_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway that is away refuses every attempt in the same words: they are said once."""
    monkeypatch.setattr("budget_guard.gateway.live.backoff.FIRST_S", 0.05)
    monkeypatch.setattr("budget_guard.gateway.live.backoff.MOST_S", 0.05)
    away = threading.Event()

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST))
        await asyncio.to_thread(away.wait, 20)
        vendor.closes = True

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        away.set()
        vendor.wait_for_sessions(5)
        client.stop()
    said = [record.getMessage() for record in caplog.records if "stream lost" in record.getMessage()]
    assert len(said) == 1
    assert "without a greeting: so it does while it restarts" in said[0]


def test_a_subscription_that_the_vendor_finds_invalid_is_not_asked_for_again(tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        session.header()
        session.send(error("Invalid schema", 5))

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="Invalid schema"):
            client.block_for_close(TIMEOUT_S)
        assert len(vendor.sessions) == 1


def test_a_key_that_is_switched_off_while_streaming_ends_it(tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST) + error("This API key was switched off", 2))

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, _ = desk.streaming()
        with pytest.raises(BentoError, match="key_rejected"):
            client.block_for_close(TIMEOUT_S)
        assert len(vendor.sessions) == 1


def test_a_replay_that_is_too_old_for_the_vendor_leaves_an_open_gap(tmp_path: Path) -> None:
    later = orders(NOW_NS + 10**9, 10)

    async def script(session: Session) -> None:
        session.header()
        if session.number == 1:
            session.send(b"".join(FIRST))
        elif "start" in session.lines[0]:
            session.send(error("Replay data aged out", 8))
        else:
            session.send(b"".join(later))
            await session.until_fin()

    with desk_before(FakeGateway(script), tmp_path) as desk:
        client, got = desk.streaming()
        desk.advance(1)
        got.wait_for_data(110)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        assert got.data == FIRST + later
        assert {gap.mended for gap in desk.gaps()} == {""}


def test_each_subscription_is_replayed_by_itself_and_nothing_comes_twice(tmp_path: Path) -> None:
    """The first replay's end says nothing about the second's."""
    more = orders(NOW_NS + 10**6, 10)

    async def script(session: Session) -> None:
        session.header()
        if session.number == 1:
            session.send(b"".join(FIRST))
        else:
            session.send(b"".join(FIRST[50:60] + FIRST[-1:] + more) + replay_completed())
            await vendor.turn()
            session.send(b"".join(FIRST[60:99]) + replay_completed() + order(NOW_NS + 10**7, 4711))
            await session.until_fin()

    rules = policy(stream(symbols=("NQ.v.0", "ES.v.0")))
    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path, rules) as desk:
        client = desk.live()
        got = Collector()
        client.add_callback(got.take)
        client.subscribe(**NQ)  # type: ignore[arg-type]
        client.subscribe(**{**NQ, "symbols": "ES.v.0"})  # type: ignore[arg-type]
        client.start()
        got.wait_for_data(110)
        vendor.go_on()
        got.wait_for_data(111)
        client.stop()
        assert got.data == [*FIRST, *more, order(NOW_NS + 10**7, 4711)]


def test_a_loss_within_a_replay_is_mended_by_the_next(tmp_path: Path) -> None:
    more = orders(NOW_NS + 10**6, 20)

    async def script(session: Session) -> None:
        session.header()
        if session.number == 1:
            session.send(b"".join(FIRST))
        elif session.number == 2:
            session.send(b"".join(FIRST + more[:10]))
        else:
            session.send(b"".join(FIRST + more) + replay_completed())
            await session.until_fin()

    with desk_before(FakeGateway(script), tmp_path) as desk:
        client, got = desk.streaming()
        desk.advance(1)
        got.wait_for_data(120)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        assert got.data == FIRST + more
        desk.close()
        assert {gap.mended for gap in desk.gaps()} <= {"replayed"}


def test_a_gap_longer_than_a_replay_may_reach_is_not_replayed(tmp_path: Path) -> None:
    started = threading.Semaphore(0)

    async def script(session: Session) -> None:
        started.release()
        if session.number == 2:
            await vendor.turn()
            return
        session.header()
        if session.number == 1:
            session.send(b"".join(FIRST))
        else:
            await session.until_fin()

    rules = policy(stream(recovery=recovery(replay=timedelta(minutes=10))))
    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path, rules) as desk:
        _, got = desk.streaming()
        got.wait_for_data(100)
        assert started.acquire(timeout=TIMEOUT_S) and started.acquire(timeout=TIMEOUT_S)
        assert "start" in vendor.sessions[1].lines[0]
        desk.advance(601)
        vendor.go_on()
        assert started.acquire(timeout=TIMEOUT_S)
        assert "start" not in vendor.sessions[2].lines[0]


def test_a_guard_whose_clock_is_minutes_slow_repeats_nothing(tmp_path: Path) -> None:
    """What the vendor replays is later than the guard's own time: that does not make it live data."""
    ahead_ns = NOW_NS + 300 * 10**9
    records = orders(ahead_ns, 100)

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(records[:50]))
        if session.number > 1:
            session.send(b"".join(records[50:]) + replay_completed())
            await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        _, got = desk.streaming()
        got.wait_for_data(100)
        assert got.data == records
        assert vendor.sessions[1].lines[0]["start"] == str(ahead_ns + 49_000 - SLACK_NS)


# --- what the vendor says as it ends ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "sessions", "told"),
    [
        (1, 1, "key_rejected"),
        (2, 1, "key_rejected"),
        (3, 2, None),
        (4, 2, "as the vendor says"),
        (5, 1, "as the vendor says"),
        (6, 2, None),
        (7, 2, "as the vendor says"),
        (8, 2, None),
        (99, 2, "as the vendor says"),
        (255, 2, "as the vendor says"),
    ],
)
def test_each_error_that_ends_a_session_has_its_consequence(
    tmp_path: Path, code: int, sessions: int, told: str | None
) -> None:
    """Mended where that helps; then a client raises at its end only what it was told as an error."""

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST))
        if session.number == 1:
            said = bytearray(error("as the vendor says", 6))
            said[16 + 302] = code
            session.send(bytes(said))
        else:
            session.send(replay_completed())
            await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        if sessions > 1:
            vendor.wait_for_sessions(2)
            desk.settled.wait_for_length(1)
            client.stop()
        if told is None:
            client.block_for_close(TIMEOUT_S)
            assert "the vendor ended its session: as the vendor says" in " ".join(got.texts(RTYPE_SYSTEM))
        else:
            with pytest.raises(BentoError, match=told):
                client.block_for_close(TIMEOUT_S)
        assert len(vendor.sessions) == sessions


def test_records_that_the_vendor_skipped_are_a_gap(tmp_path: Path) -> None:
    """The session goes on, and nobody sends them again."""

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST))
        await vendor.turn()
        session.send(error("skipped records of mbp-1", 7) + b"".join(orders(NOW_NS + 2 * 10**9, 5)))
        await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        desk.advance(2)
        vendor.go_on()
        got.wait_for_data(105)
        client.stop()
        with pytest.raises(BentoError, match="skipped records of mbp-1"):
            client.block_for_close(TIMEOUT_S)
        desk.close()
        (gap,) = desk.gaps()
        assert gap.mended == "" and "skipped by the vendor" in gap.note
        assert (gap.end_utc - gap.start_utc).total_seconds() == pytest.approx(2, abs=0.01)
        assert len(vendor.sessions) == 1


@pytest.mark.parametrize("code", [2, 5, 77])
def test_a_notice_of_any_code_is_passed_on(tmp_path: Path, code: int) -> None:
    """5 is the acknowledgement of an unsubscription; of 77 nobody knows."""

    async def script(session: Session) -> None:
        session.header()
        said = bytearray(replay_completed())
        said[16 + 303] = code
        session.send(b"".join(FIRST) + bytes(said) + order(NOW_NS + 10**6))
        await session.until_fin()

    with desk_before(FakeGateway(script), tmp_path) as desk:
        _, got = desk.streaming()
        got.wait_for_data(101)
        assert "Finished mbo replay" in got.texts(RTYPE_SYSTEM)


def test_a_vendor_that_could_not_be_reached_when_it_was_asked_leaves_a_gap(tmp_path: Path) -> None:
    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST))
        await session.until_fin()

    vendor = FakeGateway(script, closes=True)
    with desk_before(vendor, tmp_path) as desk:
        client, got = desk.streaming()
        vendor.wait_for_sessions(2)
        desk.advance(7)
        vendor.closes = False
        got.wait_for_data(100)
        got.wait_for(lambda _: "before the vendor could be reached" in " ".join(got.texts(RTYPE_SYSTEM)))
        client.stop()
        (gap,) = desk.gaps()
        assert (gap.start_utc, gap.mended) == (NOW, "")
        assert (gap.end_utc - gap.start_utc).total_seconds() == 7


def test_a_client_hears_heartbeats_while_the_vendor_is_silent(tmp_path: Path) -> None:
    """It counts from them; that the vendor says nothing is the guard's to mend."""

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST))
        await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        _, got = desk.streaming(heartbeat_interval_s=5)
        got.wait_for_data(100)
        desk.advance(6)
        got.wait_for(lambda _: got.texts(RTYPE_SYSTEM) == ["Heartbeat"])
        desk.advance(6)
        got.wait_for(lambda _: got.texts(RTYPE_SYSTEM) == ["Heartbeat"] * 2)
        assert len(vendor.sessions) == 1


def test_what_was_missed_when_an_outage_outlasts_the_program_is_a_gap(tmp_path: Path) -> None:
    """It is told once of the outage, and the gap ends where the program did."""
    away = threading.Event()

    async def script(session: Session) -> None:
        session.header()
        session.send(b"".join(FIRST))
        await asyncio.to_thread(away.wait, TIMEOUT_S)
        vendor.closes = True

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path) as desk:
        client, got = desk.streaming()
        got.wait_for_data(100)
        away.set()
        vendor.wait_for_sessions(4)
        desk.advance(9)
        told = [text for text in got.texts(RTYPE_SYSTEM) if "stream lost, trying again" in text]
        assert len(told) == 1
        client.stop()
        eventually(lambda: desk.gaps())
        (gap,) = desk.gaps()
        assert (gap.mended, gap.note) == ("", "ended before it could be mended")
        assert 8.9 < (gap.end_utc - gap.start_utc).total_seconds() <= 9
