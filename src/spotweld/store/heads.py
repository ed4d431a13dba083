"""The head of a run: the one small object that says which checkpoints are published, and who may publish the next.

It is moved by compare-and-swap alone. Whoever wants to publish first raises the *epoch*; from then on every writer of
an earlier epoch loses, whenever it wakes up, because it finds the head under another epoch or fails the compare. No
clock takes part. The protocol is in ``docs/decisions/0002-compare-and-swap-on-files.md`` and durability's rules 3 to 5.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import Conflict, Corrupt, Fenced, NotFound, Unavailable, UnknownFormat, UsageError
from spotweld.values.digests import Digest, digest

if TYPE_CHECKING:
    from spotweld.store.objects import Objects, Version

_TRIES = 100
"""Lost races in a row before we say that something else is wrong; every one of them is another writer's progress."""
_DOUBTS = 3
"""Writes in a row that the store did not answer before the caller is told."""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published manifest."""

    step: int
    """Steps that were finished."""
    key: str
    digest: Digest
    size: int
    """Bytes of the manifest."""
    saved: float
    """By the writer's clock, seconds since 1970; for people only."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag=1):
    """What a run has published. A format that this version does not know is refused, never half understood."""

    epoch: int
    """Raised by every writer before its first publish."""
    attempt: int
    """The highest attempt that took over so far; 0 without a controller."""
    seq: int
    """Raised by every write."""
    write_id: str
    """Random, new for every write: tells a writer whether it was its own write that won."""
    kept: tuple[Kept, ...]
    """Newest first."""
    lineage: str = ""
    """Random, given once to a run's first head and handed on: tells this run from another of the same name."""


class HeadWriter:
    """The right to publish under one epoch; made by `take_over`. For one thread of one process.

    Args:
        objects: the store.
        run: the run's name.
        head: as it was taken over.
        decides: the store says what the run has published; False: it has only copies, whose loss ends nothing.
    """

    def __init__(self, objects: Objects, run: str, head: Head, *, decides: bool = True) -> None:
        self._objects = objects
        self._run = run
        self._head = head
        self._decides = decides
        self._ours = {head.write_id}

    @property
    def head(self) -> Head:
        """The head as this writer last left it."""
        return self._head

    def publish(self, kept: tuple[Kept, ...]) -> Head:
        """Make ``kept`` what the run has published. Durable when it returns.

        Raises:
            Fenced: a later epoch owns the run, or the head is gone where it decides: never write again.
            NotFound: the head is gone, and it only named copies.
            Corrupt: the head is damaged.
            Unavailable: the store did not answer; the head may or may not have moved. Publishing again is safe.
        """
        doubts = 0
        tried = ""
        for _ in range(_TRIES):
            found, version = self._read_ours()
            if found.write_id == tried:
                return self._won(found)
            tried = ""
            ours = self._head
            new = Head(ours.epoch, ours.attempt, found.seq + 1, new_write_id(), kept, ours.lineage)
            self._ours.add(new.write_id)
            try:
                self._objects.replace(head_key(self._run), seal(new), version)
            except Conflict:
                # Ours may have won, and the client's own second try of it lost.
                tried = new.write_id
            except Unavailable:
                # To see it there now would not prove it durable, should an fsync have failed: write anew.
                doubts += 1
                if doubts == _DOUBTS:
                    raise
            else:
                return self._won(new)
        raise _contended(self._run)

    def _won(self, head: Head) -> Head:
        # No earlier write of ours can arrive any more: the version that it expects is gone.
        self._ours = {head.write_id}
        self._head = head
        return head

    def _read_ours(self) -> tuple[Head, Version]:
        try:
            found, version = _read(self._objects, self._run)
        except NotFound as error:
            if not self._decides:
                raise
            raise Fenced(f"The head of run {self._run} is gone", "the run was deleted") from error
        if found.epoch != self._head.epoch or found.write_id not in self._ours:
            why = f"this writer has epoch {self._head.epoch}, the head epoch {found.epoch} of attempt {found.attempt}"
            raise Fenced(f"Run {self._run} has been taken over", why, "Nothing is lost: the later attempt goes on.")
        return found, version


def head_key(run: str) -> str:
    """Where the head of ``run`` lies.

    Raises:
        UsageError: a run's name is one part of a key.
    """
    if not run or "/" in run or run in {".", ".."}:
        raise UsageError(f"{run[:80]!r} cannot be a run's name", "it must be one part of a path")
    return f"runs/{run}/head"


