"""How long builds take, by what has changed."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from spotweld.costs.buildestimates import Instruction, courses
from spotweld.costs.renewals import Range


def one(text: str, seconds: float | None, *needs: int, real: bool = True) -> Instruction:
    return Instruction(text, None if seconds is None else Range(seconds / 2, seconds, seconds * 2), needs, real)


FILE = (
    one("FROM base", 0.0, real=False),
    one("RUN tools", 100.0, 0),
    one("ENV A=1", 0.0, 1, real=False),
    one("RUN compile", 300.0, 2),
    one("FROM base", 0.0, real=False),
    one("RUN fonts", 50.0, 4),
    one("COPY --from=0 /out /", 10.0, 5, 3),
)


def test_what_runs_is_what_has_changed_and_what_builds_upon_it() -> None:
    found = {course.case: course for course in courses(FILE, 60.0)}
    runs = {
        case: (course.runs, course.of, course.seconds and course.seconds.expected) for case, course in found.items()
    }
    assert runs == {
        "cold": (4, 4, 460.0),
        "no change": (0, 4, 0.0),
        "minor": (1, 4, 10.0),
        # Not the fonts: their stage does not build upon the tools.
        "major": (3, 4, 410.0),
        "after a preemption": (4, 4, 460.0 + 60.0 + (100**2 + 300**2 + 50**2 + 10**2) / (2 * 460)),
    }
    assert found["cold"].seconds == Range(230.0, 460.0, 920.0)
    assert found["after a preemption"].seconds == replace(
        found["after a preemption"].seconds, low=230.0 + 60.0, high=920.0 + 60.0 + 600.0
    )
    assert found["minor"].what == "COPY --from=0 /out / changes"


def test_the_mean_loss_is_that_of_builds_that_are_cut_at_any_moment() -> None:
    draw, times, lost = random.Random(3), (100.0, 300.0, 50.0, 10.0), []
    for _ in range(20_000):
        at = draw.uniform(0.0, 460.0)
        for seconds in times:
            if at < seconds:
                lost.append(at)
                break
            at -= seconds
    after = courses(FILE, 0.0)[-1].seconds
    assert after is not None
    assert after.expected - 460.0 == pytest.approx(sum(lost) / len(lost), rel=0.03)


def test_an_instruction_that_nobody_has_seen_makes_only_its_own_builds_unknown() -> None:
    file = (*FILE[:5], replace(FILE[5], seconds=None), FILE[6])
    found = {course.case: course.seconds for course in courses(file, 60.0)}
    assert (found["cold"], found["after a preemption"]) == (None, None)
    assert found["no change"] == Range.exactly(0)
    assert found["major"] == Range(205.0, 410.0, 820.0)


def test_an_instruction_may_build_upon_a_stage_that_comes_later() -> None:
    file = (one("COPY --from=1 /a /", 5.0, 1), one("RUN a", 7.0))
    assert [(course.case, course.runs) for course in courses(file, 0.0)][2:4] == [("minor", 2), ("major", 1)]


def test_an_image_without_instructions_has_only_two_builds() -> None:
    assert [course.case for course in courses(FILE[:1], 60.0)] == ["cold", "no change"]
