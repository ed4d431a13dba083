"""One attempt's work on a run: take over, restore, save, answer notices, leave. The decisions lie elsewhere."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from spotweld.checkpoint import cadence, emergency, events
from spotweld.checkpoint.distributed.shards import of_group
from spotweld.checkpoint.emergency import Act
from spotweld.checkpoint.encoding import encoder_for
from spotweld.checkpoint.origins import why_there
from spotweld.checkpoint.pacing import Pacing
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.restoring import check_owner, find_best
from spotweld.checkpoint.risk import Level
from spotweld.checkpoint.rng import restore_rng
from spotweld.checkpoint.routes import Leg, Route
from spotweld.checkpoint.saves import Saves
from spotweld.checkpoint.snapshot import describe
from spotweld.checkpoint.state import Saved, places, put_back
from spotweld.checkpoint.tiers import candidates, open_tiers
from spotweld.checkpoint.tree import unflatten
from spotweld.checkpoint.voice import warn
from spotweld.errors import Conflict, Corrupt, Fenced, StateMismatch, Unavailable
from spotweld.preemption.notices import Kind
from spotweld.store.heads import take_over
from spotweld.store.mending import mend_head

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.publishing import Publishing
    from spotweld.checkpoint.restoring import Restored
    from spotweld.checkpoint.risk import Risk
    from spotweld.checkpoint.settings import Settings
    from spotweld.checkpoint.tiers import Opened
    from spotweld.preemption.notices import Notice
    from spotweld.preemption.watcher import Watcher
    from spotweld.store.heads import HeadWriter, Kept
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

T = TypeVar("T")

EX_TEMPFAIL = 75
"""Interrupted, but resumable."""
_TELL = 0.2
"""Seconds between two ``step`` events, and between two looks at a risk of which nothing new was heard."""
_STUBBORN = 900.0
"""Seconds that a silent store is waited for at the start and at the end, where nothing else can be done."""
_GLANCE = 0.1
"""Seconds between two looks at what is waited for."""
_FLUSH = 30.0
"""Seconds that a loop which was left early waits for the save that is running."""


class Session:
    """Takes the run over and restores its newest whole checkpoint. For the training thread alone.

    Args:
        state: the program's parts.
        settings: what was asked for.
        objects: the store.
        watcher: hears notices; started and stopped by the caller.
        tell: where events go.
        clock: time.
        on_risk: called at a step's edge with a risk of another level than before.

    Raises:
        SystemExit: 75: a later attempt owns the run.
        NoWholeCheckpoint: every checkpoint is damaged.
        StateMismatch: the checkpoint does not fit the program.
        UnsupportedState: the state could never be saved.
        UnknownFormat: a newer Spotweld wrote the run.
        Unavailable: the store does not answer.
    """

    over = False
    """An edge has brought the run to its end, because another process of it wanted that."""
    _rank = 0
    """In the names of what is published here."""

    def __init__(
        self,
        state: Mapping[str, object],
        settings: Settings,
        objects: Objects,
        watcher: Watcher,
        tell: EventFile,
        clock: Clock,
        on_risk: Callable[[Risk], object] = lambda _: None,
    ) -> None:
        self._settings, self._watcher, self._tell, self._clock = settings, watcher, tell, clock
        self._epoch = 0
        self.step = 0
        """Steps finished."""
        self._notice: Notice | None = None
        self._answered = False
        self._wanted = False
        self._left = False
        self._told_at = float("-inf")
        self._pacing = Pacing(settings, tell, clock)
        self._on_risk, self._level = on_risk, Level.LOW
        self._looked_at: tuple[float, Notice | None] = (float("-inf"), None)
        self._edge_at = 0.0
        try:
            self._saves = self._open(state, objects)
        except Fenced as error:
            self._fence(error)
        self._edge_at = clock.monotonic()

    @property
    def risk(self) -> Risk:
        """The risk that the machine is at."""
        return self._pacing.risk(self._watcher.current(), self._watcher.remaining())

    def want_save(self) -> None:
        """Save at the next edge, whatever the cadence says."""
        self._wanted = True

    def edge(self, step: int) -> None:
        """A step has ended, ``step`` are finished: look at everything, begin a save if one is due.

        Raises:
            SystemExit: 75: the machine is about to go, or a later attempt owns the run.
        """
        self.step = step
        now = self._clock.monotonic()
        if not self._pacing.pace:
            self._saves.prepare()  # optimizers make their state in their first step
        self._pacing.step_ended(now - self._edge_at)
        if now - self._told_at >= _TELL:
            self._told_at = now
            self._tell.write(events.Step(self._clock.now(), step))
        try:
            self._saves.settle()
            self._pacing.settled(self._saves)
            self._act()
        except Fenced as error:
            self._fence(error)
        self._pacing.step_begins(self._saves)
        self._edge_at = self._clock.monotonic()

    def finish(self, step: int) -> None:
        """All steps are done: make the last state durable. A machine that goes meanwhile is only a reason to hurry.

        Raises:
            SystemExit: 75: the machine goes first, or a later attempt owns the run.
            Exception: it could not be stored, for a quarter of an hour.
        """
        self.step = step
        saves, give_up = self._saves, self._clock.monotonic() + _STUBBORN
        try:
            while saves.durable != self.step or saves.running is not None:
                hurried = self._is_terminal(self._listen())
                if hurried and self._watcher.remaining() == 0:
                    self._leave(self._standing())
                error = self._push("final", urgent=hurried)
                if error is not None and self._clock.monotonic() > give_up:
                    raise error
        except Fenced as error:
            self._fence(error)
        self._tell.write(events.Step(self._clock.now(), self.step))
        self._tell.write(events.Finished(self._clock.now(), self.step))

    def end(self) -> None:
        """Let a running save come to its end, unless the process is leaving the machine."""
        self._saves.end()
        if not self._left:
            give_up = time.monotonic() + _FLUSH
            with suppress(Fenced):
                # Settled before it is looked at: what has come to a fast tier still has to set out for the store. A
                # store that refuses now is not waited for.
                while self._saves.settle() is None and self._saves.active and time.monotonic() < give_up:
                    self._saves.hurry()  # there is no other turn
                    self._saves.wait(_GLANCE)
        self._saves.close()

    def _open(self, state: Mapping[str, object], objects: Objects) -> Saves:
        """Take the run over and restore."""
        run, began = self._settings.run, self._clock.monotonic()
        writer = patiently(lambda: take_over_mending(objects, run, self._settings.attempt), self._clock)
        self._epoch = writer.head.epoch
        published = writer.head.kept
        tiers = open_tiers(self._settings.policy.tiers, run, self._settings.attempt, writer.head)
        found = patiently(
            lambda: find_best(
                run,
                candidates(objects, run, published, tiers),
                owner=lambda: check_owner(objects, run, self._epoch),
                places=lambda manifest: _places(state, manifest),
            ),
            self._clock,
        )
        for kept, why in found.damaged if found else ():
            warn(f"the checkpoint of step {kept.step} is damaged and passed over: {why}")
        if found is not None:
            put_back(state, found.state)
            restore_rng(found.rng)
        self._begin_from(found, published, tiers, began)
        route = self._route(self._legs(objects, writer, tiers, found), writer, found)
        restored, memory = self.step if found else None, self._settings.policy.staging_memory
        saves = Saves(state, route, self._tell, self._clock, restored, memory)
        describe(state)  # one that could never be saved is refused now; memory for it is made when steps have begun
        return saves

    def _begin_from(
        self, found: Restored | None, published: Sequence[Kept], tiers: Sequence[Opened], began: float
    ) -> None:
        """Count from the checkpoint that was restored, and tell of it.

        Args:
            found: None: there was none.
            published: what the store's head named, newest first.
            tiers: the fast ones.
            began: when the taking over began, by the monotonic clock.
        """
        now, seconds = self._clock.now(), self._clock.monotonic() - began
        if found is None:
            self._tell.write(events.Fresh(now))
            return
        self.step = found.manifest.step
        told = tuple(events.Damage(kept.step, why) for kept, why in found.damaged)
        newest = published[0].step if published else None
        passed = {kept.key for kept, _ in found.damaged}
        why = why_there(found.tier, found.kept, self._settings.policy.tiers, tiers, published, passed)
        self._tell.write(events.Restored(now, self.step, found.kept.key, seconds, told, found.tier, newest, why))

    def _route(
        self,
        legs: Sequence[Leg],
        writer: HeadWriter,
        found: Restored | None,
        ways: tuple[Publishing, Publishing] | None = None,
    ) -> Route:
        """The way of the checkpoints of this attempt; what was found in a tier alone sets out for the store at once."""
        damaged = {kept.key for kept, _ in found.damaged} if found else set()
        newest = max((kept.step for kept in writer.head.kept if kept.key not in damaged), default=None)
        route = Route(legs, self._clock, newest, ways)
        if found is not None and found.tier == legs[0].url and found.manifest.step != newest:
            route.saved(found.kept, self._clock.monotonic())
        return route

    def _legs(self, objects: Objects, writer: HeadWriter, tiers: Sequence[Opened], found: Restored | None) -> list[Leg]:
        """The fast tiers and the store, with what publishes in each."""
        policy = self._settings.policy
        damaged = [kept.key for kept, _ in found.damaged] if found else []

        def publisher(objects: Objects, run: str, writer: HeadWriter, keep: tuple[int, int], url: str) -> Publisher:
            return Publisher(
                objects,
                run,
                writer,
                self._clock,
                keep_last=keep[0],
                keep_every=keep[1],
                whole=found.manifest if found and found.tier == url else None,
                damaged=damaged,
                encoder=None if url else encoder_for(policy.compress, objects),
                rank=self._rank,
            )

        legs = [
            Leg(
                tier.rules.store,
                tier.objects,
                publisher(tier.objects, tier.run, tier.writer, (tier.rules.keep_last, 0), tier.rules.store),
                tier.rules.every,
            )
            for tier in tiers
        ]
        keep = policy.keep_last, policy.keep_every
        legs.append(
            Leg(objects.url, objects, publisher(objects, self._settings.run, writer, keep, ""), policy.store_every)
        )
        return legs

    def _act(self) -> None:
        notice = self._listen()
        self._look_out(notice)
        self._saves.alone = False
        if self._is_terminal(notice):
            self._answer()
        risky = notice is not None and notice.kind is Kind.REBALANCE
        if self._wanted:
            self._wanted = not self._saves.begin(self.step, "request")
        elif risky and not self._answered:
            self._answered = self._saves.begin(self.step, "rebalance")
        elif self._pacing.due(self.step, self._saves, risky=risky):
            self._saves.begin(self.step, "cadence")

    def _listen(self) -> Notice | None:
        """The notice that stands; tells when it has changed."""
        notice, former = self._watcher.current(), self._notice
        if (notice and notice.id, notice and notice.kind) != (former and former.id, former and former.kind):
            self._notice, self._answered = notice, False
            if former is not None and (notice is None or notice.id != former.id):
                self._tell.write(events.Withdrawn(self._clock.now(), former.id))
                self._saves.calm()
            if notice is not None:
                self._tell.write(events.Noticed(self._clock.now(), notice))
        return notice

    def _look_out(self, notice: Notice | None) -> None:
        """Tell of a risk that has another level than at the former edge."""
        now = self._clock.monotonic()
        if notice is self._looked_at[1] and now - self._looked_at[0] < _TELL:
            return
        self._looked_at, risk = (now, notice), self._pacing.risk(notice, self._watcher.remaining())
        if risk.level is not self._level:
            self._level = risk.level
            self._tell.write(events.Risk(self._clock.now(), risk.level, risk.why, risk.hazard, risk.left))
            self._on_risk(risk)

    def _is_terminal(self, notice: Notice | None) -> bool:
        return notice is not None and notice.kind is Kind.TERMINATE

    def _answer(self) -> None:
        """Do what is to be done about a machine that will be taken."""
        now = self._emergency()
        decision = emergency.decide(now)
        self._saves.alone = decision.option is not None and decision.option.name == emergency.FULL
        match decision.act:
            case Act.SAVE:
                self._answered = self._saves.begin(self.step, "notice", urgent=True)
            case Act.LAST:
                self._last_save(decision.option or now.options[0], now.remaining)
            case Act.LEAVE:
                if not now.durable:
                    likely = now.options[-1].likely
                    self._tell.write(events.Emergency(self._clock.now(), "none", likely, now.remaining))
                    self._let_arrive()
                if self._is_terminal(self._listen()):
                    self._leave(self._standing())
            case Act.GO_ON:
                pass

    def _let_arrive(self) -> None:
        """Let what is on its way get to the store, as long as the machine is there."""
        saves = self._saves
        saves.hurry()
        # Settled as in ``end``: what has come to a fast tier still has to set out for the store.
        while saves.active and self._watcher.remaining():
            saves.wait(_GLANCE)
            saves.settle()
            if saves.running is None:
                self._clock.sleep(_GLANCE)

    def _last_save(self, option: emergency.Option, remaining: float | None) -> None:
        """Save and wait until it is durable, then leave; come back only if the notice is withdrawn meanwhile."""
        needed = None if option.allowed is None else option.allowed - emergency.MARGIN
        self._tell.write(events.Emergency(self._clock.now(), option.name, needed, remaining))
        saves, patience = self._saves, self._clock.monotonic() + emergency.GRACE
        while saves.durable != self.step or saves.running is not None:
            self._push("emergency", urgent=True)
            remaining = self._watcher.remaining()
            if remaining is None and saves.running is None and self._clock.monotonic() > patience:
                break  # a running save is waited for: whoever kills us decides how long
            if remaining == 0:
                break
        if self._is_terminal(self._listen()):
            self._leave(self._standing())

    def _push(self, reason: str, *, urgent: bool) -> Exception | None:
        """Bring the last state nearer to being durable, for a moment; the error if a save has failed."""
        self._saves.begin(self.step, reason, urgent=urgent)
        self._saves.wait(_GLANCE)
        error = self._saves.settle()
        if self._saves.running is None and self._saves.durable != self.step:
            self._clock.sleep(_GLANCE)  # a store that refuses is not pestered
        return error

    def _standing(self) -> str:
        """Which checkpoint stands, now that the machine goes."""
        durable = self._saves.durable
        if durable == self.step:
            return f"the machine will be taken; the checkpoint of step {durable} is durable"
        stands = "there is no checkpoint yet" if durable is None else f"the checkpoint of step {durable} stands"
        return f"the machine will be taken before a save can be finished; {stands}"

    def _emergency(self) -> emergency.Situation:
        saves, under_way = self._saves, self._saves.under_way
        running = None
        if under_way is not None:
            elapsed, alone = under_way
            running = emergency.still_needs(saves.efforts, saves.whole, elapsed, alone=alone)
        return emergency.Situation(
            remaining=self._watcher.remaining(),
            options=emergency.ways(saves.efforts, saves.whole, differences=saves.differences),
            pace=self._pacing.pace,
            running=running,
            durable=saves.durable == self.step,
            answered=self._answered,
        )

    def _fence(self, error: Fenced) -> NoReturn:
        self._tell.write(events.Fenced(self._clock.now(), self._epoch))
        self._leave(str(error))

    def _leave(self, why: str) -> NoReturn:
        self._left = True
        warn(f"leaving after step {self.step}: {why}")
        self._tell.write(events.Leaving(self._clock.now(), self.step, why))
        raise SystemExit(EX_TEMPFAIL)


def _places(state: Mapping[str, object], manifest: Manifest) -> dict[int, Any]:
    if of_group(manifest):
        raise StateMismatch(
            "The checkpoint was saved by a process group",
            "every rank has generators of its own, and its share of the state",
            "Use DistributedCheckpointer, or begin another run with open_checkpoint(...).load_into(...).",
        )
    leaves = [Saved(at, leaf.kind, leaf.dtype, leaf.shape) for at, leaf in enumerate(manifest.leaves)]
    return places(state, unflatten(manifest.state, leaves))


def take_over_mending(objects: Objects, run: str, attempt: int) -> HeadWriter:
    """Become the run's writer. A damaged head does not hold the run up: the manifests say all that it said."""
    try:
        return take_over(objects, run, attempt)
    except Corrupt as error:
        warn(f"{error}; the head is made anew from the checkpoints that are whole")
        with suppress(Conflict):  # somebody else was first: theirs serves as well
            mend_head(objects, run)
        return take_over(objects, run, attempt)


def patiently(call: Callable[[], T], clock: Clock) -> T:
    """The call's result, as soon as the store answers.

    Raises:
        Unavailable: it has not for a quarter of an hour.
    """
    give_up = clock.monotonic() + _STUBBORN
    for failures in itertools.count(1):
        try:
            return call()
        except Unavailable as error:
            wait = cadence.retry_after(failures)
            if clock.monotonic() + wait > give_up:
                raise
            if failures == 1:
                warn(f"the store does not answer, waiting for it: {error}")
            clock.sleep(wait)
    raise AssertionError
