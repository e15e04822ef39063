"""Faults at the live door: connections turned away, logins refused, answers that are odd."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

import databento
import databento_dbn as dbn
import pytest
from databento.common.error import BentoError
from databento.live.gateway import AuthenticationResponse

from budget_guard.clock import ManualClock
from budget_guard.sandbox.config import Limits, SandboxConfig
from budget_guard.sandbox.live.wire import fields_of
from budget_guard.sandbox.server import Sandbox, running_sandbox
from tests.sandbox.bare_client import DATASET, NQ_MBO, BareClient
from tests.sandbox.faults.wire import nothing_comes, replay_line, standing


def outcome(sandbox: Sandbox, dataset: str = DATASET) -> str:
    """The gateway's answer to a login, or `closed`."""
    try:
        with BareClient(sandbox, dataset=dataset) as client:
            return client.reply
    except (EOFError, ConnectionError):
        return "closed"


def subscribe(sandbox: Sandbox) -> None:
    client = databento.Live(key=sandbox.key, gateway="127.0.0.1", port=sandbox.live_port)
    client.subscribe(DATASET, "mbo", "NQ.v.0", "continuous")


def test_so_many_connections_are_closed_as_they_arrive() -> None:
    """With `skip`, the first pass."""
    with standing() as (sandbox, _):
        sandbox.arm("refuse_live", times=2, skip=1)
        said = [outcome(sandbox)[:9] for _ in range(4)]
    assert said == ["success=1", "closed", "closed", "success=1"]


def test_a_refusal_may_be_for_one_dataset_and_for_a_while() -> None:
    """It is closed once its login names the dataset; others are let in."""
    with standing() as (sandbox, clock):
        sandbox.arm("refuse_live", dataset=DATASET, for_="30s")
        assert [outcome(sandbox), outcome(sandbox)] == ["closed", "closed"]
        assert outcome(sandbox, "OPRA.PILLAR").startswith("success=1")
        clock.advance(30)
        assert outcome(sandbox).startswith("success=1")


@pytest.mark.parametrize(
    "text",
    ["User has reached their open connection limit", "A live data license is required to access GLBX.MDP3."],
)
def test_a_login_is_refused_in_any_words(text: str) -> None:
    """The official client tells them."""
    with standing() as (sandbox, _):
        sandbox.arm("reject_login", text=text)
        with pytest.raises(BentoError, match=text[:20]):
            subscribe(sandbox)
        assert outcome(sandbox).startswith("success=1")


def test_an_unknown_field_in_the_answer_is_more_than_the_official_client_takes() -> None:
    """It refuses the answer; a bare reader sees the field."""
    with standing() as (sandbox, _):
        sandbox.arm("unknown_reply_field", field="region=us-east")
        line = outcome(sandbox)
    assert fields_of(line.encode())["region"] == "us-east"
    with pytest.raises(ValueError, match="parse"):
        AuthenticationResponse.parse(f"{line}\n")


def test_a_client_that_does_not_wait_gets_the_answer_and_the_stream_in_one_read() -> None:
    """Login, subscription and start in one write; answer, DBN header and first records in one segment."""
    with standing() as (sandbox, _):
        sandbox.arm("glue_reply")
        with BareClient(sandbox, greet_only=True) as client:
            client.send(f"{client.login_line}\n{replay_line()}\nstart_session")
            client.socket.recv(1, socket.MSG_PEEK)
            read = client.socket.recv(1 << 20)
    line, _, stream = read.partition(b"\n")
    assert line.startswith(b"success=1")
    header = dbn.Metadata.decode(stream[: 8 + int.from_bytes(stream[4:8], "little")])
    assert header.dataset == DATASET
    assert b"succeeded" in stream


def test_a_client_that_waits_gets_the_header_with_the_answer_where_it_is_early() -> None:
    """The header comes once: records follow when the session has started."""
    with standing() as (sandbox, _):
        sandbox.arm("glue_reply", early=True)
        with BareClient(sandbox, greet_only=True) as client:
            client.send(client.login_line)
            read = client.socket.recv(1 << 20)
            line, _, header = read.partition(b"\n")
            client.send(f"{NQ_MBO}\nstart_session")
            records = client.records(2)
    assert line.startswith(b"success=1")
    assert dbn.Metadata.decode(header).dataset == DATASET
    assert [record[1] for record in records] == [23, 22]


def test_without_a_start_a_glued_answer_comes_by_itself() -> None:
    """A client that waits for it is not left waiting."""
    with standing() as (sandbox, _):
        sandbox.arm("glue_reply")
        with BareClient(sandbox, NQ_MBO) as client:
            assert client.reply.startswith("success=1")
            assert client.start().dataset == DATASET


def test_new_connections_beyond_the_vendors_pace_are_closed_at_once() -> None:
    """Five a second from one address, by the sandbox's clock."""
    clock = ManualClock(datetime(2026, 11, 24, 14, 40, tzinfo=UTC))
    limits = Limits(connections_per_dataset=None)
    with running_sandbox(SandboxConfig(clock=clock, limits=limits)) as sandbox:
        said = [outcome(sandbox)[:9] for _ in range(7)]
        clock.advance(1)
        again = outcome(sandbox)[:9]
    assert said == ["success=1"] * 5 + ["closed"] * 2
    assert again == "success=1"


def test_a_restart_ends_the_connections_of_a_dataset_and_refuses_new_ones_for_a_while() -> None:
    """Others stay; when it is over, everybody is let in again."""
    with standing() as (sandbox, clock):
        with BareClient(sandbox, NQ_MBO) as one, BareClient(sandbox, dataset="OPRA.PILLAR") as other:
            one.start()
            sandbox.arm("gateway_restart", dataset=DATASET, at="+10s", for_="60s")
            assert nothing_comes(other)
            clock.advance(10)
            one.rest()
            assert nothing_comes(other)
            assert outcome(sandbox) == "closed"
            assert outcome(sandbox, "OPRA.PILLAR").startswith("success=1")
        ended = sandbox.bill()["connections"][0]["ended"]
        clock.advance(61)
        assert outcome(sandbox).startswith("success=1")
    assert ended in ("gateway restart", None)


def test_a_licence_is_gone_and_comes_back() -> None:
    """Live logins are refused in the vendor's words; open connections go on."""
    with standing() as (sandbox, _), BareClient(sandbox, NQ_MBO) as client:
        client.start()
        sandbox.arm("revoke_live", dataset=DATASET)
        assert "A live data license is required" in outcome(sandbox)
        sandbox.restore_live(DATASET)
        assert outcome(sandbox).startswith("success=1")
        assert len(client.records(2)) == 2
