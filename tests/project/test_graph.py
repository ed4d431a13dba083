"""The graph of images."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from spotweld.project.graph import build_order, find_cycle
from spotweld.project.nouns import Image


def images(edges: dict[str, list[str]]) -> dict[str, Image]:
    return {
        name: Image(name, bases={f"from-{number}": base for number, base in enumerate(bases)})
        for name, bases in edges.items()
    }


@st.composite
def graphs(draw: st.DrawFn, *, acyclic: bool) -> dict[str, Image]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True))
    edges = {
        name: draw(st.lists(st.sampled_from(names[:number] if acyclic else names), max_size=3)) if number else []
        for number, name in enumerate(names)
    }
    return images({name: edges[name] for name in draw(st.permutations(names))})


@st.composite
def asked(draw: st.DrawFn) -> tuple[dict[str, Image], list[str]]:
    graph = draw(graphs(acyclic=True))
    return graph, draw(st.lists(st.sampled_from(sorted(graph)))) if graph else []


def reachable(graph: dict[str, Image], name: str) -> set[str]:
    found: set[str] = set()
    for base in graph[name].bases.values():
        found |= {base} | reachable(graph, base)
    return found


@given(asked())
def test_a_base_comes_before_what_is_built_upon_it(case: tuple[dict[str, Image], list[str]]) -> None:
    order = [image.name for image in build_order(*case)]
    for place, name in enumerate(order):
        assert set(case[0][name].bases.values()) <= set(order[:place])


@given(asked())
def test_what_is_needed_is_built_once_and_nothing_else(case: tuple[dict[str, Image], list[str]]) -> None:
    graph, names = case
    order = [image.name for image in build_order(graph, names)]
    assert len(order) == len(set(order))
    assert set(order) == set(names).union(*(reachable(graph, name) for name in names))


@given(asked())
def test_the_order_does_not_depend_on_how_one_asks(case: tuple[dict[str, Image], list[str]]) -> None:
    graph, names = case
    assert build_order(graph, names) == build_order(graph, [*reversed(names), *names])


@given(graphs(acyclic=True))
def test_no_cycle_is_found_where_there_is_none(graph: dict[str, Image]) -> None:
    assert find_cycle(graph) == ()


@given(graphs(acyclic=False))
def test_a_cycle_is_one_and_is_found_if_there_is_one(graph: dict[str, Image]) -> None:
    ring = find_cycle(graph)
    for upper, lower in pairwise(ring):
        assert lower in graph[upper].bases.values()
    if ring:
        assert ring[0] == ring[-1]
        assert len(set(ring)) == len(ring) - 1 >= 1
        assert ring[0] == next(name for name in graph if name in ring)
    else:
        assert len(build_order(graph, graph)) == len(graph)


def test_the_chain_of_the_documents() -> None:
    graph = images({"trainer": ["ml-stack"], "ml-stack": ["base"], "base": [], "other": ["base"]})
    assert [image.name for image in build_order(graph, ["trainer"])] == ["base", "ml-stack", "trainer"]
