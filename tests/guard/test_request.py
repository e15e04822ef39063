"""Which requests a policy covers: a superset of symbols, the same dataset, schema and symbology, nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budget_guard.decisions import Decision
from budget_guard.guard.request import Request, covering_streams, whole_stream
from budget_guard.policy.model import ALL_SYMBOLS, HistoricalRules, Policy, Recovery, Stream
from tests.guard.samples import HISTORY, LIVE, STREAM, only_symbols, policy

SYMBOLS = st.lists(
    st.sampled_from(["NQ.v.0", "ES.v.0", "CL.v.0", "GC.v.0", ALL_SYMBOLS]), max_size=4, unique=True
)


def covered(request: Request, guarded: Policy | None = None, only: str | None = None) -> list[str]:
    """The names of the streams that cover a request."""
    found = covering_streams(guarded or policy(), request, only=only)
    return [] if isinstance(found, Decision) else [stream.name for stream in found]


def refusal(request: Request, guarded: Policy | None = None, only: str | None = None) -> Decision:
    found = covering_streams(guarded or policy(), request, only=only)
    assert isinstance(found, Decision)
    assert not found.allowed
    return found


def test_a_stream_covers_itself_and_every_part_of_it() -> None:
    assert covered(LIVE) == ["nq-mbo"]
    assert covered(only_symbols("ES.v.0")) == ["nq-mbo"]


@given(SYMBOLS, SYMBOLS)
def test_a_request_is_covered_exactly_when_the_stream_has_all_of_its_symbols(
    asked: list[str], approved: list[str]
) -> None:
    """No symbols at all mean every symbol to the vendor, so only a stream of ALL_SYMBOLS covers that."""
    guarded = policy(streams=(replace(STREAM, symbols=tuple(approved)),))
    everything = ALL_SYMBOLS in approved
    wants_everything = not asked or ALL_SYMBOLS in asked
    expected = everything or (not wants_everything and set(asked) <= set(approved))
    assert bool(covered(only_symbols(*asked), guarded)) is expected


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dataset": "XNAS.ITCH"}, "nearest is stream nq-mbo: it is for dataset GLBX.MDP3"),
        ({"schema": "mbp-10"}, "nearest is stream nq-mbo: it is for schema mbo"),
        ({"stype_in": "raw_symbol"}, "nearest is stream nq-mbo: it is for symbols of stype_in continuous"),
        ({"symbols": ("NQ.v.0", "CL.v.0")}, "nearest is stream nq-mbo: it has no CL.v.0"),
        ({"symbols": ("nq.v.0",)}, "it has no nq.v.0"),
        ({"symbols": ()}, "it has no ALL_SYMBOLS"),
        ({"symbols": (ALL_SYMBOLS,)}, "it has no ALL_SYMBOLS"),
        ({"symbols": ("",)}, "it has no "),
        ({"snapshot": True}, "allow it with recovery.client_replay"),
        (
            {"replay_from": timedelta(minutes=1)},
            "allows no start of a client's own, this one asks for a start 1m back",
        ),
        ({"replay_from": timedelta(days=20780)}, "this one asks for everything the vendor still has"),
    ],
)
def test_any_other_request_is_refused_and_told_the_nearest_miss(
    changed: dict[str, object], said: str
) -> None:
    decision = refusal(replace(LIVE, **changed))  # type: ignore[arg-type]
    assert decision.code == "not_covered"
    assert said in decision.reasons[0].message


def test_the_nearest_miss_is_the_stream_that_agrees_in_most_respects() -> None:
    other = Stream("depth", "GLBX.MDP3", "mbp-10", ("CL.v.0",), "continuous")
    far = Stream("stocks", "XNAS.ITCH", "mbp-10", ("CL.v.0",), "continuous")
    guarded = policy(streams=(far, STREAM, other))
    assert (
        "nearest is stream depth: it has no GC.v.0"
        in refusal(replace(LIVE, schema="mbp-10", symbols=("GC.v.0",)), guarded).text()
    )


def test_many_missing_symbols_are_not_all_listed() -> None:
    message = refusal(only_symbols(*(f"S{n}" for n in range(9)))).reasons[0].message
    assert "S4 ..." in message
    assert "S5" not in message


def test_a_live_stream_covers_historical_requests_for_the_same_data() -> None:
    assert covered(HISTORY) == ["nq-mbo"]


def test_a_historical_stream_covers_no_live_request() -> None:
    guarded = policy(streams=(replace(STREAM, mode="historical"),))
    assert covered(HISTORY, guarded) == ["nq-mbo"]
    assert "it is for historical requests only" in refusal(LIVE, guarded).text()


def test_replay_and_snapshot_of_a_client_are_covered_as_far_as_the_stream_says() -> None:
    stream = replace(STREAM, recovery=Recovery(client_replay=timedelta(minutes=5)))
    guarded = policy(streams=(stream,))
    assert covered(replace(LIVE, replay_from=timedelta(minutes=5)), guarded)
    assert covered(replace(LIVE, snapshot=True), guarded)
    assert not covered(replace(LIVE, replay_from=timedelta(minutes=5, microseconds=1)), guarded)


def test_a_start_at_this_very_instant_is_no_replay() -> None:
    assert covered(replace(LIVE, replay_from=timedelta(0)))


def test_a_request_bound_to_one_stream_is_covered_by_no_other() -> None:
    other = replace(STREAM, name="other")
    guarded = policy(streams=(STREAM, other))
    assert covered(LIVE, guarded) == ["nq-mbo", "other"]
    assert covered(LIVE, guarded, only="other") == ["other"]
    refused = refusal(LIVE, guarded, only="none")
    assert refused.code == "not_covered"
    assert "covers this, but the token (or --stream, stream=) is for stream none alone" in refused.text()


@pytest.mark.parametrize("symbols", [(), (ALL_SYMBOLS,), ("NQ.v.0", ALL_SYMBOLS)])
def test_history_of_a_whole_dataset_is_refused_unless_the_policy_allows_it(symbols: tuple[str, ...]) -> None:
    everything = replace(STREAM, symbols=(ALL_SYMBOLS,))
    request = replace(HISTORY, symbols=symbols)
    assert refusal(request, policy(streams=(everything,))).code == "all_symbols"
    allowed = policy(streams=(everything,), historical=HistoricalRules(all_symbols=True))
    assert covered(request, allowed) == ["nq-mbo"]
    # Allowing it is not enough: a stream has to cover it too.
    named = policy(historical=HistoricalRules(all_symbols=True))
    assert refusal(request, named).code == "not_covered"


def test_a_stream_as_a_request_asks_for_all_of_it() -> None:
    assert whole_stream(STREAM) == Request(
        "GLBX.MDP3", "mbo", ("NQ.v.0", "ES.v.0"), "continuous", "live", None, False
    )
