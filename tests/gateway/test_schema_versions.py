"""Several schemas on one connection in every version of DBN, with and without times of sending."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from budget_guard.gateway.wire.framer import RTYPE_SYSTEM
from budget_guard.gateway.wire.records import system_record
from budget_guard.policy.model import HoursClause
from tests.gateway.desk import GLBX, NOW, TIMEOUT_S, Collector, eventually, policy, stream
from tests.gateway.fake_gateway import NOW_NS, FakeGateway, Session, desk_before, orders
from tests.gateway.versions import in_version


def trade(ts_ns: int, *, ts_out: bool) -> bytes:
    """One trade: the same in every version."""
    record = bytearray(48)
    record[0], record[1] = 12, 0x00
    record[4:8] = (1).to_bytes(4, "little")
    record[8:16] = record[32:40] = ts_ns.to_bytes(8, "little")
    record[29], record[30] = ord("T"), ord("B")
    return in_version(bytes(record), ts_out=ts_out)


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("ts_out", [False, True])
def test_every_version_is_counted_by_schema_and_its_notices_can_be_read(
    tmp_path: Path, version: int, ts_out: bool
) -> None:
    closes = (NOW + timedelta(minutes=1)).time()
    short = stream(
        "trades", schema="trades", windows=(HoursClause((NOW - timedelta(hours=1)).time(), closes),)
    )
    mbo = [in_version(record, ts_out=ts_out) for record in orders(NOW_NS, 60)]
    trades = [trade(NOW_NS + number, ts_out=ts_out) for number in range(40)]
    said = system_record("a notice of the vendor's", NOW_NS, version=version, ts_out=ts_out)

    async def script(session: Session) -> None:
        session.header(version, ts_out=ts_out)
        if session.number == 1:
            session.send(said + b"".join(mbo[:30]) + b"".join(trades) + b"".join(mbo[30:]))
        await session.until_fin()

    vendor = FakeGateway(script)
    with desk_before(vendor, tmp_path, policy(stream("orders"), short)) as desk:
        client = desk.live(ts_out=ts_out)
        got = Collector()
        for schema in ("mbo", "trades"):
            client.subscribe(dataset=GLBX, schema=schema, stype_in="continuous", symbols="NQ.v.0")
        client.add_callback(got.take)
        client.start()
        got.wait_for_data(100)
        desk.advance(60)
        got.wait_for(lambda _: any("closed at" in text for text in texts(got)))
        vendor.wait_for_sessions(2)
        eventually(lambda: vendor.sessions[1].lines)
        assert [line["schema"] for line in vendor.sessions[0].lines] == ["mbo", "trades"]
        desk.settled.wait_for_length(2)
        client.stop()
        client.block_for_close(TIMEOUT_S)
        desk.close()
        assert [line["schema"] for line in vendor.sessions[1].lines] == ["mbo"]
        sizes = {entry.schema: entry.size_bytes for entry in desk.entries() if entry.size_bytes}
        assert sizes == {"mbo": len(b"".join(mbo)), "trades": len(b"".join(trades)) + len(said)}


def texts(got: Collector) -> list[str]:
    return got.texts(RTYPE_SYSTEM)
