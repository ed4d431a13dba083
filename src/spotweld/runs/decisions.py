"""What a run's controller does next: a pure function of the run's state and of what was observed.

Nothing here acts. That makes every crash harmless: a restarted controller folds the same log, observes anew, and
decides the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec.structs import replace

from spotweld.costs.billing import goes_free
from spotweld.placement.bounds import permitted, share_holds
from spotweld.placement.facts import facts, fresh
from spotweld.placement.placer import Ending, Held, Observation, Placement, Rent, Sighting, Standing
from spotweld.project.nouns import RetryOn
from spotweld.providers.provider import Machine, MachineEnd, MachineState
from spotweld.runs.events import Cause, Outcome
from spotweld.runs.pools.taking import Warm, fitting, keeping
from spotweld.runs.reports import EX_TEMPFAIL, Result, Stage, Status
from spotweld.values.durations import format_duration
from spotweld.values.money import Money, format_money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.placer import Placer
    from spotweld.runs.states import Attempt, RunState

LOOK_AGAIN = 0.2
"""Seconds between two looks at a machine."""
LONGEST_LOOK_AGAIN = 5.0
"""Seconds between two looks while nothing is rented, so that a request to cancel is heard soon."""
FAILURE_PAUSE = 5.0
"""Seconds before a failing program is tried again; doubled with each failure in a row."""
LONGEST_PAUSE = 300.0
SILENCE = 120.0
"""Seconds without a sign of life from a running agent after which its machine is given up."""
SILENCE_BEFORE_FIRST_SIGN = 900.0
"""The same for a machine that has not reported at all: booting and pulling take time."""


PRICES_EVERY = 60.0
"""Seconds between two looks at what a machine costs that the run stays on, and between two prices in the log."""


UNLISTED = 30.0
"""Seconds without a sign of life after which a machine that the provider does not list is taken for gone. The lists of
real clouds lag behind: a machine may be missing from them for a while after its start."""


class Observed(msgspec.Struct, frozen=True):
    """What the controller sees around the attempt that is going on."""

    now: float
    offers: tuple[Offer, ...] = ()
    """None at most looks at a machine that runs: the market is looked at less often."""
    machine: Machine | None = None
    status: Status | None = None
    result: Result | None = None
    silent: float = 0.0
    """Seconds since the last new sign of life, by the controller's monotonic clock."""
    spent: Money | None = None
    """What the run has cost so far; None: nothing yet."""
    rooms: dict[str, int] = {}
    """How many more spot machines could be had, for zones of which the provider tells."""
    standing: Standing | None = None
    """How far the run is; None: it has no deadline, or the market was not looked at."""
    working: float | None = None
    """When the program on the present machine had what it needed to go on, as far as is known."""
    warm: tuple[Warm, ...] = ()
    """Machines of pools that the run could have, the best first."""


class OpenAttempt(msgspec.Struct, frozen=True):
    """Log the intention to rent this."""

    offer: Offer
    on_demand_hourly: Money
    """What the same machine costs on demand in the same zone."""
    why: str
    warm: Warm | None = None
    """The machine of a pool that is to be taken instead."""


class StartMachine(msgspec.Struct, frozen=True):
    """Call the provider with the logged intention; harmless when repeated."""


class NoteRunning(msgspec.Struct, frozen=True):
    """Log the agent's first sign of life."""


class NoteNotice(msgspec.Struct, frozen=True):
    """Log that the machine was told that it will be taken."""

    source: str
    deadline: float | None


class NotePrice(msgspec.Struct, frozen=True):
    """Log that the machine costs something else now."""

    asked: Offer
    on_demand_hourly: Money


class NoteSighting(msgspec.Struct, frozen=True):
    """Log what is new in the market."""

    sighting: Sighting


class EndAttempt(msgspec.Struct, frozen=True):
    """End the machine if it has not ended, then log why the attempt is over."""

    cause: Cause
    detail: str
    exit_code: int | None = None


class Pause(msgspec.Struct, frozen=True):
    """Log that nothing is rented until then."""

    until: float
    why: str


class Finish(msgspec.Struct, frozen=True):
    """Log that the run is over."""

    outcome: Outcome
    why: str


class Watch(msgspec.Struct, frozen=True):
    """Nothing to do now; look again after ``seconds``."""

    seconds: float = LOOK_AGAIN


Action: TypeAlias = (
    OpenAttempt
    | StartMachine
    | NoteRunning
    | NoteNotice
    | NotePrice
    | NoteSighting
    | EndAttempt
    | Pause
    | Finish
    | Watch
)


