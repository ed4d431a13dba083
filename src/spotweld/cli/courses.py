"""How far the builds of images are: what a progress bar shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.cli.imagery import in_words
from spotweld.images.builds.happenings import Begun, Failed, Printed, Published, Ran
from spotweld.images.builds.predicting import Estimate, share
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from spotweld.images.builds.happenings import Happening

_SHOWN = 80
"""Characters of the line that was printed last."""


class Course:
    """How far the build of one image is.

    Args:
        begun: its beginning.
        now: seconds, of a clock that never goes back.
    """

    def __init__(self, begun: Begun, now: float) -> None:
        self.image = begun.image
        self.expected = begun.expected
        self.since = now
        self.last = ""
        self._layers = [layer.expected for layer in begun.layers if layer.number]
        self._ended: set[tuple[int, int]] = set()
        self.count = len(self._layers)

    @property
    def done(self) -> int:
        """Instructions that ended."""
        return len(self._ended)

    def ended(self, ran: Ran) -> None:
        """An instruction ended."""
        self._ended.add((ran.stage, ran.number))

    def share(self, now: float) -> float:
        """How much is done, 0 to 1; the instruction in progress counts for the time that it has had."""
        done = min(self.done, len(self._layers))
        by_count = share(self._layers[:done], self._layers[done:])
        by_time = (now - self.since) / self.expected.seconds if self.expected.seconds else 0.0
        ahead = share(self._layers[: done + 1], self._layers[done + 1 :])
        return max(by_count, min(by_time, ahead, 0.99))

    def left(self, now: float) -> Estimate:
        """Seconds to go."""
        gone = now - self.since
        whole = self.expected
        low, seconds, high = (max(0.0, one - gone) for one in (whole.low, whole.seconds, whole.high))
        return Estimate(seconds, low, high, whole.unknown)

    def when(self, now: float) -> str:
        """How long it has taken, and how much longer it will take, in words."""
        gone = f"{now - self.since:.0f} s"
        left = self.left(now)
        if left.high and not left.seconds:
            return f"{gone}, longer than the usual {format_duration(self.expected.seconds)}"
        return f"{gone}, {in_words(left)}" + (" to go" if left.high else "")


def follow(courses: dict[str, Course], happening: Happening, now: float) -> None:
    """Take in what happened: ``courses`` are those of the images that are being built."""
    match happening:
        case Begun(image=image):
            courses[image] = Course(happening, now)
        case Ran(image=image) if image in courses:
            courses[image].ended(happening)
        case Printed(image=image, line=line) if image in courses:
            courses[image].last = line[:_SHOWN]
        case Published(built=built):
            courses.pop(built.image, None)
        case Failed(image=image):
            courses.pop(image, None)
