"""The control port: every fault of the language in JSON, and what is done at once."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any
from urllib.error import HTTPError

import pytest

from budget_guard.sandbox.config import SandboxConfig
from budget_guard.sandbox.faults.control import ACTIONS, COMMANDS, UnknownCommand, parse_command
from budget_guard.sandbox.faults.model import PATHS, Fault
from budget_guard.sandbox.server import Sandbox
from tests.sandbox.bare_client import BareClient
from tests.sandbox.faults.wire import call, standing


def control(sandbox: Sandbox, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"{sandbox.http_url}/control", data) as answer:
            return json.load(answer)
    except HTTPError as error:
        return json.load(error)


def test_a_fault_is_armed_listed_and_called_off() -> None:
    """`GET /control` shows what is armed and what has struck, in the words of the language."""
    with standing() as (sandbox, _):
        assert control(sandbox, {"do": "reject_login", "text": "No.", "times": 2}) == {
            "did": "reject_login",
            "number": 1,
        }
        with BareClient(sandbox) as client:
            assert client.reply == "success=0|error=No."
        listing = control(sandbox)
        assert listing == control(sandbox, {"do": "list"})
        assert control(sandbox, {"do": "drop", "number": 1}) == {"did": "drop", "faults": 1}
        with BareClient(sandbox) as client:
            assert client.reply.startswith("success=1")
        assert control(sandbox)["faults"][0]["state"] == "over"
    assert listing["faults"] == [
        {
            "number": 1,
            "state": "armed",
            "struck": 1,
            "at_utc": "2026-11-24T14:40:00Z",
            "fault": {"do": "reject_login", "text": "No.", "times": 2},
        }
    ]
    assert listing["struck"] == [
        {"at_utc": "2026-11-24T14:40:00Z", "number": 1, "do": "reject_login", "where": "GLBX.MDP3"}
    ]


def test_the_list_of_faults_works_while_requests_are_refused() -> None:
    """`/control` and `/bill` never fail on purpose."""
    with standing() as (sandbox, _):
        control(sandbox, {"do": "http_error", "status": 503, "times": "all"})
        assert call(sandbox, "metadata.list_datasets")[0] == 503
        assert control(sandbox)["faults"][0]["struck"] == 1


def test_what_is_short_is_spelled_out() -> None:
    """The short commands are faults of the language."""
    said = {"do": "metadata_429", "count": 2, "retry_after_s": 7}
    fault = parse_command(said)
    assert isinstance(fault, Fault)
    assert fault.words() == {
        "do": "http_error",
        "on": "metadata",
        "status": 429,
        "retry_after_s": 7,
        "times": 2,
    }
    refusal = parse_command({"do": "refuse_live", "count": 3})
    assert isinstance(refusal, Fault) and refusal.times == 3
    broken = parse_command({"do": "break_history", "after_bytes": 1000})
    assert isinstance(broken, Fault) and str(broken.after) == "1000 bytes"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (3, "with one of list, drop, close_live"),
        ({"do": "explode"}, "explode is not known here"),
        ({"do": "silence", "after": "later"}, "silence: after should be as 10s, 100000 bytes or 500 records"),
        ({"do": "silence", "after": "1" * 400 + " bytes"}, "after should be at most 1,000,000,000,000 bytes"),
        ({"do": "silence", "at": "0001-01-01T00:00:00+23:00"}, "at should be an instant"),
        ({"do": "refuse_live", "count": 0}, "count should be a whole number, 1 or more"),
        ({"do": "drop", "number": "one"}, "number should be a whole number"),
        ({"do": "drop", "fault": "silense"}, "fault should be one of"),
        ({"do": "close_live", "what": 3}, "what is not known here"),
        ({"do": "restore_live"}, "needs dataset"),
    ],
)
def test_what_is_wrong_is_said(body: Any, error: str) -> None:
    with pytest.raises(UnknownCommand, match=re.escape(error)):
        parse_command(body)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"do": "reset", "dataset": "GLBX.MPD3"}, "not on offer; did you mean GLBX.MDP3?"),
        ({"do": "close_live", "dataset": "GLBX"}, "not on offer; did you mean GLBX.MDP3?"),
        ({"do": "silence", "key": "nosuch"}, "nosuch is the end of no key here. They end in: 00001"),
        ({"do": "http_reset", "on": "metadata.foo"}, "or a path, as metadata.get_cost; got 'metadata.foo'"),
        ({"do": "http_reset", "on": "metadata.get_costs"}, "did you mean metadata.get_cost?"),
        ({"do": "http_reset", "on": "metdata"}, "did you mean metadata?"),
        ({"do": "missing_price", "schema": "trdes"}, "did you mean trades?"),
        ({"do": "slow_link", "bytes": 1000}, "did you mean bytes_per_s?"),
    ],
)
def test_a_fault_about_what_is_not_there_is_refused(body: dict[str, Any], error: str) -> None:
    """It would never strike, and nobody would notice: over HTTP, in Python and in a configuration."""
    with standing() as (sandbox, _):
        assert error in control(sandbox, body)["detail"]
        told = {word: value for word, value in body.items() if word != "do"}
        if body["do"] != "close_live":
            with pytest.raises(UnknownCommand, match=re.escape(error)):
                sandbox.arm(body["do"], **told)
        assert sandbox.faults()["faults"] == []
    with pytest.raises(ValueError, match="reset: dataset names GLBX"):
        SandboxConfig(faults=(Fault("reset", dataset="GLBX.MPD3"),))


@pytest.mark.parametrize("path", PATHS)
def test_the_paths_are_those_that_the_sandbox_answers(path: str) -> None:
    """What `on` may name is what there is: each wants a key, or another method."""
    with standing() as (sandbox, _):
        assert call(sandbox, path, key="db-none")[0] in (401, 405)


def test_a_body_that_is_no_command_is_answered_in_our_words() -> None:
    with standing() as (sandbox, _):
        request = urllib.request.Request(f"{sandbox.http_url}/control", b"nonsense")
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(request)
        said = json.load(refused.value)["detail"]
    assert refused.value.code == 400
    assert said == 'this is no JSON: send an object, as {"do": "silence", "for": "10s"}'


def test_python_says_the_same_words() -> None:
    """What is done at once is a method; a fault is armed by its name or as a value."""
    with standing() as (sandbox, _):
        assert sandbox.arm(Fault("refuse_live")) == 1
        assert sandbox.arm("gateway_restart", for_="10s", at="+1m") == 2
        assert sandbox.drop() == 2
        with pytest.raises(UnknownCommand, match="did you mean silence"):
            sandbox.arm("silense")
        with pytest.raises(UnknownCommand, match="call the method"):
            sandbox.arm("close_live")
        with pytest.raises(TypeError):
            sandbox.arm(Fault("close"), times=3)
    assert set(ACTIONS) < set(COMMANDS)


def test_connections_of_one_dataset_can_be_ended() -> None:
    with standing() as (sandbox, _), BareClient(sandbox), BareClient(sandbox, dataset="OPRA.PILLAR"):
        ended = control(sandbox, {"do": "close_live", "dataset": "OPRA.PILLAR"})
        left = control(sandbox, {"do": "reset_live"})
    assert ended == {"did": "close_live", "connections": 1}
    assert left["connections"] >= 1
