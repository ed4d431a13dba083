"""The head protocol under every misfortune at once, the same for the same seed.

The writers are the real code, each in a thread of its own, of which exactly one runs at a time: at every call to the
store a writer hands the turn to the scheduler, which draws from the seed who goes on, what goes wrong, and who dies.
A writer that is not drawn for long is a stalled machine; one that is drawn again after its successor has taken over is
a zombie.
"""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import msgspec

from spotweld.errors import Corrupt, Fenced, Unavailable
from spotweld.store.heads import Head, HeadWriter, Kept, read_head, take_over, unseal
from spotweld.store.opening import open_store
from spotweld.testing.stores import Fault, FaultyObjects
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.store.objects import Objects, Version
    from spotweld.testing.stores import Call

RUN = "run"
T = TypeVar("T")
FAULTS = [Fault.NO_ANSWER, Fault.ANSWER_LOST, Fault.RETRIED, Fault.LATE, Fault.LATE, Fault.FLIPPED]


class Killed(BaseException):
    """The machine is gone, in the middle of whatever it did."""


class Moved(msgspec.Struct, frozen=True):
    """One movement of the head, in the order in which the store did them."""

    head: Head
    life: str


class History:
    """The store itself, with a record of how its head moved and of what the writers were told."""

    def __init__(self) -> None:
        self.inner = open_store("memory:", verify=False)
        self.moves: list[Moved] = []
        self.told: list[tuple[int, str, Head]] = []
        self.fenced: dict[str, int] = {}

    def seen_by(self, life: str) -> Objects:
        """The store as one writer's machine reaches it, before anything goes wrong."""
        return _Recorded(self, life)


class _Recorded(FaultyObjects):
    def __init__(self, history: History, life: str) -> None:
        super().__init__(history.inner, lambda _: None)
        self._history = history
        self._life = life

    def put(self, key: str, data: bytes) -> None:  # type: ignore[override]
        super().put(key, data)
        self._history.moves.append(Moved(unseal(RUN, data), self._life))

    def create(self, key: str, data: bytes) -> None:  # type: ignore[override]
        super().create(key, data)
        self._history.moves.append(Moved(unseal(RUN, data), self._life))

    def replace(self, key: str, data: bytes, version: Version) -> None:  # type: ignore[override]
        super().replace(key, data, version)
        self._history.moves.append(Moved(unseal(RUN, data), self._life))


