"""Faults as values: what goes wrong, where, when and how often, in the words that scenarios and commands use.

`KINDS` is the whole language: each kind's door (where it strikes), what it may be told, and what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from budget_guard.clock import instant_text
from budget_guard.pricing.sheet import RECORD_BYTES
from budget_guard.sandbox.faults.words import (
    BadWord,
    choice,
    flag,
    hint,
    instant,
    price,
    share,
    text,
    whole,
)

# Where a fault strikes: the bytes of a live session; the login of one; everything until it is over; one HTTP request;
# one download; one batch job.
Door = Literal["stream", "login", "switch", "request", "download", "batch"]
Unit = Literal["s", "bytes", "records"]

PARTS = ("metadata", "symbology", "timeseries", "batch")
PATHS = (
    "metadata.list_publishers",
    "metadata.list_datasets",
    "metadata.list_schemas",
    "metadata.list_fields",
    "metadata.list_unit_prices",
    "metadata.get_dataset_condition",
    "metadata.get_dataset_range",
    "metadata.get_record_count",
    "metadata.get_billable_size",
    "metadata.get_cost",
    "symbology.resolve",
    "timeseries.get_range",
    "batch.submit_job",
    "batch.list_jobs",
    "batch.get_job_details",
    "batch.list_files",
    "batch.download",
)
SIZES = ("get_billable_size", "get_cost", "get_record_count")
ERROR_CODES = (
    "auth_failed",
    "key_deactivated",
    "connection_limit",
    "symbol_resolution_failed",
    "invalid_subscription",
    "internal_error",
    "skipped_records",
    "replay_aged_out",
)


@dataclass(frozen=True, slots=True)
class Param:
    """One word of a fault beside the common ones. Without a default it must be given."""

    parse: Callable[[Any], Any]
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault that there is. `after` are the units it may wait for.

    `must` are common words that it needs, `lacks` those that it has no use for.
    """

    door: Door
    does: str
    params: Mapping[str, Param] = field(default_factory=dict)
    after: tuple[Unit, ...] = ()
    must: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def common(self) -> tuple[str, ...]:
        """The common words that it takes."""
        common = COMMON[self.door] + (("after",) if self.after else ())
        return tuple(word for word in common if word not in self.lacks)


COMMON: Mapping[Door, tuple[str, ...]] = {
    "stream": ("dataset", "key", "at", "for", "times", "skip"),
    "login": ("dataset", "key", "at", "for", "times", "skip"),
    "switch": ("dataset", "at", "for"),
    "request": ("dataset", "key", "at", "for", "times", "skip"),
    "download": ("dataset", "key", "at", "for", "times", "skip"),
    "batch": ("dataset", "key", "at", "for", "times", "skip"),
}


def _stream(does: str, **params: Param) -> Kind:
    return Kind("stream", does, params, ("s", "bytes", "records"))


def _on(value: Any) -> str:
    """A family of paths, as `metadata`, one path, as `metadata.get_cost`, or all of them."""
    known = ("all", *PARTS, *PATHS)
    if value in known:
        return str(value)
    part = str(value).partition(".")[0]
    near = [path for path in PATHS if path.startswith(f"{part}.")] if part in PARTS else known
    raise BadWord(
        f"should be all, one of {', '.join(PARTS)}, or a path, as metadata.get_cost; got {value!r}"
        + hint(str(value), near)
    )


_ON = Param(_on, "all")

