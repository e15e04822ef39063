"""The small parts: states, tokens, waits, and a decision on its way over the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice, pairwise

import databento_dbn as dbn
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.decisions import WIRE_TEXT_MAX, Decision, Reason, deny
from budget_guard.errors import KeyRejected, NotEntitled, PaymentRequired, VendorUnavailable
from budget_guard.gateway.keyring import Bearer, Keyring
from budget_guard.gateway.live.backoff import MOST_S, delays_s
from budget_guard.gateway.live.states import TABLE, Event, IllegalStep, State, step
from budget_guard.gateway.outcome import BREAKER_S, CONNECTIONS_BREAKER_S, Standing
from budget_guard.gateway.wire.lines import challenge_response
from budget_guard.gateway.wire.records import error_record
from budget_guard.gateway.wire.refusals import SessionsFull, logon_error, session_error
from budget_guard.gateway.wire.tokens import TOKEN_LENGTH, make_token, same_token
from tests.gateway.fake_gateway import metadata
from tests.gateway.versions import decode

SECRET = b"s" * 32


# --- states -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), [(state, event) for state in State for event in Event])
def test_a_step_is_in_the_table_or_names_state_and_event(state: State, event: Event) -> None:
    if event in TABLE[state]:
        assert step(state, event) is TABLE[state][event]
    else:
        with pytest.raises(IllegalStep, match=f"that is {state.value} cannot take {event.value}"):
            step(state, event)


def test_every_state_can_be_reached_and_every_one_can_end() -> None:
    reached = {State.GREETED}
    while (more := {after for state in reached for after in TABLE[state].values()} | reached) != reached:
        reached = more
    assert reached == set(State)
    ends = {State.CLOSED}
    while (more := {state for state in State if set(TABLE[state].values()) & ends} | ends) != ends:
        ends = more
    assert ends == set(State)


# --- tokens -------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=40), st.text(max_size=20))
def test_a_token_looks_like_a_key_and_is_made_again_the_same(secret: bytes, stream: str) -> None:
    token = make_token(secret, stream)
    assert len(token) == TOKEN_LENGTH and token.startswith("db-") and token[3:].isalnum()
    assert token == make_token(secret, stream)
    assert make_token(secret, stream + "x") != token != make_token(secret + b"x", stream)


def test_a_challenge_tells_whose_token_answered_it() -> None:
    bearers = [Bearer(make_token(SECRET, name), name) for name in ("", "nq", "es")]
    keyring = Keyring(bearers)
    for bearer in bearers:
        assert keyring.who_answered(challenge_response("abc", bearer.token), "abc") == bearer
        assert keyring.who_answered(challenge_response("abd", bearer.token), "abc") is None
    assert keyring.who_answered("", "abc") is None
    assert keyring.who_answered("größe", "abc") is None


def test_tokens_of_any_text_can_be_compared() -> None:
    token = make_token(SECRET)
    assert same_token(token, token)
    assert not same_token("schlüssel", token)


# --- waits --------------------------------------------------------------------------------------------------


def test_waits_double_up_to_a_bound_with_some_jitter() -> None:
    waits = list(islice(delays_s(), 12))
    assert all(0 < wait <= MOST_S * 1.25 for wait in waits)
    assert all(later >= wait for wait, later in pairwise(waits[:4]))
    assert waits[-1] >= MOST_S * 0.75


def test_a_refusal_by_the_vendor_is_believed_for_a_while_only() -> None:
    standing = Standing()
    standing.believe("A.B", deny("not_entitled", "no"), 100.0)
    standing.believe("C.D", deny("sessions_full", "ten are open"), 100.0)
    assert standing.vendor_refusal("A.B", 100.0 + BREAKER_S - 1) == deny("not_entitled", "no")
    assert standing.vendor_refusal("A.B", 100.0 + BREAKER_S) is None
    assert standing.vendor_refusal("C.D", 100.0 + CONNECTIONS_BREAKER_S) is None
    assert standing.vendor_refusal("E.F", 0.0) is None


# --- what the vendor says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A live data license is required to access GLBX.MDP3.", NotEntitled),
        ("User has reached their open connection limit", SessionsFull),
        ("Authentication failed.", KeyRejected),
        ("This API key was deactivated", KeyRejected),
        ("Account has insufficient funds", PaymentRequired),
        ("Something else", VendorUnavailable),
    ],
)
def test_a_refused_logon_has_a_type_and_advice(text: str, kind: type[Exception]) -> None:
    error = logon_error(text, "GLBX.MDP3")
    assert type(error) is kind
    assert error.message == text and error.advice


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, KeyRejected), (2, KeyRejected), (3, SessionsFull), (4, None), (6, None), (255, None)],
)
def test_an_error_that_ends_a_session_is_final_by_its_code(code: int, kind: type[Exception] | None) -> None:
    error = session_error(code, "text")
    assert error is None if kind is None else type(error) is kind


# --- decisions over the wire --------------------------------------------------------------------------------

reasons = st.builds(
    Reason,
    st.sampled_from(["limit_reached", "not_covered", "window_closed"]),
    st.text(max_size=400),
    budget=st.none() | st.text(max_size=60),
    period=st.none() | st.sampled_from(["day", "month"]),
    unit=st.none() | st.just("usd"),
    limit=st.none() | st.decimals(0, 10**6, places=9),
    retry_at_utc=st.none() | st.just(datetime(2026, 12, 1, tzinfo=UTC)),
)


@given(reasons)
def test_any_decision_survives_the_wire_and_says_the_first_things_first(reason: Reason) -> None:
    text = Decision("deny", (reason,)).wire_text()
    assert len(text.encode()) <= WIRE_TEXT_MAX and text.isascii() and "|" not in text and text.isprintable()
    assert text.startswith(f"budget-guard: {reason.code}")
    (decoded,) = decode(metadata() + error_record(text, 1, version=3, ts_out=False))
    assert isinstance(decoded, dbn.ErrorMsg) and decoded.err == text


def test_what_must_survive_a_cut_comes_before_the_message() -> None:
    reason = Reason(
        "limit_reached",
        "m" * 500,
        budget="account",
        period="month",
        unit="usd",
        limit=Decimal("200"),
        retry_at_utc=datetime(2026, 12, 1, tzinfo=UTC),
    )
    text = Decision("deny", (reason,)).wire_text()
    assert text.startswith(
        "budget-guard: limit_reached [account month 200 usd] retry at 2026-12-01T00:00:00Z: mm"
    )
    assert text.endswith("...") and len(text) == WIRE_TEXT_MAX
