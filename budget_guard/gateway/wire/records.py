"""Records that the relay itself puts into a client's stream, in the client's DBN version and with its ts_out.

A record of another version, or one without the `ts_out` that the header promised, makes the client panic.
"""

from __future__ import annotations

import databento_dbn as dbn

from budget_guard.gateway.wire.framer import RTYPE_ERROR, RTYPE_SYSTEM

DBN_VERSION = 3
# SystemMsg codes (DBN specification).
SYSTEM_HEARTBEAT = 0
SYSTEM_REPLAY_COMPLETED = 3
# Where the codes stand: after the text, which came with DBN version 2.
_SYSTEM_CODE_OFFSET = 16 + 303
_ERROR_CODE_OFFSET = 16 + 302


def session_metadata(dataset: str, start_ns: int, *, ts_out: bool) -> bytes:
    """The header of a live session that ends before the vendor sent one."""
    return dbn.Metadata(
        dataset=dataset,
        start=start_ns,
        stype_in=None,
        stype_out=dbn.SType("instrument_id"),
        schema=None,
        symbols=[],
        partial=[],
        not_found=[],
        mappings=[],
        ts_out=ts_out,
        version=DBN_VERSION,
    ).encode()


def metadata_version(metadata: bytes) -> int:
    """The DBN version that a header announces."""
    return metadata[3]


def error_record(text: str, ts_ns: int, *, version: int, ts_out: bool) -> bytes:
    """An ErrorMsg. Of `text` there is as much as the record holds."""
    if version == 1:
        record = bytes(dbn.ErrorMsgV1(ts_ns, _fitted(text, 63)))
    else:
        record = bytes(dbn.ErrorMsg(ts_ns, _fitted(text, 301), is_last=True))
    return _with_ts_out(record, ts_ns) if ts_out else record


def system_record(text: str, ts_ns: int, *, version: int, ts_out: bool, heartbeat: bool = False) -> bytes:
    """A SystemMsg for a person to read, or the heartbeat that keeps a client waiting."""
    if version == 1:
        record = bytes(dbn.SystemMsgV1(ts_ns, "Heartbeat" if heartbeat else _fitted(text, 63)))
    elif heartbeat:
        record = bytes(dbn.SystemMsg(ts_ns, "Heartbeat", code=dbn.SystemCode(SYSTEM_HEARTBEAT)))
    else:
        record = bytes(dbn.SystemMsg(ts_ns, _fitted(text, 302)))
    return _with_ts_out(record, ts_ns) if ts_out else record


def _fitted(text: str, size: int) -> str:
    """A text as records can hold it: a client cannot read more bytes, or other ones than ASCII."""
    return text.encode("ascii", "replace").decode("ascii")[:size]


def _with_ts_out(record: bytes, ts_ns: int) -> bytes:
    """The record with its sending time appended; the length byte counts units of four bytes."""
    return bytes([record[0] + 2]) + record[1:] + ts_ns.to_bytes(8, "little")


def system_code(record: bytes, *, version: int) -> int | None:
    """A SystemMsg's code; None for another record, or where the version has no codes."""
    if record[1] != RTYPE_SYSTEM or version == 1:
        return None
    return record[_SYSTEM_CODE_OFFSET]


def error_code(record: bytes) -> int | None:
    """An ErrorMsg's code; None for another record, or one of DBN version 1, which has no codes."""
    if record[1] != RTYPE_ERROR or len(record) <= _ERROR_CODE_OFFSET:
        return None
    return record[_ERROR_CODE_OFFSET]


def message_text(record: bytes) -> str:
    """The text of an ErrorMsg or SystemMsg of any version: NUL-terminated, right after the header."""
    return record[16:].split(b"\0", 1)[0].decode("utf-8", "replace")


def metadata_start_ns(metadata: bytes) -> int:
    """From when on a session has data, by its header: after the dataset and the schema, in any version."""
    return int.from_bytes(metadata[26:34], "little")
