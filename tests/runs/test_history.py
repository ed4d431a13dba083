"""What was done in vain: laws over every way in which attempts can follow each other."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.checkpoint.plans import PLAN
from tests.runs.samples import OFFER, ON_DEMAND_PRICE, opened
from tests.runs.telling import saved, training

from spotweld.checkpoint import events as told
from spotweld.costs.moves import Move
from spotweld.project.nouns import PlacementRules
from spotweld.runs.events import AttemptEnded, AttemptOpened, Cause, Entry, Event, MachineStarted
from spotweld.runs.following import Told
from spotweld.runs.history import History, Loss, Progress, losses, moves, progress, rows_of, usages
from spotweld.runs.states import RunState, fold
from spotweld.values.money import Money


def told_by(attempt: int, events: list[told.Event]) -> list[Told]:
    return [Told(attempt, event) for event in events]


def test_steps_and_checkpoints_of_an_attempt() -> None:
    found = progress(told_by(1, training(100.0, 0, 25)))[1]
    assert (found.first, found.last, found.durable, found.since) == (0, 25, 20, 100.0)


NEAR = replace(saved(1.0, 9), tier="file:/t")


def test_only_what_is_in_the_store_is_safe_from_the_loss_of_the_machine() -> None:
    middle = told.Carried(2.0, 9, "file:/m", 1.0, "m")
    found = progress(told_by(1, [told.Fresh(0.0), NEAR, middle]))[1]
    assert (found.durable, found.safe, found.nearby) == (None, None, (9, "file:/t"))
    found = progress(told_by(1, [told.Fresh(0.0), NEAR, replace(middle, published=True), replace(NEAR, step=12)]))[1]
    assert (found.durable, found.safe, found.nearby) == (9, 9, (12, "file:/t"))


@pytest.mark.parametrize(("tier", "published", "safe"), [("", 7, 7), ("file:/t", 5, 5), ("file:/t", None, None)])
def test_what_was_restored_is_as_safe_as_the_place_it_came_from(
    tier: str, published: int | None, safe: int | None
) -> None:
    restored = told.Restored(0.0, 7, "m", 0.1, (), tier, published)
    found = progress(told_by(1, [restored]))[1]
    assert (found.safe, found.restored) == (safe, restored)
    found = progress(told_by(1, [restored, saved(1.0, 8)]))[1]
    assert found.safe == 8


def test_work_that_only_a_lost_tier_had_is_lost() -> None:
    first = [told.Fresh(0.0), *(told.Step(float(step), step) for step in range(1, 13)), NEAR]
    history = progress(told_by(1, first) + told_by(2, [told.Restored(20.0, 4, "m", 0.1, (), "", 4)]))
    assert losses(history) == {1: Loss(8, 8.0)}


def test_a_figure_logged_after_the_last_step_is_no_step() -> None:
    events = [*training(0.0, 90, 100), told.Metrics(20.0, 100, {"accuracy": 0.9})]
    assert progress(told_by(1, events))[1].last == 100


def test_the_newest_cadence_of_each_attempt_is_kept() -> None:
    often = replace(PLAN, interval=1.0)
    found = progress(
        told_by(1, [told.Fresh(0.0), told.Cadence(1.0, PLAN), told.Cadence(2.0, often)]) + told_by(2, [told.Fresh(5.0)])
    )
    assert (found[1].cadence, found[2].cadence) == (often, None)


def test_an_attempt_that_never_told_anything_has_no_progress() -> None:
    assert progress([Entry("r", 1, 0.0, opened())]) == {}


def test_steps_since_the_checkpoint_are_lost_with_the_time_they_took() -> None:
    history = progress(told_by(1, training(0.0, 0, 25)) + told_by(2, training(50.0, 20, 30)))
    assert losses(history) == {1: Loss(5, 5.0)}


def test_a_damaged_checkpoint_makes_an_earlier_attempt_lose_as_well() -> None:
    history = progress(
        told_by(1, training(0.0, 0, 25)) + told_by(2, training(50.0, 20, 33)) + told_by(3, training(90.0, 10, 40))
    )
    assert {number: loss.steps for number, loss in losses(history).items()} == {1: 15, 2: 13}


def test_an_attempt_that_did_not_come_so_far_loses_nothing() -> None:
    history = progress(told_by(1, training(0.0, 0, 25)) + told_by(2, [told.Start(50.0, 100, 1)]))
    assert losses(history) == {}


EVENTS: st.SearchStrategy[told.Event] = st.builds(
    lambda make, t, step: make(float(t), step),
    st.sampled_from([
        lambda t, step: told.Start(t, step, 1),
        lambda t, step: told.Restored(t, step, "m", 0.1),
        lambda t, _: told.Fresh(t),
        told.Step,
        told.Finished,
        lambda t, step: told.Metrics(t, step, {}),
        saved,
        lambda t, step: replace(saved(t, step), tier=f"file:/{step}", size=step),
        lambda t, step: told.Carried(t, step, "file:/m", 1.0, "m", published=True),
        lambda t, step: told.Cadence(t, replace(PLAN, interval=float(step))),
        lambda t, step: told.Emergency(t, str(step), 1.0, 2.0),
    ]),
    st.integers(0, 9),
    st.integers(0, 9),
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 3), EVENTS)), st.data())
def test_told_bit_by_bit_it_is_the_same(events: list[tuple[int, told.Event]], data: st.DataObject) -> None:
    happenings = [Told(attempt, event) for attempt, event in events]
    history, begun, found = History(), 0, None
    for end in [*sorted(data.draw(st.sets(st.integers(0, len(events)), max_size=4))), len(events)]:
        found, begun = history.add(happenings[begun:end]), end
    assert found == progress(happenings)


def test_the_marks_of_a_long_attempt_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 1000
    monkeypatch.setattr("spotweld.runs.history.MARKS", most)
    history = History()
    found = history.add(told_by(1, [told.Fresh(0.0)]))[1]
    for first in range(1, 10 * most, most // 4):
        steps = range(first, first + most // 4)
        found = history.add(told_by(1, [told.Step(float(step), step) for step in steps]))[1]
        assert len(found.marks) <= most
        assert found.last == steps[-1]
    gaps = [later[0] - former[0] for former, later in itertools.pairwise(((0, 0.0), *found.marks))]
    assert max(gaps) <= 10 * most / (most / 4)


@st.composite
def lives(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """(first, last, durable) of attempts as they can be: each goes on from a step that is durable."""
    found: list[tuple[int, int, int]] = []
    durable = [0]
    for _ in range(draw(st.integers(1, 8))):
        first = draw(st.sampled_from(durable))
        last = draw(st.integers(first, first + 40))
        kept = draw(st.integers(first, last))
        found.append((first, last, kept))
        durable = [*(step for step in durable if step <= first), kept]
    return found


@given(lives())
def test_kept_and_lost_make_up_all_that_was_done(attempts: list[tuple[int, int, int]]) -> None:
    history = {}
    for number, (first, last, durable) in enumerate(attempts, 1):
        marks = tuple((step, 1000.0 * number + step - first) for step in range(first + 1, last + 1))
        history[number] = Progress(number, first, 1000.0 * number, marks, durable)
    lost = losses(history)
    assert all(loss.steps > 0 and loss.seconds >= 0 for loss in lost.values())
    done = sum(last - first for first, last, _ in attempts)
    furthest = history[len(attempts)].last
    assert done - sum(loss.steps for loss in lost.values()) == furthest
    # A step takes a second here, so that time and steps are the same.
    for number, loss in lost.items():
        assert loss.seconds == loss.steps
        first, last, _ = attempts[number - 1]
        assert loss.steps <= last - first


events = st.one_of(
    st.builds(told.Step, st.floats(0, 1e6), st.integers(0, 200)),
    st.builds(told.Restored, st.floats(0, 1e6), st.integers(0, 200), st.just("m"), st.just(0.1)),
    st.builds(told.Fresh, st.floats(0, 1e6)),
    st.builds(told.Start, st.floats(0, 1e6), st.integers(0, 200), st.just(1)),
    st.builds(told.Metrics, st.floats(0, 1e6), st.integers(0, 200), st.just({"x": 1.0})),
    st.builds(told.Saved, st.floats(0, 1e6), st.integers(0, 200), *[st.just(x) for x in ("c", 0.1, 0.1, 1, "m")]),
)


@given(st.lists(st.builds(Told, st.integers(1, 4), events), max_size=40))
def test_nothing_that_is_told_makes_a_loss_negative_or_more_than_was_paid_for(happenings: list[Told]) -> None:
    lost = losses(progress(happenings))
    for usage in usages(state(), lost, 50.0):
        assert 0 <= usage.lost_seconds <= usage.ended - usage.started
    assert all(loss.steps > 0 and loss.seconds >= 0 for loss in lost.values())


def state() -> RunState:
    log: list[Event] = [opened()]
    for number in range(1, 5):
        log += [
            AttemptOpened(number, OFFER, ON_DEMAND_PRICE, f"t-{number}", "why"),
            MachineStarted(number, f"m-{number}", 10.0 * number),
            AttemptEnded(number, Cause.PREEMPTED, "", 10.0 * number + 5),
        ]
    return fold([Entry("r", seq, float(seq), event) for seq, event in enumerate(log, 1)])


def test_usages_are_the_machine_time_that_was_paid() -> None:
    found = usages(state(), {2: Loss(3, 4.0)}, 99.0)
    assert [(usage.attempt, usage.started, usage.ended, usage.lost_seconds) for usage in found] == [
        (1, 10.0, 15.0, 0.0), (2, 20.0, 25.0, 4.0), (3, 30.0, 35.0, 0.0), (4, 40.0, 45.0, 0.0),
    ]  # fmt: skip


def moved_by(price: str | None, tier: str = "") -> list[Move]:
    """Three attempts in the regions r1, r2 and r2; the first saves 1,000 bytes and each later one goes on."""
    cost = None if price is None else Money(Decimal(price))
    log: list[Event] = [replace(opened(labels={"team": "vision"}), placement=PlacementRules(egress_price=cost))]
    happenings: list[Told] = []
    for number, region in enumerate(("r1", "r2", "r2"), 1):
        log += [
            AttemptOpened(number, replace(OFFER, region=region, provider="aws"), ON_DEMAND_PRICE, f"t-{number}", "why"),
            MachineStarted(number, f"m-{number}", 100.0 * number),
            AttemptEnded(number, Cause.PREEMPTED, "", 100.0 * number + 50),
        ]
        at = 100.0 * number + 5
        begin = told.Fresh(at) if number == 1 else told.Restored(at, 10, "m", 0.1, tier=tier)
        happenings += told_by(number, [begin, saved(at + 10, 10 * number)])
    state = fold([Entry("r", seq, float(seq), event) for seq, event in enumerate(log, 1)])
    return moves(state, progress(happenings))


def test_a_state_that_goes_on_in_another_region_has_moved() -> None:
    names = "aws", "r1", "r2"
    assert moved_by("0.02") == [
        Move("project", "r", 2, 205.0, 1000, Money(Decimal("0.02")), *names, {"team": "vision"})
    ]


def test_nothing_moves_without_a_price_or_out_of_a_tier_of_the_machine() -> None:
    assert moved_by(None) == []
    assert moved_by("0.02", tier="file:/fast") == []


def test_without_a_price_the_ledger_has_machines_alone() -> None:
    assert [row.resource_type for row in rows_of(state(), {}, 99.0)] == ["Machine"] * 4
