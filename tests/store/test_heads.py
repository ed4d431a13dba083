import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import Corrupt, Fenced, Unavailable, UnknownFormat, UsageError
from spotweld.store.heads import Head, HeadWriter, Kept, head_key, read_head, seal, take_over, unseal
from spotweld.store.objects import Objects
from spotweld.store.opening import open_store
from spotweld.testing.stores import Fault, FaultyObjects, flip_bit, script
from spotweld.values.digests import digest

RUN = "digits"


def kept(*steps: int) -> tuple[Kept, ...]:
    return tuple(Kept(step, f"runs/{RUN}/manifests/{step}", digest(b"%d" % step), 1, 0.5) for step in steps)


def test_a_run_without_a_head_has_none(objects: Objects) -> None:
    assert read_head(objects, RUN) is None


def test_a_publish_is_read_by_everybody(objects: Objects) -> None:
    writer = take_over(objects, RUN, 1)
    assert writer.head == read_head(objects, RUN)
    assert (writer.head.epoch, writer.head.attempt, writer.head.kept) == (1, 1, ())
    for step in (5, 10, 15):
        assert writer.publish(kept(step, step - 5)) == writer.head == read_head(objects, RUN)
    assert writer.head.kept == kept(15, 10)


def test_a_successor_inherits_and_fences(objects: Objects) -> None:
    old = take_over(objects, RUN, 1)
    old.publish(kept(5))
    new = take_over(objects, RUN, 2)
    assert new.head.epoch == old.head.epoch + 1
    assert new.head.seq == old.head.seq + 1
    assert new.head.kept == kept(5)
    for _ in range(2):
        with pytest.raises(Fenced, match="taken over"):
            old.publish(kept(10, 5))
    assert read_head(objects, RUN) == new.head
    new.publish(kept(7, 5))


def test_a_lower_attempt_is_fenced_at_once(objects: Objects) -> None:
    writer = take_over(objects, RUN, 3)
    with pytest.raises(Fenced, match="later attempt"):
        take_over(objects, RUN, 2)
    assert read_head(objects, RUN) == writer.head


def test_the_same_attempt_may_start_again(memory: Objects) -> None:
    first = take_over(memory, RUN, 3)
    assert take_over(memory, RUN, 3).head.epoch == first.head.epoch + 1


def test_without_a_controller_everybody_takes_over_and_numbered_zombies_stay_out(memory: Objects) -> None:
    assert take_over(memory, RUN, 0).head.attempt == 0
    assert take_over(memory, RUN, 5).head.attempt == 5
    assert take_over(memory, RUN, 0).head.attempt == 5
    with pytest.raises(Fenced):
        take_over(memory, RUN, 4)


def test_a_copy_of_the_writer_in_another_process_is_fenced(memory: Objects) -> None:
    writer = take_over(memory, RUN, 1)
    fork = HeadWriter(memory, RUN, writer.head)
    fork.publish(kept(1))
    with pytest.raises(Fenced):
        writer.publish(kept(2))


def test_a_writer_whose_run_was_deleted_is_fenced(memory: Objects) -> None:
    writer = take_over(memory, RUN, 1)
    memory.delete(head_key(RUN))
    with pytest.raises(Fenced, match="gone"):
        writer.publish(kept(1))


@pytest.mark.parametrize("run", ["", "a/b", ".", "..", "a\0", "a\\b"])
def test_a_run_has_a_plain_name(memory: Objects, run: str) -> None:
    with pytest.raises(UsageError):
        read_head(memory, run)


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.ANSWER_LOST, Fault.RETRIED, Fault.LATE])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_one_fault_is_survived(memory: Objects, fault: Fault, call: int) -> None:
    # Calls: 1 read, 2 create, 3 read, 4 replace; a fault moves the later ones.
    faulty = FaultyObjects(memory, script({call: fault}))
    try:
        writer = take_over(faulty, RUN, 1)
    except Unavailable:
        writer = take_over(faulty, RUN, 1)
    try:
        writer.publish(kept(1))
    except Unavailable:
        writer.publish(kept(1))
    faulty.settle()
    found = read_head(memory, RUN)
    assert found == writer.head
    assert found.kept == kept(1)


