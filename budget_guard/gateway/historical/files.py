"""The files of batch jobs: paid for when the job was submitted, and fetched as often as wanted while they are kept."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from budget_guard.gateway.historical.answers import problem
from budget_guard.gateway.historical.room import API, Room

FILE_PATH = re.compile(r"/v0/batch/download/(?P<user>[^/]+)/(?P<job>[^/]+)/(?P<file>[^/]+)")
# A path that a server might read as another one.
_DISGUISED = re.compile(r"%2f|%5c|%2e|\\|/\.{1,2}(/|$)", re.IGNORECASE)
# What a client needs to resume a file, or to name it.
_FILE_HEADERS = ("Content-Range", "Accept-Ranges", "Content-Disposition", "ETag", "Last-Modified")
_ASKED_HEADERS = ("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since")
_JOBS_MAX = 1024
# The vendor's own hosts: nowhere else is the key shown.
_VENDOR_DOMAIN = ".databento.com"


class Files:
    """Lists and fetches the files of jobs. The addresses in a list become the door's own: the key stays behind it."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._origins: OrderedDict[str, str] = OrderedDict()  # by job: where the vendor has its files

    async def list_files(self, request: web.Request) -> web.StreamResponse:
        """The vendor's list, with addresses that lead here."""
        try:
            async with self._room.asked(request.method, f"{self._upstream}{request.path_qs}") as answer:
                said = await self._room.said(answer)
                headers = self._room.kept_headers(answer)
                if answer.status == 200:
                    said = self._with_own_addresses(said, f"{request.scheme}://{request.host}")
                return web.Response(status=answer.status, body=said, headers=headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            return problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")

    async def fetch_file(self, request: web.Request, job_id: str) -> web.StreamResponse:
        """One file, or the range of it that is asked for."""
        try:
            origin = await self._origin_of(job_id)
            return await self._stream(request, f"{origin}{request.rel_url.raw_path}")
        except (aiohttp.ClientError, TimeoutError) as error:
            return problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")

    async def fetch_all(self, request: web.Request) -> web.StreamResponse:
        """All files of a job in one archive."""
        try:
            return await self._stream(request, f"{self._upstream}{request.path_qs}")
        except (aiohttp.ClientError, TimeoutError) as error:
            return problem(504, "gateway_unreachable", f"the vendor cannot be reached: {error}")

    @property
    def _upstream(self) -> str:
        return self._room.terms.upstream_url

    async def _stream(self, request: web.Request, url: str) -> web.StreamResponse:
        """Pass a file on as it comes. Raises aiohttp.ClientError only before anything was passed on."""
        wanted = {name: request.headers[name] for name in _ASKED_HEADERS if name in request.headers}
        async with self._room.asked(request.method, url, headers=wanted) as answer:
            if answer.status >= 400:
                said = await self._room.said(answer)
                return web.Response(status=answer.status, body=said, headers=self._room.kept_headers(answer))
            response = web.StreamResponse(
                status=answer.status, headers=self._room.kept_headers(answer, *_FILE_HEADERS)
            )
            if answer.content_length is not None and "Content-Encoding" not in answer.headers:
                # With its length a client knows by itself when a file is not whole.
                response.content_length = answer.content_length
            await response.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            except (aiohttp.ClientError, TimeoutError) as error:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError(f"the vendor broke off: {error}") from error
            await response.write_eof()
            return response

    def _with_own_addresses(self, body: bytes, own: str) -> bytes:
        """The list with every address of the vendor's replaced; anything else stays as it is."""
        try:
            rows = json.loads(body)
        except ValueError:
            return body
        for row in rows if isinstance(rows, list) else []:
            urls = row.get("urls") if isinstance(row, dict) else None
            if isinstance(urls, dict):
                urls.update({kind: self._own_address(address, own) for kind, address in urls.items()})
        return json.dumps(rows).encode()

    def _own_address(self, address: Any, own: str) -> Any:
        parts = urlsplit(address) if isinstance(address, str) else None
        match = None if parts is None else FILE_PATH.fullmatch(parts.path)
        if parts is None or match is None:
            return address
        origin = f"{parts.scheme}://{parts.netloc}"
        if not self._is_the_vendors(origin):
            return address
        self._origins[match["job"]] = origin
        self._origins.move_to_end(match["job"])
        while len(self._origins) > _JOBS_MAX:
            self._origins.popitem(last=False)
        return f"{own}{parts.path}"

    def _is_the_vendors(self, origin: str) -> bool:
        parts = urlsplit(origin)
        if origin == self._upstream:
            return True
        return parts.scheme == "https" and (parts.hostname or "").endswith(_VENDOR_DOMAIN)

    async def _origin_of(self, job_id: str) -> str:
        """Where the vendor has a job's files: as its list says, which is asked for if nobody has seen it yet."""
        if job_id not in self._origins:
            async with self._room.asked(
                "GET", self._room.url("batch.list_files"), params={"job_id": job_id}
            ) as answer:
                if answer.status == 200:
                    self._with_own_addresses(await self._room.said(answer), "")
        return self._origins.get(job_id, self._upstream)


def job_in_path(raw_path: str) -> str | None:
    """The job of a file's path, as it came over the wire; None for any other path, and for one in disguise."""
    match = FILE_PATH.fullmatch(raw_path)
    if match is None or _DISGUISED.search(raw_path):
        return None
    return match["job"]


ALL_FILES = f"{API}batch.download"
