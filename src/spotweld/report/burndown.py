"""Budgets burning down: what is left of each over its period, and when it will be empty."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from spotweld.project.nouns import Period
from spotweld.report.markup import Markup, el, short
from spotweld.report.scale import Scale, thin, value_ticks
from spotweld.report.words import brief, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.costs.budgets import Standing
    from spotweld.costs.burndown import Burndown
    from spotweld.project.nouns import Budget

# Pixels of a drawing. One budget has the width of the page, several stand in two columns.
_ALONE, _BESIDE, _HEIGHT, _LEFT, _RIGHT, _TOP, _FOOT = 960, 470, 170, 64, 84, 20, 24
_LINE = 14.0
_HOUR, _DAY = 3600.0, 86400.0
# Hours between two marks of the time axis, and how they are named.
_CLOCK, _DATE = "{0:%H:%M}", "{0:%b} {0.day}"
_TICKS = {Period.DAY: (6, _CLOCK), Period.WEEK: (24, "{0:%a}"), Period.MONTH: (168, _DATE)}
_LEGEND = (
    ("left", "left"),
    ("over", "overspent"),
    ("even", "spent evenly"),
    ("ahead", "at the rate of now"),
    ("alert", "alert"),
    ("stop", "stops runs"),
    ("round", "runs were stopped"),
)
STYLE = """
.budget-name { display: flex; flex-wrap: wrap; justify-content: space-between; column-gap: 16px; color: var(--soft); }
.budget-name b { color: var(--ink); }
.budget-left { font-size: 22px; font-weight: 620; letter-spacing: -.02em; line-height: 1.3; }
.budget-left.good { color: var(--ink); } .budget-left.bad, .budget-says.bad { color: var(--bad); }
.budget-says { color: var(--soft); margin-bottom: 8px; }
.budgets { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 32px 36px; }
.burn path.left { fill: none; stroke: var(--train); stroke-width: 2; stroke-linejoin: round; }
.burn path.left-area { fill: var(--train); fill-opacity: .16; }
.burn path.over { fill: var(--lost); fill-opacity: .55; stroke: var(--lost); stroke-width: 1.5; }
.burn .zero { stroke: var(--soft); stroke-width: 1.5; }
.burn .even { stroke: var(--faint); stroke-width: 1.2; stroke-opacity: .7; }
.burn .ahead { stroke: var(--train); stroke-width: 2; stroke-dasharray: 2 5; stroke-linecap: round; }
.burn .alert { stroke: var(--notice); stroke-width: 1.2; stroke-dasharray: 5 4; }
.burn .stop { stroke: var(--bad); stroke-width: 1.6; stroke-dasharray: 9 4; }
.burn text.alert { fill: var(--notice); stroke: none; } .burn text.stop { fill: var(--bad); stroke: none; }
.burn .now { fill: var(--train); stroke: var(--paper); stroke-width: 2; }
.burn .now.bad { fill: var(--lost); }
.burn text.now { fill: var(--ink); stroke: none; font-weight: 600; }
.burn .empty { fill: var(--paper); stroke: var(--train); stroke-width: 2; }
.burn .round { fill: var(--bad); stroke: var(--paper); stroke-width: 1.5; }
.swatch.left { height: 10px; background: color-mix(in srgb, var(--train) 22%, transparent);
  border-top: 2px solid var(--train); border-radius: 0; }
