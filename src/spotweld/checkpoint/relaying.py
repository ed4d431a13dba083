"""From a fast tier to a slower one: the newest checkpoint is carried on, while the next are already being saved."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.cadence import retry_after
from spotweld.checkpoint.format import Manifest
from spotweld.checkpoint.publishing import Written
from spotweld.checkpoint.reading import Buffers, read_chunk
from spotweld.checkpoint.snapshot import Content, Snapshot
from spotweld.checkpoint.staging import Staging
from spotweld.errors import Fenced
from spotweld.store.heads import Kept

if TYPE_CHECKING:
    from spotweld.checkpoint.publishing import Publisher
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock
    from spotweld.values.digests import Digest

_MEMORY = 16 * 2**22
"""Bytes of buffers: what is on its way from one tier to the other."""


class Load(msgspec.Struct, frozen=True):
    """A checkpoint of the fast tier, to be carried."""

    kept: Kept
    manifest: Manifest
    began: float
    """When its capture began, by the monotonic clock."""
    alone: bool = False
    """It is to depend on no other checkpoint where it gets to."""


class Carried(msgspec.Struct, frozen=True):
    """How carrying one ended."""

    load: Load
    kept: Kept | None
    """What the slower tier has published; None: it failed, and will be tried again."""
    seconds: float
    """From the start of the capture."""
    carrying: float
    """Seconds of these that it was being carried, and not waiting for its turn."""
    error: Exception | None
    failures: int
    """In a row."""
    written: Written
    """What had to be written there; as of the former one if it failed."""
    differences: bool
    """The next one may be stored as differences."""


class Relay:
    """Carries checkpoints to one slower tier, one at a time, always the newest.

    Its methods are for the training thread alone. What it holds or waits to read is in ``reads``: nobody may delete it.

    Args:
        fast: the tier that it reads from.
        publisher: of the slower tier.
        clock: time.
        every: seconds from the start of one to the start of the next, at least.
    """

    def __init__(self, fast: Objects, publisher: Publisher, clock: Clock, *, every: float = 0.0) -> None:
        self._fast, self._publisher, self._clock, self._every = fast, publisher, clock, every
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._waiting: Load | None = None
        self._current: Load | None = None
        self._base: Load | None = None
        """What differences are taken against."""
        self._ended: list[Carried] = []
        self._thread: threading.Thread | None = None
        self._staging = Staging(_MEMORY)
        self._not_before = float("-inf")
        self._since = 0.0
        self._hurried = self._closed = False
        self._failures = 0

    @property
    def reads(self) -> frozenset[str]:
        """Keys of the manifests in the fast tier that are being read, or will be."""
        with self._lock:
            loads = [load for load in (self._waiting, self._current, self._base) if load is not None]
            return frozenset(load.kept.key for load in loads)

    @property
    def busy(self) -> bool:
        """Something is being carried, or waits to be."""
        with self._lock:
            return self._waiting is not None or self._current is not None

    @property
    def carries(self) -> tuple[float, Load] | None:
        """What is being carried, and since when; None: nothing is."""
        with self._lock:
            return None if self._current is None else (self._since, self._current)

    def offer(self, load: Load) -> None:
        """Carry this one next, instead of any that still waits."""
        with self._lock:
            self._waiting = load
            if self._thread is None and not self._closed:
                # A daemon: a store that never answers must not keep the process from leaving a machine that goes.
                self._thread = threading.Thread(target=self._run, name="spotweld relay", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # the machine gives no more
                    self._thread, self._waiting, self._since = None, None, self._clock.monotonic()
                    self._ended.append(self._end(load, None, error))

    def hurry(self) -> None:
        """Wait for nothing any more but the store: the machine goes, or all is done."""
        self._hurried = True
        self._wake.set()

    def calm(self) -> None:
        """Wait again: the machine stays after all."""
        self._hurried = False

    def close(self) -> None:
        """Begin no more."""
        with self._lock:
            self._closed, self._waiting = True, None
        self._wake.set()

    def wait(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds of real time until nothing is carried any more."""
        thread = self._thread
        if thread is not None:
            thread.join(max(0.0, timeout))

    def collect(self) -> list[Carried]:
        """What has ended since the last call."""
        with self._lock:
            ended, self._ended = self._ended, []
        return ended

    def _run(self) -> None:
        while True:
            pause = 0.0 if self._hurried else self._not_before - self._clock.monotonic()
            with self._lock:
                if self._closed or self._waiting is None:
                    self._thread = None
                    return
                if pause <= 0:
                    self._since = self._clock.monotonic()
                    load, self._current, self._waiting = self._waiting, self._waiting, None
            if pause > 0:
                self._wake.wait(pause)
                self._wake.clear()
                continue
            self._not_before = self._since + self._every
            ended = self._carry(load)
            with self._lock:
                self._current = None
                if self._publisher.base is load.manifest:
                    self._base = load
                elif self._publisher.base is None:
                    self._base = None
                self._ended.append(ended)
                if ended.kept is None and not isinstance(ended.error, Fenced) and not self._closed:
                    self._waiting = self._waiting or load
                    self._not_before = self._clock.monotonic() + retry_after(ended.failures)
                    # Whoever hurries still gives a store that refuses a moment.
                    self._hurried = False

    def _carry(self, load: Load) -> Carried:
        kept, error = None, None
        try:
            kept = self._publish(load)
        except Exception as failure:  # noqa: BLE001 - whatever it is, training goes on and is told
            error = failure
        return self._end(load, kept, error)

    def _end(self, load: Load, kept: Kept | None, error: Exception | None) -> Carried:
        self._failures = 0 if kept is not None else self._failures + 1
        now, publisher = self._clock.monotonic(), self._publisher
        return Carried(
            load=load,
            kept=kept,
            seconds=now - load.began,
            carrying=now - self._since,
            error=error,
            failures=self._failures,
            written=publisher.written,
            differences=publisher.base is not None,
        )

    def _publish(self, load: Load) -> Kept:
        if load.alone:
            self._publisher.stand_alone()
        snapshot = _read(self._fast, load, self._staging, self._clock)
        stored = {
            number: chunk.digest
            for number, chunk in enumerate(load.manifest.chunks)
            if self._publisher.has(chunk.digest, chunk.raw)
        }
        reader = threading.Thread(target=snapshot.copy, args=(stored,), name="spotweld relay", daemon=True)
        reader.start()
        try:
            return self._publisher.publish(snapshot, (self._fast, load.manifest))
        finally:
            reader.join()


def _read(fast: Objects, load: Load, staging: Staging, clock: Clock) -> Snapshot:
    manifest = load.manifest
    sizes = tuple(chunk.raw for chunk in manifest.chunks)
    staging.reserve(sizes)
    content = Content(manifest.state, manifest.rng, manifest.leaves, sizes)
    return Snapshot(content, _Published(fast, manifest), manifest.step, staging, clock, clock.monotonic())


class _Published:
    """The chunks of a checkpoint, verified as they are read."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        self._objects, self._manifest, self._buffers = objects, manifest, Buffers()

    def digest(self, number: int) -> Digest | None:
        return self._manifest.chunks[number].digest

    def is_plain(self, _number: int) -> bool:
        return False

    def copy(self, number: int, into: memoryview) -> Digest | None:
        chunk = self._manifest.chunks[number]
        read_chunk(self._objects, self._manifest, chunk, into, self._buffers)
        return chunk.digest
