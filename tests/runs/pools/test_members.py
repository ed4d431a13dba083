"""The claim: one object, created once; and what of a job a preparation depends on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from spotweld.errors import Unavailable
from spotweld.project.nouns import CheckpointPolicy, Job
from spotweld.runs.pools.members import (
    Claim,
    claim,
    claim_key,
    orders_key,
    read_claim,
    read_orders,
    read_readiness,
    readiness_key,
    recipe_of,
)
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path


def test_of_many_at_once_one_wins_and_all_hear_who(tmp_path: Path) -> None:
    objects = open_store(f"file:{tmp_path}")
    for round_ in range(20):
        at, found = f"pools/p/{round_}", []
        barrier = threading.Barrier(6)

        def go(number: int, at: str = at, found: list[Any] = found, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            mine = Claim(f"run-{number}", 1, float(number)) if number % 2 else Claim(why=f"closed {number}")
            found.append((claim(objects, at, mine), mine))

        threads = [threading.Thread(target=go, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = {one for one, _ in found}
        assert len(held) == 1
        assert [mine for one, mine in found if one == mine] == [read_claim(objects, at)]


def test_an_answer_that_was_lost_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_store("memory:")
    create = objects.create

    def lost(key: str, data: bytes) -> None:
        create(key, data)
        raise Unavailable("the answer was lost")

    mine = Claim("r", 2, 7.0)
    with monkeypatch.context() as patch:
        patch.setattr(objects, "create", lost)
        with pytest.raises(Unavailable):
            claim(objects, "pools/p/t", mine)
    again = claim(objects, "pools/p/t", msgspec.structs.replace(mine, time=9.0))
    assert again == mine, "the first time counts: the pool was paid until then"


def test_what_is_not_there_or_cannot_be_read() -> None:
    objects = open_store("memory:")
    assert (read_claim(objects, "m"), read_orders(objects, "m"), read_readiness(objects, "m")) == (None, None, None)
    objects.put(orders_key("m"), b'{"recipe": "of a newer Spotweld"}')
    objects.put(readiness_key("m"), b"half")
    assert (read_orders(objects, "m"), read_readiness(objects, "m")) == (None, None)
    # A claim that cannot be read is no free machine.
    objects.put(claim_key("m"), b"{")
    with pytest.raises(msgspec.DecodeError):
        read_claim(objects, "m")


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"command": "other"}, True),
        ({"labels": {"team": "x"}}, True),
        ({"budget": None}, True),
        ({"setup": "other"}, False),
        ({"env": {"A": "2"}}, False),
        ({"checkpoint": CheckpointPolicy(keep_last=9)}, False),
        ({"name": "other"}, False),
    ],
)
def test_what_a_preparation_depends_on(changed: dict[str, Any], same: bool) -> None:
    job = Job("train", "python train.py", setup="make", env={"A": "1"})
    other = msgspec.structs.replace(job, **changed)
    assert (recipe_of(job, "s", "sources/1", None) == recipe_of(other, "s", "sources/1", None)) is same


def test_files_and_variables_matter_to_a_set_up_alone() -> None:
    bare = Job("train", "true", env={"A": "1"})
    other = msgspec.structs.replace(bare, env={"A": "2"})
    assert recipe_of(bare, "s", "sources/1", None) == recipe_of(other, "s", "sources/2", None)
    assert recipe_of(bare, "s", "sources/1", None) != recipe_of(bare, "elsewhere", "sources/1", None)
    made = msgspec.structs.replace(bare, setup="make")
    assert recipe_of(made, "s", "sources/1", None) != recipe_of(made, "s", "sources/2", None)
