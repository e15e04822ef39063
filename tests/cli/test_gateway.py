"""`budget-guard gateway`: several programs with tokens of their own, and how a service starts and ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from databento import BentoError

from budget_guard.clock import ns_from_instant
from budget_guard.gateway.live.connection import ENDING_S
from tests.cli.service import make_token, serving, starting
from tests.gateway.fake_gateway import FakeGateway, Session, orders, running_gateway
from tests.streaming.rehearsal import NOW, POLICY, TIMEOUT_S, Rehearsal

TWO_STREAMS = POLICY.replace(
    "historical:",
    """\
  es:
    dataset: GLBX.MDP3
    schema: mbo
    symbols: [ES.v.0]
    stype_in: continuous
    windows: {session: regular}
historical:""",
)
# Nothing of the vendor's answers there: connections are refused at once.
NOBODY = "127.0.0.1:9"


# --- serving ------------------------------------------------------------------------------------------------


def test_several_programs_stream_at_the_same_time_with_tokens_of_their_own(rehearsal: Rehearsal) -> None:
    tokens = [make_token(rehearsal, "--name", name)[1] for name in ("ada", "ben", "cyd")]
    with serving(rehearsal) as service:
        running = [service.live(token) for token in tokens]
        for _, _, enough in running:
            assert enough.wait(TIMEOUT_S)
        for client, _, _ in running:
            client.stop()
            client.block_for_close(TIMEOUT_S)
        assert service.end() == 0, service.said
    entries = rehearsal.entries()
    assert len(entries) == 3 and all(entry.ending == "exact" for entry in entries)
    assert rehearsal.open_holds() == []


def test_a_token_for_a_stream_is_refused_every_other(rehearsal: Rehearsal) -> None:
    rehearsal.policy.write_text(TWO_STREAMS)
    _, for_es = make_token(rehearsal, "--stream", "es")
    _, for_any = make_token(rehearsal)
    with serving(rehearsal) as service:
        client, _, _ = service.live(for_es)
        with pytest.raises(BentoError, match="not_covered"):
            client.block_for_close(TIMEOUT_S)
        _, _, enough = service.live(for_any)
        assert enough.wait(TIMEOUT_S)


def test_a_gateway_that_runs_lets_in_a_new_token_and_ends_a_revoked_one_with_the_reason(
    rehearsal: Rehearsal,
) -> None:
    with serving(rehearsal) as service:
        service.wait_until_said("has no tokens yet")
        token_id, token = make_token(rehearsal, "--name", "ada")
        client, _, enough = service.live(token)
        assert enough.wait(TIMEOUT_S)
        assert rehearsal.guard("token", "revoke", token_id).returncode == 0
        with pytest.raises(BentoError, match="token was revoked"):
            client.block_for_close(TIMEOUT_S)
        with pytest.raises(BentoError, match=f"token {token_id} .ada. was revoked"):
            service.live(token)
        service.wait_until_said(f"token {token_id} (ada) was revoked")
        assert service.end() == 0
    (entry,) = rehearsal.entries()
    assert (entry.ending, entry.residual_bytes) == ("exact", 0)


def test_its_log_and_its_files_hold_neither_key_nor_token(rehearsal: Rehearsal) -> None:
    token_id, token = make_token(rehearsal, "--name", "ada")
    with serving(rehearsal, "--verbose") as service:
        client, _, enough = service.live(token)
        assert enough.wait(TIMEOUT_S)
        client.terminate()
        service.wait_until_said(f"token {token_id} (ada) from 127.0.0.1 logs on for GLBX.MDP3")
        service.wait_until_said(f"token {token_id} (ada) from 127.0.0.1 has left")
        assert service.end() == 0
        said = service.said + json.dumps(service.facts)
    written = b"".join(path.read_bytes() for path in rehearsal.folder.rglob("*") if path.is_file())
    for secret in (rehearsal.sandbox.key, token):
        assert secret not in said
        assert secret.encode() not in written


# --- starting -----------------------------------------------------------------------------------------------


def test_a_ready_file_says_where_it_listens_for_as_long_as_it_does(rehearsal: Rehearsal) -> None:
    path = rehearsal.folder / "ready.json"
    with serving(rehearsal, "--ready-file", str(path)) as service:
        found = json.loads(path.read_text())
        assert found == service.facts
        assert found["pid"] == service.process.pid
        assert found["live_gateway"] == f"127.0.0.1:{found['live_port']}"
        with socket.create_connection(("127.0.0.1", found["live_port"]), TIMEOUT_S) as peer:
            assert peer.recv(100).startswith(b"lsg_version=")
        assert service.end() == 0
    assert not path.exists()


def test_the_service_manager_is_told(rehearsal: Rehearsal, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(TIMEOUT_S)
        manager.bind(str(tmp_path / "notify"))
        with serving(rehearsal, env=rehearsal.env(NOTIFY_SOCKET=str(tmp_path / "notify"))) as service:
            assert manager.recv(100) == b"READY=1"
            service.end()
            assert manager.recv(100) == b"STOPPING=1"


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and what it said on stderr."""
    _, said = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, said


