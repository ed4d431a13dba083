"""A provider in memory that does what a script says: refuses, lies, loses machines.

Nothing runs on its machines. Time is the clock's that it is given, so a test decides when a machine ends.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import NoCapacity, ProviderError
from spotweld.providers.provider import Boot, Finding, Machine, MachineEnd, MachineState, Provider
from spotweld.values.offers import Offer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spotweld.values.clocks import Clock


class Refuse(msgspec.Struct, frozen=True):
    """There is no capacity."""


class Fail(msgspec.Struct, frozen=True):
    """The call fails, and nothing was rented."""

    why: str = "the provider is down"


class Live(msgspec.Struct, frozen=True):
    """A machine is rented. Times are seconds."""

    seconds: float | None = None
    """From its start to its end; None: until somebody ends it."""
    end: MachineEnd = MachineEnd.INTERRUPTED
    notice: float | None = None
    """Between the warning and that end; None: no warning."""
    boot: float = 0.0
    """From its start until it runs."""
    hidden: float = 0.0
    """A lie: from its start on, ``machines`` does not know it."""
    stale: float = 0.0
    """A lie: from its end on, ``machines`` shows it as it was just before."""
    answer_lost: bool = False
    """The call that rents it fails all the same."""


Answer = Refuse | Fail | Live


class ScriptedProvider(Provider):
    """Answers each request for a new machine with the next line of its script.

    A repeated token takes no line: it gives the machine that it gave before.

    Args:
        offers: what is sold.
        script: the answers, in order. When they are used up, machines live until somebody ends them.
        clock: tells the time.
    """

    name = "scripted"

    def __init__(self, offers: Sequence[Offer], script: Iterable[Answer], clock: Clock) -> None:
        self.script: deque[Answer] = deque(script)
        """The answers that are left; may be added to."""
        self.boots: dict[str, Boot] = {}
        """By machine id: what it was to run."""
        self.calls: list[str] = []
        """Every call that rents or ends something, in order: ``start TOKEN ZONE``, ``stop ID``, ``interrupt ID``."""
        self._offers = tuple(offers)
        self._clock = clock
        self._rented: dict[str, _Rented] = {}

    def offers(self) -> Sequence[Offer]:
        return self._offers

    def start(self, offer: Offer, boot: Boot, *, token: str, labels: Mapping[str, str]) -> Machine:
        self.calls.append(f"start {token} {offer.zone}")
        known = self._rented.get(token)
        if known is not None:
            return known.seen(self._clock.now())
        answer = self.script.popleft() if self.script else Live()
        if isinstance(answer, Refuse):
            raise NoCapacity(f"no machine can be had in {offer.zone}", "the script says so")
        if isinstance(answer, Fail):
            raise ProviderError("no machine was started", answer.why)
        rented = _Rented(
            id=f"scripted-{len(self._rented) + 1}",
            token=token,
            offer=offer,
            labels=dict(labels),
            started=self._clock.now(),
            life=answer,
        )
        if answer.seconds is not None:
            rented.end_at(rented.started + answer.seconds, answer.end, answer.notice)
        self._rented[token] = rented
        self.boots[rented.id] = boot
        if answer.answer_lost:
            raise ProviderError("nobody knows whether a machine was started", "the answer was lost")
        return rented.seen(self._clock.now())

    def stop(self, machine: str) -> None:
        self.calls.append(f"stop {machine}")
        self.end(machine, MachineEnd.STOPPED)

    def machines(self, labels: Mapping[str, str]) -> Sequence[Machine]:
        now = self._clock.now()
        return [
            rented.listed(now)
            for rented in self._rented.values()
            if labels.items() <= rented.labels.items() and now >= rented.started + rented.life.hidden
        ]

    def interrupt(self, machine: str, *, notice: float | None) -> None:
        self.calls.append(f"interrupt {machine}")
        now = self._clock.now()
        rented = self._find(machine)
        if rented is None or rented.seen(now).ended is not None:
            raise ProviderError(f"machine {machine} cannot be taken", "it has ended" if rented else "there is none")
        rented.end_at(now + (notice or 0.0), MachineEnd.INTERRUPTED, notice)

    def health(self) -> Sequence[Finding]:
        return [Finding(ok=True, what="scripted: does what its script says")]

    def end(self, machine: str, end: MachineEnd) -> None:
        """Let the machine with this id end now; nothing happens if it is unknown or has ended."""
        now = self._clock.now()
        rented = self._find(machine)
        if rented is not None and rented.seen(now).ended is None:
            rented.end_at(now, end, None)

    def _find(self, machine: str) -> _Rented | None:
        return next((rented for rented in self._rented.values() if rented.id == machine), None)


class _Rented(msgspec.Struct):
    """A machine and what will become of it."""

    id: str
    token: str
    offer: Offer
    labels: dict[str, str]
    started: float
    life: Live
    ended: float | None = None
    end: MachineEnd | None = None
    noticed: float | None = None

    def end_at(self, moment: float, end: MachineEnd, notice: float | None) -> None:
        """Let it end then, unless it ends sooner anyhow."""
        if self.ended is not None and self.ended <= moment:
            return
        self.ended, self.end = moment, end
        if self.noticed is not None and self.noticed > moment:
            self.noticed = None
        if notice is not None:
            self.noticed = max(self.started, moment - notice)

    def seen(self, now: float) -> Machine:
        """The machine as it is at ``now``."""
        over = self.ended is not None and now >= self.ended
        state = MachineState.RUNNING if now >= self.started + self.life.boot else MachineState.STARTING
        return Machine(
            id=self.id,
            token=self.token,
            offer=self.offer,
            labels=self.labels,
            state=MachineState.ENDED if over else state,
            started=self.started,
            ended=self.ended if over else None,
            end=self.end if over else None,
            noticed=self.noticed if self.noticed is not None and now >= self.noticed else None,
        )

    def listed(self, now: float) -> Machine:
        """The machine as ``machines`` tells of it at ``now``."""
        if self.ended is not None and self.ended <= now < self.ended + self.life.stale:
            running = self.ended >= self.started + self.life.boot
            state = MachineState.RUNNING if running else MachineState.STARTING
            return msgspec.structs.replace(self.seen(now), state=state, ended=None, end=None)
        return self.seen(now)
