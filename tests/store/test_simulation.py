from contextlib import suppress

import pytest
from tests.store.simulation import RUN, World, broken

from spotweld.errors import Conflict
from spotweld.store.heads import Head, HeadWriter, Kept, head_key, seal, unseal
from spotweld.store.objects import Version

FAST = 300
SLOW = 20_000


def failing(seeds: range, lies: float = 0.0) -> dict[int, list[str]]:
    """The seeds whose history breaks a promise, and which."""
    return {seed: wrong for seed in seeds if (wrong := broken(World(seed, lies).run()))}


def test_no_schedule_breaks_a_promise() -> None:
    assert failing(range(FAST)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_schedule_of_many_breaks_a_promise(part: int) -> None:
    assert failing(range(FAST + part * SLOW // 8, FAST + (part + 1) * SLOW // 8)) == {}


def test_a_seed_gives_the_same_history_again() -> None:
    for seed in range(20):
        first, second = (World(seed).run() for _ in range(2))
        told = [[(count, life, head.epoch, head.seq) for count, life, head in one.told] for one in (first, second)]
        assert told[0] == told[1]
        assert [move.life for move in first.moves] == [move.life for move in second.moves]


def test_the_schedules_are_eventful() -> None:
    worlds = [World(seed) for seed in range(60)]
    histories = [world.run() for world in worlds]
    assert sum(len(one.fenced) for one in histories) > 30
    assert sum(len(one.moves) for one in histories) > 500
    assert sum(turn.error is None for world in worlds for turn in world.turns) > 100


def test_a_store_that_ignores_conditions_breaks_promises() -> None:
    assert failing(range(40), lies=1.0)


def blind(writer: HeadWriter) -> tuple[Head, Version]:
    """Reads the head and looks neither at its epoch nor at who wrote it."""
    raw, version = writer._objects.read(head_key(RUN))
    return unseal(RUN, raw), version


def trusting(writer: HeadWriter, kept: tuple[Kept, ...]) -> Head:
    """Takes any conflict for its own success."""
    found, version = writer._read_ours()
    new = Head(found.epoch, found.attempt, found.seq + 1, "x", kept)
    with suppress(Conflict):
        writer._objects.replace(head_key(RUN), seal(new), version)
    return writer._won(new)


@pytest.mark.parametrize(("method", "mutant"), [("_read_ours", blind), ("publish", trusting)])
def test_a_mutilated_protocol_is_found_out(monkeypatch: pytest.MonkeyPatch, method: str, mutant: object) -> None:
    monkeypatch.setattr(HeadWriter, method, mutant)
    assert failing(range(60))
