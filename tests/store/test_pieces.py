import pytest

from spotweld.store.pieces import Pieces, joined, size_of, views

DATA = [b"ab", bytearray(b"c"), memoryview(b"xdefx")[1:4], b"", memoryview(b"ghij").cast("H")]


@pytest.mark.parametrize("data", [b"", b"one", bytearray(b"one"), memoryview(b"one"), [], [b"one"], DATA, tuple(DATA)])
def test_all_forms_say_the_same(data: Pieces) -> None:
    assert bytes(joined(data)) == b"".join(map(bytes, views(data)))
    assert size_of(data) == sum(view.nbytes for view in views(data)) == memoryview(joined(data)).nbytes
    assert all(view.format == "B" and view.nbytes for view in views(data))


def test_a_single_piece_is_not_copied() -> None:
    one = bytearray(b"one")
    assert joined(one) is one
    assert joined([one]) is one
