"""Errors as the historical door gives them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from budget_guard.decisions import Code, Decision


def problem(status: int, case: str, message: str, payload: Any = None) -> web.Response:
    """An error in the vendor's own shape, so that every client can read it."""
    detail = {"case": case, "message": message, "status_code": status, "docs": None, "payload": payload}
    return web.json_response({"detail": detail}, status=status)


def refusal(decision: Decision, *, status: int = 403) -> web.Response:
    """The guard's own refusal, with its reasons in text and as data."""
    code: Code = decision.code or "not_covered"
    return problem(status, f"budget_guard_{code}", decision.text(), payload=decision.as_json())
