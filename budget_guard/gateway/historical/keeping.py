"""Gives answers again that were bought before, and keeps those that are bought now, where the policy says so."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import IO

from aiohttp import web

from budget_guard.clock import instant_text
from budget_guard.gateway.historical.form import RangeRequest
from budget_guard.gateway.historical.passing import NOTE_HEADER
from budget_guard.gateway.historical.room import Room
from budget_guard.gateway.historical.shelf import Kept, Shelf, Writer, shelf_key

log = logging.getLogger(__name__)

# Who asks for what another is fetching waits for that, and looks so often; a client gives up after 100 s of silence.
TURN_WITHIN_S = 90.0
LOOK_S = 0.1
_CHUNK = 256 * 1024


class Keeping:
    """The kept answers of one door."""

    def __init__(self, room: Room) -> None:
        self._room = room
        terms = room.terms.keeping
        self._shelf = None if terms is None else Shelf(terms.folder, terms.keep)

    async def start(self) -> None:
        """Remove what is too old."""
        if self._shelf is not None:
            await self._room.patiently(partial(self._shelf.sweep, self._room.guard.clock.now()))

    @asynccontextmanager
    async def turn(self, wanted: RangeRequest) -> AsyncIterator[Kept | Copy | None]:
        """The kept answer of a request, or what keeps the one that is now bought; None where nothing is kept.

        Whoever asks for the same meanwhile waits here, in this process or another, and then gets what was kept.
        """
        if self._shelf is None:
            yield None
            return
        key = shelf_key(
            self._room.terms.upstream_url, self._room.account, wanted.canonical, wanted.range.symbols
        )
        waited_s = 0.0
        while True:
            with self._shelf.turn(key) as mine:
                kept = await self._find(key)
                if kept is not None or mine or waited_s >= TURN_WITHIN_S:
                    yield kept if kept is not None else Copy(self._room, self._shelf, key, wanted.canonical)
                    return
            await asyncio.sleep(LOOK_S)
            waited_s += LOOK_S

    async def _find(self, key: str) -> Kept | None:
        assert self._shelf is not None
        return await self._room.patiently(partial(self._shelf.find, key, self._room.guard.clock.now()))

    async def serve(self, request: web.Request, kept: Kept) -> web.StreamResponse:
        """Send a kept answer. Raises OSError, before anything is sent, when it cannot be read."""
        file = await self._room.in_thread(partial(_open, kept.path))
        note = f"kept since {instant_text(kept.stored_utc)}: given again, and costs nothing"
        text = f"{_told(kept.note.form)}: {note}"
        log.warning("%s", text)
        self._room.outcome.notes.append(text)
        try:
            return await self._send(request, kept, file, note)
        finally:
            file.close()

    async def _send(self, request: web.Request, kept: Kept, file: IO[bytes], note: str) -> web.StreamResponse:
        response = web.StreamResponse(
            status=kept.note.status, headers={**kept.note.headers, NOTE_HEADER: note}
        )
        response.content_length = kept.note.size_bytes
        await response.prepare(request)
        while chunk := await self._room.in_thread(partial(file.read, _CHUNK)):
            await response.write(chunk)
        await response.write_eof()
        return response


class Copy:
    """Keeps an answer as it passes. What cannot be kept is only not kept: the client gets it all the same."""

    def __init__(self, room: Room, shelf: Shelf, key: str, form: str) -> None:
        self._room = room
        self._shelf = shelf
        self._key = key
        self._form = form
        self._writer: Writer | None = None
        self._status = 0
        self._headers: dict[str, str] = {}

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        """The answer begins."""
        self._status = status
        # An id is of one call, and this answer may be given to many.
        self._headers = {name: value for name, value in headers.items() if name.lower() != "request-id"}
        try:
            self._writer = await self._room.in_thread(partial(self._shelf.writer, self._key))
        except OSError as error:
            log.warning("an answer cannot be kept: %s", error)

    async def add(self, data: bytes) -> None:
        """A part of it."""
        if self._writer is not None:
            await self._try(partial(self._writer.add, data))

    async def end(self) -> None:
        """It was whole."""
        if self._writer is not None:
            now = self._room.guard.clock.now()
            await self._try(partial(self._writer.finish, self._form, self._status, self._headers, now))

    async def drop(self) -> None:
        """It was not, or is kept already."""
        if self._writer is not None:
            await self._room.in_thread(self._writer.drop)
            self._writer = None

    async def _try(self, step: Callable[[], None]) -> None:
        try:
            await self._room.in_thread(step)
        except OSError as error:
            log.warning("an answer cannot be kept: %s", error)
            await self.drop()


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _told(form: str) -> str:
    """What a request is for, in a line."""
    row = json.loads(form)
    symbols = ", ".join(row["symbols"][:3]) + (" ..." if len(row["symbols"]) > 3 else "")
    return f"{row['schema']} of {row['dataset']} ({symbols}), {row['start']} to {row['end']}"
