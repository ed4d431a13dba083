"""Attempts of one run over faulty stores, crashing, pausing and waking up as zombies: each seed is one history.

A pause is simulated exactly: a store's hook lets the successors live their whole lives in the middle of one call of
the paused writer, before or after that call takes effect, and the writer goes on when they are done.

Attempts have machines with fast tiers, which they may lose, or come back to; what goes to the store is stored in codecs
of all kinds, differences among them. Relays carry when the history says so, not in threads.
"""

from __future__ import annotations

import contextlib
import random
import threading
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from spotweld.checkpoint import encoding, packing, publishing, reading, relaying, snapshot, tiers
from spotweld.checkpoint.choosing import Goal
from spotweld.checkpoint.encoding import Encoder
from spotweld.checkpoint.format import epoch_of
from spotweld.checkpoint.layout import CHUNK, lay_out
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import check_owner, find_best, find_newest, read_manifest
from spotweld.checkpoint.routes import Leg, Route
from spotweld.checkpoint.snapshot import Snapshot, capture
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.tiers import Opened, candidates, open_tiers
from spotweld.errors import Corrupt, Fenced, NotFound, NoWholeCheckpoint, SpotweldError, Unavailable
from spotweld.project.nouns import Tier
from spotweld.store.heads import HeadWriter, read_head, take_over

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import HandClock, Watched
    from spotweld.checkpoint.restoring import Found

RUN = "r"
SEEDS, MANY = 120, 1000
DEEP = 3
"""Zombies at a time."""
STAGING = [[Staging() for _ in range(3)] for _ in range(DEEP + 1)]
"""By how many paused writers wait, and by the place on the route; fresh memory for each attempt would cost more than
all the rest."""
NOISE = np.random.default_rng(0).standard_normal(4000)


