"""The vendor's refusals of live data, as types with advice."""

from __future__ import annotations

from budget_guard.errors import KeyRejected, NotEntitled, PaymentRequired, VendorError, VendorUnavailable

# ErrorMsg codes (DBN specification) after which the same session asked for again would be refused again.
AUTH_FAILED = 1
KEY_DEACTIVATED = 2
CONNECTION_LIMIT = 3
SYMBOL_RESOLUTION_FAILED = 4
INVALID_SUBSCRIPTION = 5
INTERNAL_ERROR = 6
RECORDS_SKIPPED = 7
REPLAY_AGED_OUT = 8
# These end a session, and what follows is the relay's: a client that was given one would raise it at its own end, long
# after the stream has been mended.
SEEN_TO = frozenset({AUTH_FAILED, KEY_DEACTIVATED, CONNECTION_LIMIT, INTERNAL_ERROR, REPLAY_AGED_OUT})


class SessionsFull(VendorError):
    """The team's connections to a dataset are all in use."""

    code = "sessions_full"


def logon_error(text: str, dataset: str) -> VendorError:
    """The vendor's refusal of a logon (texts as they have been seen)."""
    lowered = text.lower()
    if "license" in lowered or "licence" in lowered or "entitle" in lowered:
        return NotEntitled(
            text,
            advice=f"ask for a {dataset} live licence in the vendor's portal; a plan alone is not one",
        )
    if "connection limit" in lowered:
        return _sessions_full(text)
    if "authentication" in lowered or "deactivated" in lowered or "key" in lowered:
        return _key_rejected(text)
    if "insufficient" in lowered or "unpaid" in lowered or "locked" in lowered:
        return PaymentRequired(text, advice="see the billing page of the vendor's portal")
    return VendorUnavailable(text, advice="the live gateway refused for a reason that is not known here")


def session_error(code: int, text: str) -> VendorError | None:
    """What an ErrorMsg at the end of a session means; None when another attempt may fare better."""
    if code in (AUTH_FAILED, KEY_DEACTIVATED):
        return _key_rejected(text)
    return _sessions_full(text) if code == CONNECTION_LIMIT else None


def _key_rejected(text: str) -> VendorError:
    return KeyRejected(text, advice="check DATABENTO_API_KEY in the vendor's portal")


def _sessions_full(text: str) -> VendorError:
    return SessionsFull(
        text, advice="close a connection of this team first: they are counted per dataset, not per key"
    )
