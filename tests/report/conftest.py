"""Made-up runs that look like real ones: the same seed, the same story."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest

from spotweld.costs.ledger import ledger
from spotweld.costs.usage import Usage
from spotweld.report.story import Attempt, Checkpoint, Comparison, Outcome, State, Story, curve
from spotweld.runs.events import Cause
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Callable

OPENED = 1_763_820_000.0
ZONES = (("local-a", "0.30"), ("local-b", "0.34"), ("local-c", "0.38"))


def loss(step: int, seed: int = 7) -> float:
    noise = random.Random(seed * 1_000_003 + step).gauss(0, 1)
    return 2.35 * math.exp(-step / 260) + 0.11 + 0.07 * noise * math.exp(-step / 500) + 0.012 * abs(noise)


def accuracy(step: int) -> float:
    return 1 - 0.9 * math.exp(-step / 180) - 0.01 * random.Random(step).random()


def refusal(number: int, zone: str, price: str, now: float) -> Attempt:
    return Attempt(
        number,
        zone,
        "m-small",
        CapacityType.SPOT,
        Money(Decimal(price)),
        now,
        ended=now + 0.1,
        cause=Cause.NO_CAPACITY,
        detail="no spot machine left in this zone",
    )


def by_cadence(
    rng: random.Random, steps: range, beginning: tuple[float, int, float], attempt: int
) -> tuple[list[Checkpoint], int]:
    """Saves at ``steps``, a few of them failed, and the newest durable step."""
    running, at, pace = beginning
    saves = []
    for step in steps:
        outcome, detail = Outcome.SAVED, ""
        if rng.random() < 0.03:
            outcome, detail = Outcome.FAILED, "the store did not answer: connection reset"
        stall, took = 0.004 + rng.random() / 300, 0.05 + rng.random() / 20
        when = running + (step - at) / pace + 0.05
        saves.append(Checkpoint(step, when, attempt, "cadence", stall, took, 412_345, outcome, detail))
    return saves, max((one.step for one in saves if one.outcome is Outcome.SAVED), default=0)


def bill(attempt: Attempt, pace: float) -> Usage:
    end = attempt.running_since + (attempt.last_step - attempt.first_step) / pace
    one = (attempt.zone, attempt.machine_type, attempt.capacity_type, attempt.hourly, "spotweld.yaml")
    return Usage(
        project="examples",
        run="r-5f2k9q",
        attempt=attempt.number,
        machine=f"m{attempt.number}",
        offer=Offer("local", "here", *one),
        on_demand_hourly=Money(Decimal("1.00")),
        started=attempt.started,
        ended=end,
        closed=attempt.ended is not None,
        lost_seconds=attempt.steps_lost / pace,
        labels={"team": "vision"},
    )


def make_story(
    *,
    interruptions: int = 6,
    total: int = 1200,
    pace: float = 11.0,
    seed: int = 3,
    every: int = 40,
    finished: bool = True,
    value: Callable[[int], float] = loss,
) -> Story:
    """A run of ``total`` steps at ``pace`` steps a second that loses its machine ``interruptions`` times."""
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(total // 20 + 1, total - 5), interruptions))
    attempts: list[Attempt] = []
    saves: list[Checkpoint] = []
    samples: list[tuple[int, int, float]] = []
    now, at, durable = OPENED + 0.4, 0, 0
    zone = 0
    for index, cut in enumerate([*cuts, total]):
        number = len(attempts) + 1
        firm = index == len(cuts) > 3
        if index % 5 == 2:  # a zone that has no capacity first
            name, price = ZONES[(zone + 1) % 3]
            attempts.append(refusal(number, name, price, now))
            number += 1
            now += 0.6
        name, price = ZONES[zone % 3]
        capacity = CapacityType.ON_DEMAND if firm else CapacityType.SPOT
        hourly = Money(Decimal("1.00" if firm else price))
        start, booted = now, now + 1.1 + rng.random()
        running = booted + (0.9 + rng.random() if at else 0.35)
        noticed = index % 3 != 1
        lead = (8.0, 0.0, 0.8)[index % 3]
        ending = running + (cut - at) / pace
        samples += [(step, number, value(step)) for step in range(at + 1, cut + 1)]
        regular, durable = by_cadence(rng, range(at - at % every + every, cut, every), (running, at, pace), number)
        durable = max(durable, at)
        saves += regular
        last = index == len(cuts)
        if last:
            durable, cause, detail = cut, Cause.DONE if finished else None, ""
            if finished:
                saves.append(Checkpoint(cut, ending + 0.1, number, "finished", 0.005, 0.08, 412_345))
        elif noticed:
            cause, detail = Cause.PREEMPTED, f"the provider took the machine back with {lead:g} s of notice"
            if lead > 1:
                saves.append(Checkpoint(cut, ending, number, "notice", 0.006, 0.07, 412_345))
                durable = cut
            else:
                saves.append(Checkpoint(cut, ending, number, "notice", 0.006, 0.8, 0, Outcome.CUT, "too late"))
        else:
            cause, detail = Cause.PREEMPTED_UNNOTICED, "the machine vanished: SIGKILL"
            if index == 4 and durable > at:
                damaged = max(i for i, one in enumerate(saves) if one.outcome is Outcome.SAVED)
                saves[damaged] = msgspec.structs.replace(
                    saves[damaged],
                    outcome=Outcome.DAMAGED,
                    detail="digest differs in 1 of 3 packs",
                )
                durable = max(at, durable - every)
        attempts.append(
            Attempt(
                number,
                name,
                "m-small",
                capacity,
                hourly,
                start,
                booted=booted,
                running_since=running,
                ended=ending + 0.2 if cause else None,
                cause=cause,
                detail=detail,
                first_step=at,
                last_step=cut,
                durable_step=durable,
                steps_lost=cut - durable,
                seconds_lost=(cut - durable) / pace,
                noticed=ending + 0.2 - min(lead, ending - running) if noticed and not last else None,
                notice_lead=lead if noticed and not last else None,
            )
        )
        now, at = ending + 0.9 + rng.random(), durable
        zone += 1 + rng.randrange(2)
    return Story(
        run="r-5f2k9q",
        job="digits",
        project="examples",
        state=State.DONE if finished else State.RUNNING,
        told=now,
        opened=OPENED,
        closed=now if finished else None,
        total_steps=total,
        labels={"seed": "7", "team": "vision", "command": "python train.py --steps 1200"},
        results={"Test accuracy": "97.8 %"} if finished else {},
        attempts=tuple(attempts),
        checkpoints=tuple(sorted(saves, key=lambda one: one.time)),
        curves=(curve("loss", samples), curve("accuracy", ((s, a, accuracy(s)) for s, a, _ in samples))),
        rows=tuple(ledger(bill(one, pace) for one in attempts if one.booted)),
        undisturbed=Comparison(True, True, total / pace + 1.9) if finished else None,
    )


@pytest.fixture(scope="session")
def sample() -> Callable[..., Story]:
    return make_story


@pytest.fixture(scope="session")
def usual() -> Story:
    return make_story()


@pytest.fixture
def empty() -> Story:
    return Story(run="r-1", job="digits", project="examples", state=State.WAITING, told=OPENED, opened=OPENED)
