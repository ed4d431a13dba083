"""From chunks to packs and back: several threads, what is shared, what fails, and what a damaged pack is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spotweld.checkpoint import layout, packing, staging
from spotweld.checkpoint.choosing import Goal
from spotweld.checkpoint.encoding import Encoder
from spotweld.checkpoint.format import Chunk, Manifest, Pack
from spotweld.checkpoint.packing import Coded, Packer, Stored
from spotweld.checkpoint.reading import read
from spotweld.checkpoint.snapshot import Snapshot, capture
from spotweld.checkpoint.staging import Staging
from spotweld.errors import Corrupt, NotFound, Unavailable
from spotweld.values.digests import checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import HandClock, Watched

CHUNK = 2**16
"""Bytes in a chunk here: large enough for codecs."""
CHUNKS = 9
STATE = CHUNKS + 1
"""One more, for the generators."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (layout, packing, staging):
        monkeypatch.setattr(module, "CHUNK", CHUNK)
    monkeypatch.setattr(packing, "PACK_LIMIT", 2 * CHUNK)


@pytest.fixture
def keys() -> Callable[[], str]:
    lock, numbers = threading.Lock(), iter(range(1000))

    def new() -> str:
        with lock:
            return f"runs/r/packs/{next(numbers):03d}"

    return new


