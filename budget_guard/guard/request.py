"""What a client asks for, and which stream of the policy covers it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from budget_guard.decisions import Decision, deny
from budget_guard.policy.model import ALL_SYMBOLS, Mode, Policy, Stream


@dataclass(frozen=True, slots=True)
class Request:
    """One subscription or one historical request, in the vendor's own terms.

    `replay_from` is how far back a live client's own `start` reaches (None: it starts now), `snapshot` its wish
    for the book's state. `symbols` is `("ALL_SYMBOLS",)` for a whole dataset; none at all means the same to the vendor.
    """

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str = "raw_symbol"
    mode: Mode = "live"
    replay_from: timedelta | None = None
    snapshot: bool = False

    @property
    def all_symbols(self) -> bool:
        return not self.symbols or ALL_SYMBOLS in self.symbols

    def as_json(self) -> str:
        """What the ledger keeps of it."""
        return json.dumps(
            {
                "dataset": self.dataset,
                "schema": self.schema,
                "symbols": list(self.symbols),
                "stype_in": self.stype_in,
                "mode": self.mode,
            }
        )


def joint_json(requests: Sequence[Request]) -> str:
    """What the ledger keeps of requests that are counted as one: a request of its own where it is one."""
    symbols = dict.fromkeys(symbol for request in requests for symbol in request.symbols)
    row = json.loads(replace(requests[0], symbols=tuple(symbols)).as_json())
    schemas = list(dict.fromkeys(request.schema for request in requests))
    if len(schemas) > 1:
        row["schemas"] = schemas
    return json.dumps(row)


def covering_streams(
    policy: Policy, request: Request, *, only: str | None = None
) -> tuple[Stream, ...] | Decision:
    """Every stream that covers the request, in file order, or the refusal that says what comes nearest.

    `only` restricts the search to one stream: a token or a mount may be bound to it.
    """
    streams = list(policy.streams.values())
    candidates = [stream for stream in streams if only is None or stream.name == only]
    if request.mode == "historical" and request.all_symbols and not policy.historical.all_symbols:
        return deny(
            "all_symbols",
            f"the request is for all symbols of {request.dataset} (to the vendor, symbols left out mean that): "
            "name them, or set historical.all_symbols: true",
        )
    # Most streams of a long policy are for something else: only the others are looked at closely.
    covering = tuple(stream for stream in candidates if _covers(stream, request))
    if covering:
        return covering
    other = next((stream for stream in streams if _covers(stream, request)), None)
    if other is not None:
        return deny(
            "not_covered",
            f"stream {other.name} covers this, but the token (or --stream, stream=) is for stream {only} alone: use "
            f"one for {other.name}, or for the whole policy",
        )
    return deny("not_covered", _nearest(candidates, request))


def _covers(stream: Stream, request: Request) -> bool:
    return (
        stream.schema == request.schema
        and stream.dataset == request.dataset
        and _obstacle(stream, request) is None
    )


def _obstacle(stream: Stream, request: Request) -> str | None:
    """Why the stream does not cover the request; None when it does. The later, the nearer the miss."""
    if stream.dataset != request.dataset:
        return f"it is for dataset {stream.dataset}"
    if request.mode == "live" and stream.mode != "live":
        return "it is for historical requests only"
    if stream.schema != request.schema:
        return f"it is for schema {stream.schema}"
    if stream.stype_in != request.stype_in:
        return f"it is for symbols of stype_in {stream.stype_in}"
    if ALL_SYMBOLS not in stream.symbols:
        asked = (ALL_SYMBOLS,) if request.all_symbols else request.symbols
        extra = [symbol for symbol in asked if symbol not in stream.symbols]
        if extra:
            return f"it has no {', '.join(extra[:5])}{' ...' if len(extra) > 5 else ''}"
    if request.mode == "live":
        return _replay_obstacle(stream, request)
    return None


def _replay_obstacle(stream: Stream, request: Request) -> str | None:
    allowed = stream.recovery.client_replay
    if request.snapshot and not allowed:
        return "a snapshot is data of its own: allow it with recovery.client_replay"
    if request.replay_from is not None and request.replay_from > allowed:
        asked = "everything the vendor still has"
        if request.replay_from < timedelta(days=365):
            asked = f"a start {_span(request.replay_from)} back"
        reach = f"a start at most {_span(allowed)} back" if allowed else "no start of a client's own"
        return f"recovery.client_replay allows {reach}, this one asks for {asked}"
    return None


def _span(span: timedelta) -> str:
    """`15m`, `1h 30m`, `20s`: as a policy writes it."""
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count]
    return " ".join(parts) or "0s"


def _nearest(candidates: list[Stream], request: Request) -> str:
    asked = f"{request.schema} of {request.dataset} ({', '.join(request.symbols[:5]) or ALL_SYMBOLS})"
    if not candidates:
        return f"no stream of the policy covers {asked}: the policy has no such stream"
    # The stream that agrees with the request in the most respects explains best what is missing.
    best = max(candidates, key=lambda stream: _agreement(stream, request))
    miss = f"nearest is stream {best.name}: {_obstacle(best, request)}"
    return f"no stream of the policy covers {request.mode} {asked}; {miss}"


def _agreement(stream: Stream, request: Request) -> int:
    same_dataset = stream.dataset == request.dataset
    return (
        4 * same_dataset
        + 2 * (same_dataset and stream.schema == request.schema)
        + (same_dataset and stream.stype_in == request.stype_in)
    )


def whole_stream(stream: Stream) -> Request:
    """Everything that a stream covers, as one request."""
    return Request(stream.dataset, stream.schema, stream.symbols, stream.stype_in, stream.mode)
