"""Keeps a job's directory: decides when it is saved while the program runs, and what is done about it at the end.

What is saved, and how, is `checkpoint.directory`'s. The program knows nothing of either.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from spotweld.checkpoint import emergency, events
from spotweld.checkpoint.directory.session import DirectorySession
from spotweld.checkpoint.emergency import Act
from spotweld.checkpoint.events import EventFile
from spotweld.checkpoint.pacing import Pacing
from spotweld.checkpoint.settings import Settings
from spotweld.errors import Fenced, SpotweldError
from spotweld.preemption.notices import Kind
from spotweld.runs.courier import say
from spotweld.runs.reports import EX_TEMPFAIL
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.checkpoint.directory.protocol import Place
    from spotweld.preemption.notices import Notice
    from spotweld.preemption.watcher import Watcher
    from spotweld.runs.reports import Spec
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock

_LOOK = 0.25
"""Seconds between two looks at what is to be done."""
_LONGEST_LOOK = 5.0
_SHARE = 20
"""A look that finds nothing to save is not repeated before so many times its length has passed."""
_STUBBORN = 900.0
"""Seconds that a program's last state is tried to be stored once it has ended well."""
_AGAIN = 0.1
_SIGNALLED = 128
"""Exit statuses above this one are those of programs that a signal ended."""