class Copied:
    """A snapshot of ``CHUNKS`` chunks that is being copied by a thread of its own."""

    def __init__(self, clock: HandClock, limit: int | None = 4 * CHUNK, *, same: bool = False) -> None:
        numbers = np.random.default_rng(1).standard_normal((CHUNKS, CHUNK // 4)).astype("<f4")
        if same:
            numbers[:] = numbers[0]
        self.data = numbers
        self.staging = Staging(limit)
        self.snapshot: Snapshot = capture({"x": {"w": numbers}}, 1, self.staging, clock)
        self.staging.reserve(self.snapshot.content.sizes)
        self._copier = threading.Thread(target=self.snapshot.copy)
        self._copier.start()

    def end(self) -> None:
        """All is over, and every buffer is back."""
        self._copier.join(10)
        assert not self._copier.is_alive()
        assert self.staging.idle
        assert not [one for one in threading.enumerate() if one.name.startswith("spotweld pack")]


def manifest_of(packer: Packer, copied: Copied) -> Manifest:
    places = {key: at for at, key in enumerate(packer.sizes)}

    def chunk(one: Stored) -> Chunk:
        base = chunk(one.base) if one.base else None
        return Chunk(places[one.key], one.offset, one.stored, one.raw, one.digest, one.codec, one.check, base)

    content = copied.snapshot.content
    packs = tuple(Pack(key, size) for key, size in packer.sizes.items())
    chunks = tuple(chunk(packer.chunks[at]) for at in range(CHUNKS))
    return Manifest(1, "", "r", 1, 0, 1, 1, 0.0, content.tree, content.rng, content.leaves, chunks, packs)


@pytest.mark.parametrize("streams", [1, 2, 4])
@pytest.mark.parametrize("goal", [None, Goal.BYTES])
@pytest.mark.parametrize("limit", [0, 4 * CHUNK, None])
def test_all_chunks_are_stored_and_read_again_in_several_streams(
    store: Watched, clock: HandClock, keys: Callable[[], str], streams: int, goal: Goal | None, limit: int | None
) -> None:
    store.streams = streams
    copied = Copied(clock, limit)
    encoder = Encoder(goal, streams) if goal else None
    if encoder is not None:
        encoder.begin(copied.snapshot.content)
    packer = Packer(store, keys, {}, encoder)
    packer.store(copied.snapshot)
    copied.end()
    assert all(size <= 2 * CHUNK for size in packer.sizes.values())
    assert packer.sizes == {meta.key: meta.size for meta in store.inner.list("runs/")}
    assert ({one.codec for one in packer.chunks.values()} == {"raw"}) == (goal is None)
    into = memoryview(bytearray(copied.data.nbytes))
    read(store, manifest_of(packer, copied), {0: into})
    assert into == copied.data.tobytes()


def test_equal_chunks_are_stored_once(store: Watched, clock: HandClock, keys: Callable[[], str]) -> None:
    store.streams = 1
    copied = Copied(clock, same=True)
    packer = Packer(store, keys, {})
    packer.store(copied.snapshot)
    copied.end()
    assert len({packer.chunks[at].offset for at in range(CHUNKS)}) == 1
    assert sum(packer.sizes.values()) == CHUNK + copied.snapshot.content.sizes[-1]


def test_known_chunks_are_not_stored(store: Watched, clock: HandClock, keys: Callable[[], str]) -> None:
    copied = Copied(clock, same=True)
    digest = checksum(copied.data[0].tobytes())
    known = Stored("elsewhere", 7, CHUNK, CHUNK, digest)
    packer = Packer(store, keys, {(digest, CHUNK): known})
    packer.store(copied.snapshot)
    copied.end()
    assert {packer.chunks[at] for at in range(CHUNKS)} == {known}
    assert list(packer.sizes.values()) == [copied.snapshot.content.sizes[-1]]


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("limit", [0, 5 * CHUNK, None])
def test_a_put_that_fails_is_told_and_gives_every_buffer_back(
    store: Watched, clock: HandClock, keys: Callable[[], str], streams: int, at: int, limit: int | None
) -> None:
    store.streams = streams
    lock, puts = threading.Lock(), list[str]()

    def down(_verb: str, key: str) -> None:
        with lock:
            puts.append(key)
            if len(puts) == at:
                raise Unavailable("down")

    store.before = down
    copied = Copied(clock, limit)
    with pytest.raises(Unavailable, match="down"):
        Packer(store, keys, {}).store(copied.snapshot)
    copied.snapshot.discard()
    copied.end()


class Coder:
    """Fails at its third chunk."""

    def __init__(self) -> None:
        self.times = 0

    def encode(self, _number: int, _data: memoryview) -> Coded | None:
        self.times += 1
        if self.times == 3:
            raise MemoryError
        return None

    def sent(self, size: int, seconds: float, at_once: int) -> None:
        assert size > 0
        assert seconds >= 0
        assert at_once >= 1


@pytest.mark.parametrize("streams", [1, 3])
def test_a_coder_that_fails_is_told_and_gives_every_buffer_back(
    store: Watched, clock: HandClock, keys: Callable[[], str], streams: int
) -> None:
    store.streams = streams
    copied = Copied(clock)
    with pytest.raises(MemoryError):
        Packer(store, keys, {}, Coder()).store(copied.snapshot)
    copied.snapshot.discard()
    copied.end()


class Breaking:
    """A source whose fifth chunk cannot be copied."""

    def digest(self, _number: int) -> None:
        return None

    def is_plain(self, _number: int) -> bool:
        return False

    def copy(self, number: int, into: memoryview) -> None:
        if number == 5:
            raise OSError("gone")
        into[:1] = bytes([number])


@pytest.mark.parametrize("streams", [1, 3])
def test_a_copy_that_fails_ends_every_thread(
    store: Watched, clock: HandClock, keys: Callable[[], str], streams: int
) -> None:
    store.streams = streams
    copied = Copied(clock)
    copied.snapshot.discard()
    copied.end()
    broken = Snapshot(copied.snapshot.content, Breaking(), 1, copied.staging, clock, 0.0)
    copier = threading.Thread(target=broken.copy)
    copier.start()
    with pytest.raises(OSError, match="gone"):
        Packer(store, keys, {}).store(broken)
    broken.discard()
    copier.join(10)
    assert copied.staging.idle


def corrupted(data: bytes, how: str) -> bytes:
    match how:
        case "flipped":
            return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        case "short":
            return data[: len(data) // 2]  # at the very end may lie a generator's state, which nobody reads here
        case _:
            return b""


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("how", ["flipped", "short", "empty", "missing"])
@pytest.mark.parametrize("goal", [None, Goal.BYTES])
def test_a_damaged_pack_is_told_from_a_missing_one_and_one_that_is_away(
    store: Watched, clock: HandClock, keys: Callable[[], str], streams: int, how: str, goal: Goal | None
) -> None:
    store.streams = streams
    copied = Copied(clock, None)
    encoder = Encoder(goal, streams) if goal else None
    if encoder is not None:
        encoder.begin(copied.snapshot.content)
    packer = Packer(store, keys, {}, encoder)
    packer.store(copied.snapshot)
    manifest = manifest_of(packer, copied)
    into = memoryview(bytearray(copied.data.nbytes))
    key = sorted(packer.sizes)[len(packer.sizes) // 2]
    data = store.inner.get(key)
    if how == "missing":
        store.inner.delete(key)
    else:
        store.inner.put(key, corrupted(data, how))
    with pytest.raises(NotFound if how == "missing" else Corrupt, match=key):
        read(store, manifest, {0: into})
    store.inner.put(key, data)
    read(store, manifest, {0: into})
    assert into == copied.data.tobytes()

    def away(_verb: str, wanted: str) -> None:
        if wanted == key:
            raise Unavailable("away")

    store.before = away
    with pytest.raises(Unavailable):
        read(store, manifest, {0: into})
    assert not [one for one in threading.enumerate() if one.name.startswith("spotweld read")]
