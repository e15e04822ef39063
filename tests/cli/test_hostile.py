"""A gateway under attack from its own machine: afterwards it has as many files and as much memory as before."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.cli.service import Service, make_token, memory_kib, open_files, serving
from tests.gateway.desk import eventually
from tests.sandbox.bare_client import NQ_MBO, BareClient
from tests.streaming.rehearsal import TIMEOUT_S, Rehearsal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: it looks into /proc")

# What Python's allocator and the kernel's pages make of it from one time to the next.
SLACK_KIB = 8 * 1024
MANY = 1000
Attack = Callable[[Service, str], None]


def doors(service: Service) -> list[tuple[str, int]]:
    return [("127.0.0.1", service.live_port), ("127.0.0.1", int(service.facts["http_port"]))]


@contextlib.contextmanager
def connected(service: Service, count: int) -> Iterator[list[socket.socket]]:
    """So many connections to each door, which say nothing."""
    with contextlib.ExitStack() as stack:
        found = []
        for door in doors(service):
            for _ in range(count):
                with contextlib.suppress(OSError):
                    found.append(stack.enter_context(socket.create_connection(door, TIMEOUT_S)))
        yield found


def say(peer: socket.socket, data: bytes) -> None:
    """As much of it as is listened to."""
    peer.settimeout(0.1)
    with contextlib.suppress(OSError):
        peer.sendall(data)


def coming_and_going(service: Service, token: str) -> None:
    for _ in range(MANY // 50):
        with connected(service, 50):
            pass


def saying_nothing(service: Service, token: str) -> None:
    with connected(service, 300):
        pass


def garbage(service: Service, token: str) -> None:
    numbers = random.Random(0)
    with connected(service, 20) as peers:
        for peer in peers:
            say(peer, numbers.randbytes(200_000))


def half_a_request(service: Service, token: str) -> None:
    with connected(service, 60) as peers:
        for peer in peers:
            say(peer, b"GET /v0/metadata.list_datasets HTTP/1.1\r\nX: " + b"x" * 1000)


def bad_logons(service: Service, token: str) -> None:
    for _ in range(10):
        with connected(service, 20) as peers:
            for peer in peers:
                say(peer, b"auth=" + b"0" * 64 + b"-12345|dataset=GLBX.MDP3|encoding=dbn\n")


def logons_that_leave(service: Service, token: str) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError, EOFError):
            BareClient(service.live_port, NQ_MBO, key=token).close()


def never_reading(service: Service, token: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = []
        # The vendor allows ten at a time.
        for _ in range(4):
            client = BareClient(service.live_port, NQ_MBO, key=token, receive_buffer=1 << 16)
            stack.enter_context(client)
            client.send("start_session")
            clients.append(client)
        # The data is there: nobody takes it.
        for client in clients:
            assert client.socket.recv(1, socket.MSG_PEEK)


ATTACKS: list[Attack] = [
    coming_and_going,
    saying_nothing,
    garbage,
    half_a_request,
    bad_logons,
    logons_that_leave,
    never_reading,
]


def streams(service: Service, token: str) -> bool:
    """Whether a program with a token is served."""
    client, _, enough = service.live(token)
    came = enough.wait(TIMEOUT_S)
    client.terminate()
    return came


def attacked(service: Service, token: str) -> None:
    """Every attack once; after each a program with a token is served."""
    for attack in ATTACKS:
        attack(service, token)
        assert streams(service, token), attack.__name__


def test_attacks_leave_nothing_behind_and_keep_nobody_out(rehearsal: Rehearsal) -> None:
    """Each attack is made twice: what the first leaves, in caches and pools, the second does not add to."""
    _, token = make_token(rehearsal)
    with serving(rehearsal) as service:
        pid = service.process.pid
        assert streams(service, token)
        eventually(lambda: open_files(pid) < 60)
        files = open_files(pid)
        attacked(service, token)
        eventually(lambda: open_files(pid) <= files)
        # What is lost is lost each time; a heap that is cut up once is not cut up again.
        for _ in range(2):
            before = memory_kib(pid)
            attacked(service, token)
            eventually(lambda: open_files(pid) <= files)
            grown = memory_kib(pid) - before
            if grown < SLACK_KIB:
                break
        assert grown < SLACK_KIB
        assert service.end() == 0, service.said
    assert len(service.lines) < 40, service.said
    assert rehearsal.open_holds() == []
    print(f"files {files}, memory {before} KiB and {grown} KiB more, {len(service.lines)} lines in the log")
