"""What a job will cost, before it is launched: one line for each way to run it, with a range.

How often machines are taken, and how much time that costs, is ``renewals``'s; here it meets prices. Nothing is known
for certain, so each figure has a low and a high one beside it. What is not known at all is None, and never 0.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.hazard import Hazard, Rate
from spotweld.costs.commitments import Prices, choose
from spotweld.costs.loads import Span
from spotweld.costs.renewals import Faced, Range, interrupted, with_checkpoints, without_checkpoints
from spotweld.errors import UsageError
from spotweld.values.durations import format_duration
from spotweld.values.money import Money, per_second

if TYPE_CHECKING:
    from collections.abc import Callable


class Facts(msgspec.Struct, frozen=True):
    """A job, and the machines that it will meet."""

    work: Range
    """Seconds that the program takes on a machine that is never lost."""
    changeover: float
    """Seconds from a machine's start until the program goes on: boot, fetch, restore."""
    cadence: float
    """Seconds between two saves."""
    hazard: Hazard
    """How often spot machines are taken, by their age."""


class Hourly(msgspec.Struct, frozen=True):
    """What a machine costs an hour, one way or another; None: unknown.

    Raises:
        UsageError: different currencies.
    """

    on_demand: Money | None = None
    spot: Money | None = None
    committed: Money | None = None
    """Whether it is used or not."""

    def __post_init__(self) -> None:
        found = {one.currency for one in (self.on_demand, self.spot, self.committed) if one is not None}
        if len(found) > 1:
            raise UsageError(
                "the prices are in different currencies", ", ".join(sorted(found)), "write all of them in one"
            )


class Amount(msgspec.Struct, frozen=True):
    """Money that is not known for certain."""

    low: Money
    expected: Money
    high: Money


class Line(msgspec.Struct, frozen=True):
    """One way to run the job."""

    way: str
    hourly: Money | None
    """None: unknown."""
    interruptions: Range | None
    """None, here and below: it would hardly ever come to its end."""
    seconds: Range | None
    """Of machines, which is what is paid."""
    cost: Amount | None
    """None: the price is unknown, or see above."""