def read_head(objects: Objects, run: str) -> Head | None:
    """The head of ``run``, or None if nobody ever took it over.

    Raises:
        Corrupt: the head is damaged.
        UnknownFormat: a newer Spotweld wrote it.
        Unavailable: the store did not answer.
    """
    try:
        return unseal(run, objects.get(head_key(run)))
    except NotFound:
        return None


def take_over(objects: Objects, run: str, attempt: int, *, lead: Head | None = None) -> HeadWriter:
    """Raise the epoch of ``run``, so that whoever wrote before cannot publish any more.

    Args:
        objects: the store.
        run: its name.
        attempt: the attempt's number from 1, or 0 where no controller counts them: that always takes over.
        lead: the head of the same run in the store that decides, where this one only has copies: its epoch is used.

    Raises:
        Fenced: a higher attempt has been here: this one was declared dead before it came up.
        Corrupt: the head is damaged.
        UnknownFormat: a newer Spotweld wrote it.
        Unavailable: the store did not answer.
    """
    key = head_key(run)
    doubted: set[str] = set()
    tried = ""
    for _ in range(_TRIES):
        try:
            found, version = _read(objects, run)
        except NotFound:
            found, version = Head(0, 0, 0, "", (), new_write_id()), None
        if found.write_id == tried != "":
            return HeadWriter(objects, run, found, decides=lead is None)
        if attempt and found.attempt > attempt:
            why = f"this is attempt {attempt}, and attempt {found.attempt} has taken over"
            raise Fenced(f"Run {run} belongs to a later attempt", why, "Nothing is lost: the later attempt goes on.")
        new = _successor(run, found, attempt, lead, ours=found.write_id in doubted)
        tried = ""
        try:
            if version is None:
                objects.create(key, seal(new))
            else:
                objects.replace(key, seal(new), version)
        except Conflict:
            tried = new.write_id
        except Unavailable:
            doubted.add(new.write_id)
            if len(doubted) == _DOUBTS:
                raise
        else:
            return HeadWriter(objects, run, new, decides=lead is None)
    raise _contended(run)


def _successor(run: str, found: Head, attempt: int, lead: Head | None, *, ours: bool) -> Head:
    epoch = found.epoch + 1 if lead is None else lead.epoch
    # Our own head, whose answer was lost, is no later attempt's; it is written anew, since it may not be durable.
    if epoch < found.epoch or (epoch == found.epoch and not ours):
        raise Fenced(f"Run {run} belongs to a later attempt", f"this is epoch {epoch}, there is {found.epoch}")
    lineage = (found.lineage or new_write_id()) if lead is None else lead.lineage
    # An attempt without a number keeps the highest one, so that a numbered zombie stays out.
    return Head(epoch, max(attempt, found.attempt), found.seq + 1, new_write_id(), found.kept, lineage)


def seal(head: Head) -> bytes:
    """The bytes of a head: one line with the digest of the JSON text that follows."""
    body = msgspec.json.encode(head)
    return f"{digest(body)}\n".encode() + body


def unseal(run: str, raw: bytes) -> Head:
    """The head that `seal` made ``raw`` of; the digest is checked before anything is parsed.

    Raises:
        Corrupt: the bytes are not what was written.
        UnknownFormat: a newer Spotweld wrote it.
    """
    line, _, body = raw.partition(b"\n")
    if line != digest(body).encode():
        what = f"The head of run {run} is damaged"
        todo = (
            "Its checkpoints are untouched. The next attempt makes the head anew from them: "
            "start the program, or launch the run, again."
        )
        raise Corrupt(what, "its bytes differ from its own digest", todo)
    try:
        return msgspec.json.decode(body, type=Head)
    except msgspec.MsgspecError as error:
        raise UnknownFormat(f"The head of run {run} was written by a newer Spotweld", str(error), "Upgrade.") from error


def new_write_id() -> str:
    """A name for one write that nobody else ever uses."""
    return os.urandom(12).hex()


def _read(objects: Objects, run: str) -> tuple[Head, Version]:
    raw, version = objects.read(head_key(run))
    return unseal(run, raw), version


def _contended(run: str) -> Unavailable:
    return Unavailable(
        f"Run {run} is taken over again and again", f"{_TRIES} lost races in a row", "Is it started twice?"
    )
