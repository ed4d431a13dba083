"""Drills: losses fired at a real run, at the moments that hurt most.

A drill waits until the run has something to lose (steps since its newest checkpoint), strikes, and waits until the
attempt has ended. The run does not know that it is a drill: the provider takes the machine as it would on a bad day.
"""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint import events as told
from spotweld.checkpoint.restoring import read_manifest
from spotweld.errors import NotFound, ProviderError, RunError, StoreError
from spotweld.project.nouns import SpotUse
from spotweld.providers.provider import MachineState
from spotweld.runs.following import Follower
from spotweld.runs.history import History
from spotweld.store.heads import read_head
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spotweld.checkpoint.format import Pack
    from spotweld.providers.provider import Provider
    from spotweld.runs.history import Progress
    from spotweld.runs.log import EventLog
    from spotweld.runs.states import Attempt, RunState
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

NOTICE = 4.0
"""Seconds of warning that are enough for a last checkpoint."""
SHORT_NOTICE = 0.02
"""Seconds of warning in which nothing can be done."""
_LOOK = 0.05
_TRIES = 5


class Drill(StrEnum):
    """A way to lose a machine."""

    NOTICE = "notice"
    """With enough warning for a last checkpoint."""
    SHORT_NOTICE = "short-notice"
    """With a warning too short for anything."""
    KILL = "kill"
    """Without any warning."""
    KILL_IN_SAVE = "kill-in-save"
    """Without any warning, while a checkpoint is being written."""
    DAMAGE = "damage"
    """Without any warning, and one bit of the newest checkpoint is flipped before the next machine is up."""


class Struck(msgspec.Struct, frozen=True):
    """What a drill did."""

    drill: Drill
    attempt: int
    step: int
    """Steps that were finished then, as far as was known."""
    detail: str = ""
    newest: str = ""
    """Key of the newest checkpoint when it struck; empty: none is meant."""
    missed: str = ""
    """Why it did not do what it says; empty: it did."""


class Range:
    """The run under fire, and what is needed to strike it.

    Args:
        run: its id.
        log: the event log.
        objects: the run's store.
        provider: where its machines are.
        events_file: where a machine's process appends its events, by the machine's id; None: out of reach.
        clock: time.
    """

    def __init__(
        self,
        run: str,
        log: EventLog,
        objects: Objects,
        provider: Provider,
        events_file: Callable[[str], Path | None],
        clock: Clock,
    ) -> None:
        self.run = run
        self.log = log
        self.objects = objects
        self.provider = provider
        self.events_file = events_file
        self.clock = clock
        self._follower = Follower(run, log, objects)
        self._history = History()

    def look(self) -> tuple[RunState, dict[int, Progress]]:
        """The run's state and every attempt's progress, now. A store that does not answer is waited for."""
        while True:
            try:
                history = self._history.add(self._follower.poll())
            except StoreError:
                self.clock.sleep(1.0)
            else:
                return self.log.state(self.run), history

    def newest(self) -> str:
        """Key of the newest checkpoint's manifest; empty: there is none."""
        head = read_head(self.objects, self.run)
        return head.kept[0].key if head is not None and head.kept else ""


def rehearse(under_fire: Range, drills: list[Drill]) -> Iterator[Struck]:
    """Fire the drills one after the other, each at an attempt of its own, and again if it missed.

    Ends early if the run ends. A drill that missed five times is given up.

    Raises:
        ProviderError: the provider offers no drills.
        StoreError: the store failed in the middle of one.
    """
    for drill in drills:
        tries = _TRIES
        while tries:
            target = _wait_for_target(under_fire, drill)
            if target is None:
                return
            struck = _strike(under_fire, drill, *target)
            if struck is None:
                continue
            result = _wait_for_end(under_fire, struck)
            yield result
            tries = tries - 1 if result.missed else 0


def _wait_for_target(under_fire: Range, drill: Drill) -> tuple[Attempt, Progress] | None:
    """An attempt that has published a checkpoint and worked on since; None: the run has ended.

    Nobody takes an on-demand machine away, so a run that fled to one is left alone until it is back on spot.
    """
    while True:
        state, history = under_fire.look()
        if state.outcome is not None:
            return None
        attempt = state.current
        here = history.get(attempt.number) if attempt is not None else None
        if (
            attempt is not None
            and (attempt.offer.capacity_type is CapacityType.SPOT or state.job.spot_policy is SpotUse.ON_DEMAND)
            and attempt.noticed is None
            and here is not None
            and here.durable is not None
            and (here.last or 0) > here.durable
            and (drill is not Drill.DAMAGE or _private_packs(under_fire.objects, under_fire.run))
        ):
            return attempt, here
        under_fire.clock.sleep(_LOOK)


