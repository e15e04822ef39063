"""Several calls side by side, their answers in order, and nobody kept waiting when they are no longer wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def map_in_order(
    call: Callable[[Item], Answer],
    items: Sequence[Item],
    *,
    workers: int,
    done: Callable[[], None] | None = None,
) -> list[Answer]:
    """`call` of every item, at most `workers` at once; `done` is called in this thread after each.

    The first error ends them all: what runs is waited for, what waits is dropped. When this thread is interrupted
    nothing is waited for: the threads are daemons, so that Ctrl-C ends a program at once and not after a time-out.
    """
    todo: SimpleQueue[tuple[int, Item]] = SimpleQueue()
    answered: SimpleQueue[tuple[int, Answer] | Exception] = SimpleQueue()
    stop = threading.Event()
    for numbered in enumerate(items):
        todo.put(numbered)

    def work() -> None:
        while not stop.is_set():
            try:
                index, item = todo.get_nowait()
            except Empty:
                return
            try:
                answered.put((index, call(item)))
            except Exception as error:  # noqa: BLE001 - it belongs to the caller's thread
                stop.set()
                answered.put(error)

    threads = [
        threading.Thread(target=work, name="metadata", daemon=True) for _ in range(min(workers, len(items)))
    ]
    for thread in threads:
        thread.start()
    found: dict[int, Answer] = {}
    try:
        while len(found) < len(items):
            answer = answered.get()
            if isinstance(answer, Exception):
                for thread in threads:
                    thread.join()
                raise answer
            found[answer[0]] = answer[1]
            if done is not None:
                done()
    finally:
        stop.set()
    return [found[index] for index in range(len(items))]
