from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import ImageRecordUnreadable
from spotweld.images.builders.builder import Outcome
from spotweld.images.builds.naming import cache_of, repository_of, tag_of
from spotweld.images.builds.records import (
    Attempt,
    Build,
    Done,
    Kept,
    all_kept,
    builds,
    forget_build,
    images,
    merged,
    read_build,
    read_kept,
    write_build,
    write_kept,
)
from spotweld.images.builds.storing import FORMAT
from spotweld.images.registries.references import check_repository
from spotweld.images.steps.preimages import Input, Preimage
from spotweld.project.nouns import Lifetime
from spotweld.store.opening import open_store
from spotweld.testing.stores import Fault, FaultyObjects, script
from spotweld.values.digests import Digest, digest

if TYPE_CHECKING:
    from spotweld.store.objects import Objects

KEPT = Kept("demo", "base", "oci:/r", "demo/base", Lifetime.PERSISTENT, protected=True)
DIGEST = Digest("sha256:" + 64 * "a")


def preimage(text: str) -> Preimage:
    return Preimage("0", (Input("instruction", "RUN", f'["{text}"]'),))


def build(number: int, *, started: float = 0.0, done: bool = True, **more: object) -> Build:
    attempt = Attempt(started, "fake", "done" if done else "begun")
    steps = (Done(preimage("make"), Outcome.RAN, 3.0, 3.0),) if done else ()
    made = Build(
        "base", digest(str(number).encode()), DIGEST if done else None, "oci:/r", "demo/base", "linux/amd64", "fake",
        "", False, started, 3.0, "0", steps, (attempt,),
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


@pytest.fixture
def store() -> Objects:
    return open_store("memory:")


def test_what_is_written_is_read_and_the_newest_comes_first(store: Objects) -> None:
    for number in (2, 1, 3):
        write_build(store, build(number, started=float(number)))
    write_build(store, build(4, started=4.0, done=False))
    write_kept(store, KEPT)

    assert [one.started for one in builds(store, "base")] == [3.0, 2.0, 1.0]
    assert [one.started for one in builds(store, "base", unfinished=True)] == [4.0, 3.0, 2.0, 1.0]
    assert read_build(store, "base", build(2).key) == build(2, started=2.0)
    assert read_build(store, "base", build(9).key) is None
    assert (read_kept(store, "base"), read_kept(store, "other")) == (KEPT, None)
    assert (images(store), all_kept(store)) == (("base",), (KEPT,))
    forget_build(store, "base", build(3).key)
    assert [one.started for one in builds(store, "base")] == [2.0, 1.0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[]", "damaged"),
        (b'{"format": 1}', "damaged"),
        (b'{"format": "x"}', "damaged"),
        (msgspec.json.encode({"format": FORMAT + 1, "image": 3}), "newer Spotweld"),
    ],
)
def test_a_record_that_cannot_be_read_is_an_error_or_is_passed_over(store: Objects, data: bytes, why: str) -> None:
    write_build(store, build(1))
    store.put(f"images/base/builds/{tag_of(build(2).key)}.json", data)
    store.put("images/base/image.json", data)

    with pytest.raises(ImageRecordUnreadable, match=why) as caught:
        read_build(store, "base", build(2).key)
    assert caught.value.todo
    with pytest.raises(ImageRecordUnreadable, match=why):
        read_kept(store, "base")
    said: list[str] = []
    assert [one.key for one in builds(store, "base", said.append)] == [build(1).key]
    assert all_kept(store, said.append) == ()
    assert len(said) == 2
    assert all(why in line for line in said)


def test_a_damaged_record_is_written_over_and_a_newer_one_is_not(store: Objects) -> None:
    store.put("images/base/image.json", b"{")
    write_kept(store, KEPT)
    assert read_kept(store, "base") == KEPT
    store.put("images/base/image.json", b'{"format": 99}')
    with pytest.raises(ImageRecordUnreadable):
        write_kept(store, KEPT)


def test_a_second_build_of_one_key_keeps_the_attempts_and_the_times_of_what_ran() -> None:
    lost = build(1, started=1.0, done=False)
    first = merged(lost, build(1, started=2.0))
    again = build(1, started=5.0, steps=(Done(preimage("make"), Outcome.HIT, 0.1),))
    both = merged(first, again)

    assert [(one.started, one.outcome) for one in both.attempts] == [(1.0, "begun"), (2.0, "done"), (5.0, "done")]
    assert both.steps == (Done(preimage("make"), Outcome.HIT, 0.1, 3.0),)
    begun = merged(both, build(1, started=9.0, done=False))
    assert (begun.digest, begun.started) == (DIGEST, 5.0)
    assert len(begun.attempts) == 4


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=8))
def test_merging_loses_no_attempt_and_no_end(tries: list[tuple[int, bool]]) -> None:
    known: Build | None = None
    for started, done in tries:
        known = merged(known, build(1, started=float(started), done=done))
        assert merged(known, known) == known
    if known is not None:
        ended = {float(started) for started, done in tries if done}
        assert {one.started for one in known.attempts} == {float(started) for started, _ in tries}
        assert {one.started for one in known.attempts if one.outcome == "done"} == ended
        assert bool(known.digest) == bool(ended)


@pytest.mark.parametrize("call", range(1, 5))
def test_a_write_whose_answer_was_lost_is_no_conflict(call: int) -> None:
    inner = open_store("memory:")
    write_build(inner, build(1, started=1.0))
    store = FaultyObjects(inner, script({call: Fault.RETRIED}))
    write_build(store, build(1, started=2.0))
    write_build(store, build(2, started=3.0))
    assert [one.started for one in builds(inner, "base")] == [3.0, 2.0]


def test_those_who_write_at_once_lose_nothing(store: Objects) -> None:
    threads = [
        threading.Thread(target=write_build, args=(store, build(1, started=float(number)))) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_build(store, "base", build(1).key)
    assert found is not None
    assert [one.started for one in found.attempts] == [float(number) for number in range(8)]


@given(st.text(min_size=1, max_size=80), st.sampled_from(["a", "ml-stack", "a__b"]))
def test_every_project_has_a_repository(project: str, image: str) -> None:
    check_repository(cache_of(repository_of(project, image)))


def test_names() -> None:
    assert repository_of("My Demo_2", "ml-stack") == "my-demo-2/ml-stack"
    assert tag_of(Digest("blake3:" + "0123456789" * 6 + "abcd")) == "0123456789" * 4