@pytest.mark.parametrize("fault", [Fault.NO_ANSWER, Fault.ANSWER_LOST, Fault.RETRIED, Fault.LATE])
@pytest.mark.parametrize("verb", ["create", "replace"])
def test_a_copy_whose_take_over_was_not_answered_is_no_later_attempt(memory: Objects, fault: Fault, verb: str) -> None:
    lead = Head(7, 2, 1, "theirs", (), "lineage")
    if verb == "replace":
        take_over(memory, RUN, 1, lead=Head(6, 1, 1, "theirs", (), "lineage"))
    # Calls: 1 read, 2 create or replace.
    faulty = FaultyObjects(memory, script({2: fault}))
    writer = take_over(faulty, RUN, 2, lead=lead)
    faulty.settle()
    assert writer.publish(kept(1)) == read_head(memory, RUN)
    assert (writer.head.epoch, writer.head.lineage) == (7, "lineage")
    with pytest.raises(Fenced, match="later attempt"):
        take_over(memory, RUN, 2, lead=lead)


def test_its_own_success_reported_as_a_conflict_is_success(memory: Objects) -> None:
    faulty = FaultyObjects(memory, lambda call: Fault.RETRIED if call.verb in {"create", "replace"} else None)
    writer = take_over(faulty, RUN, 1)
    assert writer.publish(kept(1)) == read_head(memory, RUN)
    assert (writer.head.epoch, writer.head.seq) == (1, 2)


def test_a_store_that_does_not_answer_is_unavailable_and_the_writer_lives(memory: Objects) -> None:
    down = [True]
    faulty = FaultyObjects(memory, lambda call: Fault.ANSWER_LOST if down[0] and call.verb == "replace" else None)
    writer = take_over(faulty, RUN, 1)
    with pytest.raises(Unavailable):
        writer.publish(kept(1))
    with pytest.raises(Unavailable):
        writer.publish(kept(2, 1))
    down[0] = False
    assert writer.publish(kept(3, 1)) == read_head(memory, RUN)
    with pytest.raises(Unavailable):
        take_over(FaultyObjects(memory, lambda _: Fault.NO_ANSWER), RUN, 1)


def test_any_flipped_bit_in_a_head_is_noticed(memory: Objects) -> None:
    take_over(memory, RUN, 1).publish(kept(10, 5))
    whole = memory.get(head_key(RUN))
    for bit in range(8 * len(whole)):
        with pytest.raises(Corrupt):
            unseal(RUN, flip_bit(whole, bit))
    for end in range(len(whole)):
        with pytest.raises(Corrupt):
            unseal(RUN, whole[:end])


def test_a_damaged_head_is_never_used_and_says_what_to_do(local: Objects) -> None:
    writer = take_over(local, RUN, 1)
    writer.publish(kept(5))
    raw, version = local.read(head_key(RUN))
    local.replace(head_key(RUN), flip_bit(raw, 900), version)
    for verb in (lambda: read_head(local, RUN), lambda: take_over(local, RUN, 2), lambda: writer.publish(kept(6))):
        with pytest.raises(Corrupt) as caught:
            verb()
        assert "makes the head anew" in caught.value.todo


@pytest.mark.parametrize("body", [b'{"format":2}', b"[]", b'{"format":1,"epoch":1,"surprise":2}'])
def test_a_head_of_the_future_is_refused(memory: Objects, body: bytes) -> None:
    memory.create(head_key(RUN), f"{digest(body)}\n".encode() + body)
    with pytest.raises(UnknownFormat):
        take_over(memory, RUN, 1)


numbers = st.integers(0, 2**53)
keeps = st.builds(
    Kept, numbers, st.text(), st.just(digest(b"")), numbers, st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.builds(Head, numbers, numbers, numbers, st.text(), st.lists(keeps, max_size=3).map(tuple)))
def test_a_head_comes_back(head: Head) -> None:
    assert unseal(RUN, seal(head)) == head


@given(st.binary(max_size=300))
def test_garbage_is_corrupt(raw: bytes) -> None:
    with pytest.raises(Corrupt):
        unseal(RUN, raw)


def test_contention_without_end_is_given_up(memory: Objects) -> None:
    class Busy(FaultyObjects):
        def replace(self, *_: object) -> None:
            take_over(memory, RUN, 0)
            super().replace(*_)  # type: ignore[arg-type]

    take_over(memory, RUN, 1)
    with pytest.raises(Unavailable, match="again and again"):
        take_over(Busy(memory, script({})), RUN, 1)


def test_a_head_may_lie_in_a_shared_memory_store() -> None:
    take_over(open_store("memory:shared-by-name"), RUN, 1)
    assert read_head(open_store("memory:shared-by-name"), RUN)
    assert read_head(open_store("memory:"), RUN) is None
