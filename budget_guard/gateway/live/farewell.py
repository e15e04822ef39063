"""How a connection that ran takes leave of its client: a planned end is no error."""

from __future__ import annotations

from collections.abc import Sequence

from budget_guard.clock import instant_text
from budget_guard.decisions import Decision
from budget_guard.gateway.live.pump import Stop
from budget_guard.gateway.live.voice import Voice
from budget_guard.gateway.shared import Shared
from budget_guard.guard.admission import Member


def say_goodbye(
    shared: Shared,
    voice: Voice,
    token: str,
    stop: Stop | None,
    verdict: Decision | None,
    member: Member | None,
) -> None:
    """Tell the client why it ends, and remember what stands against its next connection."""
    if stop in (Stop.WINDOW, Stop.LIMIT):
        shared.standing.tokens.add(token)
    if stop is Stop.WINDOW and member is not None:
        text = _window_text(member, verdict)
        shared.outcome.closed.append(text)
        voice.notice(f"budget-guard: {text}")
    elif verdict is not None:
        if stop is Stop.LIMIT:
            shared.outcome.cut.append(verdict)
        voice.error(verdict.wire_text())
    elif stop is Stop.SHUTDOWN:
        voice.notice("budget-guard: the guard is being stopped")
    elif stop is Stop.REVOKED:
        voice.error("budget-guard: this program's token was revoked: ask whoever runs this guard for another")
    elif stop is Stop.VERSION:
        voice.error("budget-guard: the vendor changed its DBN version; connect again")
    elif stop is Stop.FAILED:
        voice.error("budget-guard: it failed and ended the connection; its log says why")


def say_ended(shared: Shared, voice: Voice, members: Sequence[Member], why: Stop, decision: Decision) -> None:
    """Tell the client that some streams have ended, and why; the others of its connection go on."""
    if why is Stop.WINDOW:
        for member in members:
            text = _window_text(member, decision)
            shared.outcome.closed.append(text)
            voice.notice(f"budget-guard: {text}; the others go on")
        return
    names = sorted(member.stream.name for member in members)
    # Before the cut: who reads that one must be able to tell what it is of.
    shared.outcome.shed.append((tuple(names), decision))
    shared.outcome.cut.append(decision)
    voice.notice(f"budget-guard: stream {', '.join(names)} ended, the others go on: {decision.wire_text()}")


def _window_text(member: Member, verdict: Decision | None) -> str:
    closed = instant_text(member.window.end_utc)
    retry = verdict.reasons[0].retry_at_utc if verdict is not None and verdict.reasons else None
    opens = "" if retry is None else f"; it opens next at {instant_text(retry)}"
    return f"the window of stream {member.stream.name} closed at {closed}{opens}"