class World:
    """One schedule.

    Args:
        seed: what is drawn from.
        lies: the share of conditional writes that the store does without their condition.
    """

    def __init__(self, seed: int, lies: float = 0.0) -> None:
        self.dice = random.Random(seed)
        self.history = History()
        self.lies = lies
        self.trouble = self.dice.choice([0.0, 0.05, 0.2, 0.4])
        self.death = self.dice.choice([0.0, 0.01, 0.05])
        self.counter = 0
        self.turns: list[_Turn] = []

    def run(self) -> History:
        """Let all lives end; then the faults stop, and one last attempt must get through."""
        stores = []
        for number in range(1, self.dice.randint(2, 5) + 1):
            attempt = number if self.dice.random() < 0.8 else 0
            store = FaultyObjects(self.history.seen_by(f"life {number}"), self._plan)
            stores.append(store)
            self.turns.append(_Turn(lambda turn, n=number, a=attempt, s=store: self._life(f"life {n}", a, s, turn)))
        try:
            waiting = list(self.turns)
            while waiting:
                turn = self._draw(waiting)
                turn.go(killed=self.dice.random() < self.death)
                waiting = [one for one in waiting if not one.done]
        finally:
            for turn in self.turns:
                turn.end()
        for turn in self.turns:
            if turn.error is not None:
                raise turn.error
        for store in stores:
            store.settle()
        survivor = take_over(self.history.seen_by("survivor"), RUN, 99)
        survivor.publish((self._new(survivor), *survivor.head.kept))
        assert read_head(self.history.inner, RUN) == survivor.head
        return self.history

    def _draw(self, waiting: list[_Turn]) -> _Turn:
        # The longer a favourite keeps the turn, the longer the others are stalled machines.
        favourite = self.turns[self.counter // 25 % len(self.turns)]
        self.counter += 1
        if favourite in waiting and self.dice.random() < 0.7:
            return favourite
        return self.dice.choice(waiting)

    def _plan(self, call: Call) -> Fault | None:
        if call.verb in {"create", "replace"} and self.dice.random() < self.lies:
            return Fault.UNCONDITIONAL
        return self.dice.choice(FAULTS) if self.dice.random() < self.trouble else None

    def _new(self, writer: HeadWriter) -> Kept:
        self.counter += 1
        return Kept(self.counter, f"manifests/{writer.head.epoch}-{self.counter}", digest(b""), 0, 0.0)

    def _life(self, life: str, attempt: int, store: FaultyObjects, turn: _Turn) -> None:
        """What a checkpointer does: take over, publish some checkpoints, try again when the store fails."""
        paused = _Paused(store, turn)
        with suppress(Killed):
            try:
                writer = self._insist(lambda: take_over(paused, RUN, attempt))
                self.history.told.append((len(self.history.moves), life, writer.head))
                for _ in range(4):
                    new = self._new(writer)
                    head = self._insist(lambda new=new: writer.publish((new, *writer.head.kept)))
                    self.history.told.append((len(self.history.moves), life, head))
            except Fenced:
                self.history.fenced[life] = len(self.history.moves)

    def _insist(self, act: Callable[[], T]) -> T:
        while True:
            # A bit that flipped on the way is Corrupt to the writer; the next read is whole.
            with suppress(Unavailable, Corrupt):
                return act()


class _Turn:
    """A thread that runs only while the scheduler waits for it."""

    def __init__(self, act: Callable[[_Turn], None]) -> None:
        self.done = False
        self.error: BaseException | None = None
        self._killed = False
        self._mine = threading.Semaphore(0)
        self._theirs = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(act,))
        self._thread.start()

    def go(self, *, killed: bool) -> None:
        """Let it run until it waits again or ends."""
        self._killed = self._killed or killed
        self._mine.release()
        self._theirs.acquire()

    def wait(self) -> None:
        """Called by the thread: hand the turn back until it is drawn again."""
        self._theirs.release()
        self._mine.acquire()
        if self._killed:
            raise Killed

    def end(self) -> None:
        while not self.done:
            self.go(killed=True)
        self._thread.join()

    def _run(self, act: Callable[[_Turn], None]) -> None:
        self._mine.acquire()
        try:
            if not self._killed:
                act(self)
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            self.done = True
            self._theirs.release()


class _Paused(FaultyObjects):
    """A store before and after each of whose calls others may go on, or the machine may die."""

    def __init__(self, inner: Objects, turn: _Turn) -> None:
        super().__init__(inner, lambda _: None)
        self._turn = turn

    def read(self, key: str) -> tuple[bytes, Version]:
        self._turn.wait()
        return self._inner.read(key)

    def create(self, key: str, data: bytes) -> None:  # type: ignore[override]
        self._turn.wait()
        self._inner.create(key, data)
        self._turn.wait()

    def replace(self, key: str, data: bytes, version: Version) -> None:  # type: ignore[override]
        self._turn.wait()
        self._inner.replace(key, data, version)
        self._turn.wait()


def broken(history: History) -> list[str]:
    """Every promise that a history does not keep."""
    wrong = []
    for before, after in pairwise(history.moves):
        wrong += _wrong_move(before, after)
    for life, count in history.fenced.items():
        if any(move.life == life for move in history.moves[count:]):
            wrong.append(f"{life} moved the head after it was fenced")
    end = history.moves[-1].head
    for count, life, head in history.told:
        if head not in [move.head for move in history.moves[:count]]:
            wrong.append(f"{life} was told of a publish that did not happen")
        # Nobody drops a checkpoint in this world, so whatever was acknowledged is there for ever.
        if not set(head.kept) <= set(end.kept):
            wrong.append(f"a checkpoint that {life} had published is lost")
    if read_head(history.inner, RUN) != end:
        wrong.append("the head is not the last that was written")
    return wrong


def _wrong_move(before: Moved, after: Moved) -> list[str]:
    old, new = before.head, after.head
    wrong = []
    if new.seq != old.seq + 1:
        wrong.append(f"seq went from {old.seq} to {new.seq}")
    if new.epoch == old.epoch:
        if after.life != before.life:
            wrong.append(f"{after.life} published under the epoch of {before.life}")
    elif new.epoch != old.epoch + 1:
        wrong.append(f"the epoch went from {old.epoch} to {new.epoch}")
    elif new.kept != old.kept:
        wrong.append(f"epoch {new.epoch} did not inherit what was published")
    if new.attempt < old.attempt:
        wrong.append(f"attempt {new.attempt} took over from {old.attempt}")
    return wrong
