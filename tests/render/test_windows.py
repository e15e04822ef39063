"""The windows as they are drawn, and as other programs read them."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, date, datetime, timedelta

from icalendar import Calendar
from rich.console import Console

from budget_guard.markets.model import DayMark, StreamWindows, Window
from budget_guard.render.ics import render_ics
from budget_guard.render.windows import render_json, render_windows

DAY = timedelta(days=1)
STAMP = datetime(2026, 11, 22, 12, 0, 30, 250_000, tzinfo=UTC)
NOTE = "early close 12:15 CT (day after Thanksgiving); written, with a comma and a line of its own"


def utc(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def november() -> tuple[DayMark, ...]:
    """A month with a day of every kind."""
    marks = [
        DayMark(date(2026, 11, 1) + n * DAY, "free" if n % 7 in (0, 6) else "open", False, n % 7 == 6)
        for n in range(30)
    ]
    marks[0] = DayMark(date(2026, 11, 1), "free", True, False)
    marks[25] = DayMark(date(2026, 11, 26), "none", False, False)
    marks[26] = DayMark(date(2026, 11, 27), "short", False, False)
    marks[29] = DayMark(date(2026, 11, 30), "unknown", True, True)
    return tuple(marks)


def stream(*windows: Window, name: str = "nq") -> StreamWindows:
    quiet = ((date(2026, 11, 26), "closed: Thanksgiving"),)
    return StreamWindows(name, "GLBX.MDP3", "mbo", "America/New_York", windows, quiet, (november(),))


def window(day: int, opened: datetime, closed: datetime, *notes: str, name: str = "nq") -> Window:
    return Window(name, date(2026, 11, day), opened, closed, notes)


WEDNESDAY = window(25, utc(25, 14, 25), utc(25, 21, 5))
EVENING = window(27, utc(26, 23), utc(26, 23, 30))
FRIDAY = window(27, utc(27, 14, 25), utc(27, 18, 15), NOTE)


def drawn(*streams: StreamWindows, width: int = 100, colour: bool = False) -> str:
    system = "truecolor" if colour else None
    console = Console(file=io.StringIO(), width=width, color_system=system, force_terminal=colour)  # type: ignore[arg-type]
    console.print(render_windows(streams))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_the_month_is_legible_without_colour() -> None:
    assert lines(drawn(stream(WEDNESDAY)))[:9] == [
        "nq: GLBX.MDP3 mbo",
        "",
        "              November 2026",
        "Mon   Tue   Wed   Thu   Fri   Sat   Sun",
        "                                     1 ~",
        " 2#    3#    4#    5#    6#    7 r   8",
        " 9#   10#   11#   12#   13#   14 r  15",
        "16#   17#   18#   19#   20#   21 r  22",
        "23#   24#   25#   26-   27/   28 r  29",
    ]
    assert lines(drawn(stream(WEDNESDAY)))[9] == "30?~r"


def test_the_picture_is_plain_ascii() -> None:
    """So it says the same on any terminal, and in a file."""
    picture = drawn(stream(WEDNESDAY)).split("session")[0]
    assert picture.isascii()


def test_colour_adds_nothing_but_colour() -> None:
    coloured = drawn(stream(WEDNESDAY), colour=True)
    assert coloured != drawn(stream(WEDNESDAY))
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == drawn(stream(WEDNESDAY))


def test_the_legend_names_only_signs_in_use() -> None:
    assert lines(drawn(stream(WEDNESDAY)))[-1] == (
        "# open  / open, short session  - no window  ? not checked  ~ clocks change  r gateways restart"
    )
    plain = StreamWindows("a", "d", "s", "UTC", (), (), (tuple(november()[1:6]),))
    assert lines(drawn(plain))[-1] == "# open"


def test_months_stand_side_by_side_where_there_is_room() -> None:
    two = StreamWindows("a", "d", "s", "UTC", (), (), (november(), november()))
    assert any(line.count("November 2026") == 2 for line in drawn(two, width=100).splitlines())
    assert all(line.count("November 2026") < 2 for line in drawn(two, width=80).splitlines())


def test_windows_are_shown_in_two_clocks_with_their_sum() -> None:
    table = [line.split() for line in lines(drawn(stream(WEDNESDAY, EVENING, FRIDAY)))]
    assert ["Wed", "2026-11-25", "09:25-16:05", "14:25-21:05", "6:40"] in table
    assert ["Thu", "2026-11-26", "closed:", "Thanksgiving"] in table
    assert ["Fri", "2026-11-27", "Thu", "18:00-18:30", "Thu", "23:00-23:30", "0:30"] in table
    assert ["3", "windows", "11:00"] in table


def test_a_stream_without_windows_says_so() -> None:
    assert any(
        line.split()[:2] == ["0", "windows"] and "none in these days" in line
        for line in lines(drawn(stream()))
    )


def test_a_policy_without_streams_says_so() -> None:
    assert lines(drawn()) == ["The policy has no streams."]


def test_json_is_one_object_a_window() -> None:
    both = (stream(FRIDAY), stream(window(25, utc(25, 1), utc(25, 2), name="b"), name="b"))
    assert json.loads(render_json(both)) == [
        {
            "stream": "nq",
            "session": "2026-11-27",
            "open_utc": "2026-11-27T14:25:00Z",
            "close_utc": "2026-11-27T18:15:00Z",
            "notes": [NOTE],
        },
        {
            "stream": "b",
            "session": "2026-11-25",
            "open_utc": "2026-11-25T01:00:00Z",
            "close_utc": "2026-11-25T02:00:00Z",
            "notes": [],
        },
    ]
    assert render_json(()) == "[]"


# The calendar file.


def ics(*streams: StreamWindows) -> bytes:
    return render_ics("desk, main", streams, STAMP)


def test_a_calendar_program_reads_the_windows_back() -> None:
    read = Calendar.from_ical(ics(stream(EVENING, FRIDAY)))
    events = read.walk("VEVENT")
    assert str(read["X-WR-CALNAME"]) == "budget-guard: desk, main"
    assert [(event.decoded("DTSTART"), event.decoded("DTEND")) for event in events] == [
        (EVENING.open_utc, EVENING.close_utc),
        (FRIDAY.open_utc, FRIDAY.close_utc),
    ]
    assert {str(event["SUMMARY"]) for event in events} == {"nq: GLBX.MDP3 mbo"}
    assert str(events[1]["DESCRIPTION"]) == f"session 2026-11-27\n{NOTE}"


def test_every_line_ends_with_crlf_and_has_at_most_75_octets() -> None:
    raw = ics(stream(window(27, utc(27, 14), utc(27, 18), NOTE * 3, "Zürich – café " * 12)))
    assert raw.endswith(b"\r\n")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(len(line) for line in raw.split(b"\r\n")) <= 75
    unfolded = raw.replace(b"\r\n ", b"")
    assert "Zürich – café ".encode() in unfolded


def test_times_are_utc_and_whole_seconds() -> None:
    raw = ics(stream(FRIDAY)).split(b"\r\n")
    assert b"DTSTART:20261127T142500Z" in raw
    assert b"DTEND:20261127T181500Z" in raw
    assert b"DTSTAMP:20261122T120030Z" in raw


def test_the_required_properties_come_once() -> None:
    raw = ics(stream(EVENING, FRIDAY)).split(b"\r\n")
    assert (raw[0], raw[-2]) == (b"BEGIN:VCALENDAR", b"END:VCALENDAR")
    assert [raw.count(line) for line in (b"VERSION:2.0", b"BEGIN:VEVENT", b"END:VEVENT")] == [1, 2, 2]
    assert sum(line.startswith(b"PRODID:") for line in raw) == 1
    assert sum(line.startswith(b"UID:") for line in raw) == 2


def uids(*streams: StreamWindows) -> list[str]:
    return [str(event["UID"]) for event in Calendar.from_ical(ics(*streams)).walk("VEVENT")]


def test_an_event_keeps_its_identifier_when_its_hours_change() -> None:
    later = window(27, FRIDAY.open_utc + timedelta(hours=1), FRIDAY.close_utc)
    assert uids(stream(EVENING, FRIDAY)) == uids(stream(EVENING, later))


def test_every_event_has_an_identifier_of_its_own() -> None:
    several = (stream(WEDNESDAY, EVENING, FRIDAY), stream(WEDNESDAY, FRIDAY, name="b"))
    assert len(set(uids(*several))) == 5


def test_the_identifier_of_a_day_does_not_hang_on_the_dates_asked_for() -> None:
    assert uids(stream(WEDNESDAY, EVENING, FRIDAY))[1:] == uids(stream(EVENING, FRIDAY))


def test_a_calendar_without_windows_is_still_one() -> None:
    assert Calendar.from_ical(ics(stream())).walk("VEVENT") == []
