"""The ledger is a function of the log: laws over everything that can happen to a run and to who drives it.

A run's attempts start, change their prices, are taken or stopped, and are recorded by the provider on a clock of its
own. The controller may be killed between any two events: then the next one says again what it does not know to have
been said. Whoever reads the log may do so at any moment. What the run cost is worked out beside it with fractions.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.runs.samples import OFFER, opened

from spotweld.costs.charges import EXACT, UNIT
from spotweld.costs.ledger import ledger
from spotweld.costs.totals import total
from spotweld.costs.usage import Usage
from spotweld.errors import IllegalTransition
from spotweld.providers.provider import MachineEnd
from spotweld.runs.accounts import spent
from spotweld.runs.events import (
    AttemptEnded,
    AttemptOpened,
    Cause,
    Entry,
    Event,
    MachineStarted,
    Noticed,
    Priced,
    Recorded,
    Running,
)
from spotweld.runs.history import Loss, usages
from spotweld.runs.states import RunState, apply, fold
from spotweld.values.money import Money

if TYPE_CHECKING:
    from random import Random

    from spotweld.costs.focus import Row

BEGAN = 1_700_000_000.0
money = st.decimals(0, 100, places=6).map(Money)
skew = st.floats(-300, 300)


class Life(msgspec.Struct, frozen=True):
    """What happens to one attempt. Times are seconds after its machine's start."""

    pause: float
    """Seconds since the attempt before."""
    price: Money
    firm: Money
    changes: list[tuple[float, Money, Money]]
    ends: float
    end: MachineEnd
    cause: Cause
    lost: float
    skew: float
    """How much the controller's clock is ahead of the provider's."""
    told: str
    """When the provider's word on the end comes: ``at once``, ``later``, ``never``."""
    again: int
    """Which of its events are said again by the next controller: bits."""


lives = st.builds(
    Life,
    pause=st.floats(0, 9000),
    price=money,
    firm=money,
    changes=st.lists(st.tuples(st.floats(-100, 20_000), money, money), max_size=3),
    ends=st.one_of(st.floats(-100, 20_000), st.just(0.0)),
    end=st.sampled_from(MachineEnd),
    cause=st.sampled_from([Cause.PREEMPTED, Cause.PREEMPTED_UNNOTICED, Cause.DONE, Cause.FAILED]),
    lost=st.floats(0, 20_000),
    skew=skew,
    told=st.sampled_from(["at once", "later", "never"]),
    again=st.integers(0, 255),
)


class Past(msgspec.Struct):
    """A log, read at every moment."""

    state: RunState
    seen: list[Usage]
    """What readers have made of it, the last reading last."""
    lost: dict[int, Loss]
    now: float


def play(script: list[Life], *, retold: bool) -> Past:
    """The log of these lives."""
    past = Past(fold([Entry("r", 1, BEGAN, opened())]), [], {}, BEGAN)
    at = BEGAN
    for number, life in enumerate(script, 1):
        at += life.pause
        for bit, (when, event) in enumerate(_events(number, life, at)):
            tell(past, when, event)
            if retold and life.again >> (bit % 8) & 1:
                tell(past, when, event)
        past.lost[number] = Loss(1, life.lost)
        read(past, max(past.now, at + life.ends))
        at += max(0.0, life.ends)
    return past


def _events(number: int, life: Life, began: float) -> list[tuple[float, Event]]:
    """In the controller's order and on its clock. What the provider says is on the provider's."""
    offer = replace(OFFER, hourly=life.price)
    ahead = began + life.skew
    ended = life.told == "at once"
    found: list[tuple[float, Event]] = [
        (ahead, AttemptOpened(number, offer, life.firm, f"t-{number}", "why")),
        (ahead, MachineStarted(number, f"m-{number}", began)),
        (ahead, Running(number)),
    ]
    changes = sorted(life.changes, key=lambda change: change[0])
    found += [(ahead + after, Priced(number, price, firm, "market")) for after, price, firm in changes]
    if life.cause is Cause.PREEMPTED:
        found.append((ahead + life.ends, Noticed(number, "aws", None)))
    stop = began + life.ends if ended else ahead + life.ends
    end = life.end if ended else None
    found.append((ahead + life.ends, AttemptEnded(number, life.cause, "", stop, None, end)))
    if life.told == "later":
        found.append((ahead + life.ends + 60, Recorded(number, began, began + life.ends, life.end)))
    return found


