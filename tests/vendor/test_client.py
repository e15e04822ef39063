"""The metadata client against a real HTTP server on the loopback."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from budget_guard.clock import ManualClock
from budget_guard.errors import KeyRejected, NotEntitled, RateLimited, RequestRejected, VendorUnavailable
from budget_guard.pricing.model import DataRange
from budget_guard.pricing.ranges import make_range
from budget_guard.vendor.cache import MetadataCache
from budget_guard.vendor.client import ATTEMPTS, VendorClient
from tests.vendor.server import Answer, Asked, Script, in_order, played_server

KEY = "db-TestTestTestTestTestTestTest1"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Desk:
    """A client's surroundings: a clock that sleeping moves, and a cache folder."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.folder = folder
        self.naps: list[float] = []
        self._caches: list[MetadataCache] = []

    def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.clock.advance(seconds)

    def client(
        self, url: str, key: str = KEY, *, refresh: bool = False, timeout_s: float = 5, **options: Any
    ) -> VendorClient:
        cache = MetadataCache(self.folder / "metadata.sqlite")
        self._caches.append(cache)
        return VendorClient(
            key,
            url,
            cache=cache,
            clock=self.clock,
            sleep=self.nap,
            timeout_s=timeout_s,
            refresh=refresh,
            **options,
        )

    def close(self) -> None:
        for cache in self._caches:
            cache.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def past(day: int = 18, symbol: str = "NQ.v.0") -> DataRange:
    start = datetime(2026, 11, day, 14, 30, tzinfo=UTC)
    return make_range("GLBX.MDP3", "mbo", [symbol], "continuous", start, start + timedelta(hours=6))


def test_unit_prices_are_exact(desk: Desk) -> None:
    """A JSON number becomes the decimal it prints as, never a binary neighbour."""
    answer = [
        {"mode": "live", "unit_prices": {"mbo": 2.16, "trades": 33.6}},
        {"mode": "historical-streaming", "unit_prices": {"mbo": 1.8}},
    ]
    with played_server(in_order(Answer(answer))) as server:
        prices = desk.client(server.url).fetch_unit_prices("GLBX.MDP3")
    assert prices["live"] == {"mbo": Decimal("2.16"), "trades": Decimal("33.6")}
    assert prices["historical-streaming"]["mbo"] == Decimal("1.8")
    assert server.asked[0].params == {"dataset": "GLBX.MDP3"}


def test_a_range_is_asked_exactly_as_it_is(desk: Desk) -> None:
    """Dataset, schema, symbols, symbology and both ends go over the wire: nothing is left to a default."""
    with played_server(in_order(Answer(123_456))) as server:
        assert desk.client(server.url).fetch_billable_size(past()) == 123_456
    asked = server.asked[0]
    assert asked.call == "get_billable_size"
    assert asked.params["dataset"] == "GLBX.MDP3"
    assert asked.params["schema"] == "mbo"
    assert asked.params["symbols"] == "NQ.v.0"
    assert asked.params["stype_in"] == "continuous"
    assert asked.params["start"].startswith("2026-11-18T14:30:00")
    assert asked.params["end"].startswith("2026-11-18T20:30:00")


def test_a_cost_is_exact(desk: Desk) -> None:
    """The vendor's quote keeps every digit that it had."""
    with played_server(in_order(Answer(2.587353944778))) as server:
        assert desk.client(server.url).fetch_cost(past()) == Decimal("2.587353944778")


