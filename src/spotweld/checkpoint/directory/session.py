"""One attempt's work on a directory: take the run over, restore, save. When to save is for others to decide."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint import cadence, events
from spotweld.checkpoint.cadence import Cost
from spotweld.checkpoint.directory.copying import SETTLE, Copies
from spotweld.checkpoint.directory.engine import MEMORY, publish, stored_digests
from spotweld.checkpoint.directory.listing import Listing, from_manifest, listing_of, to_tree
from spotweld.checkpoint.directory.names import to_text
from spotweld.checkpoint.directory.protocol import quiesced, ready_now, stopped
from spotweld.checkpoint.directory.restoring import repair, restore
from spotweld.checkpoint.directory.scanning import scan
from spotweld.checkpoint.format import Manifest
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import check_owner, read_manifest
from spotweld.checkpoint.session import patiently, take_over_mending
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.voice import warn
from spotweld.errors import Corrupt, Fenced, NotFound, NoWholeCheckpoint, SpotweldError, Unsettled
from spotweld.store.heads import Kept
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from spotweld.checkpoint.directory.protocol import Place, Ready
    from spotweld.checkpoint.directory.scanning import Scan
    from spotweld.checkpoint.events import EventFile
    from spotweld.project.nouns import CheckpointPolicy
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

_CALM = 4
"""Times that a program at work is copied before it is stopped for a moment."""


class Found(msgspec.Struct, frozen=True):
    """The checkpoint that was restored."""

    kept: Kept
    manifest: Manifest
    listing: Listing
    damaged: tuple[tuple[Kept, str], ...]
    """Newer ones that are damaged, and how."""


class DirectorySession:
    """Takes the run over and restores its newest whole checkpoint into the directory. For one thread at a time.

    Args:
        folder: the job's, absolute; the directory is in it.
        policy: what was asked for.
        run: the run's name.
        attempt: the attempt's number.
        objects: the store.
        scratch: a folder on a disk with room for a copy of the directory.
        tell: where events go.
        clock: time.

    Raises:
        Fenced: a later attempt owns the run.
        NoWholeCheckpoint: every checkpoint is damaged.
        StateMismatch: the run's checkpoints are none of a directory.
        CheckpointError: this machine cannot hold the directory.
        UnknownFormat: a newer Spotweld wrote the run.
        Unavailable: the store does not answer.
    """

    def __init__(
        self,
        folder: Path,
        policy: CheckpointPolicy,
        run: str,
        attempt: int,
        objects: Objects,
        scratch: Path,
        tell: EventFile,
        clock: Clock,
    ) -> None:
        self._folder, self._policy, self._scratch, self._tell, self._clock = folder, policy, scratch, tell, clock
        # The set-up may have made it a link to a disk with more room.
        self._root = bytes((folder / policy.directory).resolve())
        began = clock.monotonic()
        writer = patiently(lambda: take_over_mending(objects, run, attempt), clock)
        self.epoch = writer.head.epoch
        repair(self._root)
        found = patiently(partial(_bring_newest, objects, run, writer.head.kept, self.epoch, self._root), clock)
        self.step = found.manifest.step if found else 0
        """Number of the newest snapshot that is durable; 0: there is none."""
        self.finished = found is not None and found.listing.finished
        """The program had ended with exit status 0 before that snapshot."""
        self.mark = (self.step, clock.monotonic())
        """Number and time of the newest snapshot that was taken or restored; the cadence counts from it."""
        self.costs: tuple[Cost, ...] = ()
        """Of the latest saves."""
        self.failures = 0
        """In a row."""
        self.why = ""
        """Of the last failure."""
        self._retry_at = 0.0
        self._saved: Scan | None = scan(self._root) if found else None
        self._listing = found.listing if found else None
        self._staging = Staging(MEMORY)
        # A marker that is there before the program starts tells nothing about what it will do.
        self._ready: Ready = ready_now(folder, policy.ready) if policy.ready else frozenset()
        self._warned: set[bytes] = set()
        self._publisher = Publisher(
            objects,
            run,
            writer,
            clock,
            keep_last=policy.keep_last,
            keep_every=policy.keep_every,
            whole=found.manifest if found else None,
            damaged=[kept.key for kept, _ in found.damaged] if found else (),
        )
        self._tell_restored(found, began)

    def changed(self) -> bool:
        """Whether there is something to save now: the directory differs from what is durable, and its marker says go.

        Raises:
            SpotweldError: the directory cannot be saved.
            OSError: it cannot be read.
        """
        if self._policy.ready and ready_now(self._folder, self._policy.ready) in {frozenset(), self._ready}:
            return False
        seen = scan(self._root)
        return seen is not None and seen != self._saved

    @property
    def deliveries(self) -> tuple[Cost, ...]:
        """As ``costs``: what is saved is in the store."""
        return self.costs

    def save(self, reason: str, place: Place | None, *, finished: bool = False, urgent: bool = False) -> bool:
        """Save the directory if it has changed.

        Args:
            reason: for the events.
            place: where the program runs; None: it has ended, so nothing has to be waited for.
            finished: it has ended with exit status 0: the directory is complete, whatever its marker says.
            urgent: do not wait for the back-off after a failure.

        Returns:
            False if it could not be saved now.

        Raises:
            Fenced: a later attempt owns the run.
        """
        if self._clock.monotonic() < self._retry_at and not urgent:
            return False
        try:
            self._save(reason, place, finished=finished)
        except Fenced:
            raise
        except (SpotweldError, OSError) as error:
            self._fail(error)
            return False
        return True

    def _save(self, reason: str, place: Place | None, *, finished: bool) -> None:
        step, began = self.step + 1, self._clock.monotonic()
        pattern = "" if finished else self._policy.ready
        ready = ready_now(self._folder, pattern) if pattern else frozenset()
        if pattern and ready in {frozenset(), self._ready}:
            return
        seen = scan(self._root)
        if seen is None or (seen == self._saved and finished == self.finished):
            return
        # Once the program is over, everything is read: a file that it wrote through a memory map may bear an old mark.
        stored = {} if finished else self._stored(seen)
        marks = {path: seen.files[path] for path in stored}
        with Copies(self._root, self._scratch, marks) as copies:
            seen, stall = self._take(copies, seen, place)
            if pattern and ready_now(self._folder, pattern) != ready:
                raise Unsettled(f"{pattern} changed", "the program went on while the directory was copied")
            self._warn(seen)
            self._tell.write(events.Saving(self._clock.now(), step, reason))
            listing = listing_of(seen, finished=finished)
            contents = [
                _File(copies, path, one.size, stored[path] if seen.files[path] == marks.get(path) else ())
                for path, one in listing.files.items()
            ]
            kept = publish(self._publisher, step, to_tree(listing), contents, self._staging, self._clock)
        if self.failures:
            warn(f"saving works again: snapshot {step} is durable")
        seconds = self._clock.monotonic() - began
        self.step, self.mark, self.failures, self._retry_at = step, (step, began), 0, 0.0
        self.finished, self._ready, self._saved = finished, ready, seen
        self._listing = listing
        self.costs = cadence.latest(self.costs, Cost(stall, seconds, seen.size))
        self._tell.write(events.Saved(self._clock.now(), step, reason, stall, seconds, seen.size, kept.key))
        self._tell.write(events.Step(self._clock.now(), step))

    def _stored(self, seen: Scan) -> dict[bytes, tuple[Digest, ...]]:
        """The files that are as they were in the newest snapshot, and that it can be referred to for."""
        listing = self._listing
        if listing is None or self._saved is None:
            return {}
        same = {
            path: listing.files[path].content
            for path in listing.files.keys() & seen.files.keys()
            if self._saved.files.get(path) == seen.files[path]
        }
        found = {path: stored_digests(self._publisher, leaf) for path, leaf in same.items()}
        return {path: digests for path, digests in found.items() if digests}

    def _take(self, copies: Copies, seen: Scan, place: Place | None) -> tuple[Scan, float]:
        """Copy the directory; what was copied, and for how many seconds the program stood still."""
        if place is None:
            return copies.settle(self._clock, seen), 0.0
        if not self._policy.quiesce:
            with suppress(Unsettled):
                return copies.settle(self._clock, seen, _CALM), 0.0
            still = stopped(place.group)
        else:
            self._clock.sleep(SETTLE)
            copies.copy(seen)
            still = quiesced(self._policy, place)
        # Most is copied by now. What was not, or has changed since, is all that the program has to stand still for.
        began = self._clock.monotonic()
        with still:
            seen = copies.settle(self._clock)
        return seen, self._clock.monotonic() - began

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        self._retry_at = self._clock.monotonic() + cadence.retry_after(self.failures)
        self.why = str(error) if isinstance(error, SpotweldError) else f"{type(error).__name__}: {error}"
        if self.failures == 1:
            warn(f"a save failed, the program goes on and it is tried again: {self.why}")
        self._tell.write(events.SaveFailed(self._clock.now(), self.step + 1, self.why, self.failures))

    def _warn(self, seen: Scan) -> None:
        """Say once of every file that cannot be saved that it is not."""
        for path in sorted(seen.left_out.keys() - self._warned):
            warn(f"{to_text(self._root)}/{to_text(path)} is not saved: {seen.left_out[path]}")
        self._warned |= seen.left_out.keys()

    def _tell_restored(self, found: Found | None, began: float) -> None:
        if found is None:
            self._tell.write(events.Fresh(self._clock.now()))
            return
        for kept, why in found.damaged:
            warn(f"the checkpoint of step {kept.step} is damaged and passed over: {why}")
        told = tuple(events.Damage(kept.step, why) for kept, why in found.damaged)
        seconds = self._clock.monotonic() - began
        self._tell.write(events.Restored(self._clock.now(), self.step, found.kept.key, seconds, told))


class _File(msgspec.Struct, frozen=True):
    """The copy of one file, as the content of a leaf."""

    copies: Copies
    path: bytes
    size: int
    digests: tuple[Digest, ...]
    """Of its chunks, if there is no copy because they are stored already."""

    def read(self, start: int, into: memoryview) -> None:
        self.copies.read(self.path, start, into)


def _bring_newest(objects: Objects, run: str, kept: Sequence[Kept], epoch: int, root: bytes) -> Found | None:
    """Restore the newest whole checkpoint; None if the run has none at all."""
    damaged: list[tuple[Kept, str]] = []
    for one in kept:
        try:
            manifest = read_manifest(objects, run, one)
            listing = from_manifest(manifest)
            restore(objects, manifest, listing, root)
        except (Corrupt, NotFound) as error:
            check_owner(objects, run, epoch)
            damaged.append((one, str(error)))
        else:
            return Found(one, manifest, listing, tuple(damaged))
    if damaged:
        raise NoWholeCheckpoint(
            f"All {len(damaged)} checkpoints of the run {run} are damaged",
            "; ".join(f"step {one.step}: {why}" for one, why in damaged),
            "To start over, use another run name.",
        )
    return None
