"""Which chunks become differences, against what, and what becomes of them when a base is gone or damaged."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spotweld import Checkpointer
from spotweld.checkpoint.choosing import Goal
from spotweld.checkpoint.encoding import Encoder, _held
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.relaying import Load, Relay
from spotweld.checkpoint.restoring import find_newest, read_manifest
from spotweld.checkpoint.scales import Matrix
from spotweld.checkpoint.snapshot import capture
from spotweld.checkpoint.staging import Staging
from spotweld.errors import NoWholeCheckpoint, Unavailable
from spotweld.store.heads import read_head, take_over
from spotweld.store.opening import open_store
from spotweld.testing.stores import flip_bit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import HandClock, Watched
    from spotweld.checkpoint.relaying import Carried

RUN = "r"
SIZE = 120_000
"""Numbers: 480 kB, so that a chunk is large enough to be shared between checkpoints, too."""


class Pair:
    """A tier, a store, and a relay between them that works when it is told to."""

    def __init__(self, near: Watched, far: Watched, clock: HandClock, keep_last: int = 3) -> None:
        self.near, self.far, self.clock = near, far, clock
        lead = take_over(far, RUN, 0)
        inside = take_over(near, RUN, 0, lead=lead.head)
        self.first = Publisher(near, RUN, inside, clock, keep_last=2, keep_every=0)
        self.encoder = Encoder(Goal.BYTES, 1)
        self.last = Publisher(far, RUN, lead, clock, keep_last=keep_last, keep_every=0, encoder=self.encoder)
        self.relay = Relay(near, self.last, clock)
        self.staging = Staging()
        self.w = np.random.default_rng(1).standard_normal(SIZE).astype("<f4")
        self.other = np.random.default_rng(2).standard_normal(SIZE).astype("<f4")
        self.truth: dict[int, bytes] = {}
        self.step = 0

    def save(self, more: dict[str, Any] | None = None, *, alone: bool = False) -> Carried:
        """One step, carried to the end."""
        self.step += 1
        self.w[self.step :: 9] *= np.float32(1.0001)
        taken = capture({"x": {"w": self.w, "other": self.other, **(more or {})}}, self.step, self.staging, self.clock)
        self.staging.reserve(taken.content.sizes)
        taken.copy(self.first.unchanged)
        kept = self.first.publish(taken)
        assert self.first.newest is not None
        self.relay.offer(Load(kept, self.first.newest, 0.0, alone))
        self.first.pinned = self.relay.reads
        self.relay.wait(30)
        first, *others = self.relay.collect()
        assert [first, *others][-1].error is None
        self.truth[self.step] = self.w.tobytes() + self.other.tobytes()
        return first

    def kept(self) -> Any:  # noqa: ANN401
        head = read_head(self.far, RUN)
        assert head is not None
        return head.kept

    def codecs(self) -> list[str]:
        """Of the newest checkpoint's large chunks."""
        manifest = read_manifest(self.far, RUN, self.kept()[0])
        return [chunk.codec for chunk in manifest.chunks if chunk.raw > 2**16]

    def restore(self, kept: Any = None) -> int:  # noqa: ANN401
        """The step that is restored, once every bit of it is what it was."""
        found = find_newest(self.far, RUN, kept or self.kept())
        assert found is not None
        state = found.state["x"]
        assert state["w"].tobytes() + state["other"].tobytes() == self.truth[found.manifest.step]
        return found.manifest.step


@pytest.fixture
def pair(new_store: Callable[[], Watched], clock: HandClock) -> Pair:
    return Pair(new_store(), new_store(), clock)


def until_delta(pair: Pair) -> None:
    for _ in range(12):
        pair.save()
        if pair.codecs()[0] == "delta4":
            return
    pytest.fail("no difference was taken")


def test_differences_are_taken_and_every_kept_checkpoint_is_whole(pair: Pair) -> None:
    until_delta(pair)
    for _ in range(3):
        pair.save()
    for kept in pair.kept():
        assert pair.restore([kept]) == kept.step


