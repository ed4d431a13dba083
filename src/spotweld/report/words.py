"""How a report says things: causes, moments, counts, numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from spotweld.report.story import Outcome
from spotweld.runs.events import Cause
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.checkpoint.events import Emergency, Restored
    from spotweld.report.story import Attempt
    from spotweld.values.money import Money

CAUSES = {
    Cause.DONE: "done",
    Cause.FAILED: "failed",
    Cause.PREEMPTED: "interrupted, with notice",
    Cause.PREEMPTED_UNNOTICED: "interrupted, no notice",
    Cause.NO_CAPACITY: "no capacity",
    Cause.SETUP_FAILED: "set-up failed",
    Cause.CANCELLED: "cancelled",
    Cause.BUDGET: "budget spent",
    Cause.TIMED_OUT: "timed out",
    Cause.MOVED: "moved to a cheaper machine",
    Cause.PASSED: "the pool's machine was gone",
}
OUTCOMES = {
    Outcome.SAVED: "saved",
    Outcome.FAILED: "failed",
    Outcome.CUT: "cut off",
    Outcome.DAMAGED: "damaged",
}
_LAST = {
    "none": "no last checkpoint: the newest one stands",
    "full": "a last checkpoint of everything",
    "delta": "a last checkpoint of what has changed: there is no time for a whole one",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ended_by(attempt: Attempt) -> str:
    """What ended an attempt; one that has not ended is running."""
    if attempt.cause is Cause.PREEMPTED and attempt.notice_lead is not None:
        return f"interrupted, {format_duration(attempt.notice_lead)} notice"
    return "running" if attempt.cause is None else CAUSES[attempt.cause]


def origin(restored: Restored) -> str:
    """Where a state came from, and why from there, to be put behind "step 7"; empty: there was only the store."""
    place = restored.tier or "the store"
    return f" from {place} ({restored.why})" if restored.why else f" from {place}" if restored.tier else ""


def last_save(event: Emergency) -> str:
    """What was done when the machine was about to go."""
    figures = ", ".join(
        f"{format_duration(seconds)} {what}"
        for seconds, what in ((event.predicted, "needed"), (event.remaining, "left"))
        if seconds is not None
    )
    what = _LAST.get(event.decision, "a last checkpoint")
    return f"{what} ({figures})" if figures else what


def moment(seconds: float) -> str:
    """``2026-11-22 14:03:07 UTC``."""
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S UTC")


def middle(text: str, most: int) -> str:
    """Text without its middle when it is too long: names of zones differ at their ends."""
    if len(text) <= most:
        return text
    tail = (most - 1) * 2 // 3
    return f"{text[: most - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[-tail:]}"


def count(number: int, noun: str) -> str:
    """``1 step``, ``1,200 steps``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def price(money: Money) -> str:
    """A price as its owner wrote it, with two decimals at least: ``0.30 USD``, ``0.0125 USD``."""
    places = -cast("int", money.amount.normalize().as_tuple().exponent)
    return f"{money.amount:.{max(2, places)}f} {money.currency}"


def brief(money: Money) -> str:
    """An amount to be read at a glance: two decimals, or two digits that mean something."""
    amount = money.amount
    places = 2 if not amount or abs(amount) >= 1 else max(2, 1 - amount.adjusted())
    return f"{amount:,.{places}f} {money.currency}"


def share(part: float, whole: float) -> str:
    """``3.4 %``; less than a thousandth but not nothing says so."""
    ratio = part / whole
    if 0 < ratio < 0.001:
        return "< 0.1 %"
    return f"{ratio * 100:.1f} %" if ratio < 0.1 else f"{ratio * 100:.0f} %"


def figure(value: float) -> str:
    """A metric's value with four digits that mean something."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return f"{value:.4g}" if value == 0 or 1e-4 <= abs(value) < 1e7 else f"{value:.3e}"


def sighted(up: Mapping[str, bool]) -> str:
    """What turned in the spot market, by zone."""
    found = (f"{zone} has some" if there else f"none in {zone}" for zone, there in up.items())
    return f"spot capacity: {', '.join(found)}"
