"""Builds with BuildKit (https://github.com/moby/buildkit) through ``docker buildx``.

The whole Dockerfile is solved once, as ever; beside it the ladder sends each finished instruction to the registry. By
itself BuildKit exports its cache only when everything has succeeded. A later solve imports all rungs.
"""

from __future__ import annotations

import re
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import BuilderUnavailable, BuildFailed, CacheUnsaved
from spotweld.images.builders.archive import EVERYTHING, NAME, pack, reach, served
from spotweld.images.builders.builder import SHOWN, Builder, Outcome, Solve, Solved, Step, ignore, sure_of_it
from spotweld.images.builders.climbing import Climber
from spotweld.images.builders.commands import Ended, follow
from spotweld.images.builders.ladder import Rung, rungs, salt_of, stages
from spotweld.images.builders.vertices import Progress, Vertex
from spotweld.images.dockerfiles.dockerfile import parse, text_of
from spotweld.images.dockerfiles.ignore import read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.images.builders.archive import Reach
    from spotweld.images.builders.builder import Hear, Sure, Tell
    from spotweld.images.dockerfiles.dockerfile import Dockerfile

BUILDX = ("docker", "buildx")
_UNAVAILABLE = (
    "Cannot connect to the Docker daemon",
    "error during connect",
    "is not a docker command",
    "Cache export is not supported",
    "unknown flag",
)
_TRIES = 3
"""Of a rung. While two builds send to one repository, it may answer that a manifest is bad, and then take it."""
_LOST = re.compile(r"could not fetch content descriptor sha256:\w+ .*not found", re.DOTALL)


class BuildKit(Builder):
    """BuildKit behind buildx, with the storage of its daemon.

    Args:
        buildx: the program and its first arguments.
        host: the daemon, as ``DOCKER_HOST`` names it; empty: as the environment and Docker's own configuration say.
        network: the network of RUN: ``default`` or ``host``. It is part of BuildKit's keys.
    """

    name = "buildkit"

    def __init__(self, buildx: tuple[str, ...] = BUILDX, host: str = "", network: str = "default") -> None:
        self._buildx = buildx
        self._env = {"DOCKER_HOST": host} if host else {}
        self._network = network

    def version(self) -> str:
        ended = follow([*self._buildx, "version"], ignore, env=self._env)
        if ended.status != 0:
            raise BuilderUnavailable(
                "docker buildx does not start", ended.words, "Debian: apt-get install docker-buildx"
            )
        return ended.last[-1].split()[1]

    def solve(self, solve: Solve, tell: Tell = ignore, hear: Hear = ignore, sure: Sure = sure_of_it) -> Solved:
        began = time.monotonic()
        document = parse(text_of(solve.dockerfile), str(solve.dockerfile))
        if "TARGETSTAGE" in document.source:  # it would say something else in a rung
            solve = msgspec.structs.replace(solve, args={"TARGETSTAGE": solve.target or "default", **solve.args})
        ladder = ladder_of(solve)
        wanted = reach(document)
        while True:
            try:
                with self._context(solve, wanted) as context:
                    sure()
                    steps, digest = self._solve(solve, context, ladder, Reading(document, solve, wanted, tell, hear))
                return Solved(steps, time.monotonic() - began, digest)
            except Triggered:
                wanted = EVERYTHING
            except BuildFailed as failed:
                if not ladder or not _LOST.search(failed.why):
                    raise
                # What the cache promised is gone. BuildKit believes in it until it is told not to look.
                ladder = ()

    @contextmanager
    def _context(self, solve: Solve, wanted: Reach) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="spotweld-context-") as folder:
            archive = Path(folder, "context.tar")
            try:
                pack(solve.context, read(solve.context, solve.dockerfile), wanted, archive)
            except OSError as error:
                raise BuildFailed(
                    f"the context {solve.context} cannot be packed",
                    str(error),
                    "make its files readable, or name those that are not needed in .dockerignore",
                ) from error
            with served(archive) as url:
                yield url

    def _solve(
        self, solve: Solve, context: str, ladder: tuple[Rung, ...], reading: Reading
    ) -> tuple[tuple[Step, ...], str]:
        """Solve with the rungs of ``ladder`` imported, or, where there are none, with nothing that was made before."""
        with tempfile.TemporaryDirectory(prefix="spotweld-build-") as folder:
            told = Path(folder, "metadata.json")
            argv = [*self._argv(solve, context, ladder, solve.dockerfile.absolute()), f"--metadata-file={told}"]
            with Climber(lambda together: self._send(solve, context, ladder, together, Path(folder))) as climber:
                reading.climber = climber
                ended = follow([*argv, *([] if ladder else ["--no-cache"])], reading.hear, env=self._env)
            if ended.status != 0:
                raise _failure(reading, ended)
            digest = msgspec.json.decode(told.read_bytes(), type=_Metadata).digest if solve.image else ""
        if climber.troubles:
            raise CacheUnsaved(
                f"the build is done{' and published' if digest else ''}, and part of it could not be sent to the cache",
                climber.troubles[-1],
                "mend the registry's address, credentials or space, and build again: nothing runs twice",
            )
        return tuple(reading.steps), digest

    def _send(
        self, solve: Solve, context: str, ladder: tuple[Rung, ...], together: tuple[Rung, ...], folder: Path
    ) -> str:
        rung = together[-1]
        cut = folder / rung.tags[0]
        cut.write_text(rung.text, encoding="utf-8")
        own = msgspec.structs.replace(solve, target="", image="")
        tags = [tag for one in together for tag in one.tags]
        there = [f"--cache-to=type=registry,ref={solve.cache}:{tag},mode=min" for tag in tags]
        for _ in range(_TRIES):
            ended = follow([*self._argv(own, context, ladder, cut), *there], ignore, env=self._env)
            if ended.status == 0:
                return ""
        return ended.words

    def _argv(self, solve: Solve, context: str, ladder: tuple[Rung, ...], dockerfile: Path) -> list[str]:
        return [
            *self._buildx,
            "build",
            "--progress=rawjson",
            "--provenance=false",
            f"--network={self._network}",
            f"--file={dockerfile}",
            f"--build-arg=SOURCE_DATE_EPOCH={solve.epoch}",
            *(f"--build-arg={name}={value}" for name, value in solve.args.items()),
            *(f"--build-context={name}=docker-image://{pinned}" for name, pinned in solve.bases.items()),
            *([f"--target={solve.target}"] if solve.target else []),
            *([f"--platform={solve.platform}"] if solve.platform else []),
            f"--output=type=image,name={solve.image},push=true" if solve.image else "--output=type=cacheonly",
            *(f"--cache-from=type=registry,ref={solve.cache}:{tag}" for rung in ladder for tag in rung.tags),
            context,
        ]


