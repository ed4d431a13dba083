"""Builders against an image layout that is served while they build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.images.builders.rigs import until_durable
from tests.images.samples import at

from spotweld.images.builder import Outcome, Solve
from spotweld.images.copying import copy, verify
from spotweld.images.layouts import Layout
from spotweld.images.serving import reachable

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
