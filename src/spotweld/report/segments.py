"""What a machine did, when: the stretches of an attempt that a timeline shows."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from spotweld.report.words import count, ended_by, price
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from spotweld.report.story import Attempt, Story


class Segment(StrEnum):
    """What a stretch of machine time went into."""

    BOOT = "boot"
    RESTORE = "restore"
    TRAIN = "train"
    LOST = "lost"
    """Training that had to be done again."""


def segments(attempt: Attempt, now: float) -> list[tuple[Segment, float, float]]:
    """(what, from, to) of one attempt, in order, without gaps; stretches of no length are left out.

    Clocks of two machines may disagree: whatever lies outside of the attempt is moved to its nearer end.
    """
    end = max(attempt.started, now if attempt.ended is None else attempt.ended)
    booted = min(end, max(attempt.started, end if attempt.booted is None else attempt.booted))
    running = min(end, max(booted, end if attempt.running_since is None else attempt.running_since))
    lost = min(end, max(running, end - attempt.seconds_lost))
    borders = [attempt.started, booted, running, lost, end]
    stretches = zip(Segment, borders, borders[1:], strict=False)
    return [(kind, begin, after) for kind, begin, after in stretches if after > begin]


def span(story: Story) -> tuple[float, float]:
    """First and last moment that a timeline shows; never the same."""
    close = story.told if story.closed is None else story.closed
    begin = min([story.opened, *(attempt.started for attempt in story.attempts)])
    end = max([close, *(attempt.ended or attempt.started for attempt in story.attempts)])
    return begin, max(end, begin + 1e-3)


def tell(attempt: Attempt, now: float) -> str:
    """An attempt in a few lines, for whoever points at it."""
    end = now if attempt.ended is None else attempt.ended
    lines = [
        f"Attempt {attempt.number}: {ended_by(attempt)}",
        f"{attempt.zone} {attempt.capacity_type}, {attempt.machine_type}, {price(attempt.hourly)}/h",
        format_duration(max(0.0, end - attempt.started)),
    ]
    if attempt.first_step is not None and attempt.last_step is not None:
        lines.append(f"steps {attempt.first_step:,} to {attempt.last_step:,}")
    if attempt.steps_lost or attempt.seconds_lost:
        lines.append(f"lost {count(attempt.steps_lost, 'step')}, {format_duration(attempt.seconds_lost)}")
    return "\n".join([*lines, attempt.detail] if attempt.detail else lines)