KINDS: Mapping[str, Kind] = {
    "close": _stream("the connection ends cleanly: the record in hand, then FIN"),
    "reset": _stream("the connection is reset"),
    "silence": _stream("nothing more is sent, not even heartbeats; what was due is sent when it is over"),
    "heartbeats_only": _stream("heartbeats go on, records are lost"),
    "slow_link": _stream(
        "no more than so many bytes a second get through", bytes_per_s=Param(whole(1), required=True)
    ),
    "delay": _stream("every write waits first", ms=Param(whole(1), required=True)),
    "one_byte": _stream("each byte is a send of its own, for so many bytes", bytes=Param(whole(1), 4096)),
    "corrupt_length": _stream("a record says it is longer than it is"),
    "corrupt_rtype": _stream("a record's type is not its own: its bytes are of no known record"),
    "unknown_record": _stream(
        "a sound record of a type nobody knows comes in between", rtype=Param(whole(1, 255), 0xEE)
    ),
    "duplicate": _stream("so many records come twice", records=Param(whole(1), 1)),
    "out_of_order": _stream("a record comes after the one that follows it"),
    "lose_replay": _stream(
        "records of a replay are missing, and it is reported complete all the same",
        share=Param(share, share(1)),
        **{"from": Param(instant), "to": Param(instant)},
    ),
    "error_record": _stream(
        "an ErrorMsg, then FIN", code=Param(choice(*ERROR_CODES), "key_deactivated"), text=Param(text)
    ),
    "refuse_live": Kind(
        "login",
        "closed as it arrives, for which the official Python client waits 30 s; with a dataset or key, once its login "
        "is read",
    ),
    "reject_login": Kind("login", "the login is refused", {"text": Param(text, "Authentication failed.")}),
    "glue_reply": Kind(
        "login",
        "the login's answer and the session's first bytes share a segment",
        {"early": Param(flag, False)},
    ),
    "unknown_reply_field": Kind(
        "login", "the login's answer has a field nobody knows", {"field": Param(text, "region=us-east")}
    ),
    "gateway_restart": Kind(
        "switch", "every live connection ends cleanly, new ones are closed until it is over", must=("for",)
    ),
    "unpaid": Kind("switch", "live sends heartbeats and no data, downloads get 402", lacks=("dataset",)),
    "revoke_live": Kind("switch", "live logins are refused as unlicensed", must=("dataset",)),
    "revoke_history": Kind("switch", "downloads get 403 as unlicensed", must=("dataset",)),
    "price": Kind(
        "switch",
        "a unit price is another; open connections are billed at it from then on",
        {
            "schema": Param(choice(*RECORD_BYTES), required=True),
            "mode": Param(choice("live", "historical"), required=True),
            "usd_per_gib": Param(price, required=True),
        },
        must=("dataset",),
    ),
    "http_down": Kind(
        "switch", "HTTP connections are refused: nobody listens", must=("for",), lacks=("dataset",)
    ),
    "http_error": Kind(
        "request",
        "an answer with an error status and the vendor's body for it",
        {
            "on": _ON,
            "status": Param(whole(400, 599), required=True),
            "retry_after_s": Param(whole(0)),
            "text": Param(text),
        },
    ),
    "http_reset": Kind("request", "the connection is reset instead of an answer", {"on": _ON}),
    "http_delay": Kind("request", "the answer is late", {"on": _ON, "ms": Param(whole(1), required=True)}),
    "unparsable": Kind("request", "the answer's body is cut in half", {"on": Param(_on, "metadata")}),
    "wrong_number": Kind(
        "request",
        "a size, count or cost is off by a factor",
        {"answer": Param(choice(*SIZES), SIZES[0]), "factor": Param(price, required=True)},
    ),
    "missing_price": Kind(
        "request",
        "a schema is missing from list_unit_prices",
        {"schema": Param(choice(*RECORD_BYTES), required=True)},
    ),
    "break_history": Kind(
        "download", "the download is aborted after so many record bytes", after=("bytes",), must=("after",)
    ),
    "slow_history": Kind(
        "download",
        "no more than so many bytes a second get through",
        {"bytes_per_s": Param(whole(1), required=True)},
    ),
    "batch_queued": Kind("batch", "a job stays queued"),
    "batch_failed": Kind("batch", "a job fails"),
    "batch_lost": Kind(
        "batch", "a job is sold, and the answer to its submission is lost: the connection is cut"
    ),
}


@dataclass(frozen=True, slots=True)
class After:
    """What a connection must have seen before a fault strikes it.

    Seconds count from its login, bytes from behind the DBN header, records are those of market data.
    """

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.amount:g}s" if self.unit == "s" else f"{int(self.amount)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is to go wrong; see `KINDS` for what there is.

    It strikes what matches `dataset` and `key` (None: anything). `at` is an instant, or a time from when it was armed;
    None: at once. `times` is how many connections, requests or jobs it strikes, None all; `skip` lets so many pass
    first. `for_s` ends it: counted from `at`, or, with `after`, for each connection from when it was struck.
    """

    do: str
    dataset: str | None = None
    key: str | None = None
    at: datetime | timedelta | None = None
    after: After | None = None
    for_s: float | None = None
    times: int | None = 1
    skip: int = 0
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def door(self) -> Door:
        return KINDS[self.do].door

    def matches(self, dataset: str | None, key: str | None) -> bool:
        """Whether it is about this dataset and key; a fault with a name does not match what has none yet."""
        return self.dataset in (None, dataset) and (
            self.key is None or (key is not None and key.endswith(self.key))
        )

    def words(self) -> dict[str, Any]:
        """It in the words of the language, as JSON; what was left out stays out."""
        said: dict[str, Any] = {"do": self.do, "dataset": self.dataset, "key": self.key and self.key[-5:]}
        if self.at is not None:
            moment = self.at
            said["at"] = (
                instant_text(moment) if isinstance(moment, datetime) else f"+{moment.total_seconds():g}s"
            )
        said["after"] = None if self.after is None else str(self.after)
        said["for"] = None if self.for_s is None else f"{self.for_s:g}s"
        if "times" in KINDS[self.do].common:
            said["times"] = "all" if self.times is None else self.times
        said["skip"] = self.skip or None
        said |= {name: _plain(value) for name, value in self.args.items()}
        return {name: value for name, value in said.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return instant_text(value)
    return value if value is None or isinstance(value, int | str) else str(value)
