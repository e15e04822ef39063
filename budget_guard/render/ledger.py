"""What the ledger's commands say to people: a hold's story, an audit, holds that wait for a decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from budget_guard.clock import instant_text
from budget_guard.guard.lease import count_text
from budget_guard.ledger.audit import Audit
from budget_guard.ledger.export import parsed
from budget_guard.ledger.model import SLOT_MODE, Approval, Entry, HoldTerms, Overrun
from budget_guard.ledger.story import Share, Story
from budget_guard.money import decimal_text, size_text
from budget_guard.render.tables import nano_text
from budget_guard.wording import one_line

_STATES = {
    "held": "held: money is set aside, nothing has been asked of the vendor",
    "active": "active: the vendor may have been asked, and bills what it sends",
    "settled": "settled: it is over, and what it used is booked",
    "released": "released: nothing was ever sent, and everything was given back",
}
_OWNERS = {
    "living": "its program runs on this machine",
    "dead": "its program on this machine is dead; the next command that uses the ledger settles it from its meter",
    "restarted": "its program is dead, and the machine may have been restarted since, so its meter may be incomplete",
    "none": "it has no meter, so nothing shows whether its program runs or what it used",
    "elsewhere": "it belongs to another machine, which settles it; from here nobody can see whether its program runs",
    "missing": "its meter is missing, so nothing shows whether its program runs or what it used",
    "unreadable": "its meter is damaged or may not be read",
}  # fmt: skip
# The owners that only a person can decide about.
_UNPROVEN = ("restarted", "none", "elsewhere", "missing", "unreadable")
_SYMBOLS_SHOWN = 5


def story_text(story: Story) -> str:
    """One hold's story, in sentences, with a final newline."""
    return _text(_story_lines(story))


def _text(lines: Iterable[str]) -> str:
    """The lines, without what could move a terminal's cursor: a ledger holds words of others."""
    return "".join(f"{one_line(line)}\n" for line in lines)


def _story_lines(story: Story) -> Iterator[str]:
    terms = story.terms
    if terms.mode == SLOT_MODE:
        yield from _slot_lines(story)
        return
    yield f"Hold {terms.id} is {_STATES.get(story.state, story.state)}."
    if terms.connection_id != terms.id:
        yield f"  It is of connection {terms.connection_id}."
    yield f"  {_asked(terms)}"
    yield (
        f"  It is of account {terms.account} and counts in the billing month {terms.month}, "
        f"at {decimal_text(terms.unit_price_usd)} USD per GiB ({terms.price_source})."
    )
    yield "What happened (UTC):"
    yield from (f"  {line}" for line in _happened(story))
    yield "What it counts:" if story.shares else "It counts against no budget."
    yield from (f"  {_share_text(share)}" for share in story.shares)
    for entry in story.entries:
        yield from _entry_lines(terms, entry)
    for overrun in story.overruns:
        yield f"It went past a limit: {overrun_text(overrun)}."
    for approval in story.approvals:
        yield f"Approved meanwhile: {approval_text(approval)}."
    yield from _owner_lines(story)


def _slot_lines(story: Story) -> Iterator[str]:
    """A connection itself: one of those that the vendor allows at once."""
    terms = story.terms
    state = "taken" if story.is_open else "given back"
    yield f"Hold {terms.id} is one of the live connections to {terms.dataset} that the team may have at once: {state}."
    yield f"  It is of connection {terms.connection_id} on {terms.host}, of account {terms.account}. It costs nothing."
    yield "What happened (UTC):"
    yield from (f"  {line}" for line in _happened(story))
    for share in story.shares:
        yield f"Taken by all now: {count_text(share.claim.key.unit, share.balance.held)}."
    for entry in story.entries:
        yield f"  Note: {entry.note}"
    yield from _owner_lines(story)


def _asked(terms: HoldTerms) -> str:
    of = f" for stream {terms.stream}" if terms.stream else ""
    return f"A program on {terms.host} asked for {terms.mode} {terms.schema} of {terms.dataset}{of}{_request(terms)}."


def _request(terms: HoldTerms) -> str:
    """What was asked for in detail, as far as the request says it in the words that it is known to use."""
    request = parsed(terms.request)
    if not isinstance(request, dict):
        return ""
    symbols = request.get("symbols")
    parts = []
    if isinstance(symbols, list) and symbols:
        shown = ", ".join(str(symbol) for symbol in symbols[:_SYMBOLS_SHOWN])
        more = len(symbols) - _SYMBOLS_SHOWN
        parts.append(shown + (f" and {more} more" if more > 0 else ""))
    if request.get("start"):
        parts.append(f"from {request['start']}" + (f" to {request['end']}" if request.get("end") else ""))
    return f": {', '.join(parts)}" if parts else ""


def _happened(story: Story) -> Iterator[str]:
    yield f"{instant_text(story.terms.opened_utc)}  it was opened"
    if story.activated_utc is not None:
        yield f"{instant_text(story.activated_utc)}  it became active, just before the vendor was asked"
    if story.restated_utc is not None:
        times = "once" if story.version == 1 else f"{story.version} times"
        yield f"{instant_text(story.restated_utc)}  it was last renewed; {times} in all"
    if not story.is_open:
        when = "at a time that nobody noted" if story.closed_utc is None else instant_text(story.closed_utc)
        yield f"{when}  it was {story.state}"


def _share_text(share: Share) -> str:
    key, claim, balance = share.claim.key, share.claim, share.balance
    since = "in total" if key.period == "total" else f"{key.period} from {instant_text(key.period_start_utc)}"
    settled, held = count_text(key.unit, claim.settled), count_text(key.unit, claim.held)
    taken, others = count_text(key.unit, balance.settled), count_text(key.unit, balance.held)
    return (
        f"budget {key.budget}, {since}: {settled} settled, {held} held "
        f"(of {taken} settled and {others} held there by all)"
    )


