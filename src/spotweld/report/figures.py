"""The figures that a story comes to, and the verdict: what page, summary and JSON have in common."""

from __future__ import annotations

from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.totals import Total, total
from spotweld.report.story import Outcome, State
from spotweld.report.words import count
from spotweld.runs.events import Cause

if TYPE_CHECKING:
    from spotweld.report.story import Story


class Tone(StrEnum):
    """How a verdict sounds."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


class Verdict(msgspec.Struct, frozen=True):
    """One sentence on the whole run, and one more that explains it."""

    tone: Tone
    text: str
    detail: str = ""


class Figures(msgspec.Struct, frozen=True):
    """Sums and counts over a story."""

    attempts: int
    interruptions: int
    with_notice: int
    without_notice: int
    failures: int
    """Attempts that failed by themselves, set-up included."""
    refusals: int
    """Tries that found no capacity."""
    step: int
    """The furthest step that was reached."""
    steps_lost: int
    seconds_lost: float
    redone: int
    """Logged values of steps that were done again."""
    redone_differing: int
    """Those of them that came out with other bits."""
    seconds: float
    """From opening to closing, or until now."""
    saved: int
    """Checkpoints."""
    unsaved: int
    """Saves that failed, were cut off, or turned out damaged."""
    published: int
    """Checkpoints that came to the run's store; the others were overtaken by newer ones, or went with their machine."""
    median_stall: float | None
    median_durable: float | None
    totals: tuple[Total, ...]


def figures(story: Story) -> Figures:
    """Count and sum up."""
    causes = [attempt.cause for attempt in story.attempts]
    redone = [point for one in story.curves for point in one.points if point.redone]
    saved = [one for one in story.checkpoints if one.outcome is Outcome.SAVED]
    durable = [seconds for one in saved if (seconds := one.durable) is not None]
    with_notice, without_notice = causes.count(Cause.PREEMPTED), causes.count(Cause.PREEMPTED_UNNOTICED)
    return Figures(
        attempts=len(causes),
        interruptions=with_notice + without_notice,
        with_notice=with_notice,
        without_notice=without_notice,
        failures=causes.count(Cause.FAILED) + causes.count(Cause.SETUP_FAILED),
        refusals=causes.count(Cause.NO_CAPACITY),
        step=max((attempt.last_step or 0 for attempt in story.attempts), default=0),
        steps_lost=sum(attempt.steps_lost for attempt in story.attempts),
        seconds_lost=sum(attempt.seconds_lost for attempt in story.attempts),
        redone=len(redone),
        redone_differing=sum(point.same is False for point in redone),
        seconds=max(0.0, (story.told if story.closed is None else story.closed) - story.opened),
        saved=len(saved),
        unsaved=len(story.checkpoints) - len(saved),
        published=len(durable),
        median_stall=median(one.stall for one in saved) if saved else None,
        median_durable=median(durable) if durable else None,
        totals=total(story.rows),
    )


def verdict(story: Story, known: Figures) -> Verdict:
    """What to say of the run as a whole. Claims no more than was compared."""
    if story.state is State.DONE:
        return _finished(story, known)
    last = story.attempts[-1] if story.attempts else None
    where = f"step {known.step:,}" + (f" of {story.total_steps:,}" if story.total_steps else "")
    detail = last.detail if last else ""
    match story.state:
        case State.RUNNING | State.WAITING if last is None:
            return Verdict(Tone.OPEN, "Not started yet", "The run is open; no machine has been rented for it so far.")
        case State.RUNNING:
            return Verdict(Tone.OPEN, f"Running: at {where}", _so_far(known))
        case State.WAITING:
            return Verdict(Tone.OPEN, f"Waiting for a machine: at {where}", detail or _so_far(known))
        case State.LATE:
            return Verdict(Tone.BAD, "Done, but after its deadline", _so_far(known))
        case State.CANCELLED:
            return Verdict(Tone.BAD, f"Cancelled at {where}", detail)
        case State.BUDGET:
            return Verdict(Tone.BAD, f"Stopped at {where}: the budget is spent", detail)
        case State.FAILED:
            return Verdict(Tone.BAD, f"Failed at {where}", detail)


def _finished(story: Story, known: Figures) -> Verdict:
    other = story.undisturbed
    losses = _losses(known)
    if other and False in {other.weights_identical, other.curves_identical}:
        parts = (("the final weights", other.weights_identical), ("the logged values", other.curves_identical))
        differ = " and ".join(name for name, same in parts if same is False)
        detail = other.detail or f"Compared with the undisturbed run, {differ} differ."
        return Verdict(Tone.BAD, "Finished, but not identical to the undisturbed run", detail)
    if known.redone_differing:
        detail = f"{known.redone_differing:,} of {known.redone:,} logged values of redone steps have other bits."
        return Verdict(Tone.BAD, "Finished, but redone steps came out differently", detail)
    if other and other.weights_identical:
        # What could not be compared belongs beside the claim that the rest is identical.
        detail = " ".join(filter(None, (losses, other.detail)))
        return Verdict(Tone.GOOD, "Finished, nothing lost: bit-identical to the undisturbed run", detail)
    if not known.interruptions:
        return Verdict(Tone.GOOD, "Finished without an interruption", losses)
    if known.redone:
        return Verdict(Tone.GOOD, "Finished: every redone step came out bit-identical", losses)
    return Verdict(Tone.GOOD, f"Finished in spite of {count(known.interruptions, 'interruption')}", losses)


def _losses(known: Figures) -> str:
    ends = [(known.interruptions, "interruption"), (known.failures, "failed attempt")]
    what = " and ".join(count(number, noun) for number, noun in ends if number)
    if not what:
        return ""
    if not known.steps_lost:
        return f"{what}, and not one step had to be done again."
    return f"{what} cost {count(known.steps_lost, 'step')}, done again from the last checkpoint."


def _so_far(known: Figures) -> str:
    return f"{count(known.interruptions, 'interruption')} so far, {count(known.steps_lost, 'step')} done again."
