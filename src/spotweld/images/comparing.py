"""What would be built, layer by layer, and why: an image's instructions against the builds that are remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.images.explaining import explain
from spotweld.images.predicting import Estimate, History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.freshness import Standing
    from spotweld.images.preimages import Preimage
    from spotweld.images.records import Build
    from spotweld.values.digests import Digest

LONG = 120.0
"""Seconds of a RUN from which on it is worth advice."""


class Layer(msgspec.Struct, frozen=True):
    """One instruction of an image as it stands now.

    Attributes:
        stage: the stage's name, or its number.
        number: its place in the stage; 0 is ``FROM``.
        line: where it begins in the Dockerfile.
        text: it in one line, after substitution.
        hit: whether an earlier build has its result.
        source: of a hit, the tag of the build that has it.
        why: of a miss, the first input that differs.
        file: the file whose content that is, if it is one.
        expected: seconds that it will take.
        doubts: what its key cannot see.
        advice: what would make it cheaper to lose a machine; empty: nothing.
    """

    stage: str
    number: int
    line: int
    text: str
    hit: bool
    source: str = ""
    why: str = ""
    file: str = ""
    expected: Estimate = Estimate()
    doubts: tuple[str, ...] = ()
    advice: str = ""


def layers(standing: Standing, known: Sequence[Build]) -> tuple[Layer, ...]:
    """The image's instructions, each with what is known of it.

    A hit says what the records say. Only the builder looks into the cache itself.

    Args:
        standing: how the image stands.
        known: what is remembered of its builds, newest first, unfinished ones too.
    """
    history = History(known)
    holders: dict[Digest, str] = {}
    for build in known:
        for done in build.steps:
            if done.outcome != "failed":
                holders.setdefault(done.preimage.key, build.tag)
    verdicts = explain(_preimages(nearest_build(standing, known)), [step.preimage for step in standing.steps])
    found = []
    for step, verdict in zip(standing.steps, verdicts, strict=True):
        hit = step.key in holders or standing.digest is not None
        expected = history.of(step.preimage, hit=hit)
        why = "" if hit else _why(standing, step.preimage, verdict.why, known)
        file = "" if hit else verdict.file
        source = (holders.get(step.key) or standing.tag) if hit else ""
        advice = _advice(step.preimage, history.of(step.preimage, hit=False))
        found.append(
            Layer(
                verdict.stage,
                step.number,
                step.line,
                verdict.text,
                hit,
                source,
                why,
                file,
                expected,
                step.doubts,
                advice,
            )
        )
    return tuple(found)


def nearest_build(standing: Standing, known: Sequence[Build]) -> Build | None:
    """The build that shares most instructions with the image as it stands; of several, the newest."""
    keys = {step.key for step in standing.steps}

    def shared(build: Build) -> tuple[int, bool]:
        return sum(done.preimage.key in keys for done in build.steps), build.digest is not None

    return max((build for build in known if build.steps), key=shared, default=None)


def _preimages(build: Build | None) -> list[Preimage]:
    return [done.preimage for done in build.steps] if build else []


def _why(standing: Standing, preimage: Preimage, why: str, known: Sequence[Build]) -> str:
    if not any(build.steps for build in known):
        return "it was never built"
    named = {note.value for note in preimage.notes if note.kind == "base"}
    first = next((standing.image.bases[name] for name in named if standing.image.bases.get(name) in standing.waits), "")
    return f"base {first} is rebuilt first" if first else why


def _advice(preimage: Preimage, expected: Estimate) -> str:
    if preimage.instruction.name != "RUN" or expected.seconds < LONG:
        return ""
    return (
        f"it is one unit of {expected.seconds / 60:.0f} min: a machine that is lost in it starts it anew. "
        "Split it at && into several RUN, slow and seldom changed parts first"
    )
