"""The one gate through which the vendor's errors enter: whatever went wrong becomes a `VendorError` with advice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from budget_guard.errors import (
    KeyRejected,
    NotEntitled,
    PaymentRequired,
    RateLimited,
    RequestRejected,
    VendorError,
    VendorUnavailable,
)

_KEY_ADVICE = "check DATABENTO_API_KEY; keys are listed at https://databento.com/portal/keys"
_LICENCE_ADVICE = "attach the licence or plan for this data at https://databento.com/portal, then try again"
_RANGE_ADVICE = "ask get_dataset_range what this key may see, and move the range inside it"

# The vendor's own names of errors, and what helps.
_CASE_ADVICE: Mapping[str, str] = {
    "auth_account_locked": "the account is locked: settle it at https://databento.com/portal/billing",
    "dataset_unavailable_range": _RANGE_ADVICE,
    "data_end_after_available_end": "end the range earlier: " + _RANGE_ADVICE,
    "data_start_after_available_end": "the data is too recent for this key: " + _RANGE_ADVICE,
    "data_start_before_available_start": "start the range later: " + _RANGE_ADVICE,
    "data_schema_not_fully_available": "this schema begins later or ends earlier than its dataset: "
    + _RANGE_ADVICE,
    "data_no_data_found_for_request": "no such data: check the symbols and whether the market was open",
    "symbology_invalid_request": "check stype_in: the symbols are not of that kind",
    "symbology_invalid_symbol": "check the symbols' spelling and stype_in",
}

_NO_ANSWER = "the vendor did not answer in time"
_TOO_LONG_ADVICE = "it took too long: ask for fewer symbols at once or a shorter range, and try again"

# Bodies are quoted in messages up to here; error pages can be long.
_QUOTED_CHARS = 200
# A text shorter than this is no key, and would be found in places that have nothing to do with it.
_KEY_LENGTH_MIN = 12

_TRANSIENT_STATUSES = frozenset({408, 429})


def error_from_answer(status: int, body: Any = None, *, key: str = "") -> VendorError:
    """The error for an HTTP status and its body: parsed JSON where it was JSON, else text or None.

    The vendor's JSON is `{"detail": text}` or `{"detail": {"case": ..., "message": ...}}`; 5xx may be plain text.
    A text that echoes `key` is given without it.
    """
    case, text = _case_and_text(body, key)
    kind, advice = _kind_and_advice(status, case)
    message = f"the vendor answered {status}"
    if case:
        message += f" {case}"
    if text:
        message += f": {text}"
    return kind(message, advice=_CASE_ADVICE.get(case or "", advice), status=status, case=case)


def _case_and_text(body: Any, key: str) -> tuple[str | None, str]:
    detail = body.get("detail") if isinstance(body, dict) else body
    case = None
    if isinstance(detail, dict):
        found = detail.get("case")
        case = found if isinstance(found, str) and found else None
        detail = detail.get("message", "")
    if isinstance(detail, bytes):
        detail = detail.decode("utf-8", "replace")
    text = _without(key, " ".join(str(detail).split()) if detail else "")
    return case, text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "..."


def _kind_and_advice(status: int, case: str | None) -> tuple[type[VendorError], str]:
    if status == 401:
        return KeyRejected, _KEY_ADVICE
    if status == 402 or case == "auth_account_locked":
        return PaymentRequired, "the account has no funds: see https://databento.com/portal/billing"
    if status == 403:
        return NotEntitled, _LICENCE_ADVICE
    if status == 429:
        return RateLimited, "wait a minute and run fewer programs at once on this account"
    if status == 504:
        return VendorUnavailable, _TOO_LONG_ADVICE
    if status == 408 or status >= 500:
        return VendorUnavailable, "the fault is on the vendor's side: try again later"
    if status == 404:
        return RequestRejected, "check the dataset's name"
    if status == 410:
        return RequestRejected, "the files have expired: they are kept for 30 days"
    return RequestRejected, "check dataset, schema, symbols, stype_in and range"


def _without(key: str, text: str) -> str:
    """Before it is cut: half a key would not be found afterwards."""
    return text.replace(key, "*" * len(key)) if len(key) >= _KEY_LENGTH_MIN else text


def vendor_error(error: Exception, *, key: str = "") -> VendorError:
    """The `VendorError` for an exception raised by `databento`, `requests` or while an answer was being read.

    Its text does not hold `key`, also where the vendor's does.
    """
    if isinstance(error, VendorError):
        return error
    from databento.common.error import BentoHttpError
    from requests import ConnectionError as NoConnection
    from requests import RequestException, Timeout

    if isinstance(error, BentoHttpError):
        body = error.json_body if isinstance(error.json_body, dict) else error.http_body
        return error_from_answer(error.http_status, body, key=key)
    if isinstance(error, Timeout):
        return VendorUnavailable(_NO_ANSWER, advice=_TOO_LONG_ADVICE)
    if isinstance(error, NoConnection):
        return VendorUnavailable(
            "the vendor cannot be reached",
            advice="check the network and BUDGET_GUARD_HISTORICAL_GATEWAY, or plan with --offline",
        )
    if isinstance(error, RequestException | AttributeError | KeyError | TypeError | ValueError):
        return not_understood(f"{type(error).__name__}")
    return VendorUnavailable(
        _without(key, f"{type(error).__name__}: {error}")[:_QUOTED_CHARS], advice="try again later"
    )


def not_understood(what: str) -> VendorUnavailable:
    """The error for an answer that is not what the vendor's documentation says."""
    return VendorUnavailable(
        f"the vendor's answer could not be understood: {what}",
        advice="check that the gateway is the vendor's, or try again later",
    )


def took_too_long(error: VendorError) -> bool:
    """Whether a smaller question may be answered where this one was not: very long symbol lists time out."""
    return isinstance(error, VendorUnavailable) and (error.status == 504 or error.message == _NO_ANSWER)


def is_transient(error: VendorError) -> bool:
    """Whether the same request may well succeed in a moment."""
    if error.status is None:
        return isinstance(error, VendorUnavailable)
    return error.status in _TRANSIENT_STATUSES or error.status >= 500


def retry_after_s(headers: Mapping[str, Any], now: datetime) -> float | None:
    """The seconds that a `Retry-After` header asks for, as a number or as a date; None when it says nothing."""
    text = next((str(value) for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if not text:
        return None
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        return None
    return max(0.0, (until - now).total_seconds())
