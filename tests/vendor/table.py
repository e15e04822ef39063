"""Every answer with which the vendor is known to refuse: status, body, our type, and a word of the advice."""

from __future__ import annotations

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


def detail(case: str) -> dict[str, Any]:
    """A body as the vendor writes it."""
    return {"detail": {"case": case, "message": "In words.", "status_code": 0, "docs": "", "payload": {}}}


TABLE: tuple[tuple[int, Any, type[VendorError], str], ...] = (
    (401, detail("auth_authentication_failed"), KeyRejected, "DATABENTO_API_KEY"),
    (402, detail("account_insufficient_funds"), PaymentRequired, "billing"),
    (403, detail("license_not_found_unauthorized"), NotEntitled, "licence"),
    (403, detail("auth_account_locked"), PaymentRequired, "locked"),
    (404, {"detail": "not found"}, RequestRejected, "dataset"),
    (408, None, VendorUnavailable, "later"),
    (410, {"detail": "gone"}, RequestRejected, "30 days"),
    (422, detail("dataset_unavailable_range"), RequestRejected, "get_dataset_range"),
    (422, detail("data_end_after_available_end"), RequestRejected, "earlier"),
    (422, detail("data_start_after_available_end"), RequestRejected, "too recent"),
    (422, detail("data_start_before_available_start"), RequestRejected, "start the range later"),
    (422, detail("data_schema_not_fully_available"), RequestRejected, "schema"),
    (422, detail("data_no_data_found_for_request"), RequestRejected, "market was open"),
    (422, detail("symbology_invalid_request"), RequestRejected, "stype_in"),
    (422, detail("symbology_invalid_symbol"), RequestRejected, "spelling"),
    (422, detail("something_new"), RequestRejected, "schema"),
    (429, {"detail": "slow down"}, RateLimited, "minute"),
    (500, "Internal Server Error", VendorUnavailable, "vendor's side"),
    (503, None, VendorUnavailable, "later"),
    (504, "<html>gateway</html>", VendorUnavailable, "fewer symbols"),
    (418, None, RequestRejected, "check"),
)
