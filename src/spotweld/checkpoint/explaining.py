"""A cadence in one sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint.cadence import LONGEST, SHORTEST, Rule
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from spotweld.checkpoint.cadence import Plan


def explain(plan: Plan) -> str:
    """How often is saved, and why: ``saving every 42.0 s: a save costs 130 ms of training (...) ...``."""
    return f"saving {_pace(plan)}: " + "; ".join(part for part in (_cost(plan), _hazard(plan), _bound(plan)) if part)


def cannot_keep(plan: Plan) -> str:
    """What to say of ``max_lost_work`` where saves take too long for it."""
    asked = format_duration(plan.max_lost_work or 0.0)
    why = "" if plan.durable is None else f", since a save takes {format_duration(plan.durable)}"
    return f"max_lost_work {asked} cannot be kept{why}"


def _pace(plan: Plan) -> str:
    seconds = None if plan.interval is None else f"every {format_duration(plan.interval)}"
    steps = None if plan.steps is None else "every step" if plan.steps == 1 else f"every {plan.steps} steps"
    if not plan.kept:
        seconds = "without a pause"
    return " and ".join(word for word in (steps, seconds) if word)


def _cost(plan: Plan) -> str:
    if plan.stall is None or plan.interference is None:
        return "what a save costs is not known yet"
    guess = "" if plan.measured else ", not measured yet"
    return (
        f"a save costs {format_duration(plan.stall + plan.interference)} of training "
        f"(stall {format_duration(plan.stall)}, interference {format_duration(plan.interference)}{guess}) "
        + (
            "and is not durable yet"
            if plan.durable is None
            else f"and is durable after {format_duration(plan.durable)}"
        )
    )


def _hazard(plan: Plan) -> str:
    once = f"once in {format_duration(3600 / plan.hazard)}"
    if plan.risky:
        return f"this machine is at risk, reckoned with as if it were taken {once}"
    return f"machines of this age ({format_duration(plan.age)}) are taken {once}"


def _bound(plan: Plan) -> str:
    if not plan.kept:
        return cannot_keep(plan)
    match plan.rule:
        case Rule.MAX_LOST_WORK:
            return f"bound by max_lost_work {format_duration(plan.max_lost_work or 0.0)}"
        case Rule.SHORTEST:
            return f"never more often than every {format_duration(SHORTEST)}"
        case Rule.LONGEST:
            return f"never less often than every {format_duration(LONGEST)}"
        case Rule.ONE_AT_A_TIME:
            return "one save begins when the former is durable"
        case Rule.ASKED:
            return "as asked"
        case Rule.RISK:
            return "more often than asked while the risk is high"
        case Rule.FIRST | Rule.LEAST_LOSS:
            return ""