.swatch.over { background: var(--lost); opacity: .7; } .swatch.even { height: 1px; background: var(--faint); }
.swatch.ahead { height: 0; border-top: 2px dotted var(--train); border-radius: 0; }
.swatch.alert { height: 0; border-top: 2px dashed var(--notice); border-radius: 0; }
.swatch.stop { height: 0; border-top: 2px dashed var(--bad); border-radius: 0; }
.swatch.round { width: 9px; height: 9px; background: var(--bad); transform: rotate(45deg); border-radius: 0; }
"""


class _Plot(msgspec.Struct, frozen=True):
    """From moments and amounts to pixels."""

    time: Scale
    money: Scale
    width: float

    def x(self, at: float) -> float:
        return _LEFT + self.time.share(at) * (self.width - _LEFT - _RIGHT)

    def y(self, amount: float) -> float:
        return _TOP + (1 - max(0.0, self.money.share(amount))) * _HEIGHT

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{short(self.x(at))} {short(self.y(amount))}" for at, amount in points)


def burndowns(budgets: Sequence[Burndown]) -> Markup:
    """A panel for each budget."""
    width = _ALONE if len(budgets) == 1 else _BESIDE
    panels = [_panel(one, width) for one in budgets]
    shown = {kind for one in budgets for kind in _kinds(one)}
    legend = (el("span", el("i", class_=f"swatch {kind}"), what) for kind, what in _LEGEND if kind in shown)
    return el(
        "section",
        el("h2", "Budgets ", el("span", "what is left, in UTC", class_="soft")),
        el("div", panels, class_="budgets"),
        el("div", legend, class_="legend"),
    )


def _kinds(one: Burndown) -> set[str]:
    stands, budget = one.stands, one.stands.budget
    shown = {
        "left": True,
        "over": stands.overshoot is not None,
        "even": stands.until is not None,
        "ahead": _goes_on(stands),
        "alert": bool(budget.alerts),
        "stop": budget.stop is not None,
        "round": bool(one.stops),
    }
    return {kind for kind, there in shown.items() if there}


def _panel(one: Burndown, width: float) -> Markup:
    stands, budget = one.stands, one.stands.budget
    per = "in all" if stands.since is None else f"a {budget.per}"
    others = ", ".join(brief(money) for money in stands.others)
    state = "bad" if stands.broken or stands.left.amount <= 0 else "good"
    tone, says = _says(one)
    return el(
        "figure",
        el(
            "figcaption",
            el(
                "div",
                el("b", budget.name),
                el("span", f"{brief(budget.amount)} {per}, {_of(budget)}"),
                class_="budget-name",
            ),
            el("div", _left(stands), class_=f"budget-left {state}"),
            el("div", says, class_=f"budget-says {tone}"),
            el("div", f"{others} more were spent, and currencies do not add up", class_="budget-says")
            if others
            else None,
        ),
        _picture(one, width),
    )


def _of(budget: Budget) -> str:
    labels = [f"{name}={value}" for name, value in budget.labels.items()]
    return " ".join([", ".join(budget.jobs) or "all jobs", *(["with", ", ".join(labels)] if labels else [])])


def _left(stands: Standing) -> str:
    if stands.overshoot is not None and stands.overshoot_share is not None:
        return f"{brief(stands.overshoot)} overspent, {share(float(stands.overshoot_share), 1)}"
    left, amount = stands.left.amount, stands.budget.amount.amount
    return f"{brief(stands.left)} left, {share(float(left), float(amount))}" if left else "nothing left"


def _says(one: Burndown) -> tuple[str, str]:
    """How it goes on, and whether that is bad."""
    stands = one.stands
    rate = f"{brief(stands.hourly)} an hour are spent now"
    if not stands.hourly.amount:
        return "", "nothing is being spent now" if stands.spent.amount else "nothing was spent yet"
    if stands.left.amount <= 0:
        return "bad", rate
    if stands.exhausted is not None:
        return "" if stands.until is None else "bad", f"{rate}: empty on {_moment(stands.exhausted)}"
    return "", f"{rate}: {brief(one.at_end)} will be left" if one.at_end is not None else rate


def _goes_on(stands: Standing) -> bool:
    return stands.hourly.amount > 0 and stands.left.amount > 0


def _picture(one: Burndown, width: float) -> Markup:
    stands, budget = one.stands, one.stands.budget
    amount = float(budget.amount.amount)
    spent = [(at, amount - float(so_far)) for at, so_far in one.points]
    begin, end = _span(one)
    # Overspending that is allowed for is shown as well.
    low = min(0.0, spent[-1][1], *(amount - amount * float(level) for level in (*budget.alerts, budget.stop or 0)))
    margin = 0.04 * (amount - low)
    plot = _Plot(Scale(begin, end), Scale(low - (margin if low else 0.0), amount + margin), width)
    line = _crossing([point for part in thin(spent) for point in part])
    above, below = [(at, max(left, 0.0)) for at, left in line], [(at, left) for at, left in line if left <= 0]
    right, zero = width - _RIGHT, plot.y(0)
    ticks = value_ticks(plot.money, 4)
    now, left = spent[-1]
    area = plot.path([(above[0][0], 0.0), *above, (now, 0.0)])
    return el(
        "svg",
        el("title", f"{budget.name}: {_left(stands)}"),
        (el("line", x1=_LEFT, x2=right, y1=plot.y(tick), y2=plot.y(tick), class_="grid") for tick in ticks),
        (el("text", f"{tick:,g}", x=_LEFT - 10, y=plot.y(tick) + 4, text_anchor="end") for tick in ticks),
        _times(budget.per, plot, begin, end),
        el("path", d=f"{area}Z", class_="left-area"),
        el("path", d=f"{plot.path([*below, (now, 0.0)])}Z", class_="over") if left < 0 else None,
        el("line", x1=_LEFT, x2=right, y1=zero, y2=zero, class_="zero"),
        _even(one, plot, amount),
        _thresholds(budget, plot, right),
        _ahead(one, plot, left),
        el("path", d=plot.path(above if left >= 0 else [point for point in line if point[1] >= 0]), class_="left"),
        el("line", x1=plot.x(now), x2=plot.x(now), y1=_TOP - 4, y2=_TOP + _HEIGHT, class_="cut"),
        el("circle", cx=plot.x(now), cy=plot.y(left), r=5, class_="now bad" if left < 0 else "now"),
        # Above the dot: a stop of the last minutes is at the same place.
        [_stopped(plot, at, _left_at(spent, at)) for at in one.stops],
        el("text", "now", x=plot.x(now), y=_TOP - 8, text_anchor="middle", class_="now"),
        viewBox=f"0 0 {width} {_TOP + _HEIGHT + _FOOT}",
        role="img",
        class_="burn",
    )


def _span(one: Burndown) -> tuple[float, float]:
    """What the time axis shows: the period; without one, the past and at most as much again."""
    stands = one.stands
    if stands.since is not None and stands.until is not None:
        return stands.since, stands.until
    begin = one.points[0][0]
    past = max(one.now - begin, _HOUR)
    ahead = stands.exhausted if _goes_on(stands) and stands.exhausted is not None else one.now
    return begin, max(begin + _HOUR, min(ahead, one.now + past)) + past * 0.04


def _crossing(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A falling line with a point where it passes 0."""
    found = points[:1]
    for (at, left), (then, later) in pairwise(points):
        if left > 0 > later:
            found.append((at + (then - at) * left / (left - later), 0.0))
        found.append((then, later))
    return found