def tell(past: Past, when: float, event: Event) -> None:
    """Append an event. What the log knows already it refuses, or it says nothing new."""
    try:
        past.state = apply(past.state, Entry("r", 2, when, event))
    except IllegalTransition:
        return
    read(past, max(past.now, when))


def read(past: Past, now: float) -> None:
    past.now = now
    past.seen += usages(past.state, past.lost, now)


def units(microseconds: int) -> int:
    return round(Fraction(microseconds * 250, 9))


def truth(script: list[Life]) -> tuple[Fraction, Fraction]:
    """(1e-11 hours, money times 1e-11 hours) of the whole run, by fractions."""
    time = cost = Fraction(0)
    began = BEGAN
    for life in script:
        began += life.pause
        start = round(began * 1e6)
        stop = began + life.ends if life.told != "never" else began + life.skew + life.ends
        end = max(start, round(stop * 1e6))
        # Of two prices of one moment the higher one is taken, of two of one microsecond the later one: it comes last.
        noted = sorted((began + life.skew + after, price.amount) for after, price, _ in life.changes)
        changes = [(round(at * 1e6), price) for at, price in noted]
        held = ([life.price.amount] + [price for at, price in changes if at <= start])[-1]
        inside = [change for change in changes if start < change[0] < end]
        for (at, price), (until, _) in pairwise([(start, held), *inside, (end, Decimal(0))]):
            length = units(until - start) - units(at - start)
            time += length
            cost += length * Fraction(price)
        began += max(0.0, life.ends)
    return time, cost


def sums(rows: list[Row]) -> tuple[Fraction, Fraction]:
    with localcontext(EXACT):
        return (
            Fraction(sum((row.pricing_quantity for row in rows), Decimal(0)) / UNIT),
            Fraction(sum((row.billed_cost for row in rows), Decimal(0)) / UNIT),
        )


scripts = st.lists(lives, min_size=1, max_size=4)


@given(scripts, st.booleans())
def test_the_total_is_machine_time_times_price(script: list[Life], retold: bool) -> None:
    past = play(script, retold=retold)
    rows = ledger(usages(past.state, past.lost, past.now))
    assert sums(rows) == truth(script)
    assert spent(past.state, past.now) == total(rows)[0].billed


@given(scripts)
def test_a_controller_that_dies_between_any_two_events_changes_nothing(script: list[Life]) -> None:
    calm, shaken = play(script, retold=False), play(script, retold=True)
    assert ledger(usages(shaken.state, shaken.lost, shaken.now)) == ledger(usages(calm.state, calm.lost, calm.now))


@given(scripts, st.randoms(use_true_random=False))
def test_every_reading_of_the_log_together_is_the_last_one(script: list[Life], random: Random) -> None:
    past = play(script, retold=True)
    last = ledger(usages(past.state, past.lost, past.now))
    random.shuffle(past.seen)
    assert ledger(past.seen) == last


@given(scripts)
def test_kept_and_lost_are_all_and_every_machine_is_there(script: list[Life]) -> None:
    past = play(script, retold=False)
    rows = ledger(usages(past.state, past.lost, past.now))
    (sum_,) = total(rows)
    with localcontext(EXACT):
        assert sum_.kept + sum_.lost == sum_.billed
        assert sum(row.work_kept + row.work_lost for row in rows) == sum_.seconds
    assert {row.resource_id for row in rows} == {f"m-{number}" for number in range(1, len(script) + 1)}
    assert len({row.key for row in rows}) == len(rows)
    assert not any(row.estimated for row in rows)


@given(scripts)
def test_the_provider_s_word_is_what_is_charged_for_and_the_other_one_is_kept(script: list[Life]) -> None:
    past = play(script, retold=False)
    for attempt, life in zip(past.state.attempts, script, strict=True):
        assert (attempt.logged is not None) == (life.told == "later")
        if attempt.started is not None and attempt.ended is not None and life.told != "never":
            assert abs((attempt.ended - attempt.started) - max(0.0, life.ends)) < 1e-3