def _entry_lines(terms: HoldTerms, entry: Entry) -> Iterator[str]:
    total = entry.cost_nano_usd + entry.residual_nano_usd
    together = f"; {nano_text(total)} with what is assumed" if entry.residual_bytes else ""
    yield (
        f"Entry {entry.id}: {size_text(entry.size_bytes)} counted ({entry.size_bytes} bytes), "
        f"{nano_text(entry.cost_nano_usd)}{together}."
    )
    yield f"  {_ending_text(terms, entry)}"
    if entry.note:
        yield f"  Note: {entry.note}"


def _ending_text(terms: HoldTerms, entry: Entry) -> str:
    """How it ended, and how what is assumed was bounded."""
    assumed = f"{size_text(entry.residual_bytes)} ({nano_text(entry.residual_nano_usd)})"
    if entry.ending == "resolved":
        return f"A person decided what it used; {assumed} of it is assumed."
    if entry.ending == "quoted":
        return "It counts its whole quote: the bytes of such an answer do not say how many records it had."
    if entry.residual_bytes == 0:
        return "Every byte was counted up to the vendor's own end: nothing is assumed."
    if terms.mode == "historical":
        return f"It broke off; {assumed} is assumed: the rest of what was quoted may have been on its way."
    most = size_text(terms.residual_bytes_max)
    if entry.residual_bytes == terms.residual_bytes_max:
        return (
            f"The vendor's own end was not seen; {assumed} is assumed: all that the connection keeps free for its "
            "ending (receive buffer, the vendor's queue, one read), since nothing showed that it was less."
        )
    return (
        f"The vendor's own end was not seen; {assumed} is assumed: what its fastest tenth of a second could have sent "
        f"from the last read until a second after its end, never more than {most} (receive buffer, the vendor's "
        "queue, one read) less what had come since it began to end."
    )


def overrun_text(overrun: Overrun) -> str:
    """`budget account, month from ...: $0.20 past $15.00, at ...`."""
    past, limit = (count_text(overrun.unit, count) for count in (overrun.past, overrun.limit_amount))
    since = "" if overrun.period == "total" else f" from {instant_text(overrun.period_start_utc)}"
    note = f" ({overrun.note})" if overrun.note else ""
    where = f"budget {overrun.budget}, {overrun.period}{since}"
    return f"{where}: {past} past {limit}, at {instant_text(overrun.at_utc)}{note}"


def approval_text(approval: Approval) -> str:
    """`budget account, $25.00 from ... until ..., by Ada: results day`."""
    return (
        f"budget {approval.budget}, {count_text(approval.unit, approval.amount)} from "
        f"{instant_text(approval.from_utc)} until {instant_text(approval.until_utc)}, by {approval.name}: "
        f"{approval.reason}"
    )


def _owner_lines(story: Story) -> Iterator[str]:
    seen = story.evidence
    if seen is None:
        return
    counted = "" if seen.size_bytes is None else f"; its meter shows {size_text(seen.size_bytes)}"
    yield f"Now {_OWNERS[seen.owner]}{counted}."
    if seen.owner in _UNPROVEN:
        how = (
            "--nothing-was-sent"
            if story.terms.mode == SLOT_MODE
            else "--bytes N, --in-full or --nothing-was-sent"
        )
        yield f"  Once its program has certainly ended: budget-guard ledger resolve {story.terms.id}"
        yield f"  with {how}, and --reason WHY"


def open_holds_text(stories: Sequence[Story]) -> str:
    """The holds that are open, each with what is known of its owner; with a final newline."""
    if not stories:
        return "No hold is open: there is nothing to decide.\n"
    lines = []
    for story in stories:
        terms = story.terms
        amounts = (share.claim for share in story.shares if share.claim.key.unit == "usd")
        most = max((claim.settled + claim.held for claim in amounts), default=None)
        counts = "counts in no limit in USD" if most is None else f"counts {nano_text(most)}"
        what = f"{terms.mode} {terms.schema}"
        if terms.mode == SLOT_MODE:
            what, counts = "a live connection", "takes one of those that the team may have at once"
        lines.append(
            f"{terms.id}  {terms.stream or terms.dataset}, {what}, since "
            f"{instant_text(terms.opened_utc)} on {terms.host}: {counts}"
        )
        lines += [f"  {line}" for line in _owner_lines(story)]
    return _text(lines)


def rows_text(rows: Mapping[str, int]) -> str:
    """How many rows of each table: `2 holds, 1 entry`."""
    one = {"entries": "entry"}
    shown = (
        f"{count:,} {one.get(name, name.removesuffix('s')) if count == 1 else name}"
        for name, count in rows.items()
        if count
    )
    return ", ".join(shown) or "no rows"


def audit_text(audit: Audit) -> str:
    """What an audit read and found, with a final newline."""
    lines = [f"{audit.place} (id {audit.identity or 'none'}): {rows_text(audit.rows)}"]
    if audit.sound:
        lines.append("Sound: every balance is the sum of its claims, and claims, entries and costs agree.")
    for finding in audit.findings:
        lines += [
            f"{finding.kind}: {finding.row}",
            f"  expected {finding.expected}, found {finding.found}: {finding.why}",
        ]
    if not audit.sound:
        total = len(audit.findings) + audit.more
        kept = f", {len(audit.findings)} of them above" if audit.more else ""
        what = "thing does" if total == 1 else "things do"
        lines.append(f"{total} {what} not agree{kept}. Keep a copy of the ledger as it is.")
    return _text(lines)
