"""What would be built, layer by layer, and why: an image's instructions against the builds that are remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.images.builders.builder import Outcome
from spotweld.images.builders.ladder import WORTH
from spotweld.images.builds.predicting import Estimate, History
from spotweld.images.steps.explaining import explain

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from spotweld.images.builds.freshness import Standing
    from spotweld.images.builds.records import Build, Done
    from spotweld.images.steps.preimages import Preimage, Step
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
        hit: whether its result is there: in the image itself, or in the cache.
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


def layers(standing: Standing, known: Sequence[Build], cached: Collection[str], builder: str = "") -> tuple[Layer, ...]:
    """The image's instructions, each with what is known of it.

    A hit is one whose result is in the cache under the tag that a build has noted. What a machine has in its own
    storage beside that, and what there really fits, only the builder knows.

    Args:
        standing: how the image stands.
        known: what is remembered of its builds, newest first, unfinished ones too.
        cached: the tags of its cache.
        builder: whose cached steps count; empty: any one's.
    """
    history = History(known)
    holders = _holders([build for build in known if builder in {"", build.builder}], cached)
    past = {done.preimage.key: _past(done, build, builder) for build in reversed(known) for done in build.steps}
    verdicts = explain(
        _preimages(nearest_build({step.key for step in standing.steps}, known)),
        [step.preimage for step in standing.steps],
    )
    found = []
    for step, verdict in zip(standing.steps, verdicts, strict=True):
        hit = step.key in holders or standing.digest is not None
        expected = history.of(step.preimage, hit=hit)
        why = "" if hit else _why(standing, step.preimage, past.get(step.key, verdict.why), known)
        file = "" if hit else verdict.file
        source = (holders.get(step.key) or standing.tag) if hit else ""
        advice = _advice(step.preimage, history.of(step.preimage, hit=False))
        found.append(
            Layer(
                verdict.stage,
                step.number,
                step.line,
                text_of(step.preimage),
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


def _holders(known: Sequence[Build], cached: Collection[str]) -> dict[Digest, str]:
    """The instructions whose results are in the cache, each with the tag of the newest build that had it."""
    found: dict[Digest, str] = {}
    for build in known:
        held = True
        for done in build.steps:
            if done.preimage.instruction.name == "FROM":
                held = True
            # What only sets metadata may have no tag: it lies with what is below it. Above a gap nobody looks.
            named = done.tag or done.preimage.instruction.name in WORTH
            held = held and done.outcome is not Outcome.FAILED and (not named or done.tag in cached)
            if held:
                found.setdefault(done.preimage.key, build.tag)
    return found


def _past(done: Done, build: Build, builder: str) -> str:
    """Why an instruction that a build had runs again."""
    if done.outcome is Outcome.FAILED:
        return "it failed when it was last run"
    if builder not in {"", build.builder}:
        return f"{build.builder} ran it, and {builder} does not look there"
    return "it was built before, and its result is not in the cache"


def past_layers(build: Build, older: Sequence[Build], steps: Sequence[Step]) -> tuple[Layer, ...]:
    """The instructions of a build, each with what became of it and why.

    Args:
        build: it.
        older: the image's earlier builds, newest first.
        steps: the image's instructions now; those of the same keys say where they stand in the Dockerfile.
    """
    now = [done.preimage for done in build.steps]
    near = nearest_build({one.key for one in now}, older)
    places = {step.key: step for step in steps}
    holders: dict[Digest, str] = {}
    for other in older:
        for done in other.steps:
            if done.outcome is not Outcome.FAILED:
                holders.setdefault(done.preimage.key, other.tag)
    found = []
    for done, verdict in zip(build.steps, explain(_preimages(near), now), strict=True):
        key = done.preimage.key
        step = places.get(key)
        # Builders do not report FROM: it is as its base was.
        hit = (verdict.hit or near is None) if done.preimage.instruction.name == "FROM" else done.outcome == "hit"
        why = verdict.why or "an earlier build had it, and the builder did not find it in the cache"
        found.append(
            Layer(
                verdict.stage,
                step.number if step else 0,
                step.line if step else 0,
                text_of(done.preimage),
                hit,
                holders.get(key, "") if hit else "",
                "" if hit else why if near else "never built",
                "" if hit else verdict.file,
                Estimate(done.seconds, done.seconds, done.seconds),
                step.doubts if step else (),
                _advice(done.preimage, Estimate(done.ran or 0.0)),
            )
        )
    return tuple(found)


def nearest_build(keys: Collection[Digest], known: Sequence[Build]) -> Build | None:
    """The build that shares most instructions with those of ``keys``; of several, the newest."""

    def shared(build: Build) -> tuple[int, bool]:
        return sum(done.preimage.key in keys for done in build.steps), build.digest is not None

    return max((build for build in known if build.steps), key=shared, default=None)


def text_of(preimage: Preimage) -> str:
    """The instruction in one line, FROM with what it names."""
    if preimage.instruction.name != "FROM":
        return preimage.text()
    base = next((note.value for note in preimage.notes if note.kind == "base"), "an earlier stage")
    return f"FROM {base}"


def _preimages(build: Build | None) -> list[Preimage]:
    return [done.preimage for done in build.steps] if build else []


def _why(standing: Standing, preimage: Preimage, why: str, known: Sequence[Build]) -> str:
    if not any(build.steps for build in known):
        return "never built"
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
