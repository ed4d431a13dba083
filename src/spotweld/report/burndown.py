"""What is left of a budget, as a picture: the amount at the left, and how it went, with what is to be expected."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from spotweld.report.markup import el
from spotweld.report.scale import Scale, thin, value_ticks
from spotweld.report.words import brief
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from spotweld.costs.budgets import Burn
    from spotweld.report.markup import Markup

    Point: TypeAlias = tuple[float, float]
    """A moment, and what is left then."""
    Line: TypeAlias = Callable[[str, Point, Point], Markup]
    """Draws one of a class from point to point."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 960, 190, 64, 12, 26
STYLE = """
.burn .left { fill: none; stroke: var(--s0); stroke-width: 2.5; }
.burn .below { fill: var(--lost); opacity: 0.25; }
.burn .even { stroke: var(--rest); stroke-width: 1.5; stroke-dasharray: 2 5; }
.burn .ahead { stroke: var(--s0); stroke-width: 1.5; stroke-dasharray: 6 5; }
.burn .mark { stroke: var(--s1); stroke-width: 1.2; }
.burn .mark-name { fill: var(--s1); }
.burn .nothing { stroke: var(--firm-line); stroke-width: 1.2; }
"""


def burn_down(burn: Burn) -> Markup:
    """The section of one budget."""
    stands = burn.stands
    budget = stands.budget
    per = "in all" if stands.since is None else f"this {budget.per}"
    head = el("h2", f"Budget {budget.name} ", el("span", f"{brief(budget.amount)} {per}", class_="soft"))
    drawn = el("p", "Nothing is spent.", class_="note") if len(burn.points) < 2 else _picture(burn)
    return el("section", head, el("p", _sentence(burn)), drawn, class_="burn")


def _sentence(burn: Burn) -> str:
    """What somebody wants to know who looks for five seconds."""
    stands = burn.stands
    left = stands.budget.amount - stands.spent
    if stands.overshoot.amount:
        state = f"{brief(stands.overshoot)} over it ({float(stands.share) - 1:.0%})."
    else:
        state = f"{brief(left)} left ({1 - float(stands.share):.0%})."
    if stands.overshoot.amount or not left.amount:
        ahead = ""
    elif stands.exhausted is not None:
        ahead = f"Empty in {format_duration(stands.exhausted - burn.now)}, {_moment(stands.exhausted)} UTC, at"
    else:
        ahead = "It will last at" if stands.hourly.amount else ""
    if stands.hourly.amount:
        rate = f"{brief(stands.hourly)} an hour now."
        return f"{state} {ahead} {rate}" if ahead else f"{state} {rate[0].upper()}{rate[1:]}"
    return f"{state} Nothing runs now."


def _picture(burn: Burn) -> Markup:
    stands, points = burn.stands, [(time, float(left)) for time, left in burn.points]
    amount = float(stands.budget.amount.amount)
    now = max(burn.now, points[-1][0])
    points.append((now, points[-1][1]))
    begin, last = points[0][0], stands.until
    if last is None:
        last = now + max((min(stands.exhausted, now + (now - begin)) - now) if stands.exhausted else 0.0, 0.0)
    last = max(last, now, begin + 1.0)
    times = Scale(begin, last)
    heights = Scale(min(0.0, *(left for _, left in points)) * 1.08, amount * 1.04)

    def x(time: float) -> float:
        return _LEFT + times.share(time) * (_WIDTH - _LEFT)

    def y(left: float) -> float:
        return _TOP + (1 - heights.share(left)) * _HEIGHT

    def line(kind: str, first: Point, then: Point) -> Markup:
        return el("line", x1=x(first[0]), y1=y(first[1]), x2=x(then[0]), y2=y(then[1]), class_=kind)

    # A row is known to be paid at its end only, so the line falls from one end to the next.
    lines = [" ".join(f"{x(time):.1f},{y(left):.1f}" for time, left in part) for part in thin(points)]
    ticks = value_ticks(heights, 4)
    drawn = [
        el("rect", x=_LEFT, y=y(0.0), width=_WIDTH - _LEFT, height=y(heights.low) - y(0.0), class_="below")
        if heights.low < 0
        else None,
        (line("grid", (begin, tick), (last, tick)) for tick in ticks),
        (el("text", f"{tick:,g}", x=_LEFT - 10, y=y(tick) + 4, text_anchor="end") for tick in ticks),
        line("nothing", (begin, 0.0), (last, 0.0)),
        line("even", (begin, amount), (last, 0.0)) if stands.until is not None else None,
        _marks(burn, line, x(last), y),
        (el("polyline", points=part, class_="left") for part in lines),
        line("ahead", points[-1], _expected(burn, points[-1], last)),
        (
            el("text", _moment(time), x=x(time), y=_TOP + _HEIGHT + 19, text_anchor=side)
            for time, side in ((begin, "start"), (last, "end"))
        ),
    ]
    size = f"0 0 {_WIDTH} {_TOP + _HEIGHT + _FOOT}"
    return el("svg", el("title", f"What is left of {stands.budget.name}"), drawn, viewBox=size, role="img")


def _expected(burn: Burn, last: Point, end: float) -> Point:
    """Where the line goes at the rate of now: to nothing, or to the end of the period."""
    hourly = float(burn.stands.hourly.amount)
    if not hourly or last[1] <= 0:
        return last
    until = min(end, last[0] + last[1] / hourly * 3600)
    return until, last[1] - (until - last[0]) / 3600 * hourly


def _marks(burn: Burn, line: Line, right: float, y: Callable[[float], float]) -> list[Markup]:
    """Where somebody is told, and where runs are stopped."""
    budget, found = burn.stands.budget, []
    amount, begin = float(budget.amount.amount), burn.points[0][0]
    named = {float(share): f"alert at {share:.0%}" for share in budget.alerts}
    if budget.stop is not None:
        share = float(budget.stop)
        named[share] = f"{named[share]}, and stop" if share in named else f"stop at {budget.stop:.0%}"
    for share, name in named.items():
        left = amount * (1 - share)
        found.append(el("text", name, x=right - 4, y=y(left) - 5, text_anchor="end", class_="mark-name"))
        found.append(line("mark", (begin, left), (math.inf, left)))
    return found


def _moment(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}"
