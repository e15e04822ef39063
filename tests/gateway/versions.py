"""Records and headers in every version of DBN, made by the vendor's own library where it can."""

from __future__ import annotations

from typing import Any

import databento_dbn as dbn


def decode(stream: bytes) -> list[Any]:
    """The records of a stream, as the client's decoder reads them; its header left out."""
    upgrade: Any = dbn.VersionUpgradePolicy.UPGRADE_TO_V3
    decoder = dbn.DBNDecoder(upgrade_policy=upgrade)
    return [record for record in decoder.write_and_decode(stream) if not isinstance(record, dbn.Metadata)]


def in_version(record: bytes, *, ts_out: bool) -> bytes:
    """A record that is the same in every version, with a sending time if asked for."""
    if not ts_out:
        return record
    return bytes([record[0] + 2]) + record[1:] + (1_700_000_000_000_000_000).to_bytes(8, "little")
