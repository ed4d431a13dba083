"""From what a builder reports to what is remembered of a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.images.builders.builder import Outcome
from spotweld.images.builds.records import Done

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.images.builders import builder
    from spotweld.images.builds.predicting import History
    from spotweld.images.steps.preimages import Step

_WEIGHT = {Outcome.HIT: 0, Outcome.RAN: 1, Outcome.FAILED: 2}


def done_steps(
    steps: Sequence[Step], reports: Iterable[builder.Step], history: History, *, complete: bool
) -> tuple[Done, ...]:
    """What is known of each instruction.

    Builders do not report all: not FROM, and perhaps none that only sets metadata. Such a one went as the one before.

    Args:
        steps: the image's, in the order of the file.
        reports: the builder's, in any order.
        history: what instructions took before.
        complete: whether the build came to its end. If not, what follows the last report was not reached.
    """
    said: dict[tuple[int, int], builder.Step] = {}
    for one in reports:
        place = (one.stage, one.number)
        if place not in said or _WEIGHT[one.outcome] >= _WEIGHT[said[place].outcome]:
            said[place] = one
    reached = {stage: max(number for other, number in said if other == stage) for stage, _ in said}
    found: list[Done] = []
    before = Outcome.HIT
    for step in steps:
        report = said.get((step.stage, step.number))
        if step.number == 0:
            before = Outcome.HIT
        if report is not None:
            before, seconds, tag = report.outcome, report.seconds, report.tag
        elif complete or step.number < reached.get(step.stage, 0):
            seconds, tag = 0.0, ""
        else:
            continue
        ran = seconds if before is Outcome.RAN else history.ran(step.key)
        found.append(Done(step.preimage, before, seconds, ran, tag))
    return tuple(found)


def counted(done: Sequence[Done]) -> tuple[int, int, float]:
    """Hits, instructions that ran, and the seconds that the hits saved; FROM is neither."""
    real = [one for one in done if one.preimage.instruction.name != "FROM"]
    hits = [one for one in real if one.outcome is Outcome.HIT]
    saved = sum(max(0.0, one.ran - one.seconds) for one in hits if one.ran is not None)
    return len(hits), sum(one.outcome is Outcome.RAN for one in real), saved
