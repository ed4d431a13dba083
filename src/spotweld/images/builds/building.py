"""Building a project's images: what is stale in its order, what is independent side by side.

An image that is published is left alone. Every other is solved by a builder, which sends it to its registry under its
key; then it gets its labels, the store its record, and ``latest`` moves. All of it can be repeated: whoever is killed
in between leaves something that the next build mends.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec.structs import replace

from spotweld.errors import BuildFailed, CacheUnsaved, ImageError, ImageRecordUnreadable, SpotweldError, StoreError
from spotweld.images.builders.builder import Outcome, Solve
from spotweld.images.builders.readying import ready_dockerfile
from spotweld.images.builders.saying import explained
from spotweld.images.builds.commits import Commit, commit_of
from spotweld.images.builds.comparing import layers
from spotweld.images.builds.freshness import Standing, cached_tags, is_as_it_was, stand, standings
from spotweld.images.builds.happenings import (
    Begun,
    Built,
    Failed,
    Happening,
    Printed,
    Published,
    Ran,
    Warned,
    Watch,
    built_of,
)
from spotweld.images.builds.naming import cache_of
from spotweld.images.builds.planning import REMEMBERED
from spotweld.images.builds.predicting import History, total
from spotweld.images.builds.publishing import labels_of, publish
from spotweld.images.builds.records import Attempt, Build, builds, read_build, write_build
from spotweld.images.builds.reporting import counted, done_steps
from spotweld.images.builds.scheduling import in_order
from spotweld.images.builds.texts import gather_texts, keep_texts
from spotweld.images.lifetimes.settling import remember
from spotweld.images.registries.hosts import Hosts
from spotweld.images.registries.opening import Registries, registries_of
from spotweld.project.graph import build_order
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from spotweld.images.builders import builder as seam
    from spotweld.images.builders.builder import Builder
    from spotweld.images.builds.records import Done
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects
    from spotweld.values.digests import Digest

_WORTH_WRITING = 2.0
"""Seconds of an instruction after whose end the record is written, while the build goes on."""


def _unwatched(_: Happening) -> None:
    pass


def build(
    project: Project,
    names: Iterable[str] | None,
    builder: Builder,
    objects: Objects,
    watch: Watch = _unwatched,
    *,
    at_once: int = 1,
    registries: Registries | None = None,
    now: Callable[[], float] = time.time,
    commit: Commit | None = None,
) -> tuple[Built, ...]:
    """See that the named images, and all that they need, are in their registries.

    Args:
        project: the project.
        names: of images; None: all.
        builder: runs what has to run.
        objects: the project's store.
        watch: is told what happens, by one thread at a time.
        at_once: how many images may be built side by side.
        registries: the ones to ask.
        now: seconds since 1970.
        commit: of the project's files; None: that of the folder that they are in.

    Returns:
        The images, every base before what is built upon it.

    Raises:
        ImageError: an image could not be built or published. Those that do not need it have been brought to their
            end; what is finished of it is kept.
        StoreError: the store did not take a record.
    """
    registries = registries or registries_of(project)
    known = standings(project, names, registries)
    if all(standing.is_published for standing in known):
        return tuple(built_of(standing) for standing in known)
    images = build_order(project.images, project.images if names is None else names)
    with Hosts(registries) as hosts:
        work = _Work(project, builder, objects, watch, registries, hosts, now, commit)
        found = in_order({one.name: set(one.bases.values()) for one in images}, work.bring, at_once, work.failed)
    return tuple(work.results[name] for name in found)


class _Work:
    """What the builds of one call have in common."""

    def __init__(
        self,
        project: Project,
        builder: Builder,
        objects: Objects,
        watch: Watch,
        registries: Registries,
        hosts: Hosts,
        now: Callable[[], float],
        commit: Commit | None,
    ) -> None:
        self.project = project
        self.builder = builder
        self.objects = objects
        self._watch = watch
        self._watching = threading.Lock()
        self.registries = registries
        self.hosts = hosts
        self.now = now
        self.results: dict[str, Built] = {}
        self._given = commit

    def watch(self, happening: Happening) -> None:
        """Tell the one who watches."""
        with self._watching:
            self._watch(happening)

    def bring(self, name: str, bases: Mapping[str, Standing]) -> Standing:
        """Bring one image to its registry; how it stands then."""
        standing = stand(self.project, self.project.images[name], bases, self.registries, deep=True)
        if standing.is_published:
            self.results[name] = built_of(standing)
            return standing
        remember(self.project, standing.image, self.objects, self.registries.__getitem__)
        one = _One(self, standing)
        digest = one.mend() if standing.digest else one.solve()
        self.results[name] = one.built(digest)
        self.watch(Published(self.results[name]))
        return replace(standing, found=digest, latest=digest, damage="")

    def failed(self, name: str, error: BaseException) -> None:
        """Tell that an image could not be built."""
        code = error.code if isinstance(error, SpotweldError) else "SW0000"
        self.watch(Failed(name, code, str(error)))

    @functools.cached_property
    def commit(self) -> Commit:
        """Of the project's files."""
        return self._given or commit_of(self.project.file.parent)

    def labels(self, standing: Standing) -> dict[str, str]:
        """What the image is labelled with."""
        return labels_of(standing, self.project.name, self.commit, self.builder.name)


