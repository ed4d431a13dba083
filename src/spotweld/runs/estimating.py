"""What a job will cost: by what somebody says of it, else by what its runs have shown, else by the project file."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.cadence import LONGEST
from spotweld.checkpoint.hazard import USUAL
from spotweld.costs.estimates import Estimate, Facts, Hourly, estimate
from spotweld.costs.prices.table import is_old
from spotweld.costs.renewals import Range
from spotweld.errors import UsageError
from spotweld.project.nouns import EverySeconds, EverySteps
from spotweld.runs.accounts import hazard
from spotweld.runs.events import Outcome
from spotweld.runs.following import Follower
from spotweld.runs.history import losses, progress
from spotweld.runs.remaining import working_since
from spotweld.values.durations import format_duration
from spotweld.values.money import format_money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from spotweld.checkpoint.hazard import Hazard
    from spotweld.costs.prices.asking import Answer
    from spotweld.project.nouns import Job, PlacementRules
    from spotweld.runs.history import Progress
    from spotweld.runs.log import EventLog
    from spotweld.runs.states import RunState
    from spotweld.store.objects import Objects
    from spotweld.values.money import Money

_RUNS = 5
"""Of a job, those that were done last, from which is learned."""


class Given(msgspec.Struct, frozen=True):
    """What somebody says; None: nothing."""

    work: float | None = None
    cadence: float | None = None
    hourly: Hourly = Hourly()
    interruptions: int | None = None


class Learned(msgspec.Struct, frozen=True):
    """What runs of a job have shown; None: nothing."""

    runs: int = 0
    work: Range | None = None
    """Seconds of work that was kept: the least, the middle and the most of a run."""
    changeover: float | None = None
    """Seconds, of a machine in the middle."""
    interval: float | None = None
    """Seconds between two saves, as the latest run told it last."""
    pace: float | None = None
    """Seconds of a step, in the latest run."""


def learned(past: Sequence[tuple[RunState, dict[int, Progress]]]) -> Learned:
    """What runs that were done have shown, the newest first."""
    works, starts, intervals, paces = [], [], [], []
    for state, history in past:
        work = _worked(state, history)
        if work <= 0:
            continue
        works.append(work)
        for attempt in state.attempts:
            since = working_since(attempt, history.get(attempt.number))
            if attempt.started is not None and since is not None:
                starts.append(max(0.0, since - attempt.started))
        intervals += [one.cadence.interval for one in history.values() if one.cadence and one.cadence.interval][-1:]
        paces += [work / step for step in [max((one.last or 0 for one in history.values()), default=0)] if step]
    return Learned(
        runs=len(works),
        work=Range(min(works), median(works), max(works)) if works else None,
        changeover=median(starts) if starts else None,
        interval=intervals[0] if intervals else None,
        pace=paces[0] if paces else None,
    )


def past_of(
    log: EventLog, job: str, store: Callable[[RunState], Objects]
) -> list[tuple[RunState, dict[int, Progress]]]:
    """The runs of a job that were done last, the newest first, with what they told.

    Raises:
        StoreError: a run's store failed.
    """
    found = []
    for run in log.runs():
        state = log.state(run)
        if state.job.name == job and state.outcome in {Outcome.DONE, Outcome.LATE}:
            found.append((state, progress(Follower(run, log, store(state)).poll())))
        if len(found) == _RUNS:
            break
    return found


def estimate_job(
    job: Job,
    rules: PlacementRules,
    offers: Sequence[Offer],
    states: Sequence[RunState],
    shown: Learned,
    given: Given,
    now: float,
) -> Estimate:
    """What the job will cost.

    Args:
        job: it.
        rules: the project file's.
        offers: what may be rented; the cheapest spot and the cheapest on-demand machine are taken.
        states: the latest runs of the project, from whose machines is learned how long they live.
        shown: what runs of the job have shown.
        given: goes before all else.
        now: seconds since 1970 UTC.

    Raises:
        UsageError: nobody knows how long the job takes, or how often it saves; or see ``estimate``.
    """
    work, work_note = _work(job, shown, given)
    cadence, cadence_note = _cadence(job, shown, given)
    changeover = rules.changeover if shown.changeover is None else shown.changeover
    hourly, price_notes = hourly_of(given.hourly, offers)
    spot = _cheapest(offers, CapacityType.SPOT)
    lives: Hazard = USUAL if spot is None else hazard(states, spot, now)
    found = estimate(Facts(work, changeover, cadence, lives), hourly, given.interruptions)
    start = "placement.changeover" if shown.changeover is None else f"measured in {_runs(shown.runs)}"
    notes = (work_note, cadence_note, f"a machine's start: {format_duration(changeover)}, {start}", *price_notes)
    return msgspec.structs.replace(found, notes=(*notes, _seen(states), *found.notes))


def hourly_of(given: Hourly, offers: Sequence[Offer]) -> tuple[Hourly, list[str]]:
    """Prices, those that were given first, and where they come from; else those of the cheapest offers."""
    found: dict[CapacityType, Money | None] = {}
    notes = []
    for kind, said in ((CapacityType.SPOT, given.spot), (CapacityType.ON_DEMAND, given.on_demand)):
        offer = _cheapest(offers, kind)
        found[kind] = said or (offer.hourly if offer else None)
        if said is not None:
            notes.append(f"{kind}: {format_money(said)}/h, as you say")
        elif offer is not None:
            notes.append(f"{kind}: {format_money(offer.hourly)}/h in {offer.zone} (price: {offer.price_source})")
        else:
            notes.append(f"{kind}: price unknown, nothing is on offer")
    return Hourly(found[CapacityType.ON_DEMAND], found[CapacityType.SPOT], given.committed), notes


def listed(answer: Answer, machine_type: str, now: datetime) -> tuple[Offer, ...]:
    """What price lists say of a machine, as offers: their sources say how old that is. What is unknown is not there."""
    kinds = ((CapacityType.SPOT, answer.spot, "spot"), (CapacityType.ON_DEMAND, answer.on_demand, "on_demand"))
    offers = []
    for kind, price, field in kinds:
        hourly: Money | None = getattr(price, field, None)
        if price is not None and hourly is not None:
            age = "of unknown age" if price.as_of is None else f"{(now - price.as_of).days} days old"
            old = ", too old to rely on" if is_old(price, now) else ""
            source = f"{price.source}, {age}{old}"
            offers.append(Offer(price.provider, price.region, price.place, machine_type, kind, hourly, source))
    return tuple(offers)


def _worked(state: RunState, history: dict[int, Progress]) -> float:
    """Seconds of the run's work that were kept; a program that tells nothing did all of it on its last machine."""
    if history:
        lost = losses(history)
        return sum(
            max(0.0, one.marks[-1][1] - one.since - (lost[number].seconds if number in lost else 0.0))
            for number, one in history.items()
            if one.since is not None and one.marks
        )
    last = state.attempts[-1]
    return last.ended - last.running if last.ended is not None and last.running is not None else 0.0


