from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotweld.images.builds.scheduling import in_order

if TYPE_CHECKING:
    from collections.abc import Mapping


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, set[str]]:
    names = [f"n{number}" for number in range(draw(st.integers(0, 7)))]
    return {name: draw(st.sets(st.sampled_from(names[:at]))) if at else set() for at, name in enumerate(names)}


@settings(deadline=None)
@given(graphs(), st.integers(1, 4), st.sets(st.sampled_from([f"n{number}" for number in range(7)]), max_size=2))
def test_all_is_done_after_what_it_needs_and_never_too_many_at_once(
    graph: dict[str, set[str]], at_once: int, bad: set[str]
) -> None:
    lock = threading.Lock()
    running = 0
    most = 0
    tried: list[str] = []
    failed: list[str] = []

    def do(name: str, known: Mapping[str, str]) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            tried.append(name)
        assert graph[name] <= set(known)
        with lock:
            running -= 1
        if name in bad:
            raise ValueError(name)
        return name.upper()

    doomed: set[str] = set()
    for name, needs in graph.items():
        if name in bad or needs & doomed:
            doomed.add(name)
    if doomed:
        with pytest.raises(ValueError, match="n"):
            in_order(graph, do, at_once, lambda name, _: failed.append(name))
    else:
        assert in_order(graph, do, at_once, lambda name, _: failed.append(name)) == {n: n.upper() for n in graph}
    assert most <= at_once
    assert len(tried) == len(set(tried))
    assert set(failed) == {name for name in bad & set(graph) if not graph[name] & doomed}
    assert set(tried) == {name for name in graph if not graph[name] & doomed}
