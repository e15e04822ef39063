"""Every way in which the vendor can fail has one type and one piece of advice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from databento.common.error import BentoClientError, BentoServerError

from budget_guard.errors import KeyRejected, VendorError, VendorUnavailable
from budget_guard.vendor.errors import error_from_answer, is_transient, retry_after_s, vendor_error
from tests.vendor.table import TABLE, detail

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(("status", "body", "kind", "advice"), TABLE)
def test_each_answer_has_its_type_and_advice(
    status: int, body: Any, kind: type[VendorError], advice: str
) -> None:
    """Status and case choose the type; the message says what was answered and what helps."""
    error = error_from_answer(status, body)
    assert type(error) is kind
    assert advice in error.advice
    assert str(status) in str(error)
    assert error.status == status
    if isinstance(body, dict) and isinstance(body["detail"], dict):
        assert error.case == body["detail"]["case"]
        assert "In words." in str(error)


def test_a_long_error_page_is_cut() -> None:
    """A page of HTML does not fill the terminal."""
    assert len(error_from_answer(502, "x" * 10_000).message) < 300


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (BentoClientError(401, json_body=detail("auth_authentication_failed")), KeyRejected),
        (BentoServerError(503, http_body=b"down for maintenance"), VendorUnavailable),
        (requests.ConnectTimeout("t"), VendorUnavailable),
        (requests.ReadTimeout("t"), VendorUnavailable),
        (requests.ConnectionError("c"), VendorUnavailable),
        (requests.JSONDecodeError("j", "", 0), VendorUnavailable),
        (requests.RequestException("r"), VendorUnavailable),
        (ValueError("v"), VendorUnavailable),
        (KeyError("unit_prices"), VendorUnavailable),
        (RuntimeError("anything else"), VendorUnavailable),
    ],
)
def test_every_foreign_exception_is_mapped(raised: Exception, kind: type[VendorError]) -> None:
    """No exception of another library leaves the room."""
    error = vendor_error(raised)
    assert type(error) is kind
    assert error.advice


def test_our_own_errors_pass_unchanged() -> None:
    """What is already a VendorError is not wrapped again."""
    error = KeyRejected("no", advice="look")
    assert vendor_error(error) is error


@pytest.mark.parametrize(
    ("status", "again"), [(429, True), (500, True), (504, True), (408, True), (401, False), (422, False)]
)
def test_only_passing_troubles_are_tried_again(status: int, again: bool) -> None:
    """A refusal is final; an overload is not."""
    assert is_transient(error_from_answer(status)) is again


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Sun, 22 Nov 2026 12:00:09 GMT", 9.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    """Both forms of the header are understood; nonsense says nothing."""
    assert retry_after_s({"Retry-After": text}, NOW) == seconds
    assert retry_after_s({"retry-after": text}, NOW) == seconds
    assert retry_after_s({}, NOW) is None