def decide(state: RunState, seen: Observed, placer: Placer) -> Action:
    """The one next thing to do."""
    attempt = state.current
    if attempt is None:
        return _between_attempts(state, seen, placer)
    action = _during_attempt(state, attempt, seen, placer)
    ends = isinstance(action, EndAttempt) and action.cause is not Cause.DONE
    # The guard of a deadline does not reckon with minutes in which nobody works.
    hurries = state.deadline is not None and _reason_to_stop(state, seen) is None
    return Watch() if ends and not hurries and _goes_free(attempt, seen) else action


def _during_attempt(state: RunState, attempt: Attempt, seen: Observed, placer: Placer) -> Action:
    stop = _reason_to_stop(state, seen)
    if attempt.machine is None:
        return EndAttempt(*stop) if stop else StartMachine()
    done = seen.result is not None and seen.result.stage is Stage.RUNNING and seen.result.exit_code == 0
    if stop and not done:
        # Before anything is judged: once it has been stopped, the process looks as if it had been interrupted.
        return EndAttempt(*stop)
    if seen.status is not None and attempt.running is None:
        return NoteRunning()
    if seen.result is not None:
        return judge_result(seen.result, seen.machine)
    if seen.machine is None and seen.silent > UNLISTED:
        return EndAttempt(Cause.PREEMPTED_UNNOTICED, "the provider does not know the machine any more")
    if seen.machine is not None and seen.machine.state is MachineState.ENDED:
        return judge_silent_end(attempt, seen.machine, seen.status)
    if seen.status is not None and seen.status.notice is not None and attempt.noticed is None:
        return NoteNotice(seen.status.notice.source, seen.status.notice.deadline)
    if seen.silent > (SILENCE if attempt.running is not None else SILENCE_BEFORE_FIRST_SIGN):
        return EndAttempt(
            Cause.PREEMPTED_UNNOTICED, f"the machine has not given a sign of life for {format_duration(seen.silent)}"
        )
    return _stay(state, attempt, seen, placer) if seen.offers else Watch()


def _goes_free(attempt: Attempt, seen: Observed) -> bool:
    """Whether the provider is about to take the machine, and then charges nothing for it, unless we end it first."""
    if attempt.started is None or seen.machine is None or seen.machine.state is MachineState.ENDED:
        return False
    heard = [one.notice for one in (seen.result, seen.status) if one is not None]
    deadlines = [notice.deadline for notice in (attempt.noticed, *heard) if notice is not None]
    deadline = min((at for at in deadlines if at is not None), default=math.inf)
    return attempt.drawn is None and goes_free(attempt.offer, attempt.started, deadline, seen.now)


def may_move(state: RunState, attempt: Attempt) -> bool:
    """Whether the run may leave its machine for another one while nothing is wrong with it."""
    return attempt.offer.capacity_type is CapacityType.ON_DEMAND or state.deadline is not None


def _new_price(attempt: Attempt, offers: Sequence[Offer], now: float) -> NotePrice | None:
    """What the machine costs now; None: the same as before, or nobody knows, or one was noted a moment ago."""
    held = attempt.offer
    known = (held.hourly, attempt.on_demand_hourly)
    if attempt.prices:
        last = attempt.prices[-1]
        known = (last.hourly, last.on_demand_hourly)
        if last.at <= now < last.at + PRICES_EVERY:
            return None
    for asked in offers:
        if replace(asked, hourly=held.hourly, price_source=held.price_source) == held:
            firm = on_demand_price(asked, offers)
            return None if (asked.hourly, firm) == known else NotePrice(asked, firm)
    return None


def _stay(state: RunState, attempt: Attempt, seen: Observed, placer: Placer) -> Action:
    """All is well with the machine: what does it cost now, and is it still the one to be on?"""
    price = _new_price(attempt, seen.offers, seen.now)
    if price is not None:
        return price
    if not may_move(state, attempt):
        return Watch()
    observation = observe(state, seen)
    news = _news(state, observation)
    if news is not None:
        return NoteSighting(news)
    better = placer.reconsider(observation)
    return EndAttempt(Cause.MOVED, better) if better else Watch()


