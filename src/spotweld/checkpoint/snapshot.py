"""A snapshot: the state between two steps, copied chunk by chunk into memory of our own while training stands still.

What is copied is handed over at once, so that it is checked, encoded and written while the rest is still being copied.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter, deque
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import msgspec

from spotweld.checkpoint.arrays import Leaf, copy_part, copy_whole, flat, in_place, is_plain
from spotweld.checkpoint.devices import finish, is_on_device, wait_for
from spotweld.checkpoint.format import LeafRecord
from spotweld.checkpoint.layout import Layout, lay_out
from spotweld.checkpoint.rng import capture_rng
from spotweld.checkpoint.state import take
from spotweld.checkpoint.threads import beside, next_of
from spotweld.checkpoint.tree import Node, flatten
from spotweld.errors import CheckpointError
from spotweld.values.digests import Digest, checksum

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from spotweld.checkpoint.staging import Staging
    from spotweld.values.clocks import Clock


_NUMBER = re.compile(r"\d+")
_BESIDE = 7
"""Threads that copy and compare beside the training thread, at most: more do not move memory any faster."""
_LARGE = 2**26
"""Bytes that are worth another thread."""


class Filled(msgspec.Struct, frozen=True):
    """A chunk whose bytes are known."""

    number: int
    """Its place in the layout."""
    data: memoryview | None
    """Its bytes, in a buffer of the staging memory; None: nothing was copied, because they are as they were."""
    digest: Digest | None
    """Of its bytes, where it is known already."""
    buffer: memoryview | None = None
    """The whole buffer that ``data`` is the beginning of."""


class State(msgspec.Struct, frozen=True):
    """What is to be saved: its structure, and the arrays in it, which are not copied yet."""

    tree: Node
    rng: Node
    leaves: tuple[Leaf, ...]
    layout: Layout


class Content(msgspec.Struct, frozen=True):
    """What a snapshot consists of, but for the bytes."""

    tree: Node
    """The program's state, without the arrays."""
    rng: Node
    """The generators' states, without the arrays."""
    leaves: tuple[LeafRecord, ...]
    """The arrays, and where they lie in the chunks."""
    sizes: tuple[int, ...]
    """Of the chunks, bytes."""


class Source(Protocol):
    """Where a snapshot's chunks come from."""

    def digest(self, number: int) -> Digest | None:
        """Of a chunk that need not be copied for that; None: it must be."""
        ...

    def copy(self, number: int, into: memoryview) -> Digest | None:
        """Copy a chunk; its digest if that is known already."""
        ...

    def is_plain(self, number: int) -> bool:
        """It lies in memory as it is to be copied: any thread may do that, and several at once."""
        ...


def describe(state: Mapping[str, object]) -> State:
    """Look at a state without copying it.

    Raises:
        UnsupportedState: it holds something that cannot be stored.
    """
    leaves: list[Leaf] = []
    parts: list[int] = []
    pairs: list[list[Node]] = []
    for part, (name, value) in enumerate(take(state).items()):
        pairs.append([name, flatten(value, name, leaves)])
        parts += [part] * (len(leaves) - len(parts))
    groups = _groups(leaves, parts)
    rng = flatten(capture_rng(), "rng", leaves)
    groups += [(-1, "")] * (len(leaves) - len(groups))
    return State({"dict": pairs}, rng, tuple(leaves), lay_out([leaf.size for leaf in leaves], groups))


def _groups(leaves: Sequence[Leaf], parts: Sequence[int]) -> list[Hashable]:
    """Which small leaves share chunks: those that mean the same in other layers, since they change together or not."""
    roles = [_NUMBER.sub("*", leaf.path) for leaf in leaves]
    many = Counter(roles)
    return [
        (part, leaf.dtype, role if many[role] > 1 else "")
        for leaf, part, role in zip(leaves, parts, roles, strict=True)
    ]


