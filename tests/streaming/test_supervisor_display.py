"""What the line at the bottom says in each state of the supervisor."""

from __future__ import annotations

import re
import signal

from budget_guard.streaming.fallback import News
from budget_guard.streaming.live_line import LiveLine
from budget_guard.streaming.supervisor_display import Display
from tests.streaming.supervised import OTHER, World, money_out, stream


class Lines(LiveLine):
    """Keeps what would be drawn."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @property
    def width(self) -> int:
        return 200

    def show(self, text: str) -> None:
        self.texts.append(re.sub(r"\x1b\[[0-9;]*m", "", text).removeprefix(" budget-guard  "))

    def hide(self) -> None:
        """Nothing is drawn."""


def shown(world: World) -> list[str]:
    """Play a world to its end: the lines, each once."""
    lines = Lines()
    world.supervisor._show = Display(lines, world.site, world.clock, {"account"}).show
    world.run()
    return list(dict.fromkeys(lines.texts))


def test_a_wait_is_counted_down_second_by_second() -> None:
    world = World(windows={"nq": [(3, 60)]}, wait=True)
    world.ends(5)
    assert shown(world)[:3] == [f"stream nq opens in 0:00:0{left}" for left in (3, 2, 1)]


def test_a_running_program_is_shown_with_the_close_of_its_window() -> None:
    world = World(windows={"nq": [(0, 3661)]})
    world.ends(2)
    assert shown(world)[0] == "window closes in 1:01:01"


def test_a_crash_is_shown_with_the_pause_after_it() -> None:
    world = World(restarts=1)
    world.supervisor._restarts._spread = lambda: 3.0
    world.ends(1.5, 1)
    world.ends(20, 0)
    assert "failed, started again in 2 s" in shown(world)


def test_a_fallback_is_shown_with_its_cause_and_the_next_look() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.money_goes(1, back=500)
    world.says(1, News(cut=(money_out(500),)), code=1)
    world.asked_to_end(3)
    cause = "the money is out (limit_reached: budget account has $0.00 left of $5.00 this day)"
    assert f"fallback other runs · next look in 9 s · {cause}" in shown(world)


def test_an_ending_is_shown_as_one() -> None:
    world = World(ignores=[signal.SIGTERM])
    world.asked_to_end(2)
    assert "the end was asked for · waiting for what runs to end" in shown(world)