def _strike(under_fire: Range, drill: Drill, attempt: Attempt, here: Progress) -> Struck | None:
    """Take the machine; None if the moment passed: it went by itself."""
    machine = attempt.machine or ""
    detail = newest = ""
    notice = {Drill.NOTICE: NOTICE, Drill.SHORT_NOTICE: SHORT_NOTICE}.get(drill)
    if drill is Drill.KILL_IN_SAVE:
        newest = under_fire.newest()
        step = _wait_for_save(under_fire, machine)
        if step is None:
            return None
        detail = f"while step {step} was being written"
    try:
        under_fire.provider.interrupt(machine, notice=notice)
    except ProviderError:
        if under_fire.log.state(under_fire.run).current == attempt and _is_up(under_fire, machine):
            raise
        return None
    missed = ""
    if drill is Drill.DAMAGE:
        # Only now: nobody publishes a newer one any more, and the next machine is not up yet.
        while _is_up(under_fire, machine):
            under_fire.clock.sleep(_LOOK)
        try:
            detail = damage_newest(under_fire.objects, under_fire.run)
        except RunError as error:
            missed = str(error)
    return Struck(drill, attempt.number, here.last or 0, detail, newest, missed)


def _is_up(under_fire: Range, machine: str) -> bool:
    labels = {"run": under_fire.run}
    return any(m.id == machine and m.state is not MachineState.ENDED for m in under_fire.provider.machines(labels))


def _wait_for_save(under_fire: Range, machine: str) -> int | None:
    """The step of the next save that begins, seen within a millisecond or two; None: the machine went before."""
    path = under_fire.events_file(machine)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            line = b""
            while path.exists():
                line += file.readline()
                if not line.endswith(b"\n"):
                    under_fire.clock.sleep(0.001)
                    continue
                with contextlib.suppress(ValueError):  # whatever else the program appends there
                    event = told.parse_event(line)
                    if isinstance(event, told.Saving):
                        return event.step
                line = b""
    except OSError:
        return None
    return None


def _wait_for_end(under_fire: Range, struck: Struck) -> Struck:
    """Wait until the struck attempt is over, and note if it was not hit in the way it was meant."""
    while True:
        state, _ = under_fire.look()
        attempt = state.attempts[struck.attempt - 1]
        if attempt.cause is not None:
            break
        under_fire.clock.sleep(_LOOK)
    missed = struck.missed
    if not attempt.cause.interruption:
        missed = f"the attempt ended as {attempt.cause}"
    elif struck.newest and struck.newest != under_fire.newest():
        missed = "the save was published before the machine was gone"
    return msgspec.structs.replace(struck, missed=missed)


def _private_packs(objects: Objects, run: str) -> list[Pack]:
    """Packs of the newest checkpoint that no older one refers to: to damage another would damage all of them."""
    head = read_head(objects, run)
    if head is None or len(head.kept) < 2:
        return []
    try:
        newest, *older = [read_manifest(objects, run, kept) for kept in head.kept]
    except NotFound:
        return []  # retention removed one just now
    shared = {pack.key for manifest in older for pack in manifest.packs}
    return [pack for pack in newest.packs if pack.key not in shared]


def damage_newest(objects: Objects, run: str) -> str:
    """Flip one bit in the largest pack of the run's newest checkpoint, as a dying disk would; what was done.

    Raises:
        RunError: there is no pack that can be damaged without harm to the older checkpoints.
        StoreError: the store failed.
    """
    packs = _private_packs(objects, run)
    if not packs:
        raise RunError(f"{run} has no checkpoint that could be damaged without harm to an older one")
    pack = max(packs, key=lambda pack: pack.size)
    data = bytearray(objects.get(pack.key))
    data[len(data) // 2] ^= 0x10
    objects.put(pack.key, data)
    return f"and one bit of {pack.key} was flipped"
