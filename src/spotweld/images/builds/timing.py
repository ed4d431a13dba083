"""An image's instructions with how long they took, as estimates take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.costs.buildestimates import Instruction
from spotweld.costs.renewals import Range
from spotweld.images.builders.ladder import WORTH
from spotweld.images.builds.comparing import text_of
from spotweld.images.builds.predicting import History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.builds.records import Build
    from spotweld.images.steps.preimages import Step

_UPON = frozenset({"parent", "stage"})
"""The kinds of inputs that are other instructions."""


def timed(steps: Sequence[Step], known: Sequence[Build]) -> tuple[Instruction, ...]:
    """The instructions of an image, in the order of its file.

    Args:
        steps: its instructions with their keys.
        known: what is remembered of its builds, newest first, unfinished ones too.
    """
    history = History(known)
    places = {step.key: place for place, step in enumerate(steps)}
    found = []
    for step in steps:
        expected = history.of(step.preimage, hit=False)
        upon = {one.value for one in step.preimage.inputs if one.kind in _UPON}
        found.append(
            Instruction(
                text=text_of(step.preimage),
                seconds=None if expected.unknown else Range(expected.low, expected.seconds, expected.high),
                needs=tuple(places[key] for key in places if key in upon),
                real=step.number > 0 and step.preimage.instruction.name in WORTH,
            )
        )
    return tuple(found)
