"""What the project file says of budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import ProjectError
from spotweld.project.nouns import Budget, Period, Project
from spotweld.project.reading import load_project
from spotweld.values.money import Money

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "name: x\njobs:\n  train: {command: a, priority: -2, protected: true}\nbudgets:\n"


def load(folder: Path, written: str) -> Project:
    file = folder / "spotweld.yaml"
    file.write_text(HEAD + written)
    return load_project(file)


def test_what_is_said_and_what_is_not(tmp_path: Path) -> None:
    assert load(tmp_path, "  b: {amount: 5 USD}").budgets == {"b": Budget("b", Money(Decimal(5)))}
    full = "  b: {amount: 5 USD, per: week, jobs: [train], labels: {team: v}, stop: 80%, at_most: 2, every: 1m}"
    project = load(tmp_path, full)
    share = Decimal("0.8")
    wanted = Budget("b", Money(Decimal(5)), Period.WEEK, ("train",), {"team": "v"}, share, 2, 60.0)
    assert project.budgets == {"b": wanted}
    assert (project.jobs["train"].priority, project.jobs["train"].protected) == (-2, True)


@pytest.mark.parametrize(
    ("written", "said", "todo"),
    [
        ("  b: {}", "budgets.b has no amount", "add amount"),
        ("  b: {amount: 0 USD}", "is not an amount", "100 USD"),
        ("  b: {amount: 5 EUR}", "is in EUR", "write all amounts in USD"),
        ("  b: {amount: 5 USD, jobs: [tran]}", "there is no job", "did you mean train?"),
        ("  b: {amount: 5 USD, stop: 0%}", "is not a share", "100%"),
        ("  b: {amount: 5 USD, every: 1m}", "every does not fit", "add stop"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, written: str, said: str, todo: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, written)
    assert said in str(caught.value)
    assert todo in caught.value.todo


def test_protected_is_true_or_false(tmp_path: Path) -> None:
    file = tmp_path / "spotweld.yaml"
    file.write_text("name: x\njobs: {a: {command: a, protected: maybe}}\n")
    with pytest.raises(ProjectError, match="it takes true or false"):
        load_project(file)
