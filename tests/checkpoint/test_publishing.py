"""Publishing and restoring over a store: what is kept, what is shared, what is deleted, what damage does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotweld.checkpoint import publishing, restoring
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import find_newest, read_manifest
from spotweld.checkpoint.retention import retain
from spotweld.checkpoint.snapshot import Snapshot, capture
from spotweld.checkpoint.staging import Staging
from spotweld.errors import Fenced, NoWholeCheckpoint, Unavailable, UnknownFormat, UnsupportedState
from spotweld.store.heads import Kept, read_head, take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import HandClock, Watched

RUN = "r"
LARGE = 2**20


class Writer:
    """One attempt without a training loop."""

    def __init__(self, store: Watched, clock: HandClock, *, keep_last: int = 2, keep_every: int = 0) -> None:
        self.store, self.clock = store, clock
        self.head = take_over(store, RUN, 0)
        self.found = find_newest(store, RUN, self.head.head.kept, epoch=self.head.head.epoch)
        self.publisher = Publisher(
            store,
            RUN,
            self.head,
            clock,
            keep_last=keep_last,
            keep_every=keep_every,
            whole=self.found.manifest if self.found else None,
            damaged=[kept.key for kept, _ in self.found.damaged] if self.found else (),
        )
        self.staging = Staging()

    def save(self, step: int, **state: Any) -> Kept:  # noqa: ANN401
        return self.publisher.publish(captured(state or {"x": {"step": step}}, step, self.staging, self.clock))


def captured(state: dict[str, Any], step: int, staging: Staging, clock: HandClock) -> Snapshot:
    """A snapshot that is copied already."""
    taken = capture(state, step, staging, clock)
    staging.reserve(taken.content.sizes)
    taken.copy()
    return taken


def newest(store: Watched) -> Any:  # noqa: ANN401
    head = read_head(store, RUN)
    assert head is not None
    return find_newest(store, RUN, head.kept)


def reachable(store: Watched) -> set[str]:
    """Every key that the head leads to; fails if one is missing."""
    head = read_head(store, RUN)
    assert head is not None
    keys = set()
    for kept in head.kept:
        keys.add(kept.key)
        keys |= {pack.key for pack in read_manifest(store, RUN, kept).packs}
    assert keys <= store.keys("runs/")
    return keys


def stored(store: Watched) -> set[str]:
    return store.keys(f"runs/{RUN}/packs/") | store.keys(f"runs/{RUN}/manifests/")


def test_packs_come_before_the_manifest_and_the_manifest_before_the_head(store: Watched, clock: HandClock) -> None:
    writer = Writer(store, clock)
    store.calls.clear()
    writer.save(1)
    writes = [(verb, key.split("/")[2]) for verb, key in store.calls if verb in {"create", "replace"}]
    assert writes == [("create", "packs"), ("create", "manifests"), ("replace", "head")]


def test_nothing_is_deleted_before_the_head_has_let_it_go(store: Watched, clock: HandClock) -> None:
    writer = Writer(store, clock, keep_last=1)
    for step in range(1, 5):
        store.calls.clear()
        writer.save(step)
        verbs = [verb for verb, _ in store.calls]
        assert "delete" not in verbs[: verbs.index("replace")]
        assert stored(store) == reachable(store)


def test_a_large_pack_that_did_not_change_is_written_once(store: Watched, clock: HandClock) -> None:
    frozen = {"w": np.arange(LARGE / 8)}
    writer = Writer(store, clock, keep_last=1)
    writer.save(1, frozen=frozen, moving={"a": np.zeros(500)})
    first = store.keys(f"runs/{RUN}/packs/")
    writer.save(2, frozen=frozen, moving={"a": np.ones(500)})
    second = store.keys(f"runs/{RUN}/packs/")
    assert len(second - first) == 1
    later = Writer(store, clock, keep_last=1)
    later.save(3, frozen=frozen, moving={"a": np.full(500, 2.0)})
    assert len(store.keys(f"runs/{RUN}/packs/") - second) == 1
    assert later.found.manifest.step == 2
    back = newest(store)
    assert (back.state["frozen"]["w"] == frozen["w"]).all()
    assert (back.state["moving"]["a"] == 2).all()


@settings(max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 3))
def test_exactly_what_the_policy_keeps_is_kept(
    new_store: Callable[[], Watched], new_clock: type[HandClock], attempts: list[int], last: int, every: int
) -> None:
    store = new_store()
    step = 0
    for saves in attempts:
        writer = Writer(store, new_clock(), keep_last=last, keep_every=every)
        assert writer.found is None or writer.found.manifest.step == step
        for _ in range(saves):
            step += 1
            writer.save(step)
            assert stored(store) == reachable(store)
    head = read_head(store, RUN)
    numbers = list(range(step, 0, -1))
    assert [kept.step for kept in head.kept] == [
        numbers[at] for at in retain(numbers, keep_last=last, keep_every=every)
    ]


def test_leftovers_of_a_killed_attempt_are_swept_by_the_next(store: Watched, clock: HandClock) -> None:
    writer = Writer(store, clock)
    writer.save(1)

    def killed(verb: str, key: str) -> None:
        if verb == "create" and "/manifests/" in key:
            raise KeyboardInterrupt

    store.before = killed
    with pytest.raises(KeyboardInterrupt):
        writer.save(2)
    store.before = lambda _verb, _key: None
    assert stored(store) > reachable(store)
    Writer(store, clock).save(3)
    assert stored(store) == reachable(store)


def test_deleting_may_fail_and_is_done_later(store: Watched, clock: HandClock) -> None:
    writer = Writer(store, clock, keep_last=1)

    def refused(verb: str, _key: str) -> None:
        if verb in {"delete", "list"}:
            raise Unavailable("down")

    store.before = refused
    for step in range(1, 4):
        writer.save(step)
    assert stored(store) > reachable(store)
    store.before = lambda _verb, _key: None
    writer.save(4)
    assert stored(store) == reachable(store)


def test_saves_that_fail_on_a_full_disk_do_not_fill_it(store: Watched, clock: HandClock, monkeypatch: Any) -> None:  # noqa: ANN401
    """What a try leaves behind would be missing to the next one."""
    monkeypatch.setattr("spotweld.checkpoint.packing.PACK_LIMIT", CHUNK)
    store.streams = 1  # two that look at the same time would both find room
    writer = Writer(store, clock)
    state = {"x": {"a": np.random.default_rng(1).bytes(3 * CHUNK)}}
    packs = f"runs/{RUN}/packs/"
    writer.save(1, **state)
    before = stored(store)
    room = 2 * len(store.keys(packs)) - 1

    def full(verb: str, key: str) -> None:
        if verb == "create" and key.startswith(packs) and len(store.keys(packs)) >= room:
            raise Unavailable(f"Cannot write {key}", "No space left on device (ENOSPC)")

    store.before = full
    state["x"]["a"] = np.random.default_rng(2).bytes(3 * CHUNK)
    for _ in range(3):
        with pytest.raises(Unavailable):
            writer.save(2, **state)
        assert stored(store) == before
    room += 1  # somebody has given as much back as was missing
    writer.save(2, **state)
    assert newest(store).manifest.step == 2


def test_a_zombie_changes_nothing(store: Watched, clock: HandClock) -> None:
    zombie = Writer(store, clock)
    zombie.save(1)
    successor = Writer(store, clock)
    successor.save(2)
    before = {key: store.get(key) for key in stored(store)}
    with pytest.raises(Fenced):
        zombie.save(9)
    assert newest(store).manifest.step == 2
    assert all(store.get(key) == data for key, data in before.items())
    successor.save(3)
    Writer(store, clock).save(4)
    assert stored(store) == reachable(store)


FLIPS = ["first", "middle", "last"]


def damage(store: Watched, key: str, how: str) -> None:
    data = store.get(key)
    changed = bytearray(data)
    match how:
        case "first" | "middle" | "last":
            changed[{"first": 0, "middle": len(data) // 2, "last": -1}[how]] ^= 4
        case "short":
            changed.pop()
        case "empty":
            changed.clear()
        case "other":
            changed[:] = bytes(len(data))
        case "missing":
            store.inner.delete(key)
            return
    store.inner.put(key, bytes(changed))


HOWS = ["first", "middle", "last", "short", "empty", "other", "missing"]


@pytest.mark.parametrize("what", ["packs", "manifests"])
@pytest.mark.parametrize("how", HOWS)
def test_damage_of_every_kind_falls_back_and_is_dropped(store: Watched, clock: HandClock, what: str, how: str) -> None:
    writer = Writer(store, clock, keep_last=3)
    writer.save(1)
    older = stored(store)
    writer.save(2)
    for key in sorted(stored(store) - older):
        if f"/{what}/" in key:
            damage(store, key, how)
    later = Writer(store, clock, keep_last=3)
    assert later.found.manifest.step == 1
    assert later.found.state == {"x": {"step": 1}}
    assert [kept.step for kept, _ in later.found.damaged] == [2]
    later.save(2)
    assert [kept.step for kept in read_head(store, RUN).kept] == [2, 1]
    assert newest(store).manifest.step == 2
    assert stored(store) == reachable(store)


def test_what_a_successor_drops_is_not_called_damaged_even_after_real_damage(store: Watched, clock: HandClock) -> None:
    writer = Writer(store, clock)
    writer.save(1)
    before = stored(store)
    writer.save(2)
    damaged = stored(store) - before
    for key in damaged:
        damage(store, key, "first")
    zombie = take_over(store, RUN, 0).head

    def overtake(verb: str, key: str) -> None:
        if verb == "get" and key.endswith("/head"):  # the zombie has seen that the run is its own
            store.after = lambda _verb, _key: None
            Writer(store, clock, keep_last=1).save(2)

    store.after = overtake
    with pytest.raises(Fenced):
        find_newest(store, RUN, zombie.kept, epoch=zombie.epoch)


def test_every_flipped_bit_of_every_object_is_detected(store: Watched, clock: HandClock) -> None:
    Writer(store, clock).save(1, x={"a": np.arange(4)})
    for key in sorted(stored(store)):
        data = store.get(key)
        for at in range(0, len(data) * 8, 1 + len(data) * 8 // 150):
            changed = bytearray(data)
            changed[at // 8] ^= 1 << at % 8
            store.inner.put(key, bytes(changed))
            with pytest.raises(NoWholeCheckpoint):
                newest(store)
        store.inner.put(key, data)
    assert newest(store).manifest.step == 1


def test_a_damaged_pack_is_not_referred_to_again(store: Watched, clock: HandClock) -> None:
    writer = Writer(store, clock, keep_last=3)
    writer.save(1, x={"a": np.zeros(LARGE // 8)})
    kept = writer.save(2, x={"a": np.ones(LARGE // 8)})
    for pack in read_manifest(store, RUN, kept).packs:
        damage(store, pack.key, "middle")
    later = Writer(store, clock, keep_last=3)
    assert later.found.manifest.step == 1
    later.save(3, x={"a": np.ones(LARGE // 8)})
    assert newest(store).manifest.step == 3


def test_an_older_damaged_manifest_is_dropped_at_the_next_save(
    store: Watched, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer(store, clock, keep_last=5)
    first = writer.save(1)
    writer.save(2)
    damage(store, first.key, "short")
    Writer(store, clock, keep_last=5).save(3)
    assert [kept.step for kept in read_head(store, RUN).kept] == [3, 2]
    assert "the checkpoint of step 1 is damaged and dropped" in caplog.text


def test_a_store_that_does_not_answer_is_no_damage(store: Watched, clock: HandClock) -> None:
    Writer(store, clock).save(1)

    def down(verb: str, key: str) -> None:
        if verb == "get" and "/packs/" in key:
            raise Unavailable("down")

    store.before = down
    with pytest.raises(Unavailable):
        newest(store)


def test_a_head_that_contradicts_its_manifest_is_damage(store: Watched, clock: HandClock) -> None:
    writer = Writer(store, clock)
    kept = writer.save(1)
    writer.head.publish((msgspec.structs.replace(kept, step=5),))
    with pytest.raises(NoWholeCheckpoint, match="of step 1, the head says 5"):
        newest(store)
    writer.head.publish((msgspec.structs.replace(kept, size=2**60),))
    with pytest.raises(NoWholeCheckpoint, match="manifest of 1152921504606846976 bytes"):
        newest(store)


def test_a_newer_format_is_not_passed_over(store: Watched, clock: HandClock) -> None:
    from spotweld.store.blobs import put_blob
    from spotweld.values.digests import digest

    writer = Writer(store, clock)
    old = writer.save(1)
    data = b'{"format": 2, "new": "things"}'
    key = f"runs/{RUN}/manifests/new.json"
    put_blob(store, key, data)
    writer.head.publish((Kept(2, key, digest(data), len(data), 0.0), old))
    with pytest.raises(UnknownFormat, match="format 2"):
        newest(store)


def test_a_manifest_that_no_reader_would_take_is_not_published(
    store: Watched, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(store, clock)
    writer.save(1)
    for module in (publishing, restoring):
        monkeypatch.setattr(module, "MANIFEST_LIMIT", 5_000)
    with pytest.raises(UnsupportedState, match=r"takes .* kB, and a manifest has 5.0 kB at most"):
        writer.save(2, x={"numbers": list(range(5_000))})
    assert newest(store).manifest.step == 1
    writer.save(3)
    assert newest(store).manifest.step == 3
    reachable(store)


def test_a_run_without_checkpoints_has_none(store: Watched) -> None:
    take_over(store, RUN, 0)
    assert newest(store) is None
