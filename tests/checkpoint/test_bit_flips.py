"""One bit flips somewhere in what is stored: it is found, and said, and whatever is restored instead is right."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from spotweld.checkpoint import encoding, publishing, reading, snapshot, tiers
from spotweld.checkpoint.choosing import Goal
from spotweld.checkpoint.encoding import Encoder
from spotweld.checkpoint.layout import lay_out
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.relaying import Load, Relay
from spotweld.checkpoint.restoring import find_best, find_newest, read_manifest
from spotweld.checkpoint.session import take_over_mending
from spotweld.checkpoint.snapshot import capture
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.tiers import candidates, open_tiers
from spotweld.errors import Corrupt, NoWholeCheckpoint
from spotweld.project.nouns import Tier
from spotweld.store.heads import head_key, read_head, take_over
from spotweld.testing.stores import flip_bit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conftest import HandClock, Watched
    from spotweld.checkpoint.format import Chunk, Manifest
    from spotweld.checkpoint.restoring import Found

RUN = "r"
NEAR = "near:/tier"
HEADER = 21
"""Bytes before the planes of numbers of 4 bytes: docs/compression.md."""
CODECS = {"zeros": "zstd", "planes": "planes4", "matrix": "scaled4", "deltas": "delta4"}


class Dictated:
    """The codec that the leaf's name asks for, in place of the best."""

    link = None

    def codec_for(self, kind: tuple[str, ...], names: Sequence[str]) -> str:
        codec = CODECS.get(kind[1], "raw")
        return codec if codec in names else codec.replace("delta", "planes")

    def learn(self, *_: object) -> None:
        pass


class Scene:
    """Steps 1, which is a base, 2 and 3, which are differences from it, in a store and in a tier before it."""

    def __init__(self, near: Watched, far: Watched, clock: HandClock) -> None:
        self.near, self.far = near, far
        lead = take_over(far, RUN, 0)
        self.inside = f"{RUN}.{lead.head.lineage[:12]}"
        first = Publisher(
            near, self.inside, take_over(near, self.inside, 0, lead=lead.head), clock, keep_last=3, keep_every=0
        )
        encoder = Encoder(Goal.BYTES, 1)
        encoder._chooser = Dictated()  # type: ignore[assignment]
        relay = Relay(near, Publisher(far, RUN, lead, clock, keep_last=3, keep_every=0, encoder=encoder), clock)
        noise, staging = np.random.default_rng(1).standard_normal(3000), Staging()
        self.truth: dict[int, dict[str, Any]] = {}
        for step in (1, 2, 3):
            state = {
                "raw": np.frombuffer(np.random.default_rng(step).bytes(5000), np.uint8),
                "zeros": np.full(2000, step, "<f8"),
                "planes": (noise * step).astype("<f4"),
                "matrix": (noise[::-1] * step).astype("<f4").reshape(60, 50),
                "deltas": (noise * (1 + 1e-6 * step)).astype("<f4"),
            }
            self.truth[step] = {name: part.tobytes() for name, part in state.items()}
            taken = capture({"x": state}, step, staging, clock)
            staging.reserve(taken.content.sizes)
            taken.copy()
            kept = first.publish(taken)
            assert first.newest is not None
            relay.offer(Load(kept, first.newest, 0.0))
            first.pinned = relay.reads
            relay.wait(20)
            (carried,) = relay.collect()
            assert carried.error is None
        head = read_head(far, RUN)
        assert head is not None
        self.kept = head.kept
        self.manifests = [read_manifest(far, RUN, kept) for kept in self.kept]

    def restore(self) -> Found:
        """From the store alone."""
        found = find_newest(self.far, RUN, self.kept)
        assert found is not None
        return self.right(found)

    def restore_as_an_attempt_does(self) -> Found:
        """From the tier, or else from the store."""
        lead = take_over_mending(self.far, RUN, 0)
        opened = open_tiers([Tier(NEAR)], RUN, 0, lead.head)
        found = find_best(RUN, candidates(self.far, RUN, lead.head.kept, opened))
        assert found is not None
        return self.right(found)

    def right(self, found: Found) -> Found:
        state = {name: part.tobytes() for name, part in found.state["x"].items()}
        assert state == self.truth[found.manifest.step]
        return found


