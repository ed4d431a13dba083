"""One attempt of a group: rank 0 leads, which is a ``Session`` like any other, and the others do what it decides.

Rank 0 alone takes the run over, counts time, decides and tells; so whatever a single process can do about cadence and
notices, a group can. At every step's edge the ranks meet twice: to hear what each has heard, and to hear what to do.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import msgspec

from spotweld.checkpoint.distributed.commands import Command, GroupWatcher, Heard, exchange, give, heard, take_command
from spotweld.checkpoint.distributed.group import PeerLost, Trouble, by_first, error_of, trouble_of
from spotweld.checkpoint.distributed.nearby import Near, reached_by_all, same_candidates
from spotweld.checkpoint.distributed.publishing import GroupPublisher, Storer
from spotweld.checkpoint.distributed.saves import GroupSaves
from spotweld.checkpoint.risk import UNKNOWN, Risk
from spotweld.checkpoint.saving import Saver
from spotweld.checkpoint.session import EX_TEMPFAIL, Session, patiently, take_over_mending
from spotweld.checkpoint.staging import Staging
from spotweld.checkpoint.tiers import candidates, open_tiers
from spotweld.checkpoint.voice import warn
from spotweld.errors import Fenced, SpotweldError
from spotweld.project.nouns import Compress
from spotweld.store.heads import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from spotweld.checkpoint.distributed.crew import Crew
    from spotweld.checkpoint.distributed.group import Group
    from spotweld.checkpoint.events import EventFile
    from spotweld.checkpoint.restoring import Restored
    from spotweld.checkpoint.settings import Settings
    from spotweld.checkpoint.tiers import Opened
    from spotweld.preemption.watcher import Watcher
    from spotweld.store.heads import HeadWriter
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

_FLUSH = 30.0
"""Seconds that a loop which was left early waits for the save that is running."""
_PATIENCE = 3600.0
"""Seconds that the end of a save which rank 0 has heard of already may take here; it takes none."""
_FAREWELL = 1.0
"""Seconds that a rank which leaves gives its save to hear how it ended."""


class Leader(Session):
    """Rank 0's session.

    Args:
        crew: the ranks, for the training thread.
        savers: the same ranks, for the threads that save.
        settings: what was asked for.
        objects: the store.
        watcher: hears this rank's notices.
        tell: where events go.
        clock: time.
        on_risk: as for ``Session``; every rank's is called.

    Raises:
        as ``Session``.
    """

    def __init__(
        self,
        crew: Crew,
        savers: Group,
        settings: Settings,
        objects: Objects,
        watcher: Watcher,
        tell: EventFile,
        clock: Clock,
        on_risk: Callable[[Risk], object],
    ) -> None:
        self._crew, self._savers = crew, savers
        self._rank = crew.group.size  # what is carried to a slower tier is nobody's share
        self._ears = GroupWatcher(watcher, clock)
        self._heeded = False  # before the first step nobody waits for a command

        def tell_all(risk: Risk) -> None:
            give(crew.group, Command.RISK)
            crew.group.tell(msgspec.json.encode(risk))
            on_risk(risk)

        with self._leading():
            super().__init__({}, settings, objects, self._ears, tell, clock, tell_all)
        self._heeded = True

    def edge(self, step: int) -> None:
        with self._leading():
            if self._hear().over:
                self._finish(step)
            else:
                super().edge(step)
                give(self._crew.group, Command.GO_ON)

    def finish(self, step: int) -> None:
        with self._leading():
            self._hear()
            self._finish(step)

    def _finish(self, step: int) -> None:
        super().finish(step)
        give(self._crew.group, Command.DONE)
        self._heeded, self.over = False, True

    def _hear(self) -> Heard:
        known = exchange(self._crew.group, Heard())
        self._ears.hear(known)
        if known.wanted:
            self.want_save()
        return known

    def _open(self, state: Mapping[str, object], objects: Objects) -> GroupSaves:  # noqa: ARG002
        crew, clock, run, attempt = self._crew, self._clock, self._settings.run, self._settings.attempt
        policy, began = self._settings.policy, clock.monotonic()
        writers: list[HeadWriter] = []
        opened: list[Opened] = []

        def take_over() -> bytes:
            writers.append(patiently(lambda: take_over_mending(objects, run, attempt), clock))
            opened.extend(open_tiers(policy.tiers, run, attempt, writers[0].head))
            return msgspec.json.encode(writers[0].head)

        by_first(crew.group, take_over)
        (writer,) = writers
        self._epoch, published = writer.head.epoch, writer.head.kept
        near = reached_by_all(crew.group, opened)
        tiers = [tier for tier in opened if tier.rules.store in {near.url for near in near}]
        ours = candidates(objects, run, published, tiers)
        found = crew.restore(same_candidates(crew.group, objects, near, ours), objects, run, self._epoch, clock)
        self._begin_from(found, published, tiers, began)
        legs = self._legs(objects, writer, tiers, found)
        storers = _storers(crew.group, self._settings, self._epoch, near, objects, found)
        ways = [
            GroupPublisher(self._savers, storer, leg.publisher)
            for storer, leg in zip(storers, (legs[0], legs[-1]), strict=False)
        ]
        route = self._route(legs, writer, found, (ways[0], ways[-1]))
        restored = self.step if found else None
        saves = GroupSaves(crew, route, self._tell, clock, restored, policy.staging_memory)
        saves.ready()
        return saves

    def _leave(self, why: str) -> NoReturn:
        if self._heeded:
            self._heeded = False
            with suppress(PeerLost):
                give(self._crew.group, Command.LEAVE)
        super()._leave(why)

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """Whatever ends this rank's part ends the others'."""
        try:
            yield
        except PeerLost as error:
            self._heeded = False
            self._leave(f"another rank is gone ({error}); what is published stands")
        except Exception as error:
            if self._heeded:
                self._heeded = False
                with suppress(PeerLost):
                    give(self._crew.group, Command.FAIL)
                    self._crew.group.tell(msgspec.json.encode(trouble_of(error)))
            raise


class Follower:
    """The session of every other rank. Has what ``Checkpointer`` needs of a ``Session``.

    Args:
        crew: the ranks, for the training thread.
        savers: the same ranks, for the threads that save.
        settings: of which the run's name, compression and staging memory matter; the rest is rank 0's.
        objects: the store.
        watcher: hears this rank's notices.
        clock: time.
        on_risk: as for ``Session``.

    Raises:
        as ``Session``.
    """

    def __init__(
        self,
        crew: Crew,
        savers: Group,
        settings: Settings,
        objects: Objects,
        watcher: Watcher,
        clock: Clock,
        on_risk: Callable[[Risk], object],
    ) -> None:
        self._crew, self._watcher, self._clock, self._on_risk = crew, watcher, clock, on_risk
        self.risk = UNKNOWN
        """The risk that the group's machines are at, as rank 0 told it last."""
        self.step = 0
        """Steps finished."""
        self.over = False
        """As ``Session.over``."""
        self._wanted = False
        self._left = False
        self._staging = Staging(settings.policy.staging_memory)
        try:
            first, self._straight = self._open(savers, settings, objects)
            self._saver = Saver(first, clock)
        except Fenced as error:
            self._leave(str(error))
        except PeerLost as error:
            self._lose(error)

    def want_save(self) -> None:
        """As ``Session.want_save``."""
        self._wanted = True

    def edge(self, step: int) -> None:
        """As ``Session.edge``."""
        self.step = step
        self._obey_until(Command.GO_ON, over=False)

    def finish(self, step: int) -> None:
        """As ``Session.finish``."""
        self.step = step
        self._obey_until(Command.DONE, over=True)

    def end(self) -> None:
        """As ``Session.end``."""
        self._saver.wait(_FAREWELL if self._left else _FLUSH)
        self._staging.close()

    def _open(self, savers: Group, settings: Settings, objects: Objects) -> tuple[GroupPublisher, GroupPublisher]:
        """What publishes where shares go first, and in the store."""
        group = self._crew.group
        epoch = msgspec.json.decode(by_first(group, bytes), type=Head).epoch
        near = reached_by_all(group, ())
        choice = same_candidates(group, objects, near, ())
        found = self._crew.restore(choice, objects, settings.run, epoch, self._clock)
        if found is not None:
            self.step = found.manifest.step
        storers = _storers(group, settings, epoch, near, objects, found)
        self._crew.prepare(self._staging, self._clock)
        publishers = [GroupPublisher(savers, storer, None) for storer in storers]
        return publishers[0], publishers[-1]

    def _obey_until(self, end: Command, *, over: bool) -> None:
        group = self._crew.group
        try:
            known = heard(self._watcher, wanted=self._wanted)
            exchange(group, msgspec.structs.replace(known, over=float(over)))
            self._wanted = False
            while (command := take_command(group)) not in {end, Command.DONE}:
                self._obey(command)
            self.over = command is Command.DONE
        except PeerLost as error:
            self._lose(error)

    def _obey(self, command: Command) -> None:
        if command is Command.LEAVE:
            self._left = True
            raise SystemExit(EX_TEMPFAIL)
        if command is Command.FAIL:
            raise error_of(msgspec.json.decode(self._crew.group.tell(b""), type=Trouble))
        if command is Command.RISK:
            self.risk = msgspec.json.decode(self._crew.group.tell(b""), type=Risk)
            self._on_risk(self.risk)
        elif command is Command.PREPARE:
            self._crew.prepare(self._staging, self._clock)
        elif command is Command.STRAIGHT:
            self._saver.wait(_PATIENCE)
            self._saver = Saver(self._straight, self._clock)
        elif command is Command.SAVE:
            self._saver.wait(_PATIENCE)
            self._saver.collect()
            with suppress(SpotweldError):  # rank 0 has the same one, and decides about it
                snapshot = self._crew.snapshot(self.step, self._staging, self._clock)
                self._staging.grow(snapshot.content.sizes)
                self._saver.start(snapshot, "")

    def _lose(self, error: PeerLost) -> NoReturn:
        self._leave(f"another rank is gone ({error}); what is published stands")

    def _leave(self, why: str) -> NoReturn:
        self._left = True
        warn(f"rank {self._crew.group.rank} is leaving after step {self.step}: {why}")
        raise SystemExit(EX_TEMPFAIL)


def _storers(
    group: Group, settings: Settings, epoch: int, near: Sequence[Near], objects: Objects, found: Restored | None
) -> list[Storer]:
    """What stores this rank's shares: in the fastest tier, if there is one, and in the store, which comes last."""
    places = [*near[:1], Near("", objects, settings.run)]
    storers = []
    for place in places:
        # Where saves do not begin, what was restored may be deleted before they get there.
        whole = found.manifest if found is not None and place is places[0] and place.url == found.tier else None
        compress = Compress.NONE if place.url else settings.policy.compress
        storers.append(Storer(place.objects, place.run, epoch, group.rank, whole, compress))
    return storers
