"""With which code `run` ends: a table."""

from __future__ import annotations

import signal

import pytest

from budget_guard.cli.run import decision_lines, exit_code
from budget_guard.decisions import deny
from budget_guard.gateway.outcome import Outcome
from budget_guard.streaming.fallback import Cause
from budget_guard.streaming.supervisor import Conclusion

MONEY = Cause("money", "nq", "out")
LICENCE = Cause("vendor", "nq", "no licence")
AWAY = Cause("unreachable", "nq", "no connection")


def test_a_refusal_of_the_vendors_that_was_repeated_is_listed_once() -> None:
    licence, money = deny("not_entitled", "no licence"), deny("limit_reached", "out")
    again = deny("not_entitled", "no licence")
    outcome = Outcome(refused=[again, money, again], cut=[money, money], vendor=[licence, again])
    assert decision_lines(outcome) == [
        "vendor refused: not_entitled: no licence",
        "refused: limit_reached: out",
        "cut: limit_reached: out",
    ]


@pytest.mark.parametrize(
    ("conclusion", "code"),
    [
        pytest.param(Conclusion(0), 0, id="done"),
        pytest.param(Conclusion(7), 7, id="its own"),
        pytest.param(Conclusion(137), 137, id="killed by somebody else, or after its grace"),
        pytest.param(Conclusion(None), 4, id="outside every window"),
        pytest.param(Conclusion(0, refused=True), 4, id="refused, whatever it says itself"),
        pytest.param(Conclusion(1, refused=True, vendor=True), 5, id="the vendor's word counts more"),
        pytest.param(Conclusion(143, planned=True), 0, id="ended at the close of its window"),
        pytest.param(Conclusion(143), 143, id="ended by a SIGTERM of somebody else's"),
        pytest.param(Conclusion(143, planned=True, refused=True), 4, id="refused, and ended at the close"),
        pytest.param(Conclusion(137, insisted=True), 130, id="killed by the second Ctrl-C"),
        pytest.param(Conclusion(None, signal=signal.SIGINT), 130, id="interrupted while it waited"),
        pytest.param(
            Conclusion(0, signal=signal.SIGTERM), 143, id="ended while it waited for another window"
        ),
        pytest.param(Conclusion(1, refused=True, cause=MONEY), 4, id="a fallback ran: the money"),
        pytest.param(Conclusion(None, cause=MONEY), 4, id="a fallback ran from the start"),
        pytest.param(Conclusion(1, vendor=True, cause=LICENCE), 5, id="a fallback ran: the licence"),
        pytest.param(Conclusion(143, cause=AWAY), 5, id="a fallback ran: out of reach"),
    ],
)
def test_the_exit_code_says_what_happened_last(conclusion: Conclusion, code: int) -> None:
    assert exit_code(conclusion) == code