@pytest.fixture
def scene(new_store: Callable[[], Watched], clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(publishing, "SHARED", 1)
    monkeypatch.setattr(snapshot, "lay_out", partial(lay_out, small=64))
    monkeypatch.setattr(reading, "CHUNK", 2**15, raising=False)  # large buffers would take most of the time
    monkeypatch.setattr(encoding, "_LARGE", 64)
    near = new_store()
    near.url = NEAR
    monkeypatch.setattr(tiers, "open_store", lambda _url: near)
    return Scene(near, new_store(), clock)


def chunks_of(manifest: Manifest) -> dict[tuple[str, int], tuple[Chunk, bool]]:
    """All that it needs, by pack and place; with whether it is only what a difference was taken against."""
    found = {(manifest.packs[one.pack].key, one.offset): (one, False) for one in manifest.chunks}
    for one in manifest.chunks:
        if one.base is not None:
            found.setdefault((manifest.packs[one.base.pack].key, one.base.offset), (one.base, True))
    return found


def places(chunk: Chunk) -> set[int]:
    """Bytes of a stored chunk: each one of the header, where it has any, and the first, the middle and the last."""
    last = chunk.stored - 1
    header = 0 if chunk.codec == "raw" else min(HEADER + 1, last)
    return {*range(header), 0, chunk.stored // 2, last}


def flips(data: bytes, at: int) -> Iterator[bytes]:
    for bit in (0, 7):
        yield flip_bit(data, 8 * at + bit)


def test_every_codec_is_there(scene: Scene) -> None:
    newest, _, base = scene.manifests
    spots = {
        (key, at): one.stored for manifest in scene.manifests for (key, at), (one, _) in chunks_of(manifest).items()
    }
    stored: dict[str, int] = {}
    for (key, _), size in spots.items():
        stored[key] = stored.get(key, 0) + size
    assert {chunk.codec for chunk in newest.chunks} == {"raw", "zstd", "planes4", "scaled4", "delta4"}
    assert {chunk.codec for chunk in base.chunks} == {"raw", "zstd", "planes4", "scaled4"}
    assert any(only for _, only in chunks_of(newest).values())
    for manifest in scene.manifests:  # no byte of a pack belongs to nothing
        assert {pack.key for pack in manifest.packs} <= stored.keys()
    assert stored == {key: len(scene.far.inner.get(key)) for key in stored}
    assert scene.restore().manifest.step == 3
    assert scene.restore_as_an_attempt_does().tier == NEAR


def test_flips_in_any_part_of_any_chunk(scene: Scene) -> None:
    needed = [chunks_of(manifest) for manifest in scene.manifests]
    for key, offset in {place: None for chunks in needed for place in chunks}:
        without = [kept for kept, chunks in zip(scene.kept, needed, strict=True) if (key, offset) not in chunks]
        harmed = [kept for kept in scene.kept if kept not in without]
        chunk = next(chunks[key, offset][0] for chunks in needed if (key, offset) in chunks)
        data = scene.far.inner.get(key)
        for at in places(chunk):
            for damaged in flips(data, offset + at):
                scene.far.inner.put(key, damaged)
                for kept in harmed:
                    with pytest.raises(NoWholeCheckpoint, match=key):
                        find_newest(scene.far, RUN, [kept])
                if without:
                    found = scene.restore()
                    assert found.kept == without[0]
                    assert [kept for kept, _ in found.damaged] == [k for k in harmed if k.step > found.kept.step]
                    assert all(key in why for _, why in found.damaged)
        scene.far.inner.put(key, data)
    assert scene.restore().manifest.step == 3


def test_flips_anywhere_in_a_manifest(scene: Scene) -> None:
    for number, kept in enumerate(scene.kept[:2]):
        data = scene.far.inner.get(kept.key)
        for at in {*range(0, len(data), 37), len(data) - 1}:
            for damaged in flips(data, at):
                scene.far.inner.put(kept.key, damaged)
                found = find_newest(scene.far, RUN, scene.kept[number:])
                assert found is not None
                assert scene.right(found).kept == scene.kept[number + 1]
                assert [one for one, _ in found.damaged] == [kept]
        scene.far.inner.put(kept.key, data)


def test_flips_anywhere_in_the_head(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The head is made anew from the manifests, and that is said."""
    key = head_key(RUN)
    whole = scene.far.inner.get(key)
    for at in range(len(whole)):
        scene.far.inner.put(key, flip_bit(whole, 8 * at + at % 8))
        with pytest.raises(Corrupt):
            read_head(scene.far, RUN)
    for at in range(0, len(whole), 61):
        caplog.clear()
        scene.far.inner.put(key, flip_bit(whole, 8 * at))
        assert scene.restore_as_an_attempt_does().manifest.step == 3
        assert "the head is made anew" in caplog.text


def test_flips_in_a_tier(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Another copy is used: of the same step, in the store; or of a former one where that is all there is."""
    inside = read_head(scene.near, scene.inside)
    assert inside is not None
    manifest = read_manifest(scene.near, scene.inside, inside.kept[0])
    spots = {(inside.kept[0].key, at) for at in range(0, inside.kept[0].size, 61)}
    for (key, offset), (chunk, _) in chunks_of(manifest).items():
        spots |= {(key, offset + at) for at in places(chunk)}
    for key, at in sorted(spots):
        data = scene.near.inner.get(key)
        scene.near.inner.put(key, flip_bit(data, 8 * at + at % 8))
        found = scene.restore_as_an_attempt_does()
        assert (found.manifest.step, found.tier) == (3, "")
        ((kept, why),) = found.damaged
        assert kept.step == 3
        assert f"(in {NEAR})" in why
        scene.near.inner.put(key, data)
    key = head_key(scene.inside)
    whole = scene.near.inner.get(key)
    for at in range(0, len(whole), 23):
        caplog.clear()
        scene.near.inner.put(key, flip_bit(whole, 8 * at + at % 8))
        found = scene.restore_as_an_attempt_does()
        assert (found.manifest.step, found.tier) == (3, "")
        assert f"the tier {NEAR} begins anew" in caplog.text


def test_flips_in_the_only_copy_of_the_newest_step(scene: Scene) -> None:
    """The tier is ahead of the store: what it has alone is damaged, so the store's newest is used, and that is said."""
    far = take_over(scene.far, RUN, 0)
    far.publish(scene.kept[1:])
    ahead = scene.restore_as_an_attempt_does()
    assert (ahead.manifest.step, ahead.tier) == (3, NEAR)
    for (key, offset), (chunk, _) in chunks_of(ahead.manifest).items():
        data = scene.near.inner.get(key)
        scene.near.inner.put(key, flip_bit(data, 8 * (offset + chunk.stored // 2)))
        found = scene.restore_as_an_attempt_does()
        assert found.manifest.step == 2
        assert found.damaged[0][0].step == 3
        scene.near.inner.put(key, data)