def test_every_flipped_bit_of_a_base_or_a_difference_is_found(pair: Pair) -> None:
    until_delta(pair)
    dice = random.Random(1)
    kept = pair.kept()[0]
    manifest = read_manifest(pair.far, RUN, kept)
    used = [*manifest.chunks, *(chunk.base for chunk in manifest.chunks if chunk.base)]
    assert len(used) > len(manifest.chunks)
    for at, pack in enumerate(manifest.packs):
        data = pair.far.inner.get(pack.key)
        for chunk in [chunk for chunk in used if chunk.pack == at]:
            start, end = 8 * chunk.offset, 8 * (chunk.offset + chunk.stored)
            for bit in [start, end - 1, *(dice.randrange(start, end) for _ in range(15))]:
                pair.far.inner.put(pack.key, flip_bit(data, bit))
                with pytest.raises(NoWholeCheckpoint, match=pack.key):
                    pair.restore([kept])
        pair.far.inner.put(pack.key, data)
    assert pair.restore([kept]) == kept.step


@pytest.mark.parametrize("how", ["flipped", "missing", "short"])
def test_a_damaged_base_takes_all_that_depend_on_it_and_nothing_else(pair: Pair, how: str) -> None:
    until_delta(pair)
    pair.save()
    manifests = {kept: read_manifest(pair.far, RUN, kept) for kept in pair.kept()}
    newest = next(iter(manifests.values()))
    based = next(chunk for chunk in newest.chunks if chunk.base)
    key = newest.packs[based.base.pack].key
    depend = {kept.step for kept, manifest in manifests.items() if key in {pack.key for pack in manifest.packs}}
    assert newest.step in depend
    data = pair.far.inner.get(key)
    if how == "missing":
        pair.far.inner.delete(key)
    else:
        pair.far.inner.put(key, data[:100] if how == "short" else flip_bit(data, 8 * based.base.offset + 77))
    others = [kept for kept in manifests if kept.step not in depend]
    if others:
        found = find_newest(pair.far, RUN, tuple(manifests))
        assert found is not None
        assert found.manifest.step == others[0].step
        assert {kept.step for kept, _ in found.damaged} == {step for step in depend if step > others[0].step}
    else:
        with pytest.raises(NoWholeCheckpoint, match=f"All {len(depend)} checkpoints"):
            find_newest(pair.far, RUN, tuple(manifests))


@pytest.mark.parametrize("what", ["away", "flipped", "missing"])
def test_no_difference_is_taken_from_a_base_that_cannot_be_read(pair: Pair, what: str) -> None:
    until_delta(pair)
    base = pair.encoder.base
    assert base is not None
    for chunk in base.manifest.chunks:
        key = base.manifest.packs[chunk.pack].key
        if what == "missing":
            pair.near.inner.delete(key)
        elif what == "flipped":
            pair.near.inner.put(key, flip_bit(pair.near.inner.get(key), 8 * chunk.offset + 1000))
        else:
            pair.near.inner.put(key, b"")
    pair.other[:] += 1  # or its chunk would be read from the base's pack
    pair.save()
    assert "delta4" not in pair.codecs()
    assert pair.restore() == pair.step


def test_a_base_of_another_shape_is_none(pair: Pair) -> None:
    until_delta(pair)
    pair.save({"more": np.arange(90_000, dtype="<f4")})
    manifest = read_manifest(pair.far, RUN, pair.kept()[0])
    changed = next(chunk for chunk in manifest.chunks if chunk.raw > 2**16)
    assert changed.base is None
    assert pair.restore() == pair.step


def test_a_base_that_the_store_does_not_have_bit_for_bit_is_none(pair: Pair) -> None:
    until_delta(pair)
    base = pair.encoder.base
    assert base is not None
    import msgspec

    wrong = tuple(msgspec.structs.replace(chunk, digest="xxh3:" + "0" * 32) for chunk in base.chunks)
    pair.encoder.base = msgspec.structs.replace(base, chunks=wrong)
    pair.save()
    assert "delta4" not in pair.codecs()
    assert pair.restore() == pair.step


