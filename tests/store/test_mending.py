import pytest

from spotweld.errors import Corrupt, Fenced, NotFound
from spotweld.store.heads import Kept, head_key, read_head, take_over
from spotweld.store.mending import mend_head
from spotweld.store.objects import Objects
from spotweld.testing.stores import flip_bit
from spotweld.values.digests import digest, hex_of

RUN = "digits"


def store_manifest(objects: Objects, epoch: int, step: int) -> Kept:
    data = f"manifest of step {step} by epoch {epoch}".encode()
    key = f"runs/{RUN}/manifests/{epoch:08d}-{step:012d}-{hex_of(digest(data))}.json"
    objects.create(key, data)
    return Kept(step, key, digest(data), len(data), 0.0)


def damage(objects: Objects, key: str) -> None:
    raw, version = objects.read(key)
    objects.replace(key, flip_bit(raw, 8 * len(raw) - 3), version)


def test_a_damaged_head_is_made_anew_from_whole_manifests(objects: Objects) -> None:
    old = take_over(objects, RUN, 1)
    first = store_manifest(objects, 1, 50)
    writer = take_over(objects, RUN, 2)
    rotten, last = store_manifest(objects, 2, 20), store_manifest(objects, 2, 30)
    objects.create(f"runs/{RUN}/manifests/readme.txt", b"not a manifest")
    writer.publish((last, rotten, first))
    damage(objects, head_key(RUN))
    damage(objects, rotten.key)
    with pytest.raises(Corrupt):
        take_over(objects, RUN, 3)

    mended = mend_head(objects, RUN)

    assert [(kept.step, kept.digest, kept.size) for kept in mended.kept] == [
        (30, last.digest, last.size),
        (50, first.digest, first.size),
    ]
    assert mended.epoch > writer.head.epoch
    for zombie in (old, writer):
        with pytest.raises(Fenced):
            zombie.publish(())
    assert take_over(objects, RUN, 3).head.kept == mended.kept


def test_a_whole_head_stays(memory: Objects) -> None:
    head = take_over(memory, RUN, 1).head
    store_manifest(memory, 1, 1)
    assert mend_head(memory, RUN) == head == read_head(memory, RUN)


def test_no_head_is_no_damage(memory: Objects) -> None:
    with pytest.raises(NotFound):
        mend_head(memory, RUN)


def test_a_run_without_manifests_is_mended_to_nothing(memory: Objects) -> None:
    take_over(memory, RUN, 1)
    damage(memory, head_key(RUN))
    assert mend_head(memory, RUN).kept == ()