def judge_result(result: Result, machine: Machine | None) -> EndAttempt:
    """Why an attempt ended whose agent lived to tell how the process did."""
    code = result.exit_code
    if code == 0 and result.stage is Stage.RUNNING:
        return EndAttempt(Cause.DONE, "", code)
    if result.notice is not None:
        return EndAttempt(Cause.PREEMPTED, f"notice from {result.notice.source}, exit status {code}", code)
    if machine is not None and machine.end is MachineEnd.INTERRUPTED:
        return EndAttempt(Cause.PREEMPTED_UNNOTICED, f"the provider took the machine, exit status {code}", code)
    if result.stage is not Stage.RUNNING:
        return EndAttempt(Cause.SETUP_FAILED, result.detail or f"the set-up ended with exit status {code}", code)
    if code == EX_TEMPFAIL:
        return EndAttempt(
            Cause.FAILED, "it left with exit status 75 (interrupted) although nobody had interrupted it", code
        )
    return EndAttempt(Cause.FAILED, result.detail or f"exit status {code}", code)


def judge_silent_end(attempt: Attempt, machine: Machine, status: Status | None) -> EndAttempt:
    """Why an attempt ended whose agent had no time to tell."""
    if machine.noticed is not None or attempt.noticed is not None:
        return EndAttempt(Cause.PREEMPTED, "taken after a notice")
    match machine.end:
        case MachineEnd.INTERRUPTED:
            return EndAttempt(Cause.PREEMPTED_UNNOTICED, "taken without a notice")
        case MachineEnd.EXITED if status is None:
            return EndAttempt(
                Cause.SETUP_FAILED, "the machine shut down before its agent reported; see its console log"
            )
        case MachineEnd.EXITED:
            # Nobody took it. Whatever ended the agent (the job used up the memory, perhaps) will do so again.
            return EndAttempt(Cause.FAILED, "the machine shut down, and its agent left no word")
        case _:
            return EndAttempt(Cause.PREEMPTED_UNNOTICED, f"the machine is gone ({machine.end})")


def _reason_to_stop(state: RunState, seen: Observed) -> tuple[Cause, str] | None:
    job = state.job
    if state.cancel_requested:
        return Cause.CANCELLED, "cancelled by hand"
    if state.stop_asked is not None:
        return Cause.BUDGET, state.stop_asked.why
    if job.budget is not None and seen.spent is not None and seen.spent >= job.budget:
        return Cause.BUDGET, f"{format_money(seen.spent)} of {format_money(job.budget)} are spent"
    if job.max_duration is not None and seen.now - state.opened - state.rested >= job.max_duration:
        return Cause.TIMED_OUT, f"max_duration of {format_duration(job.max_duration)} is over"
    return None


def observe(state: RunState, seen: Observed) -> Observation:
    """What a placer gets to see."""
    past = _past(state, seen.now)
    held, attempt = None, state.current
    if attempt is not None and attempt.started is not None:
        held = Held(attempt.offer, attempt.started, attempt.running, seen.working)
    return Observation(
        now=seen.now,
        spot_policy=state.job.spot_policy,
        offers=permitted(seen.offers, state.placement, past),
        past=past,
        rooms=seen.rooms,
        held=held,
        standing=seen.standing,
        sightings=state.sightings,
    )


def _news(state: RunState, observation: Observation) -> Sighting | None:
    """What is new in the market, for a run whose placer remembers it; None: nothing."""
    if state.job.deadline is None:
        return None
    spot = [offer for offer in observation.offers if offer.capacity_type is CapacityType.SPOT]
    return fresh(observation.now, spot, facts(observation), observation.sightings)


def _between_attempts(state: RunState, seen: Observed, placer: Placer) -> Action:
    over = _reason_to_finish(state, seen)
    if over:
        return over
    last = state.attempts[-1] if state.attempts else None
    waited = state.waiting is not None and seen.now >= state.waiting.until
    if last is not None and last.cause is not None and last.cause.failure and not waited:
        pause = min(LONGEST_PAUSE, FAILURE_PAUSE * 2 ** (failures_in_a_row(state.attempts) - 1))
        # A clock that was set back must not make the pause longer: nothing ended in the future.
        until = min(last.ended or seen.now, seen.now) + pause
        if seen.now < until:
            return _pause(
                state, seen.now, until, f"the program failed ({last.detail}); next try in {format_duration(pause)}"
            )
    observation = observe(state, seen)
    news = _news(state, observation)
    if news is not None:
        return NoteSighting(news)
    decision = placer.decide(observation)
    ready = keeping(_usable(state, seen, observation), observation, placer)
    warm = fitting(ready, decision, state.job.spot_policy)
    if warm is not None:
        why = f"a machine of the pool {warm.pool} is ready"
        return OpenAttempt(warm.offer, on_demand_price(warm.offer, seen.offers), why, warm)
    if isinstance(decision, Rent):
        return OpenAttempt(decision.offer, on_demand_price(decision.offer, seen.offers), decision.why)
    if RetryOn.NO_CAPACITY not in state.job.retry.on_events:
        return Finish(Outcome.NO_CAPACITY, decision.why)
    return _pause(state, seen.now, seen.now + decision.seconds, decision.why, min(placer.every, LONGEST_LOOK_AGAIN))


