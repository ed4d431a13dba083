"""Making chunks smaller on their way to a store: which codec each gets, and against what a difference is taken."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.arrays import itemsize
from spotweld.checkpoint.choosing import Chooser, Goal
from spotweld.checkpoint.codecs import RAW, codec_names, encode
from spotweld.checkpoint.distributed.shards import array_paths
from spotweld.checkpoint.format import Manifest
from spotweld.checkpoint.packing import Coded, Stored
from spotweld.checkpoint.reading import Buffers, read_chunk
from spotweld.checkpoint.scales import FEWEST, Matrix
from spotweld.errors import StoreError
from spotweld.project.nouns import Compress
from spotweld.store.objects import Objects
from spotweld.values.digests import checksum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.checkpoint.snapshot import Content

_DELTA = "delta"
_LARGE = 2**16
"""Bytes: smaller chunks are not worth a codec's header, nor the time to choose one."""
_WORTH = 0.9
"""A new base is due when what differences save has shrunk to a tenth of a checkpoint that stands alone."""
_MOST = 50
"""Checkpoints against one base: what is lost with a damaged base is bounded."""


class Held(msgspec.Struct, frozen=True):
    """What a chunk holds, as far as it matters to a codec."""

    kind: tuple[str, ...] = ("",)
    """What numbers that compress alike have in common: the part, the last name on the path, the dtype."""
    itemsize: int = 1
    """Bytes of a number."""
    matrix: Matrix | None = None
    """Where in a matrix they lie; None: in none that is worth a codec of its own."""


class Base(msgspec.Struct, frozen=True):
    """A checkpoint without differences, which those of the next ones are taken against."""

    objects: Objects
    """Where its bytes are read from: a tier near the machine, or the store itself if it is near."""
    manifest: Manifest
    """Of the copy there."""
    chunks: tuple[Stored, ...]
    """Where they lie in the store that is written to."""


def is_near(objects: Objects) -> bool:
    """What it holds can be read again without a network."""
    return objects.url.startswith(("file:", "memory:"))


def encoder_for(compress: Compress, objects: Objects) -> Encoder | None:
    """What makes checkpoints smaller on their way to that store; None: nothing does."""
    if compress is Compress.NONE or (compress is Compress.AUTO and is_near(objects)):
        return None  # no codec is as fast as a disk
    return Encoder(Goal.BYTES if compress is Compress.BYTES else Goal.TIME, objects.streams)


class Encoder:
    """Encodes the checkpoints that go to one store, one after another.

    Args:
        goal: what codecs are chosen for.
        threads: how many encode at once.
    """

    def __init__(self, goal: Goal, threads: int) -> None:
        self._chooser = Chooser(goal=goal, threads=min(threads, os.cpu_count() or 1))
        self._held: tuple[Held, ...] = ()
        self._own = threading.local()
        self.base: Base | None = None
        """What differences are taken against; None: nothing."""
        self._alone = self._since = 0

    def begin(self, content: Content) -> None:
        """A checkpoint with that content comes next."""
        self._held = _held(content)
        if self.base is not None and tuple(chunk.raw for chunk in self.base.manifest.chunks) != content.sizes:
            self.base = None

    def encode(self, number: int, data: memoryview) -> Coded | None:
        """A chunk in the codec of its kind; None: as it is."""
        if data.nbytes < _LARGE:
            return None
        held, base = self._held[number], self.base
        names = codec_names(held.itemsize, has_base=base is not None, in_matrix=held.matrix is not None)
        codec = self._chooser.codec_for(held.kind, names)
        if codec == RAW:
            return None
        against = self._bytes_of(base, number) if base is not None and codec.startswith(_DELTA) else None
        if codec.startswith(_DELTA) and against is None:
            return None
        began = time.thread_time()
        coded = encode(data, codec, against, held.matrix)
        self._chooser.learn(held.kind, codec, data.nbytes, len(coded), time.thread_time() - began)
        if len(coded) >= data.nbytes:
            return None
        return Coded(coded, codec, checksum(coded), base.chunks[number] if base and against is not None else None)

    def sent(self, size: int, seconds: float, at_once: int) -> None:
        """So many bytes took so long to the store, while as many transfers as that ran."""
        speed = size / max(seconds, 1e-9) * at_once
        link = self._chooser.link
        self._chooser.link = speed if link is None else 0.8 * link + 0.2 * speed

    def published(self, chunks: tuple[Stored, ...], near: tuple[Objects, Manifest] | None) -> None:
        """A checkpoint was published: from now on it may be the base, if its bytes can be had nearby.

        Args:
            chunks: where its chunks lie.
            near: where they can be read without going to the store.
        """
        stored = sum(chunk.stored for chunk in chunks)
        if near is not None and all(chunk.base is None for chunk in chunks):
            self.base, self._alone, self._since = Base(*near, chunks), stored, 0
        else:
            self._since += 1
            if stored > _WORTH * self._alone or self._since >= _MOST:
                self.base = None

    def _bytes_of(self, base: Base, number: int) -> memoryview | None:
        if not hasattr(self._own, "buffers"):
            self._own.buffers, self._own.wanted = Buffers(), Buffers()
        chunk = base.manifest.chunks[number]
        into: memoryview = self._own.wanted.get("against", chunk.raw)
        try:
            read_chunk(base.objects, base.manifest, chunk, into, self._own.buffers)
        except (StoreError, OSError):
            return None  # a difference is a bonus
        # What is differed from must be, bit for bit, what the store has.
        return into if base.chunks[number].digest == chunk.digest else None


def _held(content: Content) -> tuple[Held, ...]:
    """What each chunk holds; where several leaves share one, the first that begins in it says so."""
    paths: Mapping[int, str] = array_paths(content.tree)
    found: list[Held | None] = [None] * len(content.sizes)
    for number, leaf in enumerate(content.leaves):
        path = paths.get(number, "")
        kind = (path.partition(".")[0], path.rpartition(".")[2], leaf.dtype)
        size, width = leaf.size, itemsize(leaf.kind, leaf.dtype)
        at, start = leaf.chunk, -leaf.offset
        while start < size:
            if found[at] is None:
                within = None if leaf.offset else _matrix(leaf.shape, start // width, content.sizes[at] // width)
                found[at] = Held(kind, width, within)
            at, start = at + 1, start + content.sizes[at]
    return tuple(held or Held() for held in found)


def _matrix(shape: tuple[int, ...], first: int, count: int) -> Matrix | None:
    """Where in an array with that shape so many numbers from ``first`` on lie."""
    if len(shape) < 2:
        return None
    columns = math.prod(shape[1:])
    if columns < FEWEST or count < FEWEST * columns:
        return None
    return Matrix(columns, first % columns)
