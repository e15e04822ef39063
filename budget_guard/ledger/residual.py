"""How much may have been billed without being seen, when a connection ended without the vendor's own end."""

from __future__ import annotations

# What the vendor's side may have queued and counted as sent. Assumed: measured on loopback at full speed, closing
# at once left 0.6 to 3.7 MB unread.
VENDOR_QUEUE_BYTES = 4 * 2**20
# Room for a burst that starts as the last read ends.
BURST_BYTES = 64 * 1024
# The vendor may go on sending for this long after the last read, before it learns of the end.
LINGER_S = 1

_NS = 10**9


def residual_bound_bytes(receive_buffer_bytes: int, read_bytes: int) -> int:
    """The most that an unclean ending leaves uncounted: the receive buffer, the vendor's queue and one read."""
    return receive_buffer_bytes + VENDOR_QUEUE_BYTES + read_bytes


def residual_bytes(*, bound_bytes: int, peak_bytes_per_s: int | None, since_last_read_ns: int | None) -> int:
    """The bytes that an unclean ending may have left uncounted, rounded up: an assumption, and labelled so.

    `bound_bytes` is `residual_bound_bytes` of the connection, `peak_bytes_per_s` its fastest tenth of a second,
    None where that says too little, `since_last_read_ns` the time since its last read. Without a rate, without a
    read, or with a clock that went back, the bound is the answer.
    """
    if peak_bytes_per_s is None or since_last_read_ns is None or since_last_read_ns < 0:
        return bound_bytes
    in_flight = -(-peak_bytes_per_s * (since_last_read_ns + LINGER_S * _NS) // _NS)
    return min(bound_bytes, in_flight + BURST_BYTES)
