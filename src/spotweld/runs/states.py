"""What is known of a run: folded from its events, and nothing else."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.costs.usage import Since
from spotweld.errors import IllegalTransition
from spotweld.images.containers.pinning import Pinned
from spotweld.placement.placer import Sighting
from spotweld.project.nouns import Job, LocalProvider, PlacementRules
from spotweld.providers.provider import MachineEnd
from spotweld.runs.events import (
    AttemptEnded,
    AttemptOpened,
    CancelRequested,
    Cause,
    Drawn,
    Ended,
    Entry,
    MachineStarted,
    Noticed,
    Opened,
    Outcome,
    Priced,
    Recorded,
    Reopened,
    Running,
    Sighted,
    StopAsked,
    Waiting,
)
from spotweld.values.money import Money
from spotweld.values.offers import Offer

if TYPE_CHECKING:
    from collections.abc import Sequence


class Attempt(msgspec.Struct, frozen=True):
    """One placement of the run on a machine."""

    number: int
    offer: Offer
    on_demand_hourly: Money
    token: str
    why: str
    opened: float
    machine: str | None = None
    started: float | None = None
    """When the machine began to cost; None: it never did."""
    running: float | None = None
    """When the agent reported first."""
    noticed: Noticed | None = None
    ended: float | None = None
    cause: Cause | None = None
    detail: str = ""
    exit_code: int | None = None
    drawn: Drawn | None = None
    prices: tuple[Since, ...] = ()
    """What it cost after the offer's price had changed, oldest first."""
    end: MachineEnd | None = None
    """Why its machine ended, by the provider's own record."""
    logged: tuple[float, float] | None = None
    """Start and end as they were logged, where the provider's record says otherwise; ``started`` and ``ended`` are
    the provider's then."""

    @property
    def open(self) -> bool:
        """Not over yet."""
        return self.cause is None


class RunState(msgspec.Struct, frozen=True):
    """A run, at one moment of its log."""

    run: str
    project: str
    job: Job
    store: str
    source: str
    local: LocalProvider
    placement: PlacementRules
    opened: float
    image: Pinned | None = None
    hosts: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    waiting: Waiting | None = None
    waiting_since: float = 0.0
    sightings: tuple[Sighting, ...] = ()
    cancel_requested: bool = False
    stop_asked: StopAsked | None = None
    outcome: Outcome | None = None
    why: str = ""
    ended: float | None = None
    rested: float = 0.0
    """Seconds for which it was over before it went on."""

    @property
    def deadline(self) -> float | None:
        """Seconds since 1970 UTC by which it has to be done."""
        return None if self.job.deadline is None else self.opened + self.job.deadline

    @property
    def current(self) -> Attempt | None:
        """The attempt that is going on."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].open else None

    @property
    def phase(self) -> str:
        """One word for people."""
        if self.outcome is not None:
            return str(self.outcome)
        if self.cancel_requested:
            return "cancelling"
        if self.stop_asked is not None:
            return "stopping"
        if self.current is None:
            return "waiting" if self.waiting else "placing"
        return "running" if self.current.running is not None else "starting"


def fold(entries: Sequence[Entry]) -> RunState:
    """The state after these entries; the first one opens the run.

    Raises:
        IllegalTransition: an entry does not fit what came before it.
    """
    first = entries[0]
    if not isinstance(first.event, Opened):
        raise IllegalTransition(f"the log of {first.run} begins with {type(first.event).__name__}")
    opened = first.event
    state = RunState(
        run=first.run,
        project=opened.project,
        job=opened.job,
        store=opened.store,
        source=opened.source,
        local=opened.local,
        placement=opened.placement,
        opened=first.time,
        image=opened.image,
        hosts=opened.hosts,
    )
    return reduce(apply, entries[1:], state)


def apply(state: RunState, entry: Entry) -> RunState:
    """The state after one more entry.

    Raises:
        IllegalTransition: it does not fit the state.
    """
    event = entry.event
    if state.outcome is not None:
        return _reopen(state, entry)
    match event:
        case CancelRequested():
            return replace(state, cancel_requested=True)
        case StopAsked():
            return replace(state, stop_asked=event)
        case Sighted(up=up, prices=prices):
            return replace(state, sightings=(*state.sightings, Sighting(entry.time, up, prices)))
        case Waiting() if state.current is None:
            return replace(state, waiting=event, waiting_since=entry.time)
        case Ended() if state.current is None:
            return replace(state, outcome=event.outcome, why=event.why, ended=entry.time, waiting=None)
        case AttemptOpened() if state.current is None and event.attempt == len(state.attempts) + 1:
            attempt = Attempt(event.attempt, event.offer, event.on_demand_hourly, event.token, event.why, entry.time)
            attempt = replace(attempt, drawn=event.drawn)
            return replace(state, attempts=(*state.attempts, attempt), waiting=None)
        case Recorded() if state.current is None and 1 <= event.attempt <= len(state.attempts):
            attempts = (_correct(state, entry, a) if a.number == event.attempt else a for a in state.attempts)
            return replace(state, attempts=tuple(attempts))
        case MachineStarted() | Running() | Noticed() | Priced() | AttemptEnded() if (
            state.current is not None and event.attempt == state.current.number
        ):
            return replace(state, attempts=(*state.attempts[:-1], _advance(state, entry, state.current)))
        case _:
            raise _illegal(state, entry)


def _reopen(state: RunState, entry: Entry) -> RunState:
    """After the end: nothing else fits, and only where a budget was the reason."""
    event = entry.event
    if not isinstance(event, Reopened) or state.outcome is not Outcome.BUDGET or state.ended is None:
        raise _illegal(state, entry)
    job = state.job if event.budget is None else replace(state.job, budget=event.budget)
    rested = state.rested + max(0.0, entry.time - state.ended)
    # A wish to cancel that came with the stop was about what is over: somebody wants it to go on now.
    return replace(
        state, job=job, rested=rested, outcome=None, why="", ended=None, stop_asked=None, cancel_requested=False
    )


def _advance(state: RunState, entry: Entry, attempt: Attempt) -> Attempt:
    match entry.event:
        case MachineStarted(machine=machine, started=started) if attempt.machine is None:
            return replace(attempt, machine=machine, started=started)
        case Running() if attempt.machine is not None and attempt.running is None:
            return replace(attempt, running=entry.time)
        case Noticed() as noticed if attempt.machine is not None:
            return replace(attempt, noticed=noticed)
        case Priced() as new if attempt.machine is not None:
            price = Since(entry.time, new.hourly, new.on_demand_hourly, new.price_source)
            return replace(attempt, prices=(*attempt.prices, price))
        case AttemptEnded(cause=cause, detail=detail, ended=ended, exit_code=exit_code, end=end):
            # A clock that was set back must not make a machine's time negative: the ledger would pay us for it.
            ended = max(ended, attempt.started or ended)
            return replace(attempt, cause=cause, detail=detail, ended=ended, exit_code=exit_code, end=end)
        case _:
            raise _illegal(state, entry)


def _correct(state: RunState, entry: Entry, attempt: Attempt) -> Attempt:
    match entry.event:
        case Recorded(started=started, ended=ended, end=end) if attempt.started is not None:
            logged = attempt.logged or (attempt.started, attempt.ended or attempt.started)
            return replace(attempt, started=started, ended=max(started, ended), end=end, logged=logged)
        case _:
            raise _illegal(state, entry)


def _illegal(state: RunState, entry: Entry) -> IllegalTransition:
    return IllegalTransition(f"{type(entry.event).__name__} does not fit run {state.run}, which is {state.phase}")
