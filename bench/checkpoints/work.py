"""What a process of its own does for one contender. It is told by a ``Task`` and answers with JSON."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from checkpoints.contender import Contender, LeftOut, Peer, PeerSaves
from checkpoints.loop import Driver, Save
from checkpoints.measuring import Peak, digest, evict, memory, touch, warm
from checkpoints.states import KINDS, Training, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoints.curve import Point
    from checkpoints.flips import Flip
    from checkpoints.limits import Limits

OURS = "spotweld"
CHANGED = "spotweld, changed part alone"


class Task(msgspec.Struct, frozen=True):
    """One thing to measure."""

    what: str
    kind: str
    contender: str
    folder: str
    saves: int = 1
    expect: str = ""
    """The digest of the state that is restored."""


class Saved(msgspec.Struct, frozen=True):
    """What a process that saves has found."""

    first: Save
    later: list[Save]
    extra: int
    """The most bytes of memory above those before the first save."""
    state: int
    """Bytes of the state."""
    digest: str
    """Of the newest checkpoint's state."""


class Restored(msgspec.Struct, frozen=True):
    """What a process that restores has found, in seconds; ``ready`` has all state in the training's own objects."""

    cold: float
    warm: float
    first_step: float
    """From the start of the warm one to the end of the first step."""
    same: bool
    """The state that was saved, bit for bit."""


class Remote(msgspec.Struct, frozen=True):
    """What a process that saves to an object store has found."""

    first: Save
    later: list[Save]
    restore: float
    """Seconds to fetch the newest into a fresh training."""
    same: bool


def peers() -> dict[str, Callable[[], Peer]]:
    """All peers, by the names that tables give them."""
    from checkpoints import dcp, orbax, plain  # noqa: PLC0415  each contender's process loads what it needs

    return {
        "torch.save": plain.torch_save,
        "safetensors": plain.safetensors,
        **dcp.WAYS,
        "Orbax async": orbax.asynchronous,
        "fork and write": plain.fork,
        "ZipNN": plain.zipnn,
        "zstd-3 of the whole": plain.zstd,
    }


def contender(name: str, training: Training, folder: Path) -> Contender:
    """Start a contender on a training; ours restores what lies in the folder."""
    from checkpoints.ours import Ours  # noqa: PLC0415

    if name == OURS:
        return Ours(training, folder)
    if name == CHANGED:
        return Ours(training, folder, whole=False)
    return PeerSaves(peers()[name](), training, folder)


def save(task: Task) -> Saved:
    """The first save, one that does not count, so many that do, and one whose memory is watched."""
    training = Training(KINDS[task.kind])
    chosen = contender(task.contender, training, Path(task.folder))
    try:
        driver = Driver(training, chosen)
        driver.quiet(3)
        before = memory()
        first = driver.save()
        driver.unmeasured()
        later = [driver.save() for _ in range(task.saves)]
        expect = digest(training.parts())
        with Peak() as peak:
            driver.unmeasured()
    finally:
        chosen.close()
    return Saved(first, later, peak.size - before, size(training.parts()), expect)


def restore(task: Task) -> Restored:
    """From the disk into a fresh training, then from the page cache into another one, which makes a step."""
    cold, same = _restore(task, Training(KINDS[task.kind], fresh=True), evict)
    fresh = Training(KINDS[task.kind], fresh=True)
    again, also = _restore(task, fresh, warm)
    began = time.perf_counter()
    fresh.step()
    return Restored(cold, again, again + time.perf_counter() - began, same and also)


def _restore(task: Task, fresh: Training, prepare: Callable[[Path], None]) -> tuple[float, bool]:
    """Seconds until every page of the state is there, and whether it is what was saved."""
    folder = Path(task.folder)
    peer = None if task.contender == OURS else peers()[task.contender]()
    prepare(folder)
    began = time.perf_counter()
    if peer is None:
        chosen = contender(OURS, fresh, folder)
    else:
        (newest,) = folder.glob("save-*")
        peer.read(fresh, newest)
    touch(fresh.parts())
    took = time.perf_counter() - began
    if peer is None:
        chosen.close()
    else:
        peer.close()
    return took, digest(fresh.parts()) == task.expect


def remote(task: Task) -> Remote:
    """A first save to the object store, so many that count, and a restore of the newest into a fresh training."""
    from checkpoints.ours import Ours  # noqa: PLC0415
    from checkpoints.s3 import BUCKET, uploaded  # noqa: PLC0415

    def opened(into: Training) -> Contender:
        if task.contender == OURS:
            return Ours(into, folder, url=f"s3://{BUCKET}/{folder.name}")
        return PeerSaves(uploaded(peers()[task.contender]()), into, folder)

    folder = Path(task.folder)
    training = Training(KINDS[task.kind])
    chosen = opened(training)
    driver = Driver(training, chosen)
    driver.quiet(3)
    first = driver.save()
    later = [driver.save() for _ in range(task.saves)]
    expect = digest(training.parts())
    driver.unmeasured()
    newest = chosen.newest()
    chosen.close()
    fresh = Training(KINDS[task.kind], fresh=True)
    began = time.perf_counter()
    if task.contender == OURS:
        again = opened(fresh)
    else:
        uploaded(peers()[task.contender]()).read(fresh, newest)
    touch(fresh.parts())
    took = time.perf_counter() - began
    same = digest(fresh.parts()) == expect
    if task.contender == OURS:
        again.close()
    return Remote(first, later, took, same)


def limit(task: Task) -> Limits:
    """What the machine can do."""
    from checkpoints.limits import limits  # noqa: PLC0415

    return limits(task.kind, Path(task.folder))


def cadences(task: Task) -> list[Point]:
    """Added training time by cadence."""
    from checkpoints.curve import curve  # noqa: PLC0415

    training = Training(KINDS[task.kind])
    return curve(training, contender(task.contender, training, Path(task.folder)))


def flipped(task: Task) -> Flip:
    """One flipped bit."""
    from checkpoints.flips import flip  # noqa: PLC0415
    from checkpoints.ours import Ours  # noqa: PLC0415

    folder = Path(task.folder)

    def opened(training: Training) -> Contender:
        ours = task.contender == OURS
        return Ours(training, folder, keep=2) if ours else contender(task.contender, training, folder)

    def read(training: Training) -> None:
        if task.contender == OURS:
            opened(training)
        else:
            peers()[task.contender]().read(training, max(folder.glob("save-*")))

    return flip(task.kind, opened, read)


WORK: dict[str, Callable[[Task], object]] = {
    "save": save,
    "restore": restore,
    "remote": remote,
    "limits": limit,
    "curve": cadences,
    "flip": flipped,
}


def main(line: str) -> None:
    """Do one task and print the answer as the last line."""
    task = msgspec.json.decode(line, type=Task)
    try:
        answer = WORK[task.what](task)
    except LeftOut as error:
        answer = {"left_out": str(error)}
    print(msgspec.json.encode(answer).decode(), flush=True)
    os._exit(0)  # what a contender left running does not matter any more
