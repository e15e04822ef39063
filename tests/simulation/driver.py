"""A process that guards: the gateway's moves with a guard, a hold and a line, one after another instead of at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from budget_guard.clock import month_of
from budget_guard.decisions import Decision, deny
from budget_guard.errors import Fenced, LedgerError, Refused
from budget_guard.gateway.live.watch import CLOCK_SLACK
from budget_guard.guard.connection import LiveHold
from budget_guard.guard.download import RequestHold
from budget_guard.guard.guard import Admission, Guard
from budget_guard.guard.quote import Quote
from budget_guard.guard.request import Request, whole_stream
from budget_guard.ledger.model import Approval
from budget_guard.policy.model import Stream
from budget_guard.pricing.model import DataRange, UnitPrice
from tests.simulation.auditor import Auditor, Breach
from tests.simulation.places import ALLOWANCE_BYTES, READ_BYTES, UNSEEN_BYTES, Host, Line
from tests.simulation.store import Seat

Ending = Literal["clean", "broken", "quoted", "refused", "unsent"]


@dataclass(slots=True)
class Live:
    """One client's stream."""

    id: str
    stream: Stream
    request: Request
    admission: Admission
    hold: LiveHold
    line: Line
    opened_s: float
    ending: bool = False
    rolling: bool = False


@dataclass(slots=True)
class Download:
    hold: RequestHold
    line: Line


