"""The whole table of the vendor's errors, and its limits, over real HTTP on the loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from budget_guard.clock import Clock, ManualClock, SystemClock
from budget_guard.errors import VendorError, VendorUnavailable
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import make_chunks, make_range
from budget_guard.vendor.cache import MetadataCache
from budget_guard.vendor.client import ATTEMPTS, SPLIT_ABOVE, WORKERS, VendorClient
from budget_guard.vendor.pacing import Pacer
from tests.vendor.server import Answer, Asked, in_order, played_server
from tests.vendor.table import TABLE

KEY = "db-TestTestTestTestTestTestTest1"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START = datetime(2026, 11, 18, 14, 30, tzinfo=UTC)


@contextmanager
def client_of(
    url: str, *, timeout_s: float = 5, clock: Clock | None = None, pacer: Pacer | None = None
) -> Iterator[VendorClient]:
    """A client whose waiting takes no time, unless a clock is given."""
    manual = ManualClock(NOW)
    cache = MetadataCache()
    sleep = manual.advance if clock is None else time.sleep
    try:
        yield VendorClient(
            KEY, url, cache=cache, clock=clock or manual, sleep=sleep, timeout_s=timeout_s, pacer=pacer
        )
    finally:
        cache.close()


def past(*symbols: str, hour: int = 0) -> DataRange:
    start = START + timedelta(hours=hour)
    return make_range(
        "GLBX.MDP3", "mbo", symbols or ("NQZ6",), "raw_symbol", start, start + timedelta(hours=1)
    )


def names(count: int) -> list[str]:
    return [f"S{number}" for number in range(count)]


@pytest.mark.parametrize(("status", "body", "kind", "advice"), TABLE)
def test_each_row_arrives_with_its_type_and_advice(
    status: int, body: Any, kind: type[VendorError], advice: str
) -> None:
    """What the vendor sends, through its own client, becomes our error: type, status, case and what to do."""
    answer = Answer("" if body is None else body, status)
    with played_server(in_order(answer)) as server, client_of(server.url) as client:
        with pytest.raises(VendorError) as caught:
            client.fetch_billable_size(past())
        assert type(caught.value) is kind
        assert advice in caught.value.advice
        assert caught.value.status == status
        assert KEY not in str(caught.value)


def test_an_answer_for_part_of_the_symbols_is_an_answer() -> None:
    """206: some symbols stand for nothing in the range; the figure is that of the others, which is what is billed."""
    with played_server(in_order(Answer(7, 206))) as server, client_of(server.url) as client:
        assert client.fetch_billable_size(past("A", "B")) == 7


def test_a_time_out_says_what_to_do() -> None:
    """A vendor that never answers is unavailable, and a smaller question is the advice."""
    silence = threading.Event()

    def script(asked: Asked) -> Answer:
        silence.wait(30)
        return Answer(hang_up=True)

    with played_server(script) as server, client_of(server.url, timeout_s=0.05) as client:
        with pytest.raises(VendorUnavailable, match="fewer symbols at once or a shorter range"):
            client.fetch_billable_size(past())
        assert len(server.asked) == ATTEMPTS
        silence.set()


@pytest.mark.parametrize("count", [2001, 4500])
def test_more_symbols_than_one_request_takes_are_asked_in_chunks(count: int) -> None:
    """Sizes and costs are summed over requests of at most 2,000 symbols, each symbol asked for once."""

    def script(asked: Asked) -> Answer:
        number = len(asked.params["symbols"].split(","))
        return Answer(number if asked.call == "get_billable_size" else number / 8)

    chunks = make_chunks("GLBX.MDP3", "mbo", names(count), "raw_symbol", START, START + timedelta(hours=1))
    with played_server(script) as server, client_of(server.url) as client:
        assert sum(client.fetch_billable_sizes(chunks)) == count
        assert sum(client.fetch_cost(chunk) for chunk in chunks) == Decimal(count) / 8
    sized = [
        asked.params["symbols"].split(",") for asked in server.asked if asked.call == "get_billable_size"
    ]
    assert all(len(asked) <= 2000 for asked in sized)
    assert sorted(symbol for asked in sized for symbol in asked) == sorted(names(count))


def test_a_list_of_symbols_that_takes_too_long_is_halved() -> None:
    """504 on a long list: two halves are asked at once instead of the same list again, and summed exactly."""

    def script(asked: Asked) -> Answer:
        number = len(asked.params["symbols"].split(","))
        return Answer("gateway time-out", 504) if number > 300 else Answer(number)

    with played_server(script) as server, client_of(server.url) as client:
        whole = past(*names(1000))
        assert client.fetch_billable_size(whole) == 1000
        lengths = [len(asked.params["symbols"].split(",")) for asked in server.asked]
        assert lengths == [1000, 500, 250, 250, 500, 250, 250]
        assert client.fetch_billable_size(whole) == 1000
        assert len(server.asked) == 7


def test_a_short_list_that_takes_too_long_is_not_halved() -> None:
    """Up to a hundred symbols the list is not to blame: the same is asked again, then reported."""
    with played_server(in_order(Answer("", 504))) as server, client_of(server.url) as client:
        with pytest.raises(VendorUnavailable, match="fewer symbols"):
            client.fetch_billable_size(past(*names(SPLIT_ABOVE)))
        assert len(server.asked) == ATTEMPTS


def test_no_symbols_are_never_sent() -> None:
    """To the vendor they would be all of them: a range that has none is a mistake of the program."""
    with played_server(in_order(Answer(7))) as server, client_of(server.url) as client:
        bare = DataRange("GLBX.MDP3", "mbo", (), "raw_symbol", START, START + timedelta(hours=1))
        for ask in (client.fetch_billable_size, client.fetch_cost):
            with pytest.raises(ValueError, match="whole dataset"):
                ask(bare)
        assert server.asked == []


class CountingPacer(Pacer):
    """Lets everybody start at once, and knows how many have started that are not answered."""

    def __init__(self) -> None:
        super().__init__(ManualClock(NOW))
        self._lock = threading.Lock()
        self.running = self.most = 0

    def wait(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)

    def answered(self) -> None:
        with self._lock:
            self.running -= 1


def test_at_most_eight_requests_are_under_way() -> None:
    """Nobody is answered until eight have arrived: by then, of two callers with eight each, no ninth has started."""
    pacer, arrived = CountingPacer(), threading.Barrier(WORKERS)

    def script(asked: Asked) -> Answer:
        arrived.wait(30)
        pacer.answered()
        return Answer(1)

    with played_server(script) as server, client_of(server.url, timeout_s=60, pacer=pacer) as client:
        ranges = [past(hour=hour) for hour in range(2 * WORKERS)]
        other = threading.Thread(target=client.fetch_billable_sizes, args=(ranges[WORKERS:],))
        other.start()
        assert client.fetch_billable_sizes(ranges[:WORKERS]) == [1] * WORKERS
        other.join()
    assert pacer.most == WORKERS


def test_never_more_than_twenty_requests_a_second() -> None:
    """The vendor's limit, as the server sees it, with the real clock."""
    arrived: list[float] = []

    def script(asked: Asked) -> Answer:
        arrived.append(time.monotonic())
        return Answer(1)

    with played_server(script) as server, client_of(server.url, clock=SystemClock()) as client:
        client.fetch_billable_sizes([past(f"S{number}") for number in range(36)])
    arrived.sort()
    assert len(arrived) == 36
    busiest = max(sum(1 for other in arrived if at <= other < at + 1) for at in arrived)
    assert busiest <= 20
