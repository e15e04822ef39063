"""What a program has been sent and has not taken, by the kernel's table of connections."""

from __future__ import annotations

import socket
import sys

import pytest

from budget_guard.rehearsal.backlog import queued_bytes, unread_bytes

# Shortened lines of /proc/net/tcp: number, local, remote, state, sending:receiving.
LINES = [
    "   0: 0100007F:32C8 00000000:0000 0A 00000000:00000000 00:00000000",
    "   1: 0100007F:32C8 0100007F:D431 01 00000010:00000000 00:00000000",
    "   2: 0100007F:D431 0100007F:32C8 01 00000000:00000200 00:00000000",
    "   3: 0100007F:D432 0100007F:1F90 01 00000400:00000400 00:00000000",
]


def test_it_is_what_the_server_could_not_send_and_the_client_did_not_read() -> None:
    assert sum(queued_bytes(LINES, 0x32C8)) == 0x10 + 0x200
    assert sum(queued_bytes(LINES, 0x1F90)) == 0x400
    assert sum(queued_bytes(LINES, 9)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of others does not say")
def test_bytes_that_nobody_reads_are_seen_until_they_are_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0] as peer:
            peer.sendall(b"x" * 1000)
            assert unread_bytes(port) == 1000
            client.recv(1000, socket.MSG_WAITALL)
            assert unread_bytes(port) == 0
