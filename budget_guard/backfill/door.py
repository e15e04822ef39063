"""The guard's own historical door, asked over HTTP as any program asks it: every limit, approval and hold applies."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

from budget_guard.errors import BudgetGuardError
from budget_guard.pricing.model import DataRange

# The door asks a person within a minute where the policy wants it, and the vendor may take its time.
TIMEOUT_S = 300.0
_READ_BYTES = 1 << 18
_GUARD_CASE = "budget_guard_"
_VENDOR_CODES = frozenset({"key_rejected", "payment_required", "not_entitled"})


class DoorRefused(BudgetGuardError):
    """The door said no. `by_guard`: by the policy; else by the vendor, with `status`."""

    def __init__(self, message: str, case: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        code = case.removeprefix(_GUARD_CASE)
        self.by_guard = code != case and code not in _VENDOR_CODES
        self.by_vendor = code in _VENDOR_CODES or (code == case and status in (401, 402, 403))


class DoorBroke(BudgetGuardError):
    """The answer did not come, or not to its end."""


class HistoricalDoor:
    """The door of a gateway in this process."""

    def __init__(self, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._timeout_s = timeout_s
        secret = base64.b64encode(f"{token}:".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {secret}",
            "Content-Type": "application/x-www-form-urlencoded",
        }

    def record_count(self, wanted: DataRange) -> int:
        """How many records the vendor has of a range: free. Raises DoorRefused, DoorBroke."""
        with self._asked("metadata.get_record_count", _form(wanted)) as answer:
            text = answer.read()
        try:
            count = json.loads(text)
        except ValueError:
            count = None
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise DoorBroke(f"the vendor's count of records is not a number: {text[:80]!r}")
        return count

    def buy(self, wanted: DataRange, write: Callable[[bytes], object]) -> None:
        """Buy a range as compressed DBN and hand it over as it comes. Raises DoorRefused, DoorBroke.

        When it returns, everything came.
        """
        form = {**_form(wanted), "stype_out": "instrument_id", "encoding": "dbn", "compression": "zstd"}
        with self._asked("timeseries.get_range", form) as answer:
            while data := answer.read(_READ_BYTES):
                write(data)

    @contextmanager
    def _asked(self, name: str, form: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request("POST", f"/v0/{name}", urlencode(form), self._headers)
            with connection.getresponse() as answer:
                if answer.status not in (200, 206):
                    raise _refused(answer.status, answer.read())
                yield answer
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            raise DoorBroke(f"the answer broke off: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()


def _form(wanted: DataRange) -> dict[str, str]:
    return {
        "dataset": wanted.dataset,
        "schema": wanted.schema,
        "symbols": ",".join(wanted.symbols),
        "stype_in": wanted.stype_in,
        "start": wanted.start_utc.isoformat(),
        "end": wanted.end_utc.isoformat(),
    }


def _refused(status: int, body: bytes) -> DoorRefused:
    detail: Any = None
    with suppress(ValueError, AttributeError):
        detail = json.loads(body).get("detail")
    if isinstance(detail, dict):
        return DoorRefused(str(detail.get("message") or detail), str(detail.get("case") or ""), status)
    text = detail if isinstance(detail, str) else body[:200].decode(errors="replace")
    return DoorRefused(f"{status}: {text}", "", status)
