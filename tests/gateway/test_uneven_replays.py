"""A replay of several schemas may be far ahead in one of them when the connection is lost again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from budget_guard.clock import ManualClock
from budget_guard.policy.model import Policy
from tests.gateway.desk import GLBX, NOW, Collector, eventually, policy, recovery, stream
from tests.gateway.fake_gateway import NOW_NS, FakeGateway, Session, desk_before, order, replay_completed

SECOND_NS = 10**9


def trade(ts_ns: int) -> bytes:
    record = bytearray(48)
    record[0] = 12
    record[4:8] = (1).to_bytes(4, "little")
    for offset in (8, 32):
        record[offset : offset + 8] = ts_ns.to_bytes(8, "little")
    record[28], record[29] = ord("T"), ord("B")
    return bytes(record)


def both(**allowed: timedelta) -> Policy:
    """Orders and trades, replayed for an hour."""
    again = recovery(replay=timedelta(hours=1), spend_usd=None, **allowed)
    return policy(stream("orders", recovery=again), stream("trades", schema="trades", recovery=again))


def test_a_schema_whose_replay_has_not_begun_is_asked_for_from_where_it_was_lost(tmp_path: Path) -> None:
    """The vendor sends the orders of a minute, then the trades: it is lost in between."""
    sold = [trade(NOW_NS + second * SECOND_NS) for second in range(60)]
    placed = [order(NOW_NS + second * SECOND_NS) for second in range(60)]
    clock = ManualClock(NOW)

    async def script(session: Session) -> None:
        session.header()
        if session.number == 1:
            session.send(placed[0] + sold[0])
            await vendor.turn()
        elif session.number == 2:
            session.send(b"".join(placed) + replay_completed())
            await vendor.turn()
        else:
            starts = {line["schema"]: int(line["start"]) for line in session.lines}
            lines = (("mbo", placed, 40), ("trades", sold, 32))
            for schema, market, at in lines:
                stamps = [int.from_bytes(record[at : at + 8], "little") for record in market]
                session.send(
                    b"".join(one for one, ts in zip(market, stamps, strict=True) if ts >= starts[schema])
                )
            session.send(replay_completed())
            session.send(replay_completed())
            await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path, both(), clock) as desk:
        client = desk.live()
        got = Collector()
        client.add_callback(got.take)
        for schema in ("mbo", "trades"):
            client.subscribe(dataset=GLBX, schema=schema, stype_in="continuous", symbols="NQ.v.0")
        client.start()
        got.wait_for_data(2)
        desk.advance(60)
        vendor.go_on()
        got.wait_for_data(61)
        vendor.go_on()
        got.wait_for_data(120)
        client.stop()
        assert [record for record in got.data if record[1] == 0] == sold
        assert [record for record in got.data if record[1] == 0xA0] == placed


def test_a_replay_of_the_client_s_own_goes_on_where_it_was_lost(tmp_path: Path) -> None:
    """It asked for a minute of both; the orders came, of the trades nothing."""
    began_ns = NOW_NS - 60 * SECOND_NS
    placed = [order(began_ns + second * SECOND_NS) for second in range(60)]
    sold = [trade(began_ns + second * SECOND_NS) for second in range(60)]

    async def script(session: Session) -> None:
        session.header()
        if session.number == 1:
            session.send(b"".join(placed) + replay_completed())
            await vendor.turn()
        else:
            session.send(b"".join([*placed[-1:], *sold]) + replay_completed() * 2)
            await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path, both(client_replay=timedelta(hours=1))) as desk:
        client = desk.live()
        got = Collector()
        client.add_callback(got.take)
        for schema in ("mbo", "trades"):
            client.subscribe(
                dataset=GLBX, schema=schema, stype_in="continuous", symbols="NQ.v.0", start=began_ns
            )
        client.start()
        got.wait_for_data(60)
        vendor.go_on()
        vendor.wait_for_sessions(2)
        eventually(lambda: len(desk.gaps()) == 2)
        starts = {line["schema"]: int(line["start"]) for line in vendor.sessions[1].lines}
        assert starts["trades"] == began_ns
        assert began_ns < starts["mbo"] <= NOW_NS
        gaps = {gap.schema: gap.start_utc for gap in desk.gaps()}
        assert gaps["trades"] == NOW - timedelta(seconds=60)
        assert gaps["mbo"] > gaps["trades"]
        got.wait_for_data(120)
        assert got.data == [*placed, *sold]
        client.stop()


def test_a_gap_that_is_not_replayed_lasts_until_the_vendor_s_session_has_begun(tmp_path: Path) -> None:
    """Between the look at the clock and the vendor's start lie a write to the ledger and the way there."""

    async def script(session: Session) -> None:
        if session.number == 1:
            session.header()
            session.send(order(NOW_NS))
            return
        await vendor.turn()
        session.header()
        session.send(order(NOW_NS + 2 * SECOND_NS))
        await session.until_fin()

    vendor = FakeGateway(script)
    rules = policy(stream(recovery=recovery(replay=timedelta(0))))
    with desk_before(vendor, tmp_path, rules) as desk:
        client, got = desk.streaming()
        vendor.wait_for_sessions(2)
        eventually(lambda: vendor.sessions[1].lines)
        eventually(lambda: desk.gaps() or desk.holds())
        desk.advance(2)
        vendor.go_on()
        got.wait_for_data(2)
        eventually(lambda: [gap.end_utc for gap in desk.gaps()] == [NOW + timedelta(seconds=2)])
        client.stop()