@dataclass(slots=True)
class Process:
    """One guard with its connections; it lives until it is killed."""

    name: str
    host: Host
    guard: Guard
    seat: Seat
    auditor: Auditor
    true_s: Callable[[], float]
    said: Counter[str]
    prices: dict[str, Decimal]
    lives: list[Live] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)
    owned: list[LiveHold | RequestHold] = field(default_factory=list)  # whose meters are locked
    names: int = 0

    def die(self) -> None:
        """Killed: locks are dropped, meters stay, nothing else happens."""
        for hold in self.owned:
            hold.abandon()
            self.auditor.left(hold.terms.id)
        self.lives.clear()
        self.downloads.clear()
        self.owned.clear()

    # --- live ---------------------------------------------------------------------------------------------

    def open(self, stream: Stream, client_leaves: bool) -> None:
        """A client asks for a stream."""
        self.names += 1
        name = f"{self.name}-{self.names}"
        request = whole_stream(stream)
        admission = self._ask(request, name, None)
        if admission is None:
            return
        hold = admission.hold
        if client_leaves:
            self._let_go(hold, hold.release)
            return
        if not self._activate(hold):
            return
        live = Live(
            name, stream, request, admission, hold, self._line(hold.terms.id), self.host.clock.elapsed_s()
        )
        self.lives.append(live)

    def _line(self, hold_id: str) -> Line:
        return Line(self.true_s, lambda size: self.auditor.sent(hold_id, size), last_read_s=self.true_s())

    def _ask(self, request: Request, name: str, continues: LiveHold | None) -> Admission | None:
        before = self.auditor.hold_count
        try:
            admission = self.guard.open_live(
                request, connection_id=name, allowance_bytes=ALLOWANCE_BYTES, continues=continues
            )
        except Refused as refused:
            self._note_refusal(refused.decision, before)
            return None
        hold = admission.hold
        self.owned.append(hold)
        self.auditor.taken(hold.terms.id, price=self.prices[admission.stream.name])
        return admission

    def _note_refusal(self, decision: Decision, before: int) -> None:
        code = decision.code or "none"
        self.said[f"denied: {code}"] += 1
        if code != "ledger_unavailable" and self.auditor.hold_count != before:
            raise Breach(f"a refusal ({code}) left a hold")

    def _activate(self, hold: LiveHold | RequestHold) -> bool:
        try:
            hold.activate()
        except LedgerError:
            self._abandon(hold)
            return False
        self.auditor.connected(hold.terms.id)
        return True

    def _abandon(self, hold: LiveHold | RequestHold) -> None:
        self.said["left to recovery"] += 1
        hold.abandon()
        self._disown(hold)

    def _disown(self, hold: LiveHold | RequestHold) -> None:
        self.auditor.left(hold.terms.id)
        self.owned.remove(hold)

    def _let_go(self, hold: LiveHold | RequestHold, how: Callable[[], object]) -> None:
        try:
            how()
        except LedgerError:
            self._abandon(hold)
        else:
            self._disown(hold)

    def flow(self, live: Live, size_bytes: int, burst_bytes: int) -> None:
        """The vendor sends; what arrives is read, counted and paid for."""
        self.look(live)
        if live in self.lives and not live.ending:
            self.auditor.counts_at(live.hold.terms.id, self.guard.clock.now())
        left = size_bytes
        while left > 0 and live in self.lives and not live.ending:
            sent = live.line.send(min(left, burst_bytes))
            left -= sent
            if not self._read(live) and not sent:
                return
            if live.hold.exhausted:
                self._ran_out(live)
            elif live.hold.renewal_due:
                self._renew(live)

    def _read(self, live: Live) -> int:
        """One read, cut to what the lease has room for, as the pump cuts it."""
        hold = live.hold
        left = None if live.ending else hold.left_bytes
        if left is not None and left <= 0 and hold.terms.unit_price_usd > 0:
            return 0
        most = READ_BYTES if left is None or left <= 0 else min(left, READ_BYTES)
        size = live.line.take(most)
        if size:
            self.auditor.read(hold.terms.id, size)
            hold.count(size, 0, self.host.now_ns, filled=size == most)
            self.auditor.lived(hold.terms.id, self._lived_ms(live))
        return size

    def _lived_ms(self, live: Live) -> int:
        return int((self.host.clock.elapsed_s() - live.opened_s) * 1000)

    def traffic_of(self, live: Live) -> Callable[[], None]:
        """Bytes that arrive while the ledger is being written to."""

        def flows() -> None:
            for _ in range(64):
                live.line.send(UNSEEN_BYTES)
                left = live.hold.left_bytes
                if live not in self.lives or (left is not None and left <= 0) or not self._read(live):
                    return

        return flows

    def look(self, live: Live) -> None:
        """What the gateway's watch does a few times a second."""
        if live.ending:
            return
        now, hold = self.guard.clock.now(), live.hold
        if now >= live.admission.window.end_utc:
            self.said["ended: window"] += 1
            self.begin_ending(live)
        elif month_of(now) != hold.terms.month and hold.terms.unit_price_usd > 0:
            self.said["ended: month"] += 1
            self.begin_ending(live)
        elif now >= hold.period_end_utc or now + CLOCK_SLACK < hold.period_start_utc:
            self._roll(live)
        elif hold.time_exhausted:
            self._ran_out(live)
        elif hold.renewal_overdue:
            self._renew(live)

    def _ran_out(self, live: Live) -> None:
        """Nothing is read until the ledger has answered; the vendor goes on sending."""
        live.line.send(UNSEEN_BYTES)
        for _ in range(3):
            trouble = self._renew(live)
            if live.ending or live not in self.lives:
                return
            if not (live.hold.exhausted or live.hold.time_exhausted):
                return
            free = live.hold.terms.unit_price_usd == 0
            if trouble is not None and not (free and trouble.code == "ledger_unavailable"):
                self.said[f"cut: {trouble.code}"] += 1
                self.begin_ending(live)
                return
        self.begin_ending(live)

    def _renew(self, live: Live) -> Decision | None:
        hold = live.hold
        self.seat.traffic = self.traffic_of(live)
        try:
            allowed = hold.renew()
        except Fenced:
            self.said["fenced"] += 1
            self.begin_ending(live)
            return None
        except LedgerError as error:
            return deny("ledger_unavailable", str(error))
        finally:
            self.seat.traffic = lambda: None
        if allowed:
            self.auditor.lived(hold.terms.id, self._lived_ms(live))
        return None if allowed else hold.denied

    def _roll(self, live: Live) -> None:
        """A period has ended: go on under a new hold."""
        old = live.hold
        self.seat.traffic = self.traffic_of(live)
        admission = self._ask(live.request, live.id, old)
        if admission is None or not self._activate(admission.hold):
            self.begin_ending(live)
            return
        self.seat.traffic = lambda: None
        self._swap(live, admission)
        self.said["rolled"] += 1
        self._finish(live, old, clean=True)
        live.opened_s = self.host.clock.elapsed_s()

    def _swap(self, live: Live, admission: Admission) -> None:
        """What is on its way is counted on the new hold."""
        old, new = live.hold.terms.id, admission.hold.terms.id
        flying = live.line.flying_bytes
        self.auditor.sent(old, -flying)
        self.auditor.sent(new, flying)
        line = live.line
        line.tell = lambda size: self.auditor.sent(new, size)
        live.admission, live.hold = admission, admission.hold

    def begin_ending(self, live: Live) -> None:
        """The half-close: what was on its way still comes."""
        if not live.ending:
            live.line.send(UNSEEN_BYTES)
            live.hold.begin_ending()
            live.ending = live.line.ended = True

    def drain(self, live: Live, size_bytes: int) -> None:
        """Read on after the half-close; at the vendor's end, settle."""
        while size_bytes > 0 and (size := self._read(live)):
            size_bytes -= size
        if live.line.flying_bytes == 0:
            self._end(live, clean=True)

    def end(self, live: Live, ending: Ending) -> None:
        """The client leaves, or the vendor breaks the line."""
        if ending == "clean":
            self.begin_ending(live)
            self.drain(live, 2**30)
        else:
            live.line.send(UNSEEN_BYTES)
            self._end(live, clean=False)

    def _end(self, live: Live, *, clean: bool) -> None:
        self.lives.remove(live)
        self.said["ended: clean" if clean else "ended: broken"] += 1
        self._finish(live, live.hold, clean=clean)

    def _finish(self, live: Live, hold: LiveHold, *, clean: bool) -> None:
        self.auditor.finishing(hold.terms.id, self._lived_ms(live))
        self._let_go(hold, lambda: hold.finish("over", clean=clean))

    # --- historical ----------------------------------------------------------------------------------------

    def ask_for(self, stream: Stream, size_bytes: int, kind: int, approved: bool) -> None:
        """A client asks for the past; the vendor quotes it."""
        price = self.prices.get(stream.name)
        if price is None or kind % 8 == 7:
            price = Decimal(0)
        quote = self._quote(stream, size_bytes, price, sheet=kind % 8 == 6)
        request = Request(stream.dataset, stream.schema, stream.symbols, stream.stype_in, "historical")
        before = self.auditor.hold_count
        try:
            hold = self.guard.open_request(request, stream, quote, approved=approved)
        except Refused as refused:
            self._note_refusal(refused.decision, before)
            return
        self.owned.append(hold)
        hold_id = hold.terms.id
        self.auditor.taken(hold_id, price=price, quote_bytes=size_bytes, dear=quote.price.kind == "sheet")
        if kind % 16 == 5:
            self._let_go(hold, hold.release)
            return
        if self._activate(hold):
            line = self._line(hold_id)
            line.most_bytes = size_bytes
            self.downloads.append(Download(hold, line))

    def _quote(self, stream: Stream, size_bytes: int, price: Decimal, *, sheet: bool) -> Quote:
        now = self.guard.clock.now()
        asked = DataRange(
            stream.dataset, stream.schema, stream.symbols, stream.stype_in, now - timedelta(days=2), now
        )
        cost = price * size_bytes / 2**30
        listed = UnitPrice(price, "vendor", "list")
        if sheet and price:
            listed = UnitPrice(price / 2, "sheet", "an old sheet")
        return Quote(asked, size_bytes, listed, cost)

    def answer(self, download: Download, size_bytes: int) -> None:
        """A part of the answer arrives and is counted."""
        while size_bytes > 0:
            sent = download.line.send(size_bytes)
            size_bytes -= sent
            if not self._take(download) and not sent:
                return

    def _take(self, download: Download) -> int:
        size = download.line.take(READ_BYTES)
        if size:
            self.auditor.read(download.hold.terms.id, size)
            download.hold.count(size, self.host.now_ns)
        return size

    def close_request(self, download: Download, ending: Ending) -> None:
        hold, line = download.hold, download.line
        self.downloads.remove(download)
        self.said[f"request: {ending}"] += 1
        self.auditor.finishing(hold.terms.id, 0)
        if ending == "broken":
            line.send(UNSEEN_BYTES)
            self._let_go(hold, lambda: hold.settle("residual", residual_bytes=UNSEEN_BYTES, note="broke off"))
        elif ending == "quoted":
            self._let_go(hold, lambda: hold.settle_quote("not DBN"))
        elif ending == "refused" and line.sent_bytes == 0:
            self._let_go(hold, lambda: hold.settle("exact", note="the vendor refused"))
        else:
            while line.send(UNSEEN_BYTES) or line.flying_bytes:
                self._take(download)
            self._let_go(hold, lambda: hold.settle("exact", note="to the last byte"))

    # --- approvals -----------------------------------------------------------------------------------------

    def approve(self, budget: str, unit: str, amount: int, length: timedelta) -> None:
        self.names += 1
        now: datetime = self.guard.clock.now()
        approval = Approval(
            f"{self.name}-a{self.names}",
            self.guard.policy.account.name,
            budget,
            unit,
            amount,
            now,
            now + length,
            "asked for",
            "a person",
        )
        self.auditor.approved(approval.id, budget=budget, unit=unit, amount=amount)
        try:
            self.guard.ledger.record_approval(approval)
        except LedgerError:
            self.said["approval lost"] += 1
