from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld.checkpoint.distributed.group import Trouble, by_first, error_of, together, trouble_of
from spotweld.errors import Corrupt, Fenced, StateMismatch, Unexpected

if TYPE_CHECKING:
    from tests.checkpoint.distributed.conftest import Ranks


def test_what_one_rank_cannot_do_fails_everywhere_alike(new_ranks: type[Ranks]) -> None:
    ranks = new_ranks(3)

    def body(rank: int) -> object:
        group, _ = ranks.groups(rank)

        def call() -> int:
            if rank == 1:
                raise Corrupt("pack 7 is damaged", "a bit")
            if rank == 2:
                raise StateMismatch("it does not fit")
            return rank

        try:
            return together(group, call)
        except Corrupt as error:
            return str(error)

    own = "pack 7 is damaged: a bit"
    assert ranks.run(body) == [f"Rank 1: {own}", own, f"Rank 1: {own}"]


def test_what_nobody_foresaw_is_one_error_for_all(new_ranks: type[Ranks]) -> None:
    ranks = new_ranks(2)

    def body(rank: int) -> object:
        return together(ranks.groups(rank)[0], lambda: {}["a"] if rank else None)

    first, second = ranks.run(body)
    assert (type(first), type(second)) == (Unexpected, Unexpected)
    assert isinstance(second.__cause__, KeyError)


def test_what_all_can_do_is_each_ones_own(new_ranks: type[Ranks]) -> None:
    ranks = new_ranks(2)
    assert ranks.run(lambda rank: together(ranks.groups(rank)[0], lambda: rank)) == [0, 1]


def test_only_the_first_rank_acts(new_ranks: type[Ranks]) -> None:
    ranks = new_ranks(3)
    acted: list[int] = []

    def body(rank: int) -> bytes:
        def call() -> bytes:
            acted.append(rank)
            return b"so"

        return by_first(ranks.groups(rank)[0], call)

    assert ranks.run(body) == [b"so"] * 3
    assert acted == [0]


def test_what_the_first_rank_cannot_do_is_heard_by_all(new_ranks: type[Ranks]) -> None:
    ranks = new_ranks(2)

    def call() -> bytes:
        raise Fenced("the run is somebody else's")

    ends = ranks.run(lambda rank: by_first(ranks.groups(rank)[0], call))
    assert [type(end) for end in ends] == [Fenced, Fenced]


def test_errors_travel_as_values() -> None:
    error = error_of(trouble_of(Corrupt("what", "why", "todo")))
    assert (type(error), error.args) == (Corrupt, ("what", "why", "todo"))
    assert isinstance(error_of(trouble_of(ZeroDivisionError("by zero"))), Unexpected)
    assert str(error_of(Trouble("SW9999", "of a later version"))) == "of a later version"


@pytest.mark.parametrize("size", [1, 4])
def test_everything_is_by_rank(new_ranks: type[Ranks], size: int) -> None:
    ranks = new_ranks(size)

    def body(rank: int) -> object:
        group, _ = ranks.groups(rank)
        return group.gather(bytes([rank])), group.collect(bytes([rank])), group.largest([rank, -rank])

    every = [bytes([rank]) for rank in range(size)]
    found = ranks.run(body)
    assert found[0] == (every, every, [size - 1, 0])
    assert all(end == (every, [], [size - 1, 0]) for end in found[1:])
