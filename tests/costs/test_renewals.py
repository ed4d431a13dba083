"""The reckoning of interrupted jobs against closed forms, and against jobs that are played through one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from spotweld.checkpoint.hazard import USUAL, Hazard, Rate
from spotweld.costs.renewals import interrupted, with_checkpoints, without_checkpoints

HOUR = 3600.0
FLAT: Hazard = (Rate(0.0, 0.2),)


def life(hazard: Hazard, draw: np.random.Generator) -> float:
    """One machine's, by going through the ages."""
    left = draw.exponential()
    for number, rate in enumerate(hazard):
        span = hazard[number + 1].age - rate.age if number + 1 < len(hazard) else math.inf
        if left <= rate.hourly / HOUR * span:
            return rate.age + left / (rate.hourly / HOUR)
        left -= rate.hourly / HOUR * span
    raise AssertionError


def played(hazard: Hazard, work: float, changeover: float, cadence: float, jobs: int) -> tuple[list[float], list[int]]:
    """Seconds paid and interruptions of jobs that are played through."""
    draw = np.random.default_rng(7)
    paid, times = [], []
    for _ in range(jobs):
        left, seconds, often = work, 0.0, 0
        while (lives := life(hazard, draw)) < changeover + left:
            seconds += lives
            often += 1
            left -= max(0.0, lives - changeover) // cadence * cadence
        paid.append(seconds + changeover + left)
        times.append(often)
    return paid, times


@pytest.mark.parametrize("hazard", [FLAT, USUAL], ids=["flat", "usual"])
@pytest.mark.parametrize(
    ("work", "changeover", "cadence"), [(10.3 * HOUR, 720.0, 1800.0), (5 * HOUR, 0.0, 5 * HOUR), (4e4, 60.0, 1100.0)]
)
def test_jobs_that_are_played_through_come_to_the_same(
    hazard: Hazard, work: float, changeover: float, cadence: float
) -> None:
    jobs = 4000
    paid, times = played(hazard, work, changeover, cadence, jobs)
    found = with_checkpoints(hazard, work, changeover, cadence)
    assert found is not None
    assert found.seconds.expected == pytest.approx(np.mean(paid), abs=4 * np.std(paid) / math.sqrt(jobs))
    assert found.interruptions.expected == pytest.approx(np.mean(times), abs=4 * np.std(times) / math.sqrt(jobs))
    # Deciles: at least that share is at or below it, and less than that is below the number before.
    for share, times_at in ((0.1, found.interruptions.low), (0.9, found.interruptions.high)):
        assert np.mean(np.array(times) <= times_at) >= share - 0.03
        assert np.mean(np.array(times) < times_at) <= share + 0.03


def test_one_hazard_for_all_ages_gives_the_known_formula() -> None:
    rate = 0.2 / HOUR
    for whole in (1.0, 600.0, 5 * HOUR, 40 * HOUR):
        found = without_checkpoints(FLAT, whole, 0.0)
        assert found is not None
        assert found.seconds.expected == pytest.approx(math.expm1(rate * whole) / rate)
        assert found.interruptions.expected == pytest.approx(math.expm1(rate * whole))


@given(st.floats(60.0, 12 * HOUR), st.floats(0.0, HOUR), st.sampled_from([FLAT, USUAL]))
def test_one_save_at_the_very_end_is_none(work: float, changeover: float, hazard: Hazard) -> None:
    once, never = with_checkpoints(hazard, work, changeover, work), without_checkpoints(hazard, work, changeover)
    assert once is not None
    assert never is not None
    for one, other in ((once.seconds, never.seconds), (once.interruptions, never.interruptions)):
        assert astuple(one) == pytest.approx(astuple(other), rel=1e-5, abs=1e-6)


@given(st.floats(600.0, 100 * HOUR), st.floats(0.0, 1800.0), st.floats(30.0, 7200.0))
def test_ranges_are_in_order_and_saving_more_often_never_costs(work: float, changeover: float, cadence: float) -> None:
    rare, often = (with_checkpoints(USUAL, work, changeover, each) for each in (cadence, cadence / 2))
    assert rare is not None
    assert often is not None
    for one in (rare.seconds, rare.interruptions, often.seconds):
        assert one.low <= one.expected <= one.high
    assert rare.seconds.low >= (work + changeover) * (1 - 1e-9)
    assert often.seconds.expected <= rare.seconds.expected * (1 + 1e-6)


def test_machines_that_live_too_short_never_come_to_an_end() -> None:
    wild = (Rate(0.0, 60.0),)
    assert with_checkpoints(wild, 48 * HOUR, 720.0, 1800.0) is None
    assert without_checkpoints(wild, 48 * HOUR, 720.0) is None
    assert without_checkpoints((Rate(0.0, 1e-9),), HOUR, 0.0) is not None


def test_a_given_number_of_interruptions_costs_changeovers_and_half_cadences() -> None:
    found = interrupted(3, 48 * HOUR, 720.0, 1800.0)
    assert found.low == 48 * HOUR + 4 * 720.0
    assert found.expected - found.low == 3 * 900.0
    assert found.high - found.low == 3 * 1800.0
    assert interrupted(2, 600.0, 0.0, 1800.0).high == 3 * 600.0
