"""What an unclean ending may have left uncounted: an upper bound, and less where the rate says so."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from budget_guard.ledger.residual import residual_bound_bytes, residual_bytes

SECOND = 10**9
MIB = 2**20
BOUND = 6 * MIB


def test_the_bound_is_the_receive_buffer_the_vendors_queue_and_one_read() -> None:
    assert residual_bound_bytes(MIB, 65536) == MIB + 4 * MIB + 65536


def test_a_slow_connection_leaves_a_second_of_its_peak_and_a_burst() -> None:
    assert (
        residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=100_000, since_last_read_ns=0) == 100_000 + 65536
    )


def test_the_time_since_the_last_read_counts_too() -> None:
    assert (
        residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=100_000, since_last_read_ns=2 * SECOND)
        == 300_000 + 65536
    )


def test_a_part_of_a_byte_is_a_byte() -> None:
    assert residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=1, since_last_read_ns=1) == 2 + 65536


def test_a_fast_connection_leaves_the_bound() -> None:
    assert residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=10**8, since_last_read_ns=0) == BOUND


def test_a_long_silence_leaves_the_bound() -> None:
    silence = 86_400 * SECOND
    assert residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=1000, since_last_read_ns=silence) == BOUND


def test_without_a_read_or_with_a_clock_that_went_back_the_bound_stands() -> None:
    assert residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=0, since_last_read_ns=None) == BOUND
    assert residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=0, since_last_read_ns=-1) == BOUND


def test_without_a_rate_the_bound_stands() -> None:
    assert residual_bytes(bound_bytes=BOUND, peak_bytes_per_s=None, since_last_read_ns=0) == BOUND


@settings(deadline=None)
@given(
    bound=st.integers(0, 2**40),
    peak=st.integers(0, 2**40),
    since=st.integers(0, 2**60),
    more=st.integers(0, 2**40),
)
def test_it_never_passes_the_bound_and_grows_with_rate_and_time(
    bound: int, peak: int, since: int, more: int
) -> None:
    answer = residual_bytes(bound_bytes=bound, peak_bytes_per_s=peak, since_last_read_ns=since)
    assert 0 <= answer <= bound
    assert answer <= residual_bytes(bound_bytes=bound, peak_bytes_per_s=peak + more, since_last_read_ns=since)
    assert answer <= residual_bytes(bound_bytes=bound, peak_bytes_per_s=peak, since_last_read_ns=since + more)
