"""Windows for a calendar program: iCalendar, RFC 5545."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256

from icalendar import Calendar, Event

from budget_guard.markets.model import StreamWindows, Window


def render_ics(policy: str, streams: Iterable[StreamWindows], stamp_utc: datetime) -> bytes:
    """One event a window, in UTC. `stamp_utc` is when the calendar is written, to the second.

    An event keeps its identifier as long as its window is the same one of its session, whatever its hours become: a
    calendar program that reads the file again moves the event instead of adding another.
    """
    calendar = Calendar()
    calendar.add("prodid", "-//budget-guard//windows//EN")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("x-wr-calname", f"budget-guard: {policy}")
    for stream in streams:
        counted: Counter[str] = Counter()
        for window in stream.windows:
            label = window.session.isoformat()
            counted[label] += 1
            uid = _uid(policy, stream.name, label, str(counted[label]))
            calendar.add_component(_event(stream, window, uid, stamp_utc))
    text: bytes = calendar.to_ical()
    return text


def _event(stream: StreamWindows, window: Window, uid: str, stamp_utc: datetime) -> Event:
    event = Event()
    event.add("uid", uid)
    event.add("dtstamp", stamp_utc.replace(microsecond=0))
    event.add("dtstart", window.open_utc)
    event.add("dtend", window.close_utc)
    event.add("summary", f"{stream.name}: {stream.dataset} {stream.schema}")
    event.add("description", "\n".join((f"session {window.session}", *window.notes)))
    event.add("categories", ["budget-guard"])
    event.add("transp", "TRANSPARENT")
    return event


def _uid(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:32] + "@budget-guard"
