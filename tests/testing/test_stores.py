import pytest

from spotweld.errors import Conflict, NotFound, Unavailable
from spotweld.store.objects import Objects
from spotweld.store.opening import open_store
from spotweld.testing.stores import Call, Fault, FaultyObjects, flip_bit, script, seeded


@pytest.fixture
def inner() -> Objects:
    return open_store("memory:", verify=False)


def test_without_faults_it_is_the_store_itself(inner: Objects) -> None:
    store = FaultyObjects(inner, script({}))
    store.create("a/k", b"1")
    store.replace("a/k", b"2", store.read("a/k")[1])
    assert [meta.key for meta in store.list("a/")] == ["a/k"]
    store.put("a/k", b"34")
    assert store.get("a/k", start=1) == b"4"
    store.delete("a/k")
    with pytest.raises(NotFound):
        store.get("a/k")
    assert [call.verb for call in store.calls] == ["create", "read", "replace", "list", "put", "get", "delete", "get"]
    assert store.calls[0] == Call(1, "create", "a/k")


def test_no_answer_leaves_nothing_behind(inner: Objects) -> None:
    store = FaultyObjects(inner, script({1: Fault.NO_ANSWER}))
    with pytest.raises(Unavailable):
        store.create("k", b"1")
    store.create("k", b"2")
    assert inner.get("k") == b"2"


@pytest.mark.parametrize(("fault", "error"), [(Fault.ANSWER_LOST, Unavailable), (Fault.RETRIED, Conflict)])
def test_a_lost_answer_leaves_the_write(inner: Objects, fault: Fault, error: type[Exception]) -> None:
    store = FaultyObjects(inner, script({1: fault}))
    with pytest.raises(error):
        store.create("k", b"1")
    assert inner.get("k") == b"1"


def test_a_late_write_arrives_before_a_later_call(inner: Objects) -> None:
    store = FaultyObjects(inner, script({1: Fault.LATE}))
    with pytest.raises(Unavailable):
        store.create("k", b"late")
    with pytest.raises(NotFound):
        inner.get("k")
    for _ in range(5):
        list(store.list(""))
    assert inner.get("k") == b"late"


def test_a_late_write_that_came_too_late_is_dropped(inner: Objects) -> None:
    store = FaultyObjects(inner, script({1: Fault.LATE}))
    with pytest.raises(Unavailable):
        store.create("k", b"late")
    inner.create("k", b"first")
    store.settle()
    store.settle()
    assert inner.get("k") == b"first"


def test_reads_are_shortened_or_flipped_in_one_bit(inner: Objects) -> None:
    inner.create("k", b"0123456789")
    store = FaultyObjects(inner, script({1: Fault.SHORT, 2: Fault.FLIPPED, 3: Fault.FLIPPED}))
    assert store.get("k") == b"01234"
    for data in (store.get("k"), store.read("k")[0]):
        assert sum((old ^ new).bit_count() for old, new in zip(b"0123456789", data, strict=True)) == 1
    assert store.get("k") == b"0123456789"


def test_a_liar_ignores_conditions(inner: Objects) -> None:
    store = FaultyObjects(inner, lambda _: Fault.UNCONDITIONAL)
    store.create("k", b"1")
    stale = store.read("k")[1]
    store.create("k", b"2")
    store.replace("k", b"3", stale)
    assert inner.get("k") == b"3"


def test_slowness_is_the_callers_own(inner: Objects) -> None:
    slept: list[float] = []
    store = FaultyObjects(inner, lambda _: Fault.SLOW, sleep=slept.append)
    store.create("k", b"1")
    assert store.get("k") == b"1"
    assert len(slept) == 2
    assert all(seconds > 0 for seconds in slept)


def test_a_seed_gives_the_same_faults_again() -> None:
    calls = [Call(number, "get", "k") for number in range(1000)]
    first, again, other = (list(map(seeded(seed, 0.3, [Fault.SLOW, Fault.SHORT]), calls)) for seed in (1, 1, 2))
    assert first == again != other
    assert 200 < sum(fault is not None for fault in first) < 400
    assert set(first) == {None, Fault.SLOW, Fault.SHORT}


def test_a_bit_is_flipped_and_flipped_back() -> None:
    assert flip_bit(b"\x00\x00", 9) == b"\x00\x02"
    assert flip_bit(flip_bit(b"abc", 13), 13) == b"abc"
