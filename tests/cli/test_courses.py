from __future__ import annotations

import io

import pytest

from spotweld.cli import building
from spotweld.cli.courses import Course, follow
from spotweld.images.builders.builder import Outcome
from spotweld.images.builds.comparing import Layer
from spotweld.images.builds.happenings import Begun, Built, Failed, Printed, Published, Ran, Warned
from spotweld.images.builds.predicting import Estimate
from spotweld.values.digests import Digest

LAYERS = (
    Layer("0", 0, 1, "FROM x", hit=True),
    Layer("0", 1, 2, "RUN a", hit=False, expected=Estimate(10, 5, 20)),
    Layer("0", 2, 3, "RUN b", hit=False, expected=Estimate(30, 20, 40)),
)
BEGUN = Begun("tool", "0123", LAYERS, Estimate(40, 25, 60))
RAN = Ran("tool", 0, 1, 2, "RUN a", Outcome.RAN, 12.0)
BUILT = Built("tool", Digest("blake3:a"), Digest("sha256:b"), "oci:/x", "demo/tool", "0123", built=True)


def test_a_bar_goes_with_the_time_and_waits_for_the_instruction() -> None:
    courses: dict[str, Course] = {}
    follow(courses, Printed("tool", "before it has begun"), 99.0)
    follow(courses, BEGUN, 100.0)
    course = courses["tool"]
    assert course.share(100.0) == 0.0
    assert course.share(105.0) == 0.125
    assert course.share(150.0) == 0.25, "the first has not ended, whatever was expected"
    follow(courses, RAN, 112.0)
    assert (course.done, course.count) == (1, 2)
    assert course.share(112.0) == pytest.approx(0.3)
    assert course.share(900.0) == 0.99
    assert course.left(112.0) == Estimate(28.0, 13.0, 48.0)
    assert course.when(112.0) == "12 s, about 28.0 s (13.0 s to 48.0 s) to go"
    assert course.when(145.0) == "45 s, longer than the usual 40.0 s"
    assert Course(Begun("new", "0", LAYERS[:1], Estimate(unknown=2)), 0.0).when(3.0) == "3 s, 2 never timed"
    follow(courses, Printed("tool", "x" * 500), 113.0)
    assert course.last == "x" * 80
    follow(courses, Published(BUILT), 114.0)
    assert courses == {}


def test_the_terminal_shows_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", shown)
    with building.watching("tty") as watch:
        for happening in (
            BEGUN,
            RAN,
            Printed("tool", "\x1b[2Jline"),
            Warned("tool", "careful"),
            Failed("tool", "SW1", "no"),
        ):
            watch(happening)
    text = shown.getvalue()
    for words in ("begins: 2 of 2 instructions to run, about 40.0 s", "RUN a", "careful", "SW1 no"):
        assert words in text
