"""Attempts of one run over a faulty store, crashing, pausing and waking up as zombies: each seed is one history.

A pause is simulated exactly: the store's hook lets the successors live their whole lives in the middle of one call of
the paused writer, before or after that call takes effect, and the writer goes on when they are done.
"""

from __future__ import annotations

import contextlib
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.checkpoint import packing, publishing, snapshot
from spotweld.checkpoint.layout import CHUNK, lay_out
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import find_newest, read_manifest
from spotweld.checkpoint.snapshot import Snapshot, capture
from spotweld.checkpoint.staging import Staging
from spotweld.errors import Fenced, StoreError, Unavailable
from spotweld.store.heads import read_head, take_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import HandClock, Watched

RUN = "r"
SEEDS, MANY = 150, 5000
STAGING = [Staging() for _ in range(4)]
"""By how many paused writers wait; fresh memory for each attempt would cost more than all the rest."""


@pytest.fixture(autouse=True)
def _small_packs_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "SHARED", 1)
    monkeypatch.setattr(packing, "PACK_LIMIT", CHUNK)
    monkeypatch.setattr(snapshot, "lay_out", partial(lay_out, small=64))


def state_at(step: int) -> dict[str, Any]:
    """Changes in every step, in few, and never; what was there before comes back."""
    return {"x": {"history": list(range(step)), "turns": bytes([step // 4 % 2]) * 64, "frozen": b"f" * 64}}


def captured(state: dict[str, Any], step: int, staging: Staging, clock: HandClock) -> Snapshot:
    """A snapshot that is copied already."""
    taken = capture(state, step, staging, clock)
    staging.reserve(taken.content.sizes)
    taken.copy()
    return taken


class Crash(BaseException):
    """The process is gone."""


class History:
    """One seed."""

    def __init__(self, seed: int, store: Watched, clock: HandClock) -> None:
        self.chance, self.store, self.clock = random.Random(seed), store, clock
        self.calm = False
        self.depth = 0
        self.owner = 0
        """The newest attempt that has taken over, counted by us."""
        self.acknowledged = 0
        """The newest step whose publishing returned successfully, under whoever owned the run then."""
        self.takeovers = 0
        self.keep_last = self.chance.randint(1, 3)
        self.keep_every = self.chance.choice([0, 0, 2])
        store.before, store.after = self.before, self.after

    def before(self, _verb: str, _key: str) -> None:
        self.happens("before")

    def after(self, _verb: str, _key: str) -> None:
        self.happens("after")

    def happens(self, _when: str) -> None:
        if self.calm:
            return
        match self.chance.randrange(60):
            case 0:
                raise Crash
            case 1 | 2:
                raise Unavailable("injected")
            case 3 if self.depth < 3:
                self.depth += 1
                for _ in range(self.chance.randint(1, 2)):
                    self.attempt()
                self.depth -= 1

    def attempt(self) -> None:
        """A process's life, from taking over to its end in whatever way."""
        with contextlib.suppress(Crash, Unavailable, Fenced):
            self.live()

    def live(self) -> None:
        writer = take_over(self.store, RUN, 0)
        self.takeovers += 1
        found = find_newest(self.store, RUN, writer.head.kept, epoch=writer.head.epoch)
        step = found.manifest.step if found else 0
        if found:
            assert found.damaged == ()
            assert found.state == state_at(step)
        publisher = Publisher(
            self.store,
            RUN,
            writer,
            self.clock,
            keep_last=self.keep_last,
            keep_every=self.keep_every,
            whole=found.manifest if found else None,
        )
        staging = STAGING[self.depth]
        for _ in range(self.chance.randint(1, 4)):
            step += self.chance.randint(1, 3)
            mine = self.takeovers
            try:
                publisher.publish(captured(state_at(step), step, staging, self.clock))
            except Unavailable:
                continue  # training goes on
            if mine == self.takeovers:  # nobody took over meanwhile, so this is the newest truth
                self.acknowledged = step

    def check(self) -> None:
        """Every published manifest is whole, nothing acknowledged is lost, and the run can go on."""
        self.calm = True
        head = read_head(self.store, RUN)
        if head is None:
            assert self.acknowledged == 0
            return
        found = find_newest(self.store, RUN, head.kept)
        assert (found.manifest.step if found else 0) >= self.acknowledged
        for kept in head.kept:
            assert find_newest(self.store, RUN, [kept]) is not None
        self.live()
        head = read_head(self.store, RUN)
        assert head is not None
        reached = {pack.key for kept in head.kept for pack in read_manifest(self.store, RUN, kept).packs}
        reached |= {kept.key for kept in head.kept}
        assert self.store.keys(f"runs/{RUN}/packs/") | self.store.keys(f"runs/{RUN}/manifests/") == reached


def play(seeds: range, new_store: Callable[[], Watched], new_clock: type[HandClock]) -> int:
    takeovers = 0
    for seed in seeds:
        history = History(seed, new_store(), new_clock())
        try:
            for _ in range(history.chance.randint(1, 6)):
                history.attempt()
            history.check()
        except (AssertionError, StoreError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        takeovers += history.takeovers
    return takeovers


def test_no_history_loses_what_was_published(new_store: Callable[[], Watched], new_clock: type[HandClock]) -> None:
    assert play(range(SEEDS), new_store, new_clock) > SEEDS


@pytest.mark.slow
def test_no_history_of_thousands_loses_what_was_published(
    new_store: Callable[[], Watched], new_clock: type[HandClock], capsys: pytest.CaptureFixture[str]
) -> None:
    takeovers = play(range(SEEDS, SEEDS + MANY), new_store, new_clock)
    with capsys.disabled():
        print(f"\n{MANY} histories with {takeovers} attempts: nothing that was published was lost")  # noqa: T201
