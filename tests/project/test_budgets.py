"""What the project file says of budgets."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import ProjectError
from spotweld.project.nouns import Budget, Period, Project, Receiver
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
        ("  b: {amount: 5 USD, alerts: [80%]}", "alerts does not fit", "add notify"),
        ("  b: {amount: 5 USD, notify: [{slack: A}]}", "notify does not fit", "add alerts"),
        ("  b: {amount: 5 USD, alerts: [1%], notify: [{}]}", "notify[0] has no webhook", "give one of"),
        ("  b: {amount: 5 USD, alerts: [1%], notify: [{slack: A, webhook: B}]}", "slack does not fit", "entry"),
        ("  b: {amount: 5 USD, alerts: [1%], notify: [{email: a@b}]}", "email does not fit", "add smtp"),
        ("  b: {amount: 5 USD, alerts: [1%], notify: [{slack: A, smtp: B}]}", "smtp does not fit", "remove it"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, written: str, said: str, todo: str) -> None:
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, written)
    assert said in str(caught.value)
    assert todo in caught.value.todo


def test_receivers_are_known_by_their_variables(tmp_path: Path) -> None:
    receivers = "[{webhook: A}, {slack: B}, {email: me@example.org, smtp: C}]"
    budget = load(tmp_path, f"  b: {{amount: 5 USD, alerts: [80%, 100%], notify: {receivers}}}").budgets["b"]
    assert budget.alerts == (Decimal("0.8"), Decimal(1))
    assert budget.notify == (Receiver(webhook="A"), Receiver(slack="B"), Receiver(email="me@example.org", smtp="C"))
    assert [one.variable for one in budget.notify] == ["A", "B", "C"]


def test_a_url_in_the_place_of_a_variable_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="the URL stands in the variable") as caught:
        load(tmp_path, "  b: {amount: 5 USD, alerts: [1%], notify: [{webhook: 'https://example.org/hush'}]}")
    assert "hush" not in str(caught.value) + caught.value.todo


def test_protected_is_true_or_false(tmp_path: Path) -> None:
    file = tmp_path / "spotweld.yaml"
    file.write_text("name: x\njobs: {a: {command: a, protected: maybe}}\n")
    with pytest.raises(ProjectError, match="it takes true or false"):
        load_project(file)