class Snapshot:
    """A state on its way to a store.

    Args:
        content: what it consists of.
        source: where its chunks come from.
        step: steps finished.
        staging: where chunks are copied to.
        clock: for the stall.
        began: when that began which holds up the training, by the monotonic clock.
    """

    def __init__(
        self,
        content: Content,
        source: Source,
        step: int,
        staging: Staging,
        clock: Clock,
        began: float,
    ) -> None:
        self.content, self.step, self.staging, self.began = content, step, staging, began
        self.size = sum(leaf.size for leaf in content.leaves)
        """Bytes of the leaves."""
        self.stall = 0.0
        """Seconds that the copying held up whoever did it; known when all is copied."""
        self._source, self._clock = source, clock
        self._handed: SimpleQueue[Filled | Exception | None] = SimpleQueue()

    def copy(self, unchanged: Mapping[int, Digest] | None = None) -> None:
        """Copy all chunks. A failure is raised where the chunks are taken, an interruption here as well.

        Args:
            unchanged: digests of chunks that are likely to be the same again, and are stored already: these are
                compared where they are, and copied only if they differ.
        """
        many = len(self.content.sizes)
        likely = {number: then for number, then in (unchanged or {}).items() if number < many}  # it may have shrunk
        try:
            self._copy_all(likely)
            self.stall = self._clock.monotonic() - self.began
            self._handed.put(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, the save fails and training goes on
            self._handed.put(error)
        except BaseException as error:
            # The program is interrupted: whoever takes the chunks must not wait for more of them.
            self._handed.put(CheckpointError("The state could not be copied", f"a {type(error).__name__} came"))
            raise

    def _copy_all(self, likely: Mapping[int, Digest]) -> None:
        """What has surely changed goes first, so that there is something to write."""
        numbers = sorted(range(len(self.content.sizes)), key=likely.__contains__)
        alone, shared = deque[int](), deque[int]()
        for number in numbers:
            (shared if self._source.is_plain(number) else alone).append(number)

        def work(todo: deque[int]) -> None:
            try:
                while (number := next_of(todo)) is not None:
                    self._hand(number, likely.get(number))
            except BaseException:
                shared.clear()  # the others stop
                raise

        size = sum(self.content.sizes[number] for number in shared)
        with beside(partial(work, shared), min((os.cpu_count() or 1) - 1, _BESIDE, size // _LARGE), "spotweld copy"):
            work(alone)
            work(shared)

    def _hand(self, number: int, then: Digest | None) -> None:
        """Hand over a chunk, and copy it unless it is what it was ``then``."""
        if then is not None and self._source.digest(number) == then:
            self._handed.put(Filled(number, None, then))
            return
        size = self.content.sizes[number]
        buffer = self.staging.take(size)
        try:
            digest = self._source.copy(number, buffer[:size])
        except BaseException:
            self.staging.give_back(buffer)
            raise
        self._handed.put(Filled(number, buffer[:size], digest, buffer))

    def chunks(self) -> Iterator[Filled]:
        """Each chunk as soon as it is there. Several threads may take from it at once.

        Raises:
            Exception: the copy failed.
        """
        while (handed := self._handed.get()) is not None:
            if isinstance(handed, Exception):
                self._handed.put(handed)
                raise handed
            yield handed
        self._handed.put(None)

    def release(self, chunk: Filled) -> None:
        """Its buffer may be used again."""
        if chunk.buffer is not None:
            self.staging.give_back(chunk.buffer)

    def discard(self) -> None:
        """Take what is left, for nothing, so that the copy comes to its end."""
        try:
            for chunk in self.chunks():
                self.release(chunk)
        except Exception:  # noqa: BLE001 - whoever gives up has heard of it, or has a better reason
            return


def capture(state: Mapping[str, object], step: int, staging: Staging, clock: Clock) -> Snapshot:
    """Begin a snapshot of a live state: look at it, copy nothing yet.

    Raises:
        UnsupportedState: the state holds something that cannot be stored.
    """
    began = clock.monotonic()
    seen = describe(state)
    source = LiveSource(seen, staging, clock)
    leaves = tuple(
        LeafRecord(leaf.kind, leaf.dtype, leaf.shape, chunk, offset)
        for leaf, (chunk, offset) in zip(seen.leaves, seen.layout.places, strict=True)
    )
    sizes = tuple(plan.size for plan in seen.layout.chunks)
    return Snapshot(Content(seen.tree, seen.rng, leaves, sizes), source, step, staging, clock, began + source.waited)


class LiveSource:
    """The arrays of a live state. Each thread looks them up one at a time: most chunks follow one another.

    Args:
        state: whose arrays. What their accelerators were asked to do is waited for.
        staging: where chunks will be copied to; it is pinned if that is from an accelerator.
        clock: for the waiting.
    """

    def __init__(self, state: State, staging: Staging, clock: Clock) -> None:
        self._leaves, self._chunks = state.leaves, state.layout.chunks
        self._latest = threading.local()
        self._on_devices = frozenset(at for at, leaf in enumerate(state.leaves) if is_on_device(leaf.source))
        if self._on_devices:
            staging.pinned = True
        began = clock.monotonic()
        wait_for(state.leaves[at].source for at in self._on_devices)
        self.waited = clock.monotonic() - began
        """Seconds. They are the training's own, and no cost of the save."""

    def copy(self, number: int, into: memoryview) -> Digest | None:
        parts = self._chunks[number].parts
        crossing = [self._leaves[part.leaf].source for part in parts if part.leaf in self._on_devices]
        try:
            self._copy(number, into)
        finally:
            # Even if it failed: nothing may come to the buffer any more when it is used again.
            finish(crossing)
        # Just copied, it is still in the cache. What one thread copies alone is checked beside it, by others, and so is
        # what a bus has brought.
        return checksum(into) if self.is_plain(number) and not crossing else None

    def _copy(self, number: int, into: memoryview) -> None:
        end = 0
        for part in self._chunks[number].parts:
            into[end : part.offset] = bytes(part.offset - end)  # equal states make equal chunks: no old bytes between
            end = part.offset + part.size
            leaf = self._leaves[part.leaf]
            if part.size == leaf.size and part.leaf not in self._on_devices:
                copy_whole(leaf, into[part.offset : end])
            else:
                copy_part(self._bytes_of(part.leaf), part.start, into[part.offset : end])
        into[end:] = bytes(into.nbytes - end)

    def is_plain(self, number: int) -> bool:
        (first, *others) = self._chunks[number].parts
        return not others and is_plain(self._leaves[first.leaf])

    def digest(self, number: int) -> Digest | None:
        plan = self._chunks[number]
        (first, *others) = plan.parts
        if others or first.size != plan.size:
            return None
        memory = in_place(self._bytes_of(first.leaf))
        return None if memory is None else checksum(memory[first.start : first.start + first.size])

    def _bytes_of(self, leaf: int) -> object:
        latest = self._latest
        if getattr(latest, "leaf", None) != leaf:
            latest.leaf, latest.flat = leaf, flat(self._leaves[leaf])
        return latest.flat