@pytest.mark.parametrize("which", ["--live-port", "--http-port"])
def test_a_port_that_is_taken_is_a_clear_error(rehearsal: Rehearsal, which: str) -> None:
    other = {"--live-port": "--http-port", "--http-port": "--live-port"}[which]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = ended(starting(rehearsal, which, str(port), other, "0"))
    assert code != 0
    assert "cannot listen" in said and str(port) in said and "in use" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_another_host_than_this_needs_tokens(rehearsal: Rehearsal, host: str) -> None:
    code, said = ended(starting(rehearsal, "--host", host))
    assert code == 2
    assert "programs need tokens" in said and "budget-guard token make" in said


def test_a_revoked_token_is_none(rehearsal: Rehearsal) -> None:
    token_id, _ = make_token(rehearsal)
    rehearsal.guard("token", "revoke", token_id)
    assert ended(starting(rehearsal, "--host", "0.0.0.0"))[0] == 2


def test_on_another_host_it_says_that_nothing_is_encrypted(rehearsal: Rehearsal) -> None:
    make_token(rehearsal)
    with serving(rehearsal, "--host", "0.0.0.0") as service:
        service.wait_until_said("neither protocol is encrypted")


def test_without_a_key_it_does_not_start(rehearsal: Rehearsal) -> None:
    code, said = ended(starting(rehearsal, env=rehearsal.env(DATABENTO_API_KEY=None)))
    assert code == 5
    assert "DATABENTO_API_KEY is not set" in said


def test_a_list_that_cannot_be_read_is_said_at_the_start(rehearsal: Rehearsal) -> None:
    make_token(rehearsal)
    next(rehearsal.folder.rglob("tokens.json")).write_text("{")
    code, said = ended(starting(rehearsal))
    assert code == 1
    assert "not a list of tokens" in said and "Traceback" not in said


def test_a_ledger_that_is_away_at_the_start_is_waited_for(rehearsal: Rehearsal) -> None:
    place = rehearsal.folder / "data"
    make_token(rehearsal)
    ledger = place / "ledger.sqlite"
    ledger.write_bytes(b"this is no database" * 100)
    process = starting(rehearsal)
    assert process.stderr is not None and process.stdout is not None
    said = ""
    while "tried again" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    ledger.unlink()
    assert json.loads(process.stdout.readline())["live_port"]
    process.terminate()
    code, rest = ended(process)
    assert code == 0
    assert "is not a ledger" in said and "is not a ledger" not in rest


def test_a_vendor_that_is_away_at_the_start_is_asked_later(rehearsal: Rehearsal) -> None:
    env = rehearsal.env(BUDGET_GUARD_LIVE_GATEWAY=NOBODY, BUDGET_GUARD_HISTORICAL_GATEWAY=f"http://{NOBODY}")
    with serving(rehearsal, env=env) as service:
        service.wait_until_said("come from the bundled sheet")
        assert service.end() == 0


# --- ending -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_and_settles_what_runs_and_the_client_is_told(
    rehearsal: Rehearsal, number: int
) -> None:
    _, token = make_token(rehearsal)
    with serving(rehearsal) as service:
        client, got, enough = service.live(token)
        assert enough.wait(TIMEOUT_S)
        assert service.end(number) == 0, service.said
        client.block_for_close(TIMEOUT_S)
        assert "the guard is being stopped" in str(got[-1].msg)
    (entry,) = rehearsal.entries()
    assert (entry.ending, entry.residual_bytes) == ("exact", 0)
    assert rehearsal.open_holds() == []


def test_a_second_signal_breaks_off_what_the_first_one_waits_for(rehearsal: Rehearsal) -> None:
    """A vendor that does not end its side is not waited for; what it may have sent is assumed."""

    async def script(session: Session) -> None:
        session.header()
        for record in orders(ns_from_instant(NOW), 100):
            session.send(record)
        await vendor.turn()

    vendor = FakeGateway(script)
    _, token = make_token(rehearsal)
    with running_gateway(vendor):
        env = rehearsal.env(BUDGET_GUARD_LIVE_GATEWAY=f"127.0.0.1:{vendor.port}")
        with serving(rehearsal, env=env) as service:
            _, _, enough = service.live(token)
            assert enough.wait(TIMEOUT_S)
            service.process.send_signal(signal.SIGTERM)
            service.wait_until_said("ending")
            began = time.monotonic()
            assert service.end() == 0, service.said
            assert time.monotonic() - began < ENDING_S
        vendor.go_on()
    (entry,) = rehearsal.entries()
    assert entry.ending == "residual"
    assert rehearsal.open_holds() == []
