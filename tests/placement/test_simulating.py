"""The simulator: the same as a slow one, for any market and any policy; and the guard, whatever spot does."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.placement.markets import market_from, problems, whims
from tests.placement.walking import walk_through

from spotweld.errors import UsageError
from spotweld.placement.market import SECOND
from spotweld.placement.policies import POLICIES, policy_of
from spotweld.placement.seeing import NONE, Policy, Task
from spotweld.placement.simulating import Outcomes, simulate, starts_of

if TYPE_CHECKING:
    from tests.placement.markets import Whim

    from spotweld.placement.market import Ints, Market
    from spotweld.placement.seeing import Seen

SAME = [field.name for field in fields(Outcomes) if field.name not in {"missed", "took"}]


@settings(max_examples=120)
@given(problems(), whims(), st.sampled_from([None, *POLICIES]))
def test_it_agrees_with_the_slow_one(problem: tuple[Market, Task], whim: Whim, name: str | None) -> None:
    market, task = problem
    policy = policy_of(name) if name else whim
    starts = np.array(starts_of(market, task))
    fast = simulate(market, starts, task, policy)
    for row, start in enumerate(starts.tolist()):
        slow = walk_through(market, task, start, policy)
        assert slow.took is not None
        assert float(slow.took) == fast.took[row]
        for what in SAME:
            assert float(getattr(slow, what)) == pytest.approx(getattr(fast, what)[row], rel=1e-12, abs=1e-12), what


@settings(max_examples=150)
@given(problems(), whims())
def test_no_deadline_is_ever_missed(problem: tuple[Market, Task], whim: Whim) -> None:
    market, task = problem
    for policy in (whim, *map(policy_of, POLICIES)):
        outcomes = simulate(market, np.array(starts_of(market, task)), task, policy)
        assert not outcomes.missed.any()
        assert (outcomes.took <= task.deadline).all()


class Moth(Policy):
    """Wants spot wherever it is up, and never anything else."""

    name = "moth"

    def decide(self, seen: Seen) -> Ints:
        return np.where(seen.up.any(axis=1), seen.up.argmax(axis=1), NONE)


@settings(max_examples=150)
@given(
    gap=st.integers(1, 400 * SECOND).map(lambda parts: parts / SECOND),
    work=st.integers(1, 4000 * SECOND).map(lambda parts: parts / SECOND),
    changeover=st.integers(0, 900 * SECOND).map(lambda parts: parts / SECOND),
    slack=st.integers(0, 3000 * SECOND).map(lambda parts: parts / SECOND),
    cadence=st.sampled_from([0.0, 0.3, 77.7, 1e6]),
    life=st.integers(1, 4),
    dead=st.integers(1, 4),
)
def test_spot_that_dies_right_after_each_start_misses_nothing(
    gap: float, work: float, changeover: float, slack: float, cadence: float, life: int, dead: int
) -> None:
    gap = max(gap, (work + changeover + slack) / 400)
    task = Task(work=work, deadline=work + changeover + slack, changeover=changeover, cadence=cadence)
    pattern = ([1] * life + [0] * dead) * 420
    market = market_from([pattern, pattern[1:] + pattern[:1]], gap=gap)
    outcomes = simulate(market, np.arange(life + dead), task, Moth())
    assert (outcomes.took <= task.deadline).all()


def test_a_job_in_a_market_worked_out_by_hand() -> None:
    # Ticks of 600 s; up for three, down for two, up again. A changeover is 300 s, saves are 400 s apart.
    market = market_from([[1, 1, 1, 0, 0, 1, 1, 1, 1]], spot=1.0, on_demand=3.0)
    task = Task(work=2400.0, deadline=5400.0, changeover=300.0, cadence=400.0)
    result = simulate(market, np.array([0]), task, policy_of("greedy"))
    # The first life makes 1500 s, of which 300 are lost: 1200 s are left, and begun at 3000 s.
    assert result.took.tolist() == [3000.0 + 300 + 1200]
    assert result.lost.tolist() == [300.0]
    assert result.cost.tolist() == [pytest.approx((1800 + 1500) / 3600)]
    assert (result.preemptions.tolist(), result.starts.tolist(), result.moves.tolist()) == ([1], [2], [0])
    assert result.spot.tolist() == [3300.0]
    assert result.on_demand.tolist() == [0.0]
    # With 600 s less, another start on spot could lose 300 s of progress, and then it would be too late.
    sooner = simulate(market, np.array([0]), replace(task, deadline=4800.0), policy_of("greedy"))
    assert sooner.forced.tolist() == [1]
    assert sooner.on_demand.tolist() == [1500.0]


def test_a_gang_pays_for_each_machine_and_needs_all() -> None:
    market = market_from([[4, 3, 4, 4]], spot=0.5, on_demand=2.0)
    task = Task(work=1200.0, deadline=2400.0, gang=4)
    result = simulate(market, np.array([0]), task, policy_of("greedy"))
    assert result.cost.tolist() == [pytest.approx(4 * 0.5 * 1200 / 3600)]
    assert result.took.tolist() == [1800.0]


def test_egress_is_paid_between_regions_only_and_not_at_the_first_start() -> None:
    market = market_from([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]], spot=0.0, regions=("west", "west", "east"))
    task = Task(work=2400.0, deadline=2400.0, size=20.0, egress=0.05)
    result = simulate(market, np.array([0]), task, Moth())
    assert result.egress.tolist() == [1.0]
    assert result.cost.tolist() == [1.0]
    assert result.starts.tolist() == [3]


@settings(max_examples=40)
@given(problems(), whims())
def test_a_batch_is_as_many_batches_of_one(problem: tuple[Market, Task], whim: Whim) -> None:
    market, task = problem
    starts = np.array([*starts_of(market, task), 0])
    whole = simulate(market, starts, task, whim)
    for job in range(len(starts)):
        one = simulate(market, starts[job : job + 1], task, whim)
        for what in fields(Outcomes):
            assert getattr(whole, what.name)[job] == getattr(one, what.name)[0], what.name


class Spy(Policy):
    name = "spy"

    def __init__(self, master: Policy) -> None:
        self.master = master
        self.reports: list[dict[str, list[object]]] = []

    def decide(self, seen: Seen) -> Ints:
        told = {name: value.tolist() for name, value in vars(seen).items() if isinstance(value, np.ndarray)}
        self.reports.append(told)
        return self.master.decide(seen)


@settings(max_examples=60)
@given(problems(), whims())
def test_a_policy_sees_the_same_as_in_the_slow_one(problem: tuple[Market, Task], whim: Whim) -> None:
    market, task = problem
    fast, slow, start = Spy(whim), Spy(whim), starts_of(market, task)[-1]
    simulate(market, np.array([start]), task, fast)
    walk_through(market, task, start, slow)
    assert fast.reports == slow.reports


class Fixed(Policy):
    name = "fixed"

    def __init__(self, want: int) -> None:
        self.want = want

    def decide(self, seen: Seen) -> Ints:
        return np.full(len(seen.tick), self.want)


@pytest.mark.parametrize(("want", "why"), [(0, "not up"), (2, "exist"), (-2, "exist")])
def test_what_cannot_be_had_is_a_fault_of_the_policy(want: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        simulate(market_from([[0, 0, 0]]), np.array([0]), Task(work=600.0, deadline=1800.0), Fixed(want))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"work": 0.0}, "work"),
        ({"work": float("nan")}, "work"),
        ({"deadline": float("inf")}, "deadline"),
        ({"changeover": -1.0}, "changeover"),
        ({"gang": 0}, "gang"),
        ({"size": -1.0}, "size"),
        ({"changeover": 600.5}, "cannot be met"),
    ],
    ids=str,
)
def test_a_job_that_cannot_be_is_refused(changes: dict[str, float], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Task(**({"work": 1200.0, "deadline": 1800.0} | changes))  # type: ignore[arg-type]


def test_starts_outside_the_recording_are_refused() -> None:
    market, task = market_from([[1, 1, 1, 1]]), Task(work=600.0, deadline=1500.0)
    assert list(starts_of(market, task)) == [0, 1]
    for start in (-1, 2):
        with pytest.raises(UsageError, match="start"):
            simulate(market, np.array([start]), task, policy_of("greedy"))


def test_there_is_no_policy_of_another_name() -> None:
    with pytest.raises(UsageError, match="no policy") as caught:
        policy_of("uniform-progres")
    assert caught.value.todo == "did you mean uniform-progress?"
