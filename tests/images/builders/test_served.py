"""Builders against an image layout that is served while they build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.images.builders.rigs import until_durable
from tests.images.caches.test_caches import built, contents_of
from tests.images.samples import at

from spotweld.errors import CacheUnfetched
from spotweld.images.builders.buildah import Buildah
from spotweld.images.builders.builder import Outcome, Solve
from spotweld.images.builders.storage import Storage
from spotweld.images.caches.deciding import busted
from spotweld.images.caches.doing import cut
from spotweld.images.caches.looking import cached_steps
from spotweld.images.caches.warming import ids, warm
from spotweld.images.registries.copying import copy, verify
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.serving import reachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.images.builders.rigs import Counter, Machine


@pytest.mark.slow
def test_a_fresh_machine_finds_all_in_a_layout(
    kind: str, fresh: Callable[[], Machine], counter: Counter, base: str, layout: Layout, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("content")
    with reachable(layout) as host:
        text = f"FROM {base}\n{counter.run('one')}\nCOPY file /file\n{counter.run('two')}\n"
        (context / "Dockerfile").write_text(text)
        solve = Solve(context, context / "Dockerfile", f"{host}/p/image/cache", image=f"{host}/p/image:latest")
        first = fresh().builder().solve(solve)
        assert len(first.ran()) == 3
        until_durable(kind, solve, 4)
        assert layout.resolve("p/image", "latest") == first.digest
        # And as a copy of all of its tags, under another port.
        copied = Layout(tmp_path / "copied")
        for repository in ("p/image", "p/image/cache"):
            for tag in layout.tags(repository):
                copy(at(layout, repository, tag), at(copied, repository, tag))
                assert verify(at(copied, repository, tag)) == ()
    counter.calls.clear()
    for one in (layout, copied):
        with reachable(one) as host:
            solve = Solve(context, context / "Dockerfile", f"{host}/p/image/cache", f"{host}/p/image:new")
            again = fresh().builder().solve(solve)
        assert [step.outcome for step in again.steps] == [Outcome.HIT] * 3
        assert counter.calls == []


@pytest.mark.slow
def test_a_warm_machine_runs_nothing_and_a_busted_one_everything(
    counter: Counter, base: str, layout: Layout, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("content")
    lines = [f"FROM {base}", "ARG A=1", counter.run("one"), "COPY file /file", counter.run("two")]
    (context / "Dockerfile").write_text("\n".join(lines))
    key = "a" * 40

    def build(machine: Path, cache: str) -> int:
        counter.calls.clear()
        with reachable(layout) as host:
            image = f"{host}/p/image:{key}"
            Buildah(machine).solve(Solve(context, context / "Dockerfile", f"{host}/{cache}", image=image))
        layout.tag("p/image", key, "latest")
        return len(counter.calls)

    first, second, empty = tmp_path / "first", tmp_path / "second", "p/image/nothing"
    assert build(first, "p/image/cache") == 4
    contents = contents_of(layout, "p/image")
    steps = cached_steps(layout, contents, [])
    assert {step.what.partition(" ")[0] for step in steps} == {"ARG", "RUN", "COPY"}
    assert all("latest" in step.needed for step in steps)
    heard: list[tuple[int, int]] = []
    assert warm(layout, "p/image/cache", steps, Storage(second), lambda *told: heard.append(told)) == heard[-1][1]
    # With a cache that has nothing, only the machine's own storage can have it.
    assert build(second, empty) == 0
    for machine in (first, second):
        Storage(machine).forget(ids(layout, "p/image/cache", contents.cache))
    cut(layout, busted(contents_of(layout, "p/image"), ()))
    assert layout.tags("p/image") == ("latest",)
    for name in layout.tags(empty):
        layout.delete(empty, name)
    assert build(first, "p/image/cache") == 4
    assert build(second, empty) == 4


@pytest.mark.slow
def test_a_step_that_cannot_be_fetched_is_told(layout: Layout, tmp_path: Path) -> None:
    contents = built(layout)
    steps = cached_steps(layout, contents, [])
    with pytest.raises(CacheUnfetched, match=f"{contents.repository}/cache:c[123] could not be fetched"):
        warm(layout, "demo/base/cache", steps, Storage(tmp_path / "storage"), lambda *_: None)
