"""What only BuildKit does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.images.builders.rigs import machine

from spotweld.errors import BuilderUnavailable
from spotweld.images.builders.builder import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from tests.images.builders.rigs import Counter

Fresh = "Callable[[], Machine]"
Project = "Callable[..., Solve]"

pytestmark = pytest.mark.slow


@pytest.fixture
def kind() -> str:
    return "buildkit"


def test_triggers_of_a_base_get_all_files_of_the_context(
    fresh: Fresh, project: Project, base: str, counter: Counter, registry: str
) -> None:
    machine = fresh()
    onbuild = f"FROM {base}\nONBUILD COPY . /all\nONBUILD RUN true\n"
    machine.builder().solve(project(onbuild, {"seen": "1", "unnamed": "2"}, image=f"{registry}/triggers"))
    use = f"FROM {registry}/triggers\nCOPY seen /seen\n{counter.run('x', 'cat /all/unnamed /seen')}\n"
    told = machine.builder().solve(project(use)).steps
    assert [(step.number, step.text.split()[0], step.outcome) for step in told] == [
        (1, "COPY", Outcome.RAN),
        (2, "RUN", Outcome.RAN),
    ]
    assert counter.calls == ["begin/x", "end/x"]


def test_the_name_of_the_target_is_the_same_in_every_rung(
    fresh: Fresh, project: Project, base: str, counter: Counter
) -> None:
    lines = [counter.run(name, "echo $TARGETSTAGE") for name in "xyz"]
    document = "\n".join([f"FROM {base} AS first", "ARG TARGETSTAGE", *lines, ""])
    for target in ("", "first"):
        fresh().builder().solve(project(document, target=target))
    assert counter.calls.count("end/x") <= 2
    assert [call for call in counter.calls if call.startswith("end/")] == ["end/x", "end/y", "end/z"] * 2


def test_a_daemon_that_cannot_fetch_the_context_is_one_clear_error(project: Project, tmp_path: Path) -> None:
    solve = project("FROM scratch\nCOPY one /\n", {"one": "1"})
    with (
        machine("buildkit", tmp_path / "machine", network=False) as far,
        pytest.raises(BuilderUnavailable, match="does not reach this machine"),
    ):
        far.builder().solve(solve)