class Estimate(msgspec.Struct, frozen=True):
    """What a job will cost, one way or another."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    """What is assumed, and what was measured."""

    def line(self, way: str) -> Line:
        """The line of that name.

        Raises:
            KeyError: there is none.
        """
        return {one.way: one for one in self.lines}[way]


ON_DEMAND, UNDISTURBED, SPOT = "on-demand", "spot, undisturbed", "spot, as machines live"
ANEW, COMMITTED = "spot, without checkpoints", "committed"


def estimate(facts: Facts, hourly: Hourly, interruptions: int | None = None) -> Estimate:
    """What the job will cost on demand, on spot as it goes well or badly, and on a committed machine.

    Args:
        facts: the job, and the machines that it will meet.
        hourly: prices; a line whose price is unknown is there without one.
        interruptions: adds a line for so many of them.

    Raises:
        UsageError: there is no work, no time between two saves, or a number of interruptions below 0.
    """
    _check(facts, interruptions)
    calm = _calm(facts)
    lines = [_line(ON_DEMAND, hourly.on_demand, _NONE, calm), _line(UNDISTURBED, hourly.spot, _NONE, calm)]
    if interruptions is not None:
        often = Range.exactly(interruptions)
        lines.append(_line(counted(interruptions), hourly.spot, often, _counted(facts, interruptions)))
    lines.append(_faced(SPOT, hourly.spot, facts, _saving))
    lines.append(_faced(ANEW, hourly.spot, facts, _anew))
    notes = [*_assumed(facts), *(f"{one.way}: {_ENDLESS}" for one in lines if one.seconds is None)]
    if hourly.committed is not None:
        lines.append(_line(COMMITTED, hourly.committed, _NONE, calm))
        notes.append(_committed(facts, hourly, lines))
    return Estimate(tuple(lines), tuple(notes))


def counted(interruptions: int) -> str:
    """The name of the line for so many of them."""
    return f"spot, {interruptions} interruption{'' if interruptions == 1 else 's'}"


_NONE = Range.exactly(0)
_FINEST = Decimal("1e-9")
_ENDLESS = "machines are taken too soon for it to come to its end"


def _check(facts: Facts, interruptions: int | None) -> None:
    if facts.work.low <= 0:
        raise UsageError("a job without work costs nothing", "", "say how long it takes: --work 48h")
    if facts.cadence <= 0:
        raise UsageError("there has to be time between two saves", "", "say how much: --cadence 30m")
    if interruptions is not None and interruptions < 0:
        raise UsageError(f"{interruptions} interruptions cannot be", "", "it is a number from 0 on")


def _calm(facts: Facts) -> Range:
    work = facts.work
    return Range(work.low + facts.changeover, work.expected + facts.changeover, work.high + facts.changeover)


def _counted(facts: Facts, interruptions: int) -> Range:
    low, expected, high = (
        interrupted(interruptions, work, facts.changeover, facts.cadence)
        for work in (facts.work.low, facts.work.expected, facts.work.high)
    )
    return Range(low.low, expected.expected, high.high)


def _saving(facts: Facts, work: float) -> Faced | None:
    return with_checkpoints(facts.hazard, work, facts.changeover, min(facts.cadence, work))


def _anew(facts: Facts, work: float) -> Faced | None:
    return without_checkpoints(facts.hazard, work, facts.changeover)


def _faced(way: str, price: Money | None, facts: Facts, face: Callable[[Facts, float], Faced | None]) -> Line:
    low, expected, high = (face(facts, work) for work in (facts.work.low, facts.work.expected, facts.work.high))
    if low is None or expected is None or high is None:
        return Line(way, price, None, None, None)
    often = Range(low.interruptions.low, expected.interruptions.expected, high.interruptions.high)
    return _line(way, price, often, Range(low.seconds.low, expected.seconds.expected, high.seconds.high))


def _line(way: str, price: Money | None, interruptions: Range, seconds: Range) -> Line:
    return Line(way, price, interruptions, seconds, None if price is None else priced(price, seconds))


def priced(hourly: Money, seconds: Range) -> Amount:
    """What so much time costs, to the ninth place."""
    exact = (per_second(hourly, each) for each in (seconds.low, seconds.expected, seconds.high))
    return Amount(*(Money(one.amount.quantize(_FINEST), one.currency) for one in exact))


def _assumed(facts: Facts) -> list[str]:
    first, last = facts.hazard[0], facts.hazard[-1]
    later = f", {_hourly(last)} from {format_duration(last.age)} on" if len(facts.hazard) > 1 else ""
    taken = f"spot machines are taken {_hourly(first)} at first{later}; those on demand are taken never to fail"
    saves, restart = format_duration(facts.cadence), format_duration(facts.changeover)
    loss = (
        f"the work since the last save, of which there is one every {saves}, and {restart} for the next machine's start"
    )
    return [taken, f"a loss costs {loss}; waiting for it costs nothing"]


def _hourly(rate: Rate) -> str:
    return f"{rate.hourly:.2g} times an hour"


def _committed(facts: Facts, hourly: Hourly, lines: list[Line]) -> str:
    """For how much of its term a committed machine has to be in use to be worth it (``commitments``)."""
    spot = next(one for one in lines if one.way == SPOT)
    if hourly.committed is None or hourly.on_demand is None or hourly.spot is None or spot.seconds is None:
        return (
            "the committed machine is reckoned only for the time of the job; its term is paid whether it is used or not"
        )
    calm = facts.work.expected + facts.changeover
    loss = Decimal(1) - Decimal(calm) / Decimal(spot.seconds.expected)
    prices = Prices(hourly.on_demand, hourly.spot, hourly.committed, max(loss, Decimal(0)))
    needed = choose([Span(calm, 1)], prices).break_even
    if needed is None or needed >= 1:
        return "a committed machine costs more than spot even if it is in use for all of its term"
    return f"a committed machine is worth it if it is in use for more than {needed:.1%} of its term, else spot is"
