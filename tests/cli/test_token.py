"""`budget-guard token`: made once, shown once, listed, revoked."""

from __future__ import annotations

import json

import pytest

from tests.cli.service import make_token
from tests.streaming.rehearsal import Rehearsal


def test_a_token_is_shown_once_alone_on_stdout(rehearsal: Rehearsal) -> None:
    done = rehearsal.guard("token", "make", str(rehearsal.policy), "--stream", "nq", "--name", "ada")
    assert done.returncode == 0
    token = done.stdout.strip()
    assert token.startswith("db-") and len(token) == 32
    assert "for ada: stream nq of policy rehearsal. It is not shown again." in done.stderr
    for form in ("table", "json"):
        listed = rehearsal.guard("token", "list", "--format", form)
        assert token not in listed.stdout + listed.stderr


def test_the_list_says_who_has_one_for_what_and_since_when(rehearsal: Rehearsal) -> None:
    token_id, _ = make_token(rehearsal, "--stream", "nq", "--name", "ada")
    make_token(rehearsal, "--name", "ben")
    rehearsal.guard("token", "revoke", token_id[:5])
    table = rehearsal.guard("token", "list", str(rehearsal.policy)).stdout.splitlines()
    assert table[0].split() == ["id", "policy", "stream", "name", "made", "revoked"]
    assert table[1].split()[:4] == [token_id, "rehearsal", "nq", "ada"] and len(table[1].split()) == 6
    assert table[2].split()[1:4] == ["rehearsal", "(any)", "ben"] and len(table[2].split()) == 5
    rows = json.loads(rehearsal.guard("token", "list", "--format", "json").stdout)
    assert [row["name"] for row in rows] == ["ada", "ben"]
    assert rows[0]["revoked_utc"] and rows[1]["revoked_utc"] is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["make", "POLICY", "--stream", "es"], "no stream 'es' in the policy; it has nq"),
        (["make", "POLICY", "--name", " "], "printable"),
        (["make", "no-such-policy.yaml"], "no-such-policy.yaml"),
        (["revoke", "1234"], "no token with an ID that begins with 1234"),
    ],
)
def test_wrong_usage_says_what_would_be_right(
    rehearsal: Rehearsal, arguments: list[str], reason: str
) -> None:
    given = [str(rehearsal.policy) if one == "POLICY" else one for one in arguments]
    done = rehearsal.guard("token", *given)
    assert done.returncode == 2
    assert reason in done.stderr and "Traceback" not in done.stderr


def test_an_empty_beginning_revokes_nobody(rehearsal: Rehearsal) -> None:
    make_token(rehearsal)
    make_token(rehearsal)
    done = rehearsal.guard("token", "revoke", "")
    assert done.returncode == 2 and "2 tokens" in done.stderr
    assert "revoked" in rehearsal.guard("token", "list").stdout.splitlines()[0]
    rows = json.loads(rehearsal.guard("token", "list", "--format", "json").stdout)
    assert all(row["revoked_utc"] is None for row in rows)
