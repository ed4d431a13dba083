import pytest

from spotweld.errors import Corrupt, NotFound, Unavailable
from spotweld.store.blobs import get_blob, put_blob
from spotweld.store.objects import Objects
from spotweld.testing.stores import Fault, FaultyObjects, script
from spotweld.values.digests import digest

DATA = bytes(range(256))


def test_a_blob_comes_back(objects: Objects) -> None:
    put_blob(objects, "blobs/x", memoryview(DATA))
    assert get_blob(objects, "blobs/x", digest(DATA), 256) == DATA
    put_blob(objects, "blobs/empty", b"")
    assert get_blob(objects, "blobs/empty", digest(b""), 0) == b""


def test_the_same_blob_may_be_put_again(objects: Objects) -> None:
    for _ in range(3):
        put_blob(objects, "blobs/x", DATA)


@pytest.mark.parametrize("other", [DATA[:-1], DATA + b"x", b"", DATA[::-1]])
def test_another_blob_under_that_key_is_corrupt(memory: Objects, other: bytes) -> None:
    memory.create("blobs/x", other)
    with pytest.raises(Corrupt):
        put_blob(memory, "blobs/x", DATA)
    with pytest.raises(Corrupt):
        get_blob(memory, "blobs/x", digest(DATA), 256)


def test_a_missing_blob_is_not_found(memory: Objects) -> None:
    with pytest.raises(NotFound):
        get_blob(memory, "blobs/x", digest(DATA), 256)


def test_every_flipped_bit_is_noticed(memory: Objects) -> None:
    for bit in range(0, 8 * len(DATA), 7):
        flipped = bytearray(DATA)
        flipped[bit // 8] ^= 1 << bit % 8
        memory.put("blobs/x", flipped)
        with pytest.raises(Corrupt):
            get_blob(memory, "blobs/x", digest(DATA), 256)


@pytest.mark.parametrize("fault", [Fault.SHORT, Fault.FLIPPED])
def test_a_damaged_read_is_corrupt(memory: Objects, fault: Fault) -> None:
    put_blob(memory, "blobs/x", DATA)
    with pytest.raises(Corrupt, match="damaged"):
        get_blob(FaultyObjects(memory, script({1: fault})), "blobs/x", digest(DATA), 256)


def test_a_write_whose_answer_was_lost_is_done_by_the_next_try(memory: Objects) -> None:
    faulty = FaultyObjects(memory, script({1: Fault.ANSWER_LOST, 2: Fault.RETRIED}))
    with pytest.raises(Unavailable):
        put_blob(faulty, "blobs/x", DATA)
    put_blob(faulty, "blobs/x", DATA)
    assert get_blob(faulty, "blobs/x", digest(DATA), 256) == DATA