def _left_at(points: Sequence[tuple[float, float]], when: float) -> float:
    for (at, left), (then, later) in pairwise(points):
        if at <= when <= then:
            return left + (later - left) * (when - at) / ((then - at) or 1.0)
    return points[-1][1]


def _times(per: Period, plot: _Plot, begin: float, end: float) -> list[Markup]:
    if per in _TICKS:
        hours, form = _TICKS[per]
        places = [begin + number * hours * _HOUR for number in range(int((end - begin) / _HOUR / hours) + 1)]
        # A week's day is named at its beginning; the last tick of a day is the next one's first.
        places = [at for at in places if at < end]
    else:
        form = _CLOCK if end - begin < _DAY else _DATE
        places = [begin + (end - begin) * number / 4 for number in range(4)]
    foot = _TOP + _HEIGHT
    return [
        Markup(
            el("line", x1=plot.x(at), x2=plot.x(at), y1=foot, y2=foot + 4, class_="base")
            + el("text", _named(at, form), x=plot.x(at), y=foot + 18, text_anchor="middle")
        )
        for at in places
    ]


def _even(one: Burndown, plot: _Plot, amount: float) -> Markup | None:
    since, until = one.stands.since, one.stands.until
    if since is None or until is None:
        return None
    return el("line", x1=plot.x(since), y1=plot.y(amount), x2=plot.x(until), y2=plot.y(0), class_="even")


def _thresholds(budget: Budget, plot: _Plot, right: float) -> list[Markup]:
    """Lines at which somebody is told or runs are stopped; their names beside them, apart from one another."""
    amount = budget.amount.amount
    wanted = dict.fromkeys(budget.alerts, "alert")
    if budget.stop is not None:
        wanted[budget.stop] = "stop"
    drawn, free = [], float(_TOP)
    for level, kind in sorted(wanted.items()):
        left = float(amount - amount * level)
        y = plot.y(left)
        free = max(y + 4, free)
        drawn.append(el("line", x1=_LEFT, x2=right, y1=y, y2=y, class_=kind))
        drawn.append(el("text", f"{kind} {float(level * 100):g} %", x=right + 8, y=free, class_=kind))
        free += _LINE
    return drawn


def _ahead(one: Burndown, plot: _Plot, left: float) -> list[Markup]:
    """From now on at the rate of now: until it is empty, or as far as the picture goes."""
    stands = one.stands
    if not _goes_on(stands):
        return []
    until, empty = plot.time.high, stands.exhausted
    if empty is not None and empty <= until:
        until, at_end = empty, 0.0
    else:
        empty, at_end = None, left - float(stands.hourly.amount) * (until - one.now) / _HOUR
    x, y = plot.x(until), plot.y(at_end)
    line = el("line", x1=plot.x(one.now), y1=plot.y(left), x2=x, y2=y, class_="ahead")
    return [line] if empty is None else [line, el("circle", cx=x, cy=y, r=4, class_="empty")]


def _stopped(plot: _Plot, at: float, left: float) -> Markup:
    x, y = plot.x(at), plot.y(left)
    return el(
        "path",
        el("title", f"runs were stopped on {_moment(at)}"),
        d=f"M{short(x)} {short(y - 6)}l6 6l-6 6l-6-6Z",
        class_="round",
    )


def _moment(at: float) -> str:
    return _named(at, f"{_DATE}, {_CLOCK}")


def _named(at: float, form: str) -> str:
    return form.format(datetime.fromtimestamp(at, UTC))