def state_of(life: tuple[int, ...]) -> dict[str, Any]:
    """What was computed by these attempts, one step each.

    It changes in every step, in few, and never; what was there before comes back, and what is there grows.
    """
    step = len(life)
    weights = (NOISE[: 200 + 50 * (step // 9)] * (1 + 1e-6 * step) + 1e-7 * sum(life)).astype("<f4")
    slow = (NOISE[:100] * (1 + 1e-6 * (step // 5))).astype("<f4")
    turns, frozen = bytes([step // 4 % 2]) * 64, b"f" * 64
    return {"x": {"life": list(life), "turns": turns, "frozen": frozen, "slow": slow, "w": weights}}


def same(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Bit for bit."""

    def plain(state: Any) -> dict[str, Any]:  # noqa: ANN401
        return {name: part.tobytes() if name in {"w", "slow"} else part for name, part in state["x"].items()}

    return plain(one) == plain(other)


def captured(state: dict[str, Any], step: int, staging: Staging, clock: HandClock) -> Snapshot:
    """A snapshot that is copied already."""
    taken = capture(state, step, staging, clock)
    staging.reserve(taken.content.sizes)
    taken.copy()
    return taken


class Crash(BaseException):
    """The process is gone."""


class Deferred:
    """In place of a relay's threads: what reads does so at once, the relay itself runs when the history says so."""

    copying: ClassVar[int] = 0

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...] = (), **_: object) -> None:
        self._target, self._args = target, args

    def start(self) -> None:
        if self._target.__name__ == "copy":
            Deferred.copying += 1
            try:
                self._target(*self._args)
            finally:
                Deferred.copying -= 1

    def join(self) -> None:
        pass


class Parked(Exception):
    """A relay waits before it tries again."""


class Pause(threading.Event):
    """In place of what a relay waits for."""

    def wait(self, timeout: float | None = None) -> bool:
        raise Parked(timeout)


class Whim:
    """Any codec that fits, in place of the best."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.link = chance, 1.0

    def codec_for(self, _kind: object, names: Sequence[str]) -> str:
        return self.chance.choice([*names, *(name for name in names if name.startswith("delta"))])

    def learn(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _small_packs_are_shared_and_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "SHARED", 1)
    monkeypatch.setattr(packing, "PACK_LIMIT", CHUNK)
    monkeypatch.setattr(snapshot, "lay_out", partial(lay_out, small=64))
    monkeypatch.setattr(reading, "CHUNK", 2**12, raising=False)  # large buffers would take most of the time
    monkeypatch.setattr(reading, "_THREADS", 1, raising=False)
    monkeypatch.setattr(encoding, "_LARGE", 64)
    monkeypatch.setattr(encoding, "_MOST", 4)
    monkeypatch.setattr(relaying, "retry_after", lambda _failures: 1.0)
    there = SimpleNamespace(Thread=Deferred, Lock=threading.Lock, Event=Pause)
    monkeypatch.setattr(relaying, "threading", there)


class History:
    """One seed."""

    def __init__(self, seed: int, new_store: Callable[[], Watched], clock: HandClock) -> None:
        self.chance, self.new_store, self.clock = random.Random(seed), new_store, clock
        self.calm = False
        self.depth = 0
        self.takeovers = 0
        self.acknowledged: tuple[int, ...] = ()
        """The newest life whose publishing in the store returned successfully, under whoever owned the run then."""
        self.truth: dict[tuple[int, int], tuple[int, ...]] = {}
        """What was saved, by epoch and step."""
        self.odds = self.chance.choice([100, 300, 1000])
        self.keep_last = self.chance.randint(1, 3)
        self.keep_every = self.chance.choice([0, 0, 2])
        self.stores: dict[str, Watched] = {}
        """Of tiers, by URL."""
        self.machines = 0
        self.machine = 0
        self.carrying: list[tuple[int, Attempt]] = []
        """Whose relays are at work, with how many paused writers wait for them."""
        self.deltas = self.from_tiers = self.given_up = 0
        self.store = self.watched()

    def watched(self, *, sick: bool = False) -> Watched:
        store = self.new_store()
        store.before = store.after = self.happens

        def fails(verb: str, key: str) -> None:
            if verb == "create" and not self.calm and self.chance.randrange(4) == 0:
                raise Unavailable("injected: the disk is full")
            self.happens(verb, key)

        if sick:
            store.before = fails
        return store

    def open(self, url: str) -> Watched:
        if not self.calm and self.chance.randrange(20) == 0:
            raise Unavailable("injected")
        if url not in self.stores:
            self.stores[url] = self.watched(sick=self.chance.randrange(8) == 0)
            self.stores[url].url = url
        return self.stores[url]

    def happens(self, _verb: str, _key: str) -> None:
        if self.calm:
            return
        match self.chance.randrange(self.odds):
            case 0 if not Deferred.copying:
                raise Crash
            case 1 | 2:
                raise Unavailable("injected")
            case 3 if self.depth < DEEP:
                self.depth += 1
                for _ in range(self.chance.randint(1, 2)):
                    self.attempt()
                self.depth -= 1
            case 4 | 5 | 6 if self.carrying and self.carrying[-1][0] == self.depth:
                attempt = self.carrying[-1][1]
                if not attempt.saving and not attempt.route.direct and not Deferred.copying:
                    attempt.go_on()
            case _:
                pass

    def attempt(self) -> None:
        """A process's life, from taking over to its end in whatever way."""
        with contextlib.suppress(Crash, Unavailable, Fenced):
            self.live()

    def move(self) -> None:
        """The machine that the next attempt gets: the same, a former one, or a new one; its memory may be lost."""
        match self.chance.randrange(8):
            case 0 | 1:
                self.machines += 1
                self.machine = self.machines
            case 2:
                self.machine = self.chance.randint(0, self.machines)
            case 3:
                self.stores.pop(f"near:{self.machine}/0", None)
            case _:
                pass

    def live(self) -> None:
        self.move()
        machine, count = self.machine, self.chance.choice([0, 1, 1, 2])
        mine = self.takeovers + 1
        writer = take_over(self.store, RUN, 0)
        self.takeovers += 1
        rules = [Tier(f"near:{machine}/{at}", keep_last=self.chance.randint(1, 2)) for at in range(count)]
        opened = open_tiers(rules, RUN, 0, writer.head)
        found = self.restore(writer, opened)
        life = self.truth[epoch_of(found.kept.key) or 0, found.kept.step] if found else ()
        if mine == self.takeovers:  # nobody took over meanwhile: this goes on from the newest that was published
            assert life[: len(self.acknowledged)] == self.acknowledged
        Attempt(self, writer, opened, found, life).train()

    def restore(self, writer: HeadWriter, opened: list[Opened]) -> Found | None:
        epoch = writer.head.epoch
        try:
            found = find_best(
                RUN,
                candidates(self.store, RUN, writer.head.kept, opened),
                owner=lambda: check_owner(self.store, RUN, epoch),
            )
        except NoWholeCheckpoint as error:
            if "injected" not in str(error):
                raise
            raise Unavailable("a tier alone had it") from error
        if found:
            assert all("injected" in why for _, why in found.damaged)
            self.is_true(found)
            self.from_tiers += bool(found.tier)
            self.truth[epoch, found.kept.step] = self.truth[epoch_of(found.kept.key) or 0, found.kept.step]
        return found

    def is_true(self, found: Found) -> None:
        life = self.truth[epoch_of(found.kept.key) or 0, found.kept.step]
        assert found.manifest.step == found.kept.step == len(life)
        assert same(found.state, state_of(life))

    def check(self) -> None:
        """Every published manifest is whole, in tiers too, nothing acknowledged is lost, and the run can go on."""
        self.calm = True
        head = read_head(self.store, RUN)
        if head is None:
            assert self.acknowledged == ()
            return
        if head.kept:
            newest = self.truth[epoch_of(head.kept[0].key) or 0, head.kept[0].step]
            assert newest[: len(self.acknowledged)] == self.acknowledged
        else:
            assert self.acknowledged == ()
        for objects in (self.store, *self.stores.values()):
            for run in {key.split("/")[1] for key in objects.keys("runs/")}:
                inside = read_head(objects, run)
                for kept in inside.kept if inside else ():
                    found = find_newest(objects, RUN, [kept]) if run == RUN else self.copy_of(objects, run, kept)
                    assert found is not None
                    self.is_true(found)
        self.live()
        self.is_swept(self.store, RUN)

    def copy_of(self, objects: Watched, run: str, kept: Any) -> Found | None:  # noqa: ANN401
        return find_best(run, [tiers.Candidate(objects, run, kept, "")])

    def is_swept(self, objects: Watched, run: str) -> None:
        """Nothing is there but what the head reaches."""
        head = read_head(objects, run)
        assert head is not None
        reached = {pack.key for kept in head.kept for pack in read_manifest(objects, run, kept).packs}
        reached |= {kept.key for kept in head.kept}
        assert objects.keys(f"runs/{run}/packs/") | objects.keys(f"runs/{run}/manifests/") == reached


class Attempt:
    """One process after its start."""

    def __init__(
        self, history: History, writer: HeadWriter, opened: list[Opened], found: Found | None, life: tuple[int, ...]
    ) -> None:
        self.history, self.life, self.id = history, life, writer.head.epoch
        self.chance, self.staging = history.chance, STAGING[history.depth]
        self.failures = 0
        self.saving = False
        self.encoder = self.new_encoder()

        def leg(objects: Any, run: str, writer: HeadWriter, keep: tuple[int, int]) -> Leg:  # noqa: ANN401
            url = "" if run == RUN else objects.url
            publisher = Publisher(
                objects,
                run,
                writer,
                history.clock,
                keep_last=keep[0],
                keep_every=keep[1],
                whole=found.manifest if found and found.tier == url else None,
                damaged=[kept.key for kept, _ in found.damaged] if found else (),
                encoder=None if url else self.encoder,
            )
            return Leg(objects.url, objects, publisher, 0.0)

        legs = [leg(one.objects, one.run, one.writer, (one.rules.keep_last, 0)) for one in opened]
        legs.append(leg(history.store, RUN, writer, (history.keep_last, history.keep_every)))
        newest = max((kept.step for kept in writer.head.kept), default=None)
        others = iter(self.staging[1:])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(relaying, "Staging", lambda _limit: next(others))
            self.route = Route(legs, history.clock, newest)
        if found is not None and opened and found.tier == legs[0].url and found.kept.step != newest:
            self.route.saved(found.kept, 0.0)

    def new_encoder(self) -> Encoder | None:
        match self.chance.randrange(6):
            case 0:
                return None
            case 1:
                return Encoder(Goal.BYTES, 1)
            case _:
                encoder = Encoder(Goal.TIME, 1)
                encoder._chooser = Whim(self.chance)  # type: ignore[assignment]
                return encoder

    def train(self) -> None:
        for _ in range(self.chance.choice([1, 4, 12])):
            self.go_on()
            if self.chance.randrange(5) < 3:
                self.carry()
        while self.history.calm and self.route.busy:
            self.carry()

    def go_on(self) -> None:
        """Some steps, and a save; a store that does not answer is no reason to stop."""
        self.life += (self.id,) * self.chance.randint(1, 3)
        route, mine, alone = self.route, self.history.takeovers, self.chance.randrange(5) == 0
        if not route.ready:
            return
        self.history.truth[self.id, len(self.life)] = life = self.life
        if alone:
            route.stand_alone()
        self.saving = True
        try:
            kept = route.first.publish(captured(state_of(life), len(life), self.staging[0], self.history.clock))
        except Unavailable:
            self.failures += 1
            if self.failures > 1:
                self.history.given_up += route.give_up_tiers()
            return
        finally:
            self.saving = False
        self.failures = 0
        if route.direct and mine == self.history.takeovers:
            self.history.acknowledged = life
        route.saved(kept, 0.0, alone=alone)

    def carry(self) -> None:
        """What a relay's thread does beside the training, which goes on in the midst of it if the history says so."""
        history, mine = self.history, self.history.takeovers
        history.carrying.append((history.depth, self))
        try:
            for _, relay in self.route._relays:
                if history.calm or self.chance.randrange(4):
                    history.clock.sleep(1.0)
                    with contextlib.suppress(Parked):
                        relay._run()
        finally:
            history.carrying.pop()
        for url, carried in self.route.collect():
            if isinstance(carried.error, Fenced):
                raise carried.error
            assert carried.error is None or isinstance(carried.error, (Unavailable, Corrupt, NotFound))
            if isinstance(carried.error, (Corrupt, NotFound)) and carried.failures > 1:
                history.given_up += self.route.give_up_tiers()
            assert carried.kept is None or not (carried.load.alone and carried.written.delta)
            if carried.kept is not None and url == self.route.store:
                history.deltas += carried.written.delta
                if mine == history.takeovers:  # nobody took over meanwhile, so this is the newest truth
                    history.acknowledged = history.truth[self.id, carried.kept.step]


def play(seeds: range, new_store: Callable[[], Watched], new_clock: type[HandClock]) -> dict[str, int]:
    """How often what happened."""
    sums = dict.fromkeys(("takeovers", "from_tiers", "deltas", "given_up"), 0)
    for seed in seeds:
        history = History(seed, new_store, new_clock())
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tiers, "open_store", history.open)
                for _ in range(history.chance.randint(1, 6)):
                    history.attempt()
                history.check()
        except (AssertionError, KeyError, SpotweldError) as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        for name in sums:
            sums[name] += getattr(history, name)
    return sums


def test_no_history_loses_what_was_published(new_store: Callable[[], Watched], new_clock: type[HandClock]) -> None:
    sums = play(range(SEEDS), new_store, new_clock)
    assert sums["takeovers"] > 2 * SEEDS
    assert min(sums.values()) > 10, sums


@pytest.mark.slow
def test_no_history_of_thousands_loses_what_was_published(
    new_store: Callable[[], Watched], new_clock: type[HandClock], capsys: pytest.CaptureFixture[str]
) -> None:
    sums = play(range(SEEDS, SEEDS + MANY), new_store, new_clock)
    with capsys.disabled():
        print(f"\n{MANY} histories, {sums}: nothing that was published was lost")  # noqa: T201
