"""What the vendor gives for nothing: metadata and symbology, passed on, and some of it kept for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import aiohttp
from aiohttp import web

from budget_guard.gateway.historical.answers import problem
from budget_guard.gateway.historical.room import API, Room

# The vendor's free paths.
FREE = frozenset(
    {
        "metadata.list_publishers",
        "metadata.list_datasets",
        "metadata.list_schemas",
        "metadata.list_fields",
        "metadata.list_unit_prices",
        "metadata.get_dataset_condition",
        "metadata.get_dataset_range",
        "metadata.get_record_count",
        "metadata.get_billable_size",
        "metadata.get_cost",
        "symbology.resolve",
        "batch.list_jobs",
        "batch.get_job_details",
    }
)
# Seconds for which an answer is right whatever else happens: what these say changes at most with a release of the
# vendor's. Prices, ranges, conditions, sizes and jobs change while a program runs, and are asked for each time.
_KEPT_S: Mapping[str, float] = {
    "metadata.list_publishers": 3600.0,
    "metadata.list_fields": 3600.0,
    "metadata.list_schemas": 3600.0,
    "symbology.resolve": 3600.0,
}
_KEPT_MAX = 256
_KEPT_BYTES_MAX = 1 << 20
NOTE_HEADER = "X-Budget-Guard"


@dataclass(frozen=True, slots=True)
class _Kept:
    body: bytes
    headers: Mapping[str, str]
    until_s: float


class Passing:
    """Hands free calls on with the real key, no faster than the vendor allows."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._kept: OrderedDict[tuple[str, frozenset[tuple[str, str]]], _Kept] = OrderedDict()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The vendor's answer, or a kept one; 504 in the vendor's own shape when it cannot be reached."""
        name = request.path.removeprefix(API)
        fields = {**request.query, **{key: str(value) for key, value in (await request.post()).items()}}
        question = (name, frozenset(fields.items()))
        kept = self._find(question)
        if kept is not None:
            return web.Response(
                body=kept.body, headers={**kept.headers, NOTE_HEADER: "kept since it was last asked"}
            )
        if name.startswith("metadata."):
            await self._room.wait_for_turn()
        try:
            return await self._pass(request, question, self._keep_s(name, fields))
        except (aiohttp.ClientError, TimeoutError) as error:
            return problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")

    async def _pass(
        self, request: web.Request, question: tuple[str, frozenset[tuple[str, str]]], keep_s: float
    ) -> web.Response:
        headers = {"Content-Type": request.content_type} if request.body_exists else {}
        url = f"{self._room.terms.upstream_url}{request.path_qs}"
        body = await request.read()
        async with self._room.asked(request.method, url, data=body or None, headers=headers) as answer:
            said = await self._room.said(answer)
            kept_headers = self._room.kept_headers(answer)
            if answer.status == 200 and keep_s and len(said) <= _KEPT_BYTES_MAX:
                self._keep(question, _Kept(said, kept_headers, time.monotonic() + keep_s))
            return web.Response(status=answer.status, body=said, headers=kept_headers)

    def _keep_s(self, name: str, fields: Mapping[str, str]) -> float:
        """How long an answer may be kept; what symbols stand for only for days that are over."""
        if name != "symbology.resolve":
            return _KEPT_S.get(name, 0.0)
        try:
            end = date.fromisoformat(fields["end_date"][:10])
        except (KeyError, ValueError):
            return 0.0
        yesterday = self._room.guard.clock.now().date() - timedelta(days=1)
        return _KEPT_S[name] if end <= yesterday else 0.0

    def _find(self, question: tuple[str, frozenset[tuple[str, str]]]) -> _Kept | None:
        kept = self._kept.get(question)
        return kept if kept is not None and time.monotonic() < kept.until_s else None

    def _keep(self, question: tuple[str, frozenset[tuple[str, str]]], answer: _Kept) -> None:
        self._kept[question] = answer
        self._kept.move_to_end(question)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
