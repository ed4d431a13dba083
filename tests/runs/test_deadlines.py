"""Whole runs with a deadline, on a provider that tells nothing beforehand, in a time that nobody has to wait for."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.runs.world import Life, World

from spotweld.project.nouns import PlacementRules
from spotweld.runs import decisions
from spotweld.runs.events import Cause, Outcome
from spotweld.testing.providers import Live, Refuse
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spotweld.testing.providers import Answer

LONG = {"work": 600.0, "deadline": 1800.0}
WORKS = Life(ends=600.0)
PATIENT = PlacementRules(back_off=60.0)


def drive(folder: Path, script: Sequence[Answer], lives: Sequence[Life] = (WORKS,), **job: object) -> World:
    world = World(folder, script, lives, PATIENT, **(LONG | job))
    world.drive()
    return world


def kinds(world: World) -> list[CapacityType]:
    return [attempt.offer.capacity_type for attempt in world.attempts]


def test_an_undisturbed_run_is_done_on_spot(tmp_path: Path) -> None:
    world = drive(tmp_path, [])
    assert world.log.state("r").outcome is Outcome.DONE
    assert kinds(world) == [CapacityType.SPOT]
    assert world.attempts[0].why.startswith("ours: spot in a")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Live(seconds=40.0), id="takes machines soon"),
        pytest.param(Live(seconds=40.0, notice=5.0), id="takes them with a notice"),
        pytest.param(Live(boot=1e9), id="never boots"),
        pytest.param(Refuse(), id="has none"),
    ],
)
def test_spot_that_is_good_for_nothing_makes_no_run_late(answer: Answer, tmp_path: Path) -> None:
    """Spot behaves so for ever; on-demand is as it should be."""
    world = World(tmp_path, (), [WORKS], PATIENT, **LONG)
    honest = world.provider.start

    def start(offer, boot, *, token, labels):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        world.provider.script.clear()
        if offer.capacity_type is CapacityType.SPOT:
            world.provider.script.append(answer)
        return honest(offer, boot, token=token, labels=labels)

    world.provider.start = start  # type: ignore[method-assign]
    state = world.drive()
    assert state.outcome is Outcome.DONE
    assert state.deadline is not None
    assert world.attempts[-1].ended is not None
    assert world.attempts[-1].ended <= state.deadline
    assert kinds(world)[0] is CapacityType.SPOT
    assert kinds(world)[-1] is CapacityType.ON_DEMAND


def test_a_run_that_ends_after_its_deadline_says_so_and_exits_with_4(tmp_path: Path) -> None:
    world = World(tmp_path, [Refuse()] * 10_000, [WORKS], PATIENT, **LONG)
    world.at.append((1500.0, world.provider.script.clear))
    state = world.drive()
    assert state.outcome is Outcome.LATE
    assert state.outcome.exit_status == 4
    assert "after its deadline" in state.why


def test_a_deadline_that_passed_while_a_budget_had_stopped_the_run_was_missed(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(ends=None), WORKS], PATIENT, budget=Money(Decimal("0.01")), **LONG)
    assert world.drive().outcome is Outcome.BUDGET
    world.clock.sleep(3600.0)
    assert world.log.reopen("r", world.log.entries("r")[-1].seq, Money(Decimal(9)))
    state = world.drive()
    assert (state.outcome, len(state.attempts)) == (Outcome.LATE, 2)


def test_what_was_seen_is_in_the_log_for_the_next_controller(tmp_path: Path) -> None:
    world = drive(tmp_path, [Live(seconds=40.0)])
    turns = [(zone, up) for one in world.log.state("r").sightings for zone, up in one.up.items()]
    assert ("a", True) in turns
    assert ("a", False) in turns
    assert world.attempts[0].cause is Cause.PREEMPTED_UNNOTICED


def test_a_machine_that_never_comes_up_is_given_up_and_its_zone_left_alone(tmp_path: Path) -> None:
    world = drive(tmp_path, [Live(boot=1e9), Live(boot=1e9)], deadline=10_000.0)
    first, second, third = world.attempts[:3]
    assert (first.cause, second.cause, world.attempts[-1].cause) == (Cause.MOVED, Cause.MOVED, Cause.DONE)
    assert len({first.offer.zone, second.offer.zone, third.offer.zone}) == 3
    assert first.ended is not None
    assert first.ended - first.opened < decisions.SILENCE_BEFORE_FIRST_SIGN