def _work(job: Job, shown: Learned, given: Given) -> tuple[Range, str]:
    if given.work is not None:
        return Range.exactly(given.work), f"work: {format_duration(given.work)}, as you say"
    if shown.work is not None:
        about = format_duration(shown.work.expected)
        return shown.work, f"work: about {about}, measured in {_runs(shown.runs)} of this job"
    if job.work is not None:
        return Range.exactly(job.work), f"work: {format_duration(job.work)}, as the project file says"
    why = "it has never come to its end, and the project file does not say"
    raise UsageError(f"nobody knows how long {job.name} takes", why, "say it: --work 48h, or work: 48h in the job")


def _cadence(job: Job, shown: Learned, given: Given) -> tuple[float, str]:
    every, bound = job.checkpoint.every, job.checkpoint.max_lost_work
    if given.cadence is not None:
        found, why = given.cadence, "as you say"
    elif isinstance(every, EverySeconds):
        found, why = every.seconds, "as the project file says"
    elif isinstance(every, EverySteps) and shown.pace is not None:
        found, why = every.steps * shown.pace, f"{every.steps} steps at the pace of the latest run"
    elif isinstance(every, EverySteps):
        why = f"it is saved every {every.steps} steps, and nobody has seen how long a step takes"
        raise UsageError(f"nobody knows how often {job.name} is saved", why, "say it: --cadence 30m")
    elif shown.interval is not None:
        found, why = shown.interval, "as the latest run chose it last"
    else:
        found, why = LONGEST, "the longest that `every: auto` chooses; mostly it is far shorter"
    if given.cadence is None and bound is not None and bound < found:
        found, why = bound, "bound by max_lost_work"
    return found, f"saves: every {format_duration(found)}, {why}"


def _cheapest(offers: Iterable[Offer], kind: CapacityType) -> Offer | None:
    found = [offer for offer in offers if offer.capacity_type is kind]
    currencies = sorted({offer.hourly.currency for offer in found})
    if len(currencies) > 1:
        raise UsageError("the prices on offer are in different currencies", ", ".join(currencies), "write all in one")
    return min(found, key=lambda offer: (offer.hourly, offer.zone), default=None)


def _seen(states: Iterable[RunState]) -> str:
    spot = [
        attempt
        for state in states
        for attempt in state.attempts
        if attempt.started is not None and attempt.offer.capacity_type is CapacityType.SPOT
    ]
    if not spot:
        return "how long spot machines live: the usual, as this project has seen none yet"
    taken = sum(attempt.cause is not None and attempt.cause.interruption for attempt in spot)
    return (
        f"how long spot machines live: the usual, corrected by {len(spot)} of this project, of which {taken} were taken"
    )


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"