def test_the_dataset_range_is_given_by_schema(desk: Desk) -> None:
    """A schema that ends earlier than its dataset is known to; instants carry nanoseconds."""
    answer = {
        "start": "2010-06-06T00:00:00.000000000Z",
        "end": "2026-11-22T03:50:00.000000000Z",
        "schema": {"mbo": {"start": "2017-05-21T00:00:00.000000000Z", "end": "2026-11-21T00:00:00Z"}},
    }
    with played_server(in_order(Answer(answer))) as server:
        found = desk.client(server.url).fetch_dataset_range("GLBX.MDP3")
    assert found.of("mbo") == (datetime(2017, 5, 21, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    assert found.of("trades")[1] == datetime(2026, 11, 22, 3, 50, tzinfo=UTC)


def test_schemas_are_listed(desk: Desk) -> None:
    """The names come as the vendor gives them."""
    with played_server(in_order(Answer(["mbo", "trades"]))) as server:
        assert desk.client(server.url).fetch_schemas("GLBX.MDP3") == ["mbo", "trades"]


def test_a_final_size_is_asked_once_for_ever(desk: Desk) -> None:
    """A range that ended more than a day ago is never asked again, in any order of its symbols."""
    with played_server(in_order(Answer(5))) as server:
        desk.client(server.url).fetch_billable_size(past())
        desk.clock.advance(400 * 86_400)
        assert desk.client(server.url).fetch_billable_size(past()) == 5
        assert len(server.asked) == 1


def test_a_cost_is_kept_as_long_as_a_price(desk: Desk) -> None:
    """Past data does not change, but what it costs may: a day later it is asked again."""
    with played_server(in_order(Answer(1.5), Answer(2.5))) as server:
        client = desk.client(server.url)
        assert [client.fetch_cost(past()) for _ in range(2)] == [Decimal("1.5")] * 2
        desk.clock.advance(86_400)
        assert client.fetch_cost(past()) == Decimal("2.5")


def test_who_spends_asks_for_prices_and_costs_each_time(desk: Desk) -> None:
    """A kept price may be lower than the one that is billed; it serves only when the vendor cannot be asked."""
    listed = [{"mode": "live", "unit_prices": {"mbo": 2.16}}], [{"mode": "live", "unit_prices": {"mbo": 3}}]
    with played_server(in_order(*(Answer(said) for said in (*listed, 1.5, 2.5)))) as server:
        client = desk.client(server.url, prices_kept=timedelta(0))
        prices = [client.fetch_unit_prices("GLBX.MDP3")["live"]["mbo"] for _ in range(2)]
        assert prices == [Decimal("2.16"), 3]
        assert [client.fetch_cost(past()) for _ in range(2)] == [Decimal("1.5"), Decimal("2.5")]
        assert client.kept_unit_prices("GLBX.MDP3") == {"live": {"mbo": Decimal(3)}}
        assert client.kept_unit_prices("XNAS.ITCH") is None
        desk.clock.advance(24 * 3600)
        assert client.kept_unit_prices("GLBX.MDP3") is None


def test_a_size_that_may_still_grow_is_asked_again(desk: Desk) -> None:
    """A range that ended less than a day ago is not kept."""
    with played_server(in_order(Answer(5), Answer(6))) as server:
        client = desk.client(server.url)
        assert [client.fetch_billable_size(past(day=21)) for _ in range(2)] == [5, 6]


def test_prices_are_kept_for_a_day_and_ranges_for_ten_minutes(desk: Desk) -> None:
    """Each answer has its own age."""
    prices = [{"mode": "live", "unit_prices": {"mbo": 2.16}}]
    ends = {"start": "2010-06-06T00:00:00Z", "end": "2026-11-22T00:00:00Z"}

    def script(asked: Asked) -> Answer:
        return Answer(prices if asked.call == "list_unit_prices" else ends)

    with played_server(script) as server:
        client = desk.client(server.url)
        for _ in range(3):
            client.fetch_unit_prices("GLBX.MDP3")
            client.fetch_dataset_range("GLBX.MDP3")
            desk.clock.advance(601)
        assert client.unit_prices_read_utc("GLBX.MDP3") == NOW
        assert client.unit_prices_read_utc("OPRA.PILLAR") is None
        desk.clock.advance(86_400)
        client.fetch_unit_prices("GLBX.MDP3")
    assert server.calls().count("list_unit_prices") == 2
    assert server.calls().count("get_dataset_range") == 3


def test_a_range_that_is_asked_for_afresh_takes_the_place_of_what_is_kept(desk: Desk) -> None:
    """Where history ends moves on within the ten minutes."""
    ends = ("2026-11-22T00:00:00Z", "2026-11-22T00:05:00Z")
    answers = (Answer({"start": "2010-06-06T00:00:00Z", "end": end}) for end in ends)
    with played_server(in_order(*answers)) as server:
        client = desk.client(server.url)
        said = [client.fetch_dataset_range("GLBX.MDP3", fresh=fresh) for fresh in (False, True, False)]
    assert [found.end_utc.minute for found in said] == [0, 5, 5]
    assert len(server.asked) == 2


def test_a_refresh_asks_again_and_once(desk: Desk) -> None:
    """What was kept before is not used, what is learned now is, and the next client has it too."""
    with played_server(in_order(Answer(5), Answer(6))) as server:
        assert desk.client(server.url).fetch_billable_size(past()) == 5
        desk.clock.advance(60)
        fresh = desk.client(server.url, refresh=True)
        assert [fresh.fetch_billable_size(past()) for _ in range(2)] == [6, 6]
        assert desk.client(server.url).fetch_billable_size(past()) == 6
        assert len(server.asked) == 2


def test_a_kept_size_knows_its_age(desk: Desk) -> None:
    """When it was asked for; None for one that is not kept."""
    with played_server(in_order(Answer(5))) as server:
        client = desk.client(server.url)
        assert client.size_asked_utc(past()) is None
        client.fetch_billable_size(past())
        asked_utc = desk.clock.now()
        client.fetch_billable_size(past(day=21))
        desk.clock.advance(3 * 3600)
        assert client.size_asked_utc(past()) == asked_utc
        assert client.size_asked_utc(past(day=21)) is None


def test_datasets_are_listed(desk: Desk) -> None:
    """The names come as the vendor gives them; none is an answer too."""
    with played_server(in_order(Answer(["GLBX.MDP3"]))) as server:
        assert desk.client(server.url).fetch_datasets() == ["GLBX.MDP3"]


def test_another_key_gets_its_own_answers(desk: Desk) -> None:
    """Prices are an account's own; the key itself is nowhere in the file."""
    with played_server(in_order(Answer([]))) as server:
        desk.client(server.url).fetch_unit_prices("GLBX.MDP3")
        desk.client(server.url, key=KEY[:-1] + "2").fetch_unit_prices("GLBX.MDP3")
        assert len(server.asked) == 2
    assert KEY.encode() not in (desk.folder / "metadata.sqlite").read_bytes()


def test_a_request_that_is_too_many_waits_as_told(desk: Desk) -> None:
    """429 with Retry-After is tried again after just that long."""
    with played_server(in_order(Answer({}, 429, {"Retry-After": "3"}), Answer(7))) as server:
        assert desk.client(server.url).fetch_billable_size(past()) == 7
    assert 3.0 in desk.naps


def test_retries_end(desk: Desk) -> None:
    """An overload that goes on is reported after a bounded number of attempts."""
    with played_server(in_order(Answer({"detail": "slow down"}, 429, {"Retry-After": "1"}))) as server:
        with pytest.raises(RateLimited, match="slow down"):
            desk.client(server.url).fetch_billable_size(past())
        assert len(server.asked) == ATTEMPTS


def test_a_long_wait_is_reported_instead_of_slept(desk: Desk) -> None:
    """A vendor that says "in an hour" does not block the command for an hour."""
    with played_server(in_order(Answer({}, 429, {"Retry-After": "3600"}))) as server:
        with pytest.raises(RateLimited):
            desk.client(server.url).fetch_billable_size(past())
        assert (len(server.asked), desk.naps) == (1, [])


@pytest.mark.parametrize(
    "trouble", [Answer("Bad gateway", 502), Answer("", 504), Answer("<html>", 200), Answer(hang_up=True)]
)
def test_passing_trouble_is_tried_again(desk: Desk, trouble: Answer) -> None:
    """A 5xx, an answer that is no JSON and a dropped connection are worth another try."""
    with played_server(in_order(trouble, Answer(7))) as server:
        assert desk.client(server.url).fetch_billable_size(past()) == 7


def test_trouble_that_goes_on_is_unavailable(desk: Desk) -> None:
    """In the end the error says so and what to do."""
    with played_server(in_order(Answer("Internal Server Error", 500))) as server:
        with pytest.raises(VendorUnavailable, match="try again later"):
            desk.client(server.url).fetch_billable_size(past())
        assert len(server.asked) == ATTEMPTS


def test_a_vendor_that_is_not_there_is_unavailable(desk: Desk) -> None:
    """A refused connection is an error with advice, not a stack trace."""
    with played_server(in_order(Answer())) as server:
        url = server.url
    with pytest.raises(VendorUnavailable, match="--offline"):
        desk.client(url).fetch_billable_size(past())


@pytest.mark.parametrize(
    ("status", "case", "kind"),
    [
        (401, "auth_authentication_failed", KeyRejected),
        (403, "license_not_found_unauthorized", NotEntitled),
        (422, "symbology_invalid_symbol", RequestRejected),
    ],
)
def test_a_refusal_is_not_tried_again(desk: Desk, status: int, case: str, kind: type[Exception]) -> None:
    """What is refused stays refused; asking again only costs time. The key is never in the words."""
    body = {"detail": {"case": case, "message": "No.", "status_code": status, "docs": "", "payload": {}}}
    with played_server(in_order(Answer(body, status))) as server:
        with pytest.raises(kind, match=case) as caught:
            desk.client(server.url).fetch_billable_size(past())
        assert len(server.asked) == 1
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("answer", [-1, 1.5, True, "12", None, [1]])
def test_a_size_that_is_no_size_is_never_taken_for_one(desk: Desk, answer: object) -> None:
    """Nothing but a whole number of bytes counts; null is not zero."""
    script = in_order(Answer(answer if not isinstance(answer, str) else f'"{answer}"'))
    with played_server(script) as server, pytest.raises(VendorUnavailable, match="could not be understood"):
        desk.client(server.url).fetch_billable_size(past())


@pytest.mark.parametrize(
    "answer",
    [{"live": {}}, [{"mode": "live"}], [{"mode": "live", "unit_prices": {"mbo": -1}}], [7], None],
)
def test_a_price_list_that_cannot_be_read_is_an_error(desk: Desk, answer: object) -> None:
    """A list in another form is not an empty list."""
    with played_server(in_order(Answer(answer))) as server, pytest.raises(VendorUnavailable):
        desk.client(server.url).fetch_unit_prices("GLBX.MDP3")


def test_many_sizes_come_in_order(desk: Desk) -> None:
    """Sizes fetched side by side are given back in the order in which they were asked."""

    def script(asked: Asked) -> Answer:
        return Answer(int(asked.params["symbols"].removeprefix("S")))

    seen: list[int] = []
    with played_server(script) as server:
        ranges = [past(symbol=f"S{number}") for number in range(40)]
        client = desk.client(server.url)
        assert client.fetch_billable_sizes(
            [make_range("GLBX.MDP3", "mbo", r.symbols, "raw_symbol", r.start_utc, r.end_utc) for r in ranges],
            lambda: seen.append(1),
        ) == list(range(40))
    assert len(seen) == 40


def test_one_refusal_ends_many_sizes(desk: Desk) -> None:
    """The first error is the answer: half a sample is no sample."""
    script: Script = in_order(Answer({"detail": "no"}, 403))
    with played_server(script) as server, pytest.raises(NotEntitled):
        desk.client(server.url).fetch_billable_sizes([past(day) for day in range(2, 18)])


def test_a_size_that_turned_out_to_be_wrong_is_asked_for_again_once(desk: Desk) -> None:
    with played_server(in_order(Answer(56), Answer(112))) as server:
        client = desk.client(server.url)
        assert client.fetch_billable_size(past()) == 56
        client.forget(past())
        assert [client.fetch_billable_size(past()) for _ in range(2)] == [112, 112]
