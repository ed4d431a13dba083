"""What a story comes to, and that the verdict claims no more than is known."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest

from spotweld.report.bars import savings
from spotweld.report.figures import Tone, figures, verdict
from spotweld.report.segments import Segment, segments
from spotweld.report.story import Attempt, Comparison, State, Story, curve
from spotweld.report.summary import summary, to_json
from spotweld.report.words import brief, ended_by, figure, middle, price, share
from spotweld.runs.events import Cause
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Callable

replace = msgspec.structs.replace


def say(story: Story) -> tuple[Tone, str]:
    ending = verdict(story, figures(story))
    return ending.tone, ending.text


def test_redone_steps_are_flagged_and_compared_bit_for_bit() -> None:
    samples = [(1, 1, 0.5), (2, 1, math.nan), (3, 1, 0.0), (2, 2, math.nan), (3, 2, -0.0), (4, 2, 1.0), (4, 3, 1.0)]
    points = curve("loss", samples).points
    assert [(p.redone, p.same) for p in points] == [
        (False, None),
        (False, None),
        (False, None),
        (True, True),
        (True, False),
        (False, None),
        (True, True),
    ]


def test_equal_objects_are_still_a_redone_step() -> None:
    value = 0.25
    points = curve("loss", [(1, 1, value), (1, 2, value), (1, 3, value)]).points
    assert [point.redone for point in points] == [False, True, True]


def test_the_usual_run_adds_up(usual: Story) -> None:
    known = figures(usual)
    assert known.interruptions == known.with_notice + known.without_notice == 6
    assert known.refusals == 1
    assert known.step == usual.total_steps == 1200
    assert known.steps_lost == sum(a.steps_lost for a in usual.attempts) > 0
    assert known.redone == known.steps_lost * len(usual.curves)
    assert known.redone_differing == 0
    assert known.saved + known.unsaved == len(usual.checkpoints)
    (total,) = known.totals
    assert total.kept + total.lost == total.billed


def test_verdicts_of_finished_runs(sample: Callable[..., Story], usual: Story) -> None:
    assert say(usual) == (Tone.GOOD, "Finished, nothing lost: bit-identical to the undisturbed run")
    alone = replace(usual, undisturbed=None)
    assert say(alone) == (Tone.GOOD, "Finished: every redone step came out bit-identical")
    assert say(replace(alone, curves=())) == (Tone.GOOD, "Finished in spite of 6 interruptions")
    assert say(replace(sample(interruptions=0), undisturbed=None)) == (Tone.GOOD, "Finished without an interruption")


def test_failures_are_owned_up_to(sample: Callable[..., Story]) -> None:
    story = replace(sample(interruptions=0), undisturbed=None)
    failed = replace(story.attempts[0], cause=Cause.FAILED, steps_lost=3)
    ending = verdict(story, figures(replace(story, attempts=(failed, *story.attempts))))
    assert ending.detail == "1 failed attempt cost 3 steps, done again from the last checkpoint."


@pytest.mark.parametrize(("weights", "curves"), [(False, True), (True, False), (False, None), (None, False)])
def test_a_difference_is_never_called_good(usual: Story, weights: bool | None, curves: bool | None) -> None:
    tone, text = say(replace(usual, undisturbed=Comparison(weights, curves)))
    assert (tone, text) == (Tone.BAD, "Finished, but not identical to the undisturbed run")


@pytest.mark.parametrize("curves", [None, True])
def test_identical_is_claimed_of_compared_weights_only(usual: Story, curves: bool | None) -> None:
    assert "undisturbed" not in say(replace(usual, undisturbed=Comparison(None, curves)))[1]


def test_what_could_not_be_compared_stands_beside_the_claim(usual: Story) -> None:
    untold = "3 logged values went with a machine and could not be compared."
    story = replace(usual, undisturbed=Comparison(weights_identical=True, curves_identical=True, detail=untold))
    found = verdict(story, figures(story))
    assert found.tone is Tone.GOOD
    assert untold in found.detail
    assert untold in "\n".join(summary(story))


def test_verdicts_of_other_states(usual: Story, empty: Story) -> None:
    assert say(empty) == (Tone.OPEN, "Not started yet")
    assert say(replace(usual, state=State.RUNNING)) == (Tone.OPEN, "Running: at step 1,200 of 1,200")
    assert say(replace(usual, state=State.WAITING, total_steps=None))[1] == "Waiting for a machine: at step 1,200"
    assert say(replace(usual, state=State.FAILED)) == (Tone.BAD, "Failed at step 1,200 of 1,200")
    assert say(replace(usual, state=State.CANCELLED))[1] == "Cancelled at step 1,200 of 1,200"
    assert say(replace(usual, state=State.BUDGET))[1] == "Stopped at step 1,200 of 1,200: the budget is spent"
    assert say(replace(empty, state=State.FAILED)) == (Tone.BAD, "Failed at step 0")
    assert say(replace(empty, state=State.DONE))[0] is Tone.GOOD


def attempt(**known: float | Cause | None) -> Attempt:
    return Attempt(1, "a", "m", CapacityType.SPOT, Money(Decimal(1)), 100.0, **known)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, [("boot", 100, 200)]),
        ({"booted": 110.0}, [("boot", 100, 110), ("restore", 110, 200)]),
        ({"booted": 110.0, "running_since": 110.0, "ended": 150.0}, [("boot", 100, 110), ("train", 110, 150)]),
        (
            {"booted": 110.0, "running_since": 120.0, "ended": 150.0, "seconds_lost": 10.0},
            [("boot", 100, 110), ("restore", 110, 120), ("train", 120, 140), ("lost", 140, 150)],
        ),
        ({"booted": 90.0, "running_since": 80.0, "ended": 150.0, "seconds_lost": 1e9}, [("lost", 100, 150)]),
        ({"ended": 90.0}, []),
    ],
)
def test_segments(known: dict[str, float], expected: list[tuple[str, float, float]]) -> None:
    assert segments(attempt(**known), 200.0) == [(Segment(kind), begin, end) for kind, begin, end in expected]


def test_the_summary_fits_a_terminal(usual: Story) -> None:
    lines = summary(usual)
    assert lines[1] == "Finished, nothing lost: bit-identical to the undisturbed run"
    assert lines[4].split("  ")[0] == "attempt"
    assert lines[5].startswith("      1  local-a spot  interrupted, 8.0 s notice")
    assert len([line for line in lines if "interrupted" in line]) == 6
    assert all(len(line) <= 120 for line in lines)
    assert lines[-1] == "Test accuracy  97.8 %"


def test_the_summary_of_odd_runs(empty: Story, usual: Story) -> None:
    assert summary(empty)[-4:] == [
        "steps  0",
        "time   0 ms, 0 ms of work lost",
        "saves  0 checkpoints",
        "cost   unknown",
    ]
    assert any(line.startswith("cost") and "so far" in line for line in summary(replace(usual, rows=_open(usual))))
    long = replace(usual, attempts=tuple(replace(a, zone="z\n" * 99) for a in usual.attempts))
    assert all("\n" not in line and len(line) < 140 for line in summary(long))


def _open(story: Story) -> tuple[object, ...]:
    return (*story.rows[:-1], replace(story.rows[-1], estimated=True))


def test_json_has_everything(usual: Story) -> None:
    found = json.loads(to_json(usual))
    assert found["verdict"]["tone"] == "good"
    assert found["figures"]["interruptions"] == 6
    assert found["story"]["rows"][0]["BilledCost"]
    assert len(found["story"]["curves"][0]["points"]) == len(usual.curves[0].points)
    assert msgspec.json.decode(to_json(usual), type=dict[str, msgspec.Raw])["story"]
    again = msgspec.json.decode(msgspec.json.decode(to_json(usual), type=dict[str, msgspec.Raw])["story"], type=Story)
    assert again == usual


def test_the_sentence_on_savings(usual: Story) -> None:
    (total,) = figures(usual).totals
    assert savings(total).startswith(f"{total.savings} saved, 60 % of what on-demand would have cost, net of ")
    dear = replace(total, billed=total.on_demand + total.lost, savings=Money(Decimal(0)) - total.lost)
    assert "more than on-demand would have cost" in savings(dear)
    free = replace(total, on_demand=Money(Decimal(0)))
    assert savings(free) == "These machines cost nothing."


def test_words() -> None:
    assert [price(Money(Decimal(p))) for p in ("0.3", "1", "0.0125", "100")] == [
        "0.30 USD",
        "1.00 USD",
        "0.0125 USD",
        "100.00 USD",
    ]
    assert [brief(Money(Decimal(a))) for a in ("0", "0.00113", "0.5", "1234.5")] == [
        "0.00 USD",
        "0.0011 USD",
        "0.50 USD",
        "1,234.50 USD",
    ]
    assert [share(p, 1000) for p in (0, 0.5, 34, 500)] == ["0.0 %", "< 0.1 %", "3.4 %", "50 %"]
    assert [figure(v) for v in (0.0, 0.25, 1e-9, math.nan, -math.inf)] == ["0", "0.25", "1.000e-09", "NaN", "-inf"]
    assert middle("europe-west4-a", 16) == "europe-west4-a"
    assert middle("projects/zones/europe-west4-a", 16) == "proje\N{HORIZONTAL ELLIPSIS}pe-west4-a"
    assert ended_by(attempt()) == "running"
    assert ended_by(attempt(cause=Cause.PREEMPTED)) == "interrupted, with notice"
    assert ended_by(attempt(cause=Cause.PREEMPTED, notice_lead=30.0)) == "interrupted, 30.0 s notice"