def ladder_of(solve: Solve) -> tuple[Rung, ...]:
    """The rungs that this solve imports from ``solve.cache`` and sends there, each under its tags.

    Raises:
        DockerfileError: the Dockerfile breaks a rule, or has no such stage.
    """
    document = parse(text_of(solve.dockerfile), str(solve.dockerfile))
    return rungs(document, solve.target, salt_of(solve), solve.keys)


class _Metadata(msgspec.Struct, frozen=True):
    digest: str = msgspec.field(name="containerimage.digest")


class Triggered(Exception):
    """A base image has ONBUILD triggers, which may read any file of the context."""


class Reading:
    """Follows a solve: reports its instructions, and tells the climber which rungs were reached.

    Args:
        document: what is built.
        solve: how.
        wanted: what the context has.
        tell: is called with every instruction that ended.
        hear: is called with every line that was printed.

    Raises:
        Triggered: while it hears, if a base has triggers and the context has not everything.
    """

    climber: Climber
    """Sends rungs."""

    def __init__(self, document: Dockerfile, solve: Solve, wanted: Reach, tell: Tell, hear: Hear) -> None:
        self._plan = stages(document, salt_of(solve), solve.keys)
        self._solve = solve
        self._wanted = wanted
        self._tell = tell
        self._print = hear
        self._progress = Progress(self._plan)
        self._kept: set[str] = set()
        self.steps: list[Step] = []
        self.failed: Vertex | None = None
        self.printed: list[str] = []
        """By instructions and by the client itself."""

    def hear(self, line: str) -> None:
        """Take in one line of its output."""
        others = len(self._progress.other)
        for event in self._progress.hear(line):
            if isinstance(event, str):
                self._say(event)
            else:
                self._take(event)
        for other in self._progress.other[others:]:
            self._say(other)

    def _say(self, line: str) -> None:
        self.printed.append(line)
        self._print(line)

    def _take(self, vertex: Vertex) -> None:
        tag = vertex.imported().removeprefix(f"{self._solve.cache}:")
        if tag and not vertex.error:
            self._kept.add(tag)
        if vertex.error and "context canceled" not in vertex.error and not tag:
            self.failed = self.failed or vertex
        if self._wanted != EVERYTHING and any(self._has_triggers(index) for index in self._progress.highest):
            raise Triggered
        place = vertex.place(self._plan, self._progress.highest)
        if place is None or "context canceled" in vertex.error:
            return
        stage, number, text = place
        outcome = Outcome.FAILED if vertex.error else Outcome.HIT if vertex.cached else Outcome.RAN
        tag = next((rung.tags[0] for rung in self._plan[stage].rungs if rung.number == number), "")
        step = Step(stage, number, text, outcome, vertex.seconds, tag=tag)
        self.steps.append(step)
        if outcome is not Outcome.FAILED:
            self._climb(step)
        self._tell(step)

    def _has_triggers(self, index: int) -> bool:
        """Whether there are more steps than the document's. A base counts, but for one that is pinned."""
        stage, pinned = self._plan[index], self._solve.bases
        counted = not (stage.base in pinned or ("$" in stage.base and pinned))
        return self._progress.highest[index] > len(stage.layers) + counted

    def _climb(self, step: Step) -> None:
        """A hit needs no rung if one at or above it is kept; it does if it was made here and its sender was killed."""
        ladder = self._plan[step.stage].rungs
        above = [rung for rung in ladder if rung.number >= step.number]
        if not above or above[0].number != step.number:
            return
        if step.outcome is Outcome.RAN or not any(rung.tags[0] in self._kept for rung in above):
            self.climber.reached(above[0])


def _failure(reading: Reading, ended: Ended) -> Exception:
    words = reading.failed.error if reading.failed else ended.words.removeprefix("ERROR: ")
    if any(sign in line for sign in _UNAVAILABLE for line in (words, *ended.last)):
        todo = "start Docker, with its images in containerd (daemon.json: features.containerd-snapshotter true)"
        return BuilderUnavailable("BuildKit cannot work here", words, todo)
    if f'{NAME}": dial' in words:
        todo = "build on the machine on which the daemon runs, in its network, or with buildah"
        return BuilderUnavailable("BuildKit's daemon does not reach this machine, where the context is", words, todo)
    where = f"{reading.failed.name}: failed" if reading.failed else "BuildKit refused the build"
    return BuildFailed(where, words, "\n".join(["the build's last lines:", *reading.printed[-SHOWN:]]))