def test_what_stopped_changing_does_not_end_the_differences_of_the_rest(pair: Pair) -> None:
    """A chunk that was stored as a difference and is referred to ever since must not keep new bases away."""
    pair.other = np.tile(pair.other, 4)  # most of its pack, which is therefore not written anew
    until_delta(pair)
    while pair.codecs() != ["delta4", "delta4"]:
        assert pair.step < 60
        pair.other[pair.step :: 9] *= np.float32(1.0001)
        pair.save()
    pair.encoder.base = None  # as after fifty checkpoints
    seen = []
    for _ in range(25):
        pair.save()
        seen.append(pair.codecs()[0])
    assert "delta4" in seen
    assert pair.restore() == pair.step


def test_a_checkpoint_stands_alone_if_that_is_wanted(pair: Pair) -> None:
    pair.other = np.tile(pair.other, 4)  # of which no more than references are written
    until_delta(pair)
    while pair.codecs() != ["delta4", "delta4"]:
        assert pair.step < 60
        pair.other[pair.step :: 9] *= np.float32(1.0001)
        usual = pair.save()
    assert (usual.written.delta, usual.differences) == (True, True)
    carried = pair.save(alone=True)
    assert not carried.written.delta
    assert carried.written.size > 2 * usual.written.size
    assert all(chunk.base is None for chunk in read_manifest(pair.far, RUN, pair.kept()[0]).chunks)
    assert pair.restore() == pair.step
    base = pair.encoder.base
    assert base is not None
    assert base.manifest.step == pair.step  # the next differences are taken from here
    while not (carried := pair.save()).written.delta:
        assert pair.step < 60
    assert pair.restore() == pair.step


def test_what_is_to_stand_alone_does_so_in_a_second_try(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spotweld.checkpoint.relaying.retry_after", lambda _: 0.0)
    until_delta(pair)

    def down(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            pair.far.before = lambda _verb, _key: None
            raise Unavailable("down")

    pair.far.before = down
    carried = pair.save(alone=True)
    assert (carried.failures, carried.differences) == (1, False)
    assert all(chunk.base is None for chunk in read_manifest(pair.far, RUN, pair.kept()[0]).chunks)
    assert pair.restore() == pair.step


def test_a_near_store_is_its_own_base(tmp_path: Path) -> None:
    url = f"file:{tmp_path}/store"
    values = np.random.default_rng(2).standard_normal(2**18).astype("<f4")
    for total in (3, 5):
        state = {"x": {"w": values.copy()}}
        for _ in Checkpointer(state, store=url, every=1, compress="bytes", keep_last=1, notices=[]).steps(total):
            state["x"]["w"] *= np.float32(1.0001)
        objects = open_store(url)
        head = read_head(objects, "default")
        assert head is not None
        manifest = read_manifest(objects, "default", head.kept[0])
        assert any(chunk.base is not None for chunk in manifest.chunks)
    for _ in range(5):
        values *= np.float32(1.0001)
    assert state["x"]["w"].tobytes() == values.tobytes()


def test_a_chunk_knows_where_in_a_matrix_it_lies(clock: HandClock) -> None:
    state = {
        "x": {
            "long": np.zeros((3500, 700), "<f4"),
            "image": np.zeros((300, 10, 5, 5), "<f4"),
            "row": np.zeros(100_000, "<f4"),
            "flat": np.zeros((7, 40_000), "<f4"),
            "narrow": np.zeros((90_000, 2), "<f4"),
        }
    }
    held = _held(capture(state, 1, Staging(), clock).content)[:7]  # what follows are generators
    numbers = CHUNK // 4
    long = [Matrix(700, start % 700) for start in (0, numbers, 2 * numbers)]
    assert [one.matrix for one in held] == [*long, Matrix(250), None, None, None]
    assert {one.kind for one in held} == {("x", name, "<f4") for name in state["x"]}
    assert {one.itemsize for one in held} == {4}


def test_moments_lose_the_scales_of_their_matrix(pair: Pair) -> None:
    dice = np.random.default_rng(3)
    sizes = np.exp(dice.normal(0, 2, (600, 1)) + dice.normal(0, 2, (1, 400)))
    moments = (dice.standard_normal((600, 400)) * sizes).astype("<f4")
    for _ in range(20):
        moments = moments * dice.standard_normal(moments.shape).astype("<f4")
        pair.save({"moments": moments})
        if pair.codecs()[2] == "scaled4":
            return
    pytest.fail("no scales were taken out")
