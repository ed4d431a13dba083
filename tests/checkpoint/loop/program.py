"""A training loop with the clock, the store and the notices in the test's hand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from spotweld import Checkpointer
from spotweld.checkpoint import events
from spotweld.checkpoint.events import parse_event
from spotweld.store.heads import read_head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.checkpoint.conftest import Announcer, HandClock, Watched

    Body = Callable[["Program", int], None]


class Program:
    """A training loop that adds up its steps; each takes a second."""

    def __init__(
        self,
        store: Watched,
        clock: HandClock,
        told: Path,
        announcer: Announcer | None = None,
        *,
        every: Any = 1000,  # noqa: ANN401
        patient: bool = True,
        max_lost_work: float | str | None = None,
    ) -> None:
        self.clock, self.patient, self.told = clock, patient, told
        self.beside = threading.Event()
        """Set while a step waits for the save beside it."""
        self.told.unlink(missing_ok=True)
        self.weights = np.zeros(3)
        self.log: dict[str, Any] = {"steps": []}
        self.checkpointer = Checkpointer(
            {"weights": self.weights, "log": self.log},
            store=store,
            every=every,
            max_lost_work=max_lost_work,
            notices=[announcer] if announcer else [],
            clock=clock,
        )

    def run(self, total: int, body: Body = lambda _program, _step: None) -> Program:
        for step in self.checkpointer.steps(total):
            if self.patient:  # let a save end before the clock goes on, so that what is due is never put off
                self.beside.set()
                self.wait()
                if step < total - 1:
                    self.beside.clear()
            self.weights += step
            self.log["steps"].append(step)
            self.clock.sleep(1.0)
            body(self, step)
        return self

    def wait(self) -> None:
        self.checkpointer._session._saves.wait(10)

    @property
    def events(self) -> list[Any]:
        return [parse_event(line) for line in self.told.read_bytes().splitlines()]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def saved(self) -> list[tuple[int, str]]:
        return [(event.step, event.reason) for event in self.of(events.Saved)]

    def is_whole(self, total: int) -> bool:
        return self.log["steps"] == list(range(total)) and self.weights.tolist() == [sum(range(total))] * 3


def at(step: int, act: Callable[[], object]) -> Body:
    def body(_: Program, now: int) -> None:
        if now == step:
            act()

    return body


def kill() -> None:
    raise KeyboardInterrupt


def published(store: Watched) -> list[int]:
    head = read_head(store, "default")
    assert head is not None
    return [kept.step for kept in head.kept]


def slow_store(store: Watched, clock: HandClock, seconds: float) -> None:
    def slow(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            clock.sleep(seconds)

    store.before = slow