class Keeper:
    """Beside a program, from ``start`` until ``finish``.

    Args:
        session: saves the directory.
        pacing: says how often.
        watcher: hears notices; started and stopped by the caller.
        tell: where events go.
        clock: time.
        orderly: the directory is consistent only while ``quiesce`` holds, or once the program has ended by itself.
    """

    def __init__(
        self,
        session: DirectorySession,
        pacing: Pacing,
        watcher: Watcher,
        tell: EventFile,
        clock: Clock,
        *,
        orderly: bool,
    ) -> None:
        self._session, self._pacing, self._orderly = session, pacing, orderly
        self._watcher, self._tell, self._clock = watcher, tell, clock
        self._place: Place | None = None
        self._notice: Notice | None = None
        self._answered = False
        self._emergency_told = False
        self._step_told = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="spotweld-directory", daemon=True)
        self.fenced = ""
        """Why the program has to be stopped: a later attempt owns the run; empty: none does."""

    @property
    def finished(self) -> bool:
        """An earlier attempt came to the program's end: there is nothing to run any more."""
        return self._session.finished

    def start(self, place: Place) -> None:
        """Begin to save. The program has just been started there."""
        self._place = place
        self._thread.start()

    def look(self) -> float:
        """Save if it is time to; seconds until the next look.

        Raises:
            Fenced: a later attempt owns the run.
        """
        session, began, former = self._session, self._clock.monotonic(), self._session.step
        self._tell_step()
        notice = self._listen()
        if notice is not None and notice.kind is Kind.TERMINATE:
            self._answer(self._watcher.remaining())
            return _LOOK
        if notice is not None and not self._answered:
            self._answered = session.save("rebalance", self._place)
        elif self._pacing.due(session.step + 1, self._session, risky=notice is not None):
            session.save("cadence", self._place)
        self._pacing.settled(self._session)
        took = self._clock.monotonic() - began
        return _LOOK if session.step > former else min(max(_LOOK, _SHARE * took), _LONGEST_LOOK)

    def finish(self, code: int) -> tuple[int, str]:
        """The program has ended with this exit status: make what it left durable, as far as it is to be trusted.

        Returns:
            The exit status of the attempt, and a word about it if it is another one.
        """
        self._over.set()
        patience = self._clock.monotonic() + _STUBBORN
        while self._thread.is_alive() and not self._gone() and self._clock.monotonic() < patience:
            self._thread.join(_AGAIN)
        try:
            if self.fenced:
                return EX_TEMPFAIL, self.fenced
            if code == 0:
                return self._complete()
            if self._terminal() or code == EX_TEMPFAIL:
                self._save_last(code)
        except Fenced as error:
            self._fence(error)
            return EX_TEMPFAIL, self.fenced
        # A program that failed by itself starts again from what it had before.
        return code, ""

    def _keep(self) -> None:
        pause = _LOOK
        while not self._over.wait(pause):
            try:
                pause = self.look()
            except Fenced as error:
                self._fence(error)
                return
            except Exception as error:  # noqa: BLE001  the directory must not go unsaved because of one bad look
                say(f"looking after the directory failed: {type(error).__name__}: {error}")
                pause = _LONGEST_LOOK

    def _answer(self, remaining: float | None) -> None:
        """The machine goes: save at once, and again as late as is safe."""
        if remaining is None:
            # The program has got TERM as well; what it leaves is saved when it has ended.
            self._answered = self._answered or self._session.save("notice", self._place, urgent=True)
            return
        now = self._emergency(remaining)
        decision = emergency.decide(now)
        match decision.act:
            case Act.SAVE:
                self._answered = self._session.save("notice", self._place, urgent=True)
            case Act.LAST if not self._emergency_told:
                self._tell_emergency(decision.option, now)
                self._session.save("emergency", self._place, urgent=True)
            case Act.LEAVE if not now.durable and not self._emergency_told:
                self._tell_emergency(None, now)
            case _:
                pass

    def _complete(self) -> tuple[int, str]:
        """The program has come to its end."""
        session, patience = self._session, self._clock.monotonic() + _STUBBORN
        while not session.save("final", None, finished=True, urgent=self._terminal()):
            if self._gone():
                return EX_TEMPFAIL, f"the machine goes before the final state is stored: {session.why}"
            if self._clock.monotonic() > patience:
                return 1, f"the final state could not be saved: {session.why}"
            self._clock.sleep(_AGAIN)
        if not session.finished:
            say("the job's directory does not exist; nothing was saved")
        self._tell.write(events.Finished(self._clock.now(), session.step))
        return 0, ""

    def _save_last(self, code: int) -> None:
        """The program has left an unfinished state because the machine goes."""
        if not self._changed() or (self._orderly and code >= _SIGNALLED):
            return
        patience = self._clock.monotonic() + emergency.GRACE
        now = self._emergency(self._watcher.remaining())
        option = now.options[0] if now.remaining is None else emergency.choose(now)
        self._tell_emergency(option, now)
        if option is None:
            return
        while not self._session.save("emergency", None, urgent=True):
            if self._gone() or (self._watcher.remaining() is None and self._clock.monotonic() > patience):
                return
            self._clock.sleep(_AGAIN)

    def _listen(self) -> Notice | None:
        """The notice that stands; tells when it has changed."""
        notice, former = self._watcher.current(), self._notice
        if (notice and notice.id, notice and notice.kind) != (former and former.id, former and former.kind):
            self._notice, self._answered, self._emergency_told = notice, False, False
            if former is not None and (notice is None or notice.id != former.id):
                self._tell.write(events.Withdrawn(self._clock.now(), former.id))
            if notice is not None:
                self._tell.write(events.Noticed(self._clock.now(), notice))
        return notice

    def _terminal(self) -> bool:
        notice = self._watcher.current()
        return notice is not None and notice.kind is Kind.TERMINATE

    def _gone(self) -> bool:
        return self._terminal() and self._watcher.remaining() == 0

    def _changed(self) -> bool:
        try:
            return self._session.changed()
        except (SpotweldError, OSError):
            return True  # to save it will say what is wrong

    def _emergency(self, remaining: float | None) -> emergency.Situation:
        return emergency.Situation(
            remaining=remaining,
            options=(emergency.predict("full", self._session.costs),),
            pace=_LOOK,
            running=None,
            durable=not self._changed(),
            answered=self._answered,
        )

    def _tell_emergency(self, option: emergency.Option | None, now: emergency.Situation) -> None:
        """Tell what is done; None: nothing can be finished any more."""
        self._emergency_told = True
        likely = now.options[-1].likely
        if option is not None and option.allowed is not None:
            likely = option.allowed - emergency.MARGIN
        name = "none" if option is None else option.name
        self._tell.write(events.Emergency(self._clock.now(), name, likely, now.remaining))

    def _tell_step(self) -> None:
        """The work since the newest snapshot counts as a step of its own, so that its loss is seen."""
        if self._step_told <= self._session.step:
            self._step_told = self._session.step + 1
            self._tell.write(events.Step(self._clock.now(), self._step_told))

    def _fence(self, error: Fenced) -> None:
        self._tell.write(events.Fenced(self._clock.now(), self._session.epoch))
        self.fenced = str(error)


def keeper_of(spec: Spec, objects: Objects, folder: Path, told: Path, watcher: Watcher, started: float) -> Keeper:
    """Take over the run that ``spec`` is of, and restore its directory.

    Args:
        spec: the attempt's.
        objects: the store.
        folder: the machine's disk; the program will run in ``folder/work``.
        told: the file that events are appended to.
        watcher: hears notices.
        started: when the machine came up, seconds since 1970 UTC.

    Raises:
        SpotweldError: whatever ``DirectorySession`` cannot get over.
    """
    clock, tell, policy = SystemClock(), EventFile(str(told)), spec.checkpoint
    session = DirectorySession(folder / "work", policy, spec.run, spec.attempt, objects, folder, tell, clock)
    pacing = Pacing(Settings(objects.url, spec.run, spec.attempt, policy, spec.hazard, str(told), started), tell, clock)
    return Keeper(session, pacing, watcher, tell, clock, orderly=bool(policy.quiesce))
