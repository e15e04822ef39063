"""The supervisor of `run`: when it starts, ends, restarts and replaces a program, second by second."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

import pytest

from budget_guard.decisions import deny
from budget_guard.errors import KeyRejected, NotEntitled, VendorUnavailable
from budget_guard.policy.model import Fallback
from budget_guard.streaming.child import Child
from budget_guard.streaming.fallback import News
from tests.streaming.supervised import KEY, LAST, OTHER, World, money_out, stream

KILLED, TERMINATED = 128 + signal.SIGKILL, 128 + signal.SIGTERM
NOT_ENTITLED = deny("not_entitled", "no licence")


# --- windows --------------------------------------------------------------------------------------------------


def test_the_program_ends_and_that_is_all() -> None:
    world = World()
    world.ends(5, 7)
    conclusion = world.run()
    assert (conclusion.code, conclusion.refused, conclusion.cause, conclusion.signal) == (
        7,
        False,
        None,
        None,
    )
    assert (world.ran, world.supervisor.tally.started) == ([("stream", 0)], 1)


def test_outside_every_window_nothing_is_started_and_the_next_is_named() -> None:
    world = World(windows={"nq": [(60, 120)]})
    assert world.run().code is None
    assert world.said == [
        "outside every window; stream nq opens next at 2026-11-23T15:01:00Z (15:01:00)",
        "windows are for live data: a stream with mode: historical lets a program run at any time",
    ]
    assert not world.site.asked


def test_who_waits_for_the_window_anyway_is_told_nothing_of_history() -> None:
    world = World(windows={"nq": [(60, 120)]}, wait=True)
    world.asked_to_end(10)
    world.run()
    assert not [text for text in world.said if "historical" in text]


def test_with_wait_it_starts_when_the_window_opens_and_again_at_the_next() -> None:
    world = World(windows={"nq": [(60, 120), (500, 600)]}, wait=True)
    world.ends(550)
    assert world.run().code == 0
    assert world.ran == [("stream", 60), ("stream", 500)]
    assert world.children[0].heard == [signal.SIGTERM]


def test_after_a_sleep_the_clock_is_looked_at_again() -> None:
    """The machine wakes up within the window: the program starts then, not when the wait would have been over."""
    world = World(windows={"nq": [(3600, 7200)]}, wait=True)
    world.at(10, lambda: world.clock.advance(4000))
    world.ends(4020)
    world.run()
    assert world.ran == [("stream", 4010)]


def test_at_the_close_a_program_without_a_stream_is_sent_sigterm_and_that_is_no_failure() -> None:
    world = World(windows={"nq": [(0, 60)]})
    conclusion = world.run()
    assert world.children[0].heard == [signal.SIGTERM]
    assert (conclusion.code, conclusion.planned) == (TERMINATED, True)


def test_a_program_whose_stream_is_being_ended_may_end_by_itself() -> None:
    world = World(windows={"nq": [(0, 60)]}, grace_s=10)
    world.site.clients = 1
    world.ends(67, 3)
    conclusion = world.run()
    assert world.children[0].heard == []
    assert (conclusion.code, conclusion.planned) == (3, False)


def test_one_that_does_not_end_by_itself_is_pressed_ever_more() -> None:
    world = World(windows={"nq": [(0, 60)]}, grace_s=10, ignores=[signal.SIGTERM])
    world.site.clients = 1
    conclusion = world.run()
    assert world.children[0].heard == [signal.SIGTERM, signal.SIGKILL]
    assert (conclusion.code, conclusion.planned) == (KILLED, False)
    assert world.clock.elapsed_s() == pytest.approx(80, abs=1)


def test_what_did_not_end_by_itself_is_said_to_have_been_killed() -> None:
    world = World(windows={"nq": [(0, 20)]}, ignores=[signal.SIGTERM], grace_s=5)
    world.run()
    assert world.said[-1] == "the program did not end within 5 s of SIGTERM, and was killed (SIGKILL)"


def test_a_fallback_that_did_not_end_by_itself_is_said_to_have_been_killed() -> None:
    world = World(streams=[stream(fallback=[OTHER])], ignores=[signal.SIGTERM], grace_s=5)
    world.site.money_now["nq"] = money_out()
    world.asked_to_end(30)
    world.run()
    assert world.said[-1] == "fallback other did not end within 5 s of SIGTERM, and was killed (SIGKILL)"


def test_what_ended_in_time_or_was_killed_by_a_second_ctrl_c_is_not() -> None:
    world = World(windows={"nq": [(0, 20)]})
    world.run()
    hasty = World(ignores=[signal.SIGINT, signal.SIGTERM])
    hasty.asked_to_end(5, signal.SIGINT)
    hasty.asked_to_end(6, signal.SIGINT)
    hasty.run()
    assert not [text for text in [*world.said, *hasty.said] if "SIGKILL" in text]


def test_while_any_stream_is_open_the_program_runs() -> None:
    streams = [stream("a"), stream("b", "XNAS.ITCH")]
    world = World(windows={"a": [(0, 60)], "b": [(30, 120)]}, streams=streams)
    world.run()
    assert world.clock.elapsed_s() == pytest.approx(120, abs=1)


def test_a_program_that_ended_with_its_streams_window_waits_for_the_next_one_of_any() -> None:
    """Another stream is open, and the program did not need it: starting it again at once would be wrong."""
    streams = [stream("a"), stream("b", "XNAS.ITCH")]
    world = World(windows={"a": [(0, 60), (500, 600)], "b": [(0, 1000)]}, streams=streams, wait=True)
    world.says(61, News(closed=("the window of stream a closed",)), code=0)
    world.ends(550)
    world.run()
    assert world.ran == [("stream", 0), ("stream", 500)]


def test_a_program_that_needs_no_window_runs_at_any_time() -> None:
    world = World(windows={"nq": [(60, 120)]}, anytime=True)
    world.ends(300, 0)
    world.run()
    assert world.ran == [("stream", 0)]
    assert world.children[0].heard == []


def test_a_program_that_needs_no_window_and_ended_with_one_waits_for_the_next() -> None:
    """It has bought its history: started again at once, it would buy it again, and again."""
    world = World(windows={"nq": [(0, 60), (500, 600)]}, anytime=True, wait=True)
    world.says(61, News(closed=("the window of stream nq closed",)), code=0)
    world.ends(550, 0)
    world.run()
    assert world.ran == [("stream", 0), ("stream", 500)]


@pytest.mark.parametrize("anytime", [True, False])
def test_after_the_last_window_that_is_known_it_is_over(anytime: bool) -> None:
    streams = [stream("a"), stream("b", "XNAS.ITCH")]
    world = World(windows={"a": [(0, 60)], "b": [(0, 1e9)]}, streams=streams, anytime=anytime, wait=True)
    world.says(61, News(closed=("the window of stream a closed",)), code=0)
    assert world.run().code == 0
    assert world.ran == [("stream", 0)]


def test_a_window_that_opened_while_the_last_one_was_being_closed_is_not_missed() -> None:
    world = World(windows={"nq": [(0, 60), (65, 200)]}, grace_s=10, ignores=[signal.SIGTERM], wait=True)
    world.ends(150, 0)
    world.run()
    assert world.ran == [("stream", 0), ("stream", pytest.approx(70, abs=1))]


# --- crashes --------------------------------------------------------------------------------------------------


def test_without_restarts_a_crash_is_the_end() -> None:
    world = World()
    world.ends(5, 1)
    assert world.run().code == 1


def test_a_crash_loop_comes_to_its_end_within_the_hour_and_each_pause_is_longer() -> None:
    world = World(restarts=3)
    world.supervisor._restarts._spread = lambda: 1.0
    for second in range(1, 60):
        world.ends(second, 1)
    assert world.run().code == 1
    assert len(world.ran) == 4
    starts = [when for _, when in world.ran]
    pauses = [later - before for before, later in pairwise(starts)]
    assert pauses == sorted(pauses)
    assert world.supervisor.tally.restarted == 3
    assert "that is the limit" in world.said[-1]


def test_the_next_window_gives_the_restarts_back() -> None:
    world = World(windows={"nq": [(0, 100), (200, 300)]}, restarts=1, wait=True)
    world.ends(10, 1)
    world.ends(210, 1)
    world.ends(250, 0)
    world.run()
    assert [round(when) for _, when in world.ran] == pytest.approx([0, 11, 200, 211], abs=1)


@pytest.mark.parametrize(
    "news",
    [
        News(refused=(deny("not_covered", "no stream covers it"),)),
        News(cut=(money_out(),)),
        News(vendor=(NOT_ENTITLED,)),
    ],
)
def test_what_guard_or_vendor_refused_is_not_tried_again(news: News) -> None:
    world = World(restarts=5)
    world.says(5, news, code=1)
    conclusion = world.run()
    assert len(world.ran) == 1
    assert conclusion.refused or conclusion.vendor


def test_a_program_that_was_refused_and_is_started_anew_is_judged_by_its_last_run() -> None:
    world = World(windows={"nq": [(0, 100), (200, 300)]}, wait=True)
    world.says(99.9, News(refused=(deny("window_closed", "closed"),)))
    world.ends(250, 0)
    conclusion = world.run()
    assert (conclusion.code, conclusion.refused) == (0, False)


@pytest.mark.parametrize(
    ("deaf", "heard"), [(False, [signal.SIGTERM]), (True, [signal.SIGTERM, signal.SIGKILL])]
)
def test_what_a_program_left_behind_is_ended_before_its_successor_is_started(
    deaf: bool, heard: list[int]
) -> None:
    """Two of a kind would ask for everything twice."""
    world = World(restarts=1, grace_s=10)
    world.leftovers.deaf = deaf
    world.at(5, lambda: world.leftovers.pids.update({2001}))
    world.ends(5, 1)
    world.ends(100, 0)
    world.run()
    assert world.leftovers.heard == heard
    assert world.started_s[1] == pytest.approx(6 + (10 if deaf else 0), abs=1)
    assert "a process was left behind by what ran before, to be ended first" in world.said


def test_what_the_last_program_left_behind_is_its_own_affair() -> None:
    world = World()
    world.at(5, lambda: world.leftovers.pids.update({2001}))
    world.ends(5, 0)
    world.run()
    assert world.leftovers.heard == []


# --- the money is out -----------------------------------------------------------------------------------------


def test_at_a_limit_the_fallback_takes_over_and_the_program_comes_back_with_the_next_period() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.money_goes(5, back=40)
    world.says(5, News(cut=(money_out(retry=40),)), code=1)
    world.ends(60, 0)
    conclusion = world.run()
    assert [(name, round(when)) for name, when in world.ran] == [("stream", 0), ("other", 5), ("stream", 40)]
    assert world.children[1].heard == [signal.SIGTERM]
    assert (conclusion.code, conclusion.cause, conclusion.refused) == (0, None, False)
    assert world.supervisor.tally.replaced == {"other": 1}


def test_a_fallback_has_neither_key_nor_token_nor_a_way_to_the_guard() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.site.money_now["nq"] = money_out()
    world.asked_to_end(5)
    world.run()
    (child,) = world.children
    assert child.environment == {"HOME": "/home/me", "COPY": "<>"}
    assert KEY not in "".join(world.said)


def test_a_program_that_goes_on_at_its_limit_is_ended_for_the_fallback() -> None:
    world = World(streams=[stream(fallback=[OTHER])], grace_s=10)
    world.money_goes(5)
    world.says(5, News(cut=(money_out(),)))
    world.asked_to_end(60)
    conclusion = world.run()
    assert [(name, round(when)) for name, when in world.ran] == [("stream", 0), ("other", 15)]
    assert conclusion.cause is not None
    assert conclusion.cause.kind == "money"


def test_without_a_fallback_a_program_at_its_limit_is_left_to_itself() -> None:
    world = World()
    world.says(5, News(cut=(money_out(),)))
    world.ends(50, 0)
    conclusion = world.run()
    assert world.children[0].heard == []
    assert (conclusion.code, conclusion.refused) == (0, True)


def test_with_wait_money_is_waited_for_and_looked_at_ever_less_often_but_at_its_instant() -> None:
    world = World(wait=True)
    world.money_goes(5, back=2000)
    world.says(5, News(cut=(money_out(retry=2000),)), code=1)
    world.ends(2100, 0)
    world.run()
    assert world.ran == [("stream", 0), ("stream", pytest.approx(2000, abs=1))]
    assert len([asked for asked in world.site.asked if asked == "money nq"]) < 15


def test_an_approval_is_noticed() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.money_goes(5, back=80_000)
    world.says(5, News(cut=(money_out(retry=80_000),)), code=1)
    world.at(60, world.site.money_now.clear)
    world.ends(500, 0)
    world.run()
    assert [name for name, _ in world.ran] == ["stream", "other", "stream"]
    assert 60 < world.started_s[2] < 160


def test_while_one_open_stream_has_money_the_program_stays() -> None:
    streams = [stream("a", fallback=[OTHER]), stream("b", "XNAS.ITCH")]
    world = World(streams=streams)
    world.says(5, News(vendor=(NOT_ENTITLED,), vendor_live=(("GLBX.MDP3", NOT_ENTITLED),)))
    world.site.vendor_now["GLBX.MDP3"] = NotEntitled("no licence", advice="")
    world.ends(100, 0)
    world.run()
    assert world.ran == [("stream", 0)]


def test_a_part_that_is_cut_off_leaves_the_program_with_the_rest() -> None:
    """Both streams count against the account, but one of them goes on with what it holds."""
    world = World(streams=[stream("a", fallback=[OTHER]), stream("b", fallback=[OTHER])])
    world.site.money_now["b"] = money_out()
    world.says(5, News(shed=((("b",), money_out()),)))
    world.ends(100, 0)
    conclusion = world.run()
    assert world.ran == [("stream", 0)]
    assert (world.children[0].heard, conclusion.refused, conclusion.cause) == ([], True, None)


def test_a_program_whose_other_client_streams_on_is_left_to_that_until_it_is_cut_too() -> None:
    world = World(streams=[stream("nq", fallback=[OTHER])])
    world.site.going_on = 1
    world.money_goes(5)
    world.says(5, News(cut=(money_out(),)))
    world.at(50, lambda: setattr(world.site, "going_on", 0))
    world.asked_to_end(100)
    world.run()
    assert [(name, round(when)) for name, when in world.ran] == [("stream", 0), ("other", 60)]


def test_a_ledger_that_is_away_does_not_say_that_there_is_money_again() -> None:
    """Whoever came back then would be refused for the ledger, and the fallback would be gone."""
    world = World(streams=[stream(fallback=[OTHER])])
    world.money_goes(5)
    world.says(5, News(cut=(money_out(),)), code=1)
    away = deny("ledger_unavailable", "no connection")
    world.at(10, lambda: world.site.money_now.update(nq=away))
    world.asked_to_end(1000)
    world.run()
    assert [name for name, _ in world.ran] == ["stream", "other"]


def refused_whenever_it_starts(world: World, *, retry: float | None = None) -> None:
    """A program that asks for more at once than is free, while a look finds money for each of its streams."""
    launch = world.supervisor._launcher

    def launched(command: Sequence[str], environment: Mapping[str, str]) -> Child:
        child = launch(command, environment)
        if command[-1] == "stream.py":
            when = world.clock.elapsed_s() + 1
            world.says(when, News(refused=(money_out(retry),)), code=1)
        return child

    world.supervisor._launcher = launched


def starts(world: World) -> list[int]:
    return [round(when) for name, when in world.ran if name == "stream"]


@pytest.mark.parametrize("fallback", [[OTHER], []])
def test_a_program_that_came_back_in_vain_comes_back_after_hours_only(fallback: list[Fallback]) -> None:
    world = World(streams=[stream(fallback=fallback)], wait=True)
    refused_whenever_it_starts(world)
    world.asked_to_end(30_000)
    world.run()
    first, again, *later = starts(world)
    assert first == 0 and 10 <= again <= 12
    pauses = [after - before for before, after in pairwise([again, *later])]
    assert [pause / 3600 for pause in pauses] == [pytest.approx(hours, abs=0.1) for hours in (1, 2, 4)]
    said = [text for text in world.said if "in vain" in text]
    assert said[0] == (
        "it came back in vain, for more than there is: it is not started again until something is approved, "
        "a new period begins, or 1 h 00 min have passed"
    )


def test_a_program_that_came_back_in_vain_comes_back_with_an_approval() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    refused_whenever_it_starts(world)
    world.at(500, lambda: setattr(world.site, "limits_now", 50))
    world.asked_to_end(1500)
    world.run()
    assert len(starts(world)) == 3
    assert 500 < starts(world)[2] <= 800


def test_a_program_that_came_back_in_vain_comes_back_with_the_next_period() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    refused_whenever_it_starts(world, retry=1000)
    world.asked_to_end(1500)
    world.run()
    assert starts(world)[1:3] == [pytest.approx(11, abs=1), pytest.approx(1000, abs=1)]


def test_money_that_is_out_before_the_start_starts_the_fallback_at_once() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.site.money_now["nq"] = money_out()
    world.asked_to_end(30)
    conclusion = world.run()
    assert world.ran == [("other", 0)]
    assert (conclusion.code, conclusion.cause and conclusion.cause.kind) == (None, "money")


# --- the vendor refuses ---------------------------------------------------------------------------------------


def test_a_licence_that_comes_back_brings_the_program_back() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.site.vendor_now["GLBX.MDP3"] = NotEntitled("no licence", advice="")
    world.says(5, News(vendor=(NOT_ENTITLED,), vendor_live=(("GLBX.MDP3", NOT_ENTITLED),)), code=1)
    world.at(200, lambda: world.site.vendor_now.clear())
    world.ends(1000, 0)
    world.run()
    assert [name for name, _ in world.ran] == ["stream", "other", "stream"]
    assert 200 < world.started_s[2] < 500
    assert world.site.asked.count("vendor GLBX.MDP3") == 3  # at about 35, 95 and 215 seconds
    assert "welcome GLBX.MDP3" in world.site.asked


def test_a_refusal_of_history_is_no_reason_for_a_fallback() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.says(5, News(vendor=(NOT_ENTITLED,)))
    world.ends(50, 0)
    conclusion = world.run()
    assert world.ran == [("stream", 0)]
    assert conclusion.vendor


def test_a_key_that_is_rejected_at_the_opening_is_a_reason_for_a_fallback() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    rejected = KeyRejected("wrong key", advice="check it")
    world.site.opening = [rejected]
    world.site.vendor_now["GLBX.MDP3"] = rejected
    world.at(50, lambda: world.site.vendor_now.clear())
    world.ends(500, 0)
    world.run()
    assert [name for name, _ in world.ran] == ["other", "stream"]


def test_without_a_fallback_a_rejected_key_is_the_end() -> None:
    world = World(wait=True)
    world.site.opening = [KeyRejected("wrong key", advice="check it")]
    with pytest.raises(KeyRejected):
        world.run()
    assert world.ran == []


def test_a_vendor_that_is_out_of_reach_for_long_is_a_reason_for_a_fallback() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.site.clients = 1
    world.site.going_on = 1  # as long as it is not given up
    away = VendorUnavailable("no connection", advice="")
    world.at(10, lambda: setattr(world.site, "mending", 1))
    world.at(10, lambda: world.site.vendor_now.update({"GLBX.MDP3": away}))
    world.at(75, lambda: setattr(world.site, "mending", 0))
    world.at(75, lambda: setattr(world.site, "going_on", 0))
    world.at(150, lambda: world.site.vendor_now.clear())
    world.ends(500, 0)
    world.run()
    assert [name for name, _ in world.ran] == ["stream", "other", "stream"]
    assert world.started_s[1] == pytest.approx(70, abs=1)
    assert 150 < world.started_s[2] < 300


def test_a_vendor_that_is_back_soon_is_not() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.site.clients = 1
    for second in (10, 60, 110):
        world.at(second, lambda: setattr(world.site, "mending", 1))
        world.at(second + 40, lambda: setattr(world.site, "mending", 0))
    world.ends(500, 0)
    world.run()
    assert world.ran == [("stream", 0)]


def test_a_first_connection_that_was_never_made_counts_too() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.says(30, News(unreachable=(("GLBX.MDP3", "no connection"),)), code=1)
    world.asked_to_end(31)
    conclusion = world.run()
    assert [name for name, _ in world.ran] == ["stream", "other"]
    assert (conclusion.cause and conclusion.cause.kind) == "unreachable"


# --- several fallbacks ----------------------------------------------------------------------------------------


def test_the_next_fallback_takes_over_when_one_dies_at_once() -> None:
    world = World(streams=[stream(fallback=[OTHER, LAST])])
    world.site.money_now["nq"] = money_out()
    world.ends(3, 1)
    world.asked_to_end(60)
    world.run()
    assert [name for name, _ in world.ran] == ["other", "last"]


def test_the_next_fallback_takes_over_when_one_cannot_be_started() -> None:
    world = World(streams=[stream(fallback=[OTHER, LAST])])
    world.missing.add("other.py")
    world.site.money_now["nq"] = money_out()
    world.asked_to_end(60)
    world.run()
    assert [name for name, _ in world.ran] == ["last"]
    assert world.supervisor.tally.replaced == {"last": 1}
    assert "fallback other cannot be run: python: No such file or directory" in world.said


def test_when_all_fallbacks_have_failed_it_is_over() -> None:
    world = World(streams=[stream(fallback=[OTHER, LAST])])
    world.site.money_now["nq"] = money_out()
    world.ends(3, 1)
    world.ends(6, 1)
    conclusion = world.run()
    assert [name for name, _ in world.ran] == ["other", "last"]
    assert (conclusion.cause and conclusion.cause.kind) == "money"


def test_a_fallback_that_fails_after_it_ran_for_long_is_started_again() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.site.money_now["nq"] = money_out()
    world.ends(300, 1)
    world.asked_to_end(310)
    world.run()
    assert [name for name, _ in world.ran] == ["other", "other"]


def test_a_cause_begins_with_the_first_fallback_again() -> None:
    world = World(windows={"nq": [(0, 100), (200, 300)]}, streams=[stream(fallback=[OTHER, LAST])], wait=True)
    world.site.money_now["nq"] = money_out()
    world.ends(3, 1)
    world.asked_to_end(250)
    world.run()
    assert [name for name, _ in world.ran] == ["other", "last", "other"]


def test_at_the_close_of_the_window_a_fallback_is_ended_too() -> None:
    world = World(windows={"nq": [(0, 60)]}, streams=[stream(fallback=[OTHER])])
    world.site.money_now["nq"] = money_out()
    conclusion = world.run()
    assert world.children[0].heard == [signal.SIGTERM]
    assert (conclusion.code, conclusion.cause and conclusion.cause.kind) == (None, "money")


def test_a_crash_that_a_fallback_follows_is_no_restart() -> None:
    world = World(streams=[stream(fallback=[OTHER])], restarts=3)
    world.ends(5, 1)
    world.money_goes(5.5, back=60)
    world.ends(100, 0)
    world.run()
    assert [name for name, _ in world.ran] == ["stream", "other", "stream"]
    assert (world.supervisor.tally.started, world.supervisor.tally.restarted) == (2, 0)


# --- signals --------------------------------------------------------------------------------------------------


def test_sigterm_is_handed_on_and_pressed_for() -> None:
    world = World(grace_s=10, ignores=[signal.SIGTERM])
    world.asked_to_end(5)
    conclusion = world.run()
    assert world.children[0].heard == [signal.SIGTERM, signal.SIGKILL]
    assert (conclusion.code, conclusion.planned, conclusion.insisted) == (KILLED, False, False)
    assert world.clock.elapsed_s() == pytest.approx(15, abs=1)


def test_after_ctrl_c_a_program_may_take_its_time_until_the_second() -> None:
    world = World(grace_s=10, ignores=[signal.SIGINT])
    world.asked_to_end(5, signal.SIGINT)
    world.asked_to_end(500, signal.SIGINT)
    conclusion = world.run()
    assert world.children[0].heard[-1] == signal.SIGKILL
    assert world.clock.elapsed_s() == pytest.approx(500, abs=1)
    assert conclusion.insisted


def test_after_ctrl_c_the_close_of_the_window_is_the_end_all_the_same() -> None:
    world = World(windows={"nq": [(0, 60)]}, grace_s=10, ignores=[signal.SIGINT, signal.SIGTERM])
    world.asked_to_end(5, signal.SIGINT)
    world.run()
    assert world.children[0].heard == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    assert world.clock.elapsed_s() == pytest.approx(70, abs=1)


def test_sigterm_gives_its_grace_also_long_after_ctrl_c() -> None:
    world = World(grace_s=10, ignores=[signal.SIGINT, signal.SIGTERM])
    world.asked_to_end(5, signal.SIGINT)
    world.asked_to_end(500, signal.SIGTERM)
    world.run()
    assert world.children[0].heard == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    assert world.clock.elapsed_s() == pytest.approx(510, abs=1)


def test_a_program_that_was_asked_to_end_is_not_started_again() -> None:
    world = World(restarts=5, streams=[stream(fallback=[OTHER])], wait=True)
    world.asked_to_end(5)
    assert world.run().code == TERMINATED
    assert len(world.ran) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wait_is_interrupted_at_once(number: signal.Signals) -> None:
    world = World(windows={"nq": [(3600, 7200)]}, wait=True)
    world.asked_to_end(5, number)
    conclusion = world.run()
    assert (conclusion.signal, conclusion.code, world.ran) == (number, None, [])


def test_an_opening_of_the_guard_can_be_interrupted() -> None:
    world = World()

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("it went on")

    world.site.open = interrupted  # type: ignore[method-assign]
    with world.signals.heard():
        conclusion = world.run()
    assert (conclusion.signal, world.ran) == (signal.SIGINT, [])


# --- what it says ---------------------------------------------------------------------------------------------


def test_a_switch_says_to_what_why_and_when_it_is_looked_again() -> None:
    world = World(streams=[stream(fallback=[OTHER])])
    world.money_goes(5, back=3600)
    world.says(5, News(cut=(money_out(retry=3600),)), code=1)
    world.asked_to_end(30)
    world.run()
    assert world.said[1] == (
        "the money is out (limit_reached: budget account has $0.00 left of $5.00 this day): "
        "fallback other runs instead (python other.py)"
    )
    assert world.said[2].startswith("it is looked at again at 2026-11-23T16:00:00Z (16:00:00)")


def test_the_window_counts_from_its_opening_to_its_close() -> None:
    world = World(windows={"nq": [(0, 60)]})
    assert world.supervisor.hours.closes(world.clock.now()) == world.clock.now() + timedelta(seconds=60)
