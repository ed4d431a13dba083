"""Work that several threads share."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

T = TypeVar("T")


@contextmanager
def beside(work: Callable[[], object], threads: int, name: str) -> Iterator[None]:
    """Have ``work`` done by so many threads while the block runs, and wait for them at its end.

    Args:
        work: takes its own share of what is to be done.
        threads: how many.
        name: of the threads.

    Raises:
        BaseException: what the block raised, else the first that ``work`` did.
    """
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    # Daemons: a store that never answers must not keep the process from leaving a machine that goes.
    others = [threading.Thread(target=guarded, name=name, daemon=True) for _ in range(threads)]
    for thread in others:
        thread.start()
    try:
        yield
    finally:
        for thread in others:
            thread.join()
    if failures:
        raise failures[0]


def next_of(todo: deque[T]) -> T | None:
    """Take the next of what several threads have to do; None: nothing is left."""
    try:
        return todo.popleft()
    except IndexError:
        return None
