"""Builds with buildah (https://buildah.io): no daemon, each finished instruction pushed as it is committed.

With ``--layers --cache-to`` buildah itself sends the layer of an instruction to the registry before it starts the next
one, under a key of the instruction, the content that it copies and the base's history. Times are part of that history;
``--timestamp`` makes them the same on all machines.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import BuilderUnavailable, BuildFailed, CacheUnsaved
from spotweld.images.builders.builder import SHOWN, Builder, Outcome, Solve, Solved, Step, ignore, sure_of_it
from spotweld.images.builders.commands import Ended, follow
from spotweld.images.builders.ladder import salt_of, stages
from spotweld.images.builders.restocking import MEMORY, Stock, unfindable
from spotweld.images.dockerfiles.dockerfile import parse, text_of
from spotweld.images.registries.opening import open_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from spotweld.images.builders.builder import Hear, Sure, Tell
    from spotweld.images.builders.restocking import Place
    from spotweld.images.dockerfiles.dockerfile import Dockerfile

_LOOPBACK = re.compile(r"(?<![\w.-])(?:localhost|127\.\d+\.\d+\.\d+)(?::\d+)?(?=/)")
_HEREDOCS_SINCE = (1, 33)
_CONFIGURED = (Path("~/.config/containers/registries.conf"), Path("/etc/containers/registries.conf"))


class Buildah(Builder):
    """Buildah with a storage of its own.

    Args:
        folder: where this machine's layers are. Made when it is missing, and a cache: it may be deleted while no
            build runs.
    """

    name = "buildah"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def version(self) -> str:
        said: list[str] = []
        ended = follow(["buildah", "--version"], said.append, env={})
        if ended.status != 0:
            raise BuilderUnavailable("buildah does not start", ended.words)
        return said[-1].removeprefix("buildah version ").partition(" ")[0]

    def solve(self, solve: Solve, tell: Tell = ignore, hear: Hear = ignore, sure: Sure = sure_of_it) -> Solved:
        began = time.monotonic()
        document = parse(text_of(solve.dockerfile), str(solve.dockerfile))
        self._check(document)
        tags = unfindable(document, stages(document, salt_of(solve), solve.keys))

        def listen(line: str) -> None:
            ended = reading.hear(line)
            if ended:
                stock.keep((ended.stage, ended.number), reading.key)
            hear(line)

        with self._machine(solve) as (env, hold):
            run = functools.partial(follow, env=env, alone=True, hold=hold)
            host = solve.cache.partition("/")[0]
            registry = open_registry(f"http://{host}" if host in solve.plain else host)
            stock = Stock(registry, solve.cache, tags, self._folder / MEMORY)
            stock.fetch(lambda reference: run(self._argv(["pull", "--quiet", reference]), ignore).status == 0)
            reading = Reading(tell, tags)
            ended = run(self._argv(_bud(solve)), listen)
            if ended.status != 0:
                raise _failure(ended, reading.fail())
            sure()
            digest = self._publish(solve.image, run, Path(env["TMPDIR"], "digest")) if solve.image else ""
        if stock.troubles:
            raise _unsaved("the build is done, and part of it could not be tagged in the cache", stock.troubles[-1])
        return Solved(tuple(reading.steps), time.monotonic() - began, digest)

    def _check(self, document: Dockerfile) -> None:
        called = [one for stage in document.stages for one in stage.instructions if one.heredocs]
        if called and tuple(int(part) for part in self.version().split(".")[:2]) < _HEREDOCS_SINCE:
            raise BuildFailed(
                f"{document.file}:{called[0].line}: buildah {self.version()} knows no here-documents",
                "it would take their lines for instructions",
                "build with BuildKit, with buildah 1.33 or newer, or write the lines into a file and COPY it",
            )

    def _argv(self, rest: list[str]) -> list[str]:
        return ["buildah", "--root", str(self._folder / "storage"), "--runroot", str(self._folder / "run"), *rest]

    def _publish(self, image: str, run: Callable[[list[str], Hear], Ended], told: Path) -> str:
        ended = run(self._argv(["push", f"--digestfile={told}", image]), ignore)
        if ended.status != 0:
            raise _unsaved(f"{image} is built, and could not be sent to its registry", ended.words)
        return told.read_text().strip()

    @contextmanager
    def _machine(self, solve: Solve) -> Iterator[tuple[dict[str, str], int]]:
        """The storage, clean, and the descriptor that keeps others from cleaning it while we or ours live."""
        temporary = self._folder / "tmp"
        for folder in (self._folder / "storage", self._folder / "run", temporary):
            folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another build lives here
            else:
                self._sweep()
            fcntl.flock(lock, fcntl.LOCK_SH)
            with tempfile.TemporaryDirectory(dir=temporary) as own:
                registries = Path(own, "registries.conf")
                registries.write_text(_registries(solve))
                yield {"TMPDIR": own, "CONTAINERS_REGISTRIES_CONF": str(registries)}, lock
        finally:
            os.close(lock)

    def _sweep(self) -> None:
        """Remove what killed builds left: mounts, temporary files, working containers."""
        for mount in reversed(mounts_below(self._folder)):
            follow(["umount", "--lazy", mount], ignore, env={})
        left = list((self._folder / "tmp").iterdir())
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if left:
            follow(self._argv(["rm", "--all"]), ignore, env={}, alone=True)


def mounts_below(folder: Path) -> tuple[str, ...]:
    """What is mounted in ``folder`` as this process sees it, the inner ones last (proc_pid_mountinfo(5))."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    plain = (re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), point) for point in points)
    return tuple(point for point in plain if Path(point).is_relative_to(folder.resolve()))


