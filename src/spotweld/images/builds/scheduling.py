"""Doing things that need each other: each when all that it needs is done, several at once."""

from __future__ import annotations

import threading
from graphlib import TopologicalSorter
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

_Result = TypeVar("_Result")


def in_order(
    graph: Mapping[str, AbstractSet[str]],
    do: Callable[[str, Mapping[str, _Result]], _Result],
    at_once: int,
    failed: Callable[[str, BaseException], None],
) -> dict[str, _Result]:
    """Do everything in ``graph``; what needs something that failed is not done.

    Args:
        graph: what each name needs; all of it is in there, and nothing needs itself.
        do: is called with a name and the results of everything that is done; in a thread of its own, which this
            process does not wait for when it ends.
        at_once: how many go on side by side.
        failed: is told what went wrong.

    Returns:
        The results in the order of ``graph``.

    Raises:
        BaseException: the first thing that went wrong, once what was under way has ended.
    """
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    results: dict[str, _Result] = {}
    waiting: list[str] = []
    ended: SimpleQueue[tuple[str, _Result | None, BaseException | None]] = SimpleQueue()
    running = 0
    first: BaseException | None = None

    def work(name: str, known: Mapping[str, _Result]) -> None:
        try:
            ended.put((name, do(name, known), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            ended.put((name, None, error))

    while True:
        waiting += sorter.get_ready()
        waiting.sort(key=list(graph).index)
        while waiting and running < max(1, at_once):
            name = waiting.pop(0)
            threading.Thread(target=work, args=(name, dict(results)), name=f"build-{name}", daemon=True).start()
            running += 1
        if not running:
            break
        name, result, error = ended.get()
        running -= 1
        if error is None:
            results[name] = result  # type: ignore[assignment]
            sorter.done(name)
        else:
            failed(name, error)
            first = first or error
    if first is not None:
        raise first
    return {name: results[name] for name in graph}
