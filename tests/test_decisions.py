"""A decision: the same value for a terminal, JSON, an exception and the wire."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.decisions import ALLOW, WIRE_TEXT_MAX, Code, Decision, Reason, deny, reason_from_json
from budget_guard.errors import Refused

TEXTS = st.text(max_size=400)
AMOUNTS = st.none() | st.decimals(min_value=0, max_value=Decimal(10**9), places=9)
INSTANTS = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda instant: instant.replace(microsecond=instant.microsecond // 1000 * 1000))
REASONS = st.builds(
    Reason,
    code=st.sampled_from(get_args(Code)),
    message=TEXTS,
    budget=st.none() | TEXTS,
    period=st.none() | st.sampled_from(["session", "day", "week", "month", "total"]),
    unit=st.none() | st.sampled_from(["usd", "gib", "hours", "connections"]),
    limit=AMOUNTS,
    settled=AMOUNTS,
    held=AMOUNTS,
    asked=AMOUNTS,
    retry_at_utc=st.none() | INSTANTS,
)

FULL = Reason(
    "limit_reached",
    "7.99 of 8 USD are used",
    budget="glbx-live",
    period="session",
    unit="usd",
    limit=Decimal("8.00"),
    settled=Decimal("7.99"),
    held=Decimal(0),
    asked=Decimal("0.05"),
    retry_at_utc=datetime(2026, 11, 23, 23, 0, tzinfo=UTC),
)


@settings(max_examples=100)
@given(st.lists(REASONS, max_size=3))
def test_the_wire_text_always_fits_the_vendor_s_record(reasons: list[Reason]) -> None:
    """At most 301 bytes of ASCII, printable and without the bar that its client cannot parse."""
    text = Decision("deny", tuple(reasons)).wire_text()
    assert 0 < len(text.encode("ascii")) <= WIRE_TEXT_MAX == 301
    assert "|" not in text
    assert text.isprintable()


@settings(max_examples=100)
@given(REASONS)
def test_a_reason_survives_json(reason: Reason) -> None:
    assert reason_from_json(json.loads(json.dumps(reason.as_json()))) == reason


def test_the_json_shape_is_the_documented_one() -> None:
    assert Decision("deny", (FULL, Reason("window_closed", "closed"))).as_json() == {
        "verdict": "deny",
        "reasons": [
            {
                "code": "limit_reached",
                "message": "7.99 of 8 USD are used",
                "budget": "glbx-live",
                "period": "session",
                "unit": "usd",
                "limit": "8",
                "settled": "7.99",
                "held": "0",
                "asked": "0.05",
                "retry_at_utc": "2026-11-23T23:00:00Z",
            },
            {"code": "window_closed", "message": "closed"},
        ],
    }


def test_code_budget_limit_and_retry_time_come_first_on_the_wire_and_survive_a_cut() -> None:
    long = Decision("deny", (replace(FULL, message="why " * 200),))
    head = "budget-guard: limit_reached [glbx-live session 8 usd] retry at 2026-11-23T23:00:00Z: why"
    assert long.wire_text().startswith(head)
    assert long.wire_text().endswith("...")
    assert len(long.wire_text()) == WIRE_TEXT_MAX


def test_an_allowed_request_needs_no_reason() -> None:
    assert ALLOW.allowed
    assert ALLOW.code is None
    assert ALLOW.as_json() == {"verdict": "allow", "reasons": []}
    assert ALLOW.text() == "allow"


def test_a_refusal_carries_its_reasons_in_order_to_the_terminal_and_the_exception() -> None:
    decision = Decision("deny", (FULL, Reason("window_closed", "opens at 14:25")))
    assert not decision.allowed
    assert decision.code == "limit_reached"
    assert decision.text() == "limit_reached: 7.99 of 8 USD are used\nwindow_closed: opens at 14:25"
    refused = Refused(decision)
    assert refused.decision is decision
    assert str(refused) == decision.text()


def test_deny_makes_a_refusal_with_a_single_reason() -> None:
    decision = deny("price_unknown", "no price for mbo", budget="account")
    assert decision == Decision("deny", (Reason("price_unknown", "no price for mbo", budget="account"),))


def test_the_codes_are_the_stable_ones() -> None:
    assert set(get_args(Code)) == {
        "not_covered",
        "window_closed",
        "limit_reached",
        "would_exceed",
        "frozen",
        "price_unknown",
        "size_unknown",
        "calendar_unknown",
        "ledger_unavailable",
        "not_entitled",
        "payment_required",
        "key_rejected",
        "sessions_full",
        "all_symbols",
        "approval_needed",
        "outcome_unknown",  # came with batch jobs; the others are the first ones
    }