class Reading:
    """Follows what ``buildah bud`` prints: which instruction has begun, and what became of it.

    An instruction that needs another stage may begin first and then wait for it. Only lines that begin an instruction
    name their stage, so the others count for the one that began last and has not ended.

    Args:
        tell: is called with every instruction that ended.
        tags: of the instructions that a fresh machine finds under another tag than the one that is printed.
        now: seconds, of a clock that never goes back.
    """

    _BEGUN = re.compile(r"(?:\[(\d+)/\d+\] )?STEP (\d+)/\d+: (.*)")
    _DONE = re.compile(r"--> [0-9a-f]{8,}$")

    def __init__(self, tell: Tell, tags: Mapping[Place, str], now: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._tags = tags
        self._now = now
        self._since = 0.0
        self._hit = self._remote = False
        self._lies = ""
        self._said = False  # whether steps are printed with their stage
        self._begun: list[Step] = []
        self._reached: dict[int, int] = {}
        self.key = ""
        """Under which the instruction that ended last was sent or found; empty: it was neither."""
        self.steps: list[Step] = []

    def hear(self, line: str) -> Step | None:
        """Take in one line of its output; gives the instruction that has ended with it."""
        begun = self._BEGUN.fullmatch(line)
        if begun and self._begin(begun[1] or "", int(begun[2]) - 1, begun[3]):
            return None
        if line.startswith("--> Cache pulled from remote "):
            self._remote, self._lies = True, line.rpartition(":")[2]
        elif line.startswith("--> Using cache "):
            self._hit = True
        elif line.startswith("--> Pushing cache "):
            self._lies = line.rpartition(":")[2]
        elif self._DONE.match(line):
            return self._end(Outcome.HIT if self._hit else Outcome.RAN)
        return None

    def fail(self) -> str:
        """The program has failed: so did the instruction in progress. Gives its text, or nothing."""
        step = self._end(Outcome.FAILED)
        return step.text if step else ""

    def _begin(self, stage_said: str, number: int, text: str) -> bool:
        """False if that cannot come next: what a RUN prints may look like a step, too."""
        stage = int(stage_said or 1) - 1
        if number != self._reached.get(stage, -1) + 1 or (self._reached and self._said != bool(stage_said)):
            return False
        self._said = bool(stage_said)
        self._reached[stage] = number
        if number:
            self._begun.append(Step(stage, number, text, Outcome.RAN))
        self._start()
        return True

    def _start(self) -> None:
        self._since, self._hit, self._remote, self._lies = self._now(), False, False, ""

    def _end(self, outcome: Outcome) -> Step | None:
        if not self._begun:
            return None
        took = self._now() - self._since
        remote = self._hit and self._remote
        step = self._begun.pop()
        self.key = self._lies
        tag = self.key and self._tags.get((step.stage, step.number), self.key)
        step = msgspec.structs.replace(step, outcome=outcome, seconds=took, remote=remote, tag=tag)
        self._start()
        self.steps.append(step)
        self._tell(step)
        return step


def _bud(solve: Solve) -> list[str]:
    beside = solve.dockerfile.with_name(solve.dockerfile.name + ".dockerignore")
    return [
        "bud",
        "--isolation=chroot",
        "--layers",
        "--identity-label=false",
        f"--timestamp={solve.epoch}",
        f"--cache-from={solve.cache}",
        f"--cache-to={solve.cache}",
        f"--file={solve.dockerfile}",
        *([f"--ignorefile={beside}"] if beside.exists() else []),
        *([f"--target={solve.target}"] if solve.target else []),
        *([f"--platform={solve.platform}"] if solve.platform else []),
        *(f"--build-arg={name}={value}" for name, value in solve.args.items()),
        *(f"--build-context={name}=docker-image://{pinned}" for name, pinned in solve.bases.items()),
        *([f"--tag={solve.image}"] if solve.image else []),
        str(solve.context),
    ]


def _registries(solve: Solve) -> str:
    """The machine's own list of registries, and who is spoken to without TLS: those on this machine, and ``plain``."""
    configured = next((path for path in (path.expanduser() for path in _CONFIGURED) if path.exists()), None)
    named = [solve.cache, solve.image, *solve.bases.values(), *solve.args.values(), text_of(solve.dockerfile)]
    hosts = sorted({host for text in named for host in _LOOPBACK.findall(text)} | set(solve.plain))
    blocks = [f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in hosts]
    return "\n".join([configured.read_text() if configured else "", *blocks])


def _failure(ended: Ended, text: str) -> Exception:
    words = ended.words.removeprefix("Error: ")
    if words.startswith("failed pushing cache"):
        return _unsaved(f"{text or 'an instruction'}: ran, and could not be sent to the cache", words)
    what = f"{text}: failed" if text else "buildah refused the build"
    return BuildFailed(what, words, "\n".join(["the build's last lines:", *ended.last[-SHOWN:]]))


def _unsaved(what: str, why: str) -> CacheUnsaved:
    todo = "mend the registry's address, credentials or space, and build again: nothing that is finished runs twice"
    return CacheUnsaved(what, why, todo)