class _One:
    """The build of one image."""

    def __init__(self, work: _Work, standing: Standing) -> None:
        self.work = work
        self.standing = standing
        self.known = builds(work.objects, standing.image.name, self._warn, most=REMEMBERED, unfinished=True)
        self.history = History(self.known)
        self.reports: list[seam.Step] = []
        self.done: tuple[Done, ...] = ()
        self.started = work.now()
        self.is_built = False

    def solve(self) -> Digest:
        """Have the builder build it, then publish it."""
        standing = self.standing
        self.is_built = True
        cached = cached_tags(standing, self.work.registries)
        told = layers(standing, self.known, cached, self.work.builder.name)
        expected = total(layer.expected for layer in told)
        self.work.watch(Begun(standing.image.name, standing.tag, told, expected, standing.damage))
        self._write("begun")
        try:
            # Before the build: afterwards the files may be others.
            texts = gather_texts(standing.image.context, [step.preimage for step in standing.steps])
            keep_texts(self.work.objects, standing.image.name, standing.tag, texts)
            self._run()
            return self._publish(lambda digest: self._write("done", digest))
        except ImageError as error:
            self._write("failed", why=str(error))
            raise

    def mend(self) -> Digest:
        """It is there, and whoever sent it was killed before everything was done."""
        old = self._old()
        # What ended after the last record was written has no report; that it is there is all that is known of it.
        told = {done.preimage.key: done for done in old.steps} if old else {}
        steps = done_steps(self.standing.steps, (), self.history, complete=True)
        self.done = tuple(told.get(done.preimage.key, done) for done in steps)

        def record(digest: Digest) -> None:
            if old is None:
                self._write("done", digest)
            elif old.digest != digest:
                write_build(self.work.objects, replace(old, digest=digest, steps=self.done))

        return self._publish(record)

    def _old(self) -> Build | None:
        """The record of the build that is there; a damaged one is written anew."""
        try:
            return read_build(self.work.objects, self.standing.image.name, self._key)
        except ImageRecordUnreadable as error:
            self._warn(f"passed over: {error}")
            return None

    def _run(self) -> None:
        try:
            with ready_dockerfile(self.work.project, self.standing, self.work.builder.name) as dockerfile:
                solved = self.work.builder.solve(self._order(dockerfile), self._tell, self._hear, self._sure)
        except (BuildFailed, CacheUnsaved) as error:
            registry = self.work.registries[self.standing.registry]
            raise explained(error, self.standing, self._failed_line(), registry) from error
        self.done = done_steps(self.standing.steps, [*self.reports, *solved.steps], self.history, complete=True)

    def built(self, digest: Digest) -> Built:
        """The result."""
        one = self.standing
        hits, ran, saved = counted(self.done) if self.is_built else (0, 0, 0.0)
        return Built(
            one.image.name, self._key, digest, one.registry, one.repository, one.tag, self.is_built,
            self.work.now() - self.started if self.is_built else 0.0, hits, ran, saved,
        )  # fmt: skip

    @property
    def _key(self) -> Digest:
        assert self.standing.key is not None  # noqa: S101 - nothing is built while it waits
        return self.standing.key

    def _publish(self, record: Callable[[Digest], None]) -> Digest:
        registry = self.work.registries[self.standing.registry]
        return publish(self.standing, registry, lambda: self.work.labels(self.standing), record)

    def _order(self, dockerfile: Path) -> Solve:
        one = self.standing
        host = self.work.hosts.of(one.registry)
        pinned = {
            name: f"{self.work.hosts.of(base.registry) if name in one.image.bases else base.registry}/"
            f"{base.repository}@{base.digest}"
            for name, base in one.bases.items()
            if name in one.image.bases or "@" not in name
        }
        known = [self.work.registries[url] for url in (one.registry, *(base.registry for base in one.bases.values()))]
        return Solve(
            one.image.context,
            dockerfile,
            f"{host}/{cache_of(one.repository)}",
            f"{host}/{one.repository}:{one.tag}",
            one.image.target,
            one.image.args,
            pinned,
            one.image.platform,
            keys=tuple((step.stage, step.number, step.key) for step in one.steps),
            plain=tuple(sorted({urlsplit(each.url).netloc for each in known if each.url.startswith("http://")})),
        )

    def _tell(self, step: seam.Step) -> None:
        self.reports.append(step)
        line = self._line(step)
        name = self.standing.image.name
        self.work.watch(Ran(name, step.stage, step.number, line, step.text, step.outcome, step.seconds))
        # A machine that is taken away leaves what it has finished in the cache; this says so, and how long it took.
        if step.outcome is Outcome.RAN and step.seconds >= _WORTH_WRITING:
            try:
                self._write("begun")
            except StoreError as error:
                self._warn(f"the end of {step.text[:40]} could not be recorded: {error}")

    def _hear(self, line: str) -> None:
        self.work.watch(Printed(self.standing.image.name, line))

    def _sure(self) -> None:
        """See that what the builder has read is what the key says: under a key lies one content, whoever edits files.

        Raises:
            BuildFailed: it may be something else.
        """
        if not is_as_it_was(self.work.project, self.standing):
            raise BuildFailed(
                "its files changed while it was built, so it was not published",
                "it may hold some files as they were before, and others as they were after",
                "Build again: what is finished and still fits does not run again.",
            )

    def _line(self, step: seam.Step) -> int:
        places = {(one.stage, one.number): one.line for one in self.standing.steps}
        return places.get((step.stage, step.number), 0)

    def _failed_line(self) -> int:
        return next((self._line(step) for step in self.reports if step.outcome is Outcome.FAILED), 0)

    def _warn(self, line: str) -> None:
        self.work.watch(Warned(self.standing.image.name, line))

    def _write(self, outcome: str, digest: Digest | None = None, why: str = "") -> None:
        one = self.standing
        done = self.done or done_steps(one.steps, self.reports, self.history, complete=False)
        commit = self.work.commit
        seconds = self.work.now() - self.started
        hits, ran, _ = counted(done)
        attempt = Attempt(self.started, self.work.builder.name, outcome, seconds, hits, ran, why)  # type: ignore[arg-type]
        write_build(
            self.work.objects,
            Build(
                one.image.name, self._key, digest, one.registry, one.repository, one.platform, self.work.builder.name,
                commit.name, commit.dirty, self.started, seconds, VERSION, done, (attempt,) if self.is_built else (),
            ),
        )  # fmt: skip
