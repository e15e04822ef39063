"""What the ledger knows of purchases whose program died before it could say what became of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from budget_guard.guard.purchases import Purchases
from budget_guard.guard.quote import Quote
from budget_guard.ledger.batches import Submission, submission_of
from budget_guard.money import GIB
from budget_guard.pricing.model import UnitPrice
from tests.guard.samples import HISTORY, STREAM, Desk, data_range

LIST = Decimal("1.80")


def quote() -> Quote:
    return Quote(data_range(), GIB, UnitPrice(LIST, "vendor", "a list"), LIST)


def purchases(desk: Desk) -> Purchases:
    return Purchases(desk.ledger, "desk", desk.clock)


@pytest.mark.parametrize(
    ("ending", "state", "size"), [("released", "refused", 0), ("settled", "lost", 1000), ("open", "asked", 0)]
)
def test_a_closed_hold_says_what_its_purchase_came_to(desk: Desk, ending: str, state: str, size: int) -> None:
    hold = desk.guard().open_request(HISTORY, STREAM, quote())
    book = purchases(desk)
    book.ask(hold.terms, data_range(), "{}", "stream")
    if ending == "released":
        hold.release()
    else:
        hold.activate()
    if ending == "settled":
        hold.count(1000, 1)
        hold.settle("exact")
    (row,) = book.known()
    assert row.state == state
    # From its cost, where no budget counts bytes.
    assert size <= row.size_bytes <= size + 1


def test_what_was_never_written_is_no_purchase(desk: Desk) -> None:
    assert purchases(desk).known() == []


def test_a_batch_hold_is_known_by_what_it_says(desk: Desk) -> None:
    said = Submission('{"dataset": "GLBX.MDP3"}', "0123456789abcdef")
    hold = desk.guard().open_request(HISTORY, STREAM, quote(), details=said.details())
    assert submission_of(hold.terms) == said
    assert submission_of(desk.guard().open_request(HISTORY, STREAM, quote()).terms) is None


def test_a_part_that_cannot_be_priced_leaves_its_price_unknown(desk: Desk) -> None:
    hold = desk.guard().open_request(HISTORY, STREAM, quote())
    book = purchases(desk)
    row = book.ask(hold.terms, data_range(), '{"limit": null}', "stream")
    hold.activate()
    book.close(row, "bought", hold.settle("exact"))

    def broken(_: object) -> int:
        raise OSError("nobody answers")

    longer = replace(data_range(), end_utc=data_range().end_utc + timedelta(hours=1))
    found = book.with_owned(replace(quote(), range=longer), broken)
    assert found.owned is not None
    assert found.owned.missing_nano_usd is None
    assert "the price of the missing part alone: unknown" in found.text()