def _usable(state: RunState, seen: Observed, observation: Observation) -> list[Warm]:
    """The machines of pools that the rules for rented ones allow as well."""
    rules = state.placement
    may = permitted((*seen.offers, *(one.offer for one in seen.warm)), rules, observation.past)
    firm = share_holds(observation.past, rules.min_spot_share)
    return [one for one in seen.warm if one.offer in may and (firm or one.offer.capacity_type is CapacityType.SPOT)]


def _pause(state: RunState, now: float, until: float, why: str, longest: float = LONGEST_LOOK_AGAIN) -> Action:
    """A pause is logged when it begins, not at every look."""
    if state.waiting is None or not state.waiting_since <= now < state.waiting.until:
        return Pause(max(until, now + 1), why)
    return Watch(min(max(state.waiting.until - now, LOOK_AGAIN), longest))


def _reason_to_finish(state: RunState, seen: Observed) -> Finish | None:
    last = state.attempts[-1] if state.attempts else None
    retry = state.job.retry
    match last.cause if last else None:
        case Cause.DONE:
            late = (last.ended or seen.now) - state.deadline if last and state.deadline is not None else 0.0
            return (
                Finish(Outcome.LATE, f"{format_duration(late)} after its deadline")
                if late > 0
                else Finish(Outcome.DONE, "")
            )
        case Cause.PREEMPTED | Cause.PREEMPTED_UNNOTICED if RetryOn.INTERRUPTION not in retry.on_events:
            return Finish(Outcome.INTERRUPTED, "the job's `retry.on_events` does not name interruption")
        case Cause.NO_CAPACITY if RetryOn.NO_CAPACITY not in retry.on_events:
            return Finish(Outcome.NO_CAPACITY, last.detail if last else "")
        case Cause.FAILED | Cause.SETUP_FAILED:
            failures = sum(1 for attempt in state.attempts if attempt.cause is not None and attempt.cause.failure)
            if RetryOn.ERROR not in retry.on_events or failures > retry.failures:
                return Finish(
                    Outcome.FAILED, f"{last.detail if last else ''} (failure {failures}, {retry.failures} retries)"
                )
    stop = _reason_to_stop(state, seen)
    if stop:
        outcome = {Cause.CANCELLED: Outcome.CANCELLED, Cause.BUDGET: Outcome.BUDGET}.get(stop[0], Outcome.TIMED_OUT)
        return Finish(outcome, stop[1])
    return None


def failures_in_a_row(attempts: Sequence[Attempt]) -> int:
    """How many of the last attempts failed by their own doing, one after the other."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.cause is None or not attempt.cause.failure:
            break
        count += 1
    return count


def _past(state: RunState, now: float) -> tuple[Placement, ...]:
    """Where the run was, oldest first.

    The log's order is right whatever the clock did: an attempt ended before what was logged after it. Without that, a
    pause after one that seems to have ended in the future would not be over until the clock has caught up.
    """
    latest = now if state.waiting is None else min(now, state.waiting_since)
    past: list[Placement] = []
    for attempt in reversed(state.attempts):
        one = _placement(attempt, now)
        ahead = max(0.0, one.ended - latest)
        past.append(replace(one, started=one.started - ahead, ended=one.ended - ahead))
        latest = min(latest, attempt.opened)
    return tuple(reversed(past))


def _placement(attempt: Attempt, now: float) -> Placement:
    taken = attempt.cause is not None and attempt.cause.interruption
    never_up = attempt.running is None and (taken or attempt.cause is Cause.MOVED)
    if attempt.cause is Cause.NO_CAPACITY or never_up:
        # A machine that never came up could not be had either, whatever the provider says.
        ending = Ending.REFUSED
    elif taken:
        ending = Ending.INTERRUPTED
    else:
        ending = Ending.OTHER
    started = attempt.started if attempt.started is not None else attempt.opened
    return Placement(
        attempt.offer.zone,
        attempt.offer.capacity_type,
        started,
        attempt.ended if attempt.ended is not None else now,
        ending,
    )


def on_demand_price(offer: Offer, offers: Sequence[Offer]) -> Money:
    """What the same machine costs on demand in the same zone; its own price if it is not sold on demand there."""
    same = (CapacityType.ON_DEMAND, offer.zone, offer.machine_type)
    prices = (o.hourly for o in offers if (o.capacity_type, o.zone, o.machine_type) == same)
    return next(prices, offer.hourly)
