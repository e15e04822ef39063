"""Errors as the historical door gives them."""

from __future__ import annotations

from typing import Any

from aiohttp import web


def problem(status: int, case: str, message: str, payload: Any = None) -> web.Response:
    """An error in the vendor's own shape, so that every client can read it."""
    detail = {"case": case, "message": message, "status_code": status, "docs": None, "payload": payload}
    return web.json_response({"detail": detail}, status=status)
