"""Metrics over steps: the values that count, what was thrown away, interruptions and checkpoints."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

from spotweld.report.marks import cause_mark, checkpoint_tick
from spotweld.report.markup import Markup, el, percent, short
from spotweld.report.scale import runs_of, spread, step_ticks, thin, value_scale, value_ticks
from spotweld.report.segments import tell
from spotweld.report.story import Outcome
from spotweld.report.words import count, figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.report.scale import Scale
    from spotweld.report.story import Curve, Point, Story

_WIDTH = 1000.0
# Above the plot, for the marks of interruptions; below it, for the ticks of checkpoints.
_HEAD, _FOOT = 20, 14
_TICK_GAP = 0.004
_CROWD = 24
# Marks of interruptions (large, small) closer than this share of the width are left out; the table has them all.
_MARK_GAP, _MARK_GAP_NARROW = (0.018, 0.012), (0.05, 0.035)
_SAMPLES = 40


def chart(story: Story, curve: Curve, height: int = 260) -> Markup:
    """One metric as a figure with its caption and a table of sampled values."""
    kept = {point.step: point for point in curve.points}
    if not kept:
        return el("figure", el("figcaption", el("b", curve.name)), el("p", "No values were logged.", class_="empty"))
    points = [kept[step] for step in sorted(kept)]
    last_step = max(points[-1].step, story.total_steps or 0, 1)
    scale = value_scale(point.value for point in curve.points)
    thrown = [point for point in curve.points if kept[point.step] is not point]
    body = _HEAD + height

    def y(value: float) -> float:
        return _HEAD + (1 - scale.share(value)) * height

    ticks = value_ticks(scale, max(4, height // 42))
    shown = spread((-y(tick) for tick in ticks), 14.0)
    labels = [(tick, y(tick)) for tick, fits in zip(ticks, shown, strict=True) if fits]
    axis = el(
        "svg",
        (el("text", figure(tick), x="100%", y=place, dy=3.5, text_anchor="end") for tick, place in labels),
        height=body + _FOOT + 20,
        class_="axis",
    )
    plot = el(
        "svg",
        [_band(first, last, last_step, body) for first, last in runs_of(point.step for point in thrown)],
        (el("line", x1=0, x2="100%", y1=place, y2=place, class_="grid") for _, place in labels),
        el("line", x1=0, x2="100%", y1=body, y2=body, class_="base"),
        _interruptions(story, last_step, body),
        el(
            "svg",
            _lines(_passes(thrown), scale, last_step, height, "thrown"),
            _lines([points], scale, last_step, height, "kept"),
            y=_HEAD,
            width="100%",
            height=height,
            viewBox=f"0 0 {short(_WIDTH)} {height}",
            preserveAspectRatio="none",
            overflow="visible",
        ),
        _odd_values(points, last_step),
        _saves(story, last_step, body),
        _step_axis(last_step, body),
        height=body + _FOOT + 20,
        class_="plot",
    )
    return el(
        "figure",
        el("figcaption", el("b", curve.name), " ", el("span", _caption(points, thrown, scale), class_="soft")),
        el(
            "div", axis, plot, class_="chart", role="img", aria_label=f"{curve.name} over steps; sampled values follow."
        ),
        _table(curve.name, points),
    )


def _caption(points: list[Point], thrown: list[Point], scale: Scale) -> str:
    words = ["by step" + (", logarithmic" if scale.log else ""), f"last {figure(points[-1].value)}"]
    odd = sum(not math.isfinite(point.value) for point in points)
    if odd:
        words.append(f"{count(odd, 'value')} not finite, marked at the top")
    if thrown:
        steps = {point.step for point in thrown}
        differ = len({point.step for point in points if point.same is False})
        same = "each with the same bits as before" if not differ else f"{differ:,} with other bits than before"
        words.append(f"{count(len(steps), 'step')} done again, {same}")
    return " · ".join(words)


def _passes(thrown: list[Point]) -> list[list[Point]]:
    """The values that were thrown away, one line for each attempt."""
    by_attempt = groupby(sorted(thrown, key=lambda point: (point.attempt, point.step)), key=lambda point: point.attempt)
    return [list(points) for _, points in by_attempt]


def _lines(passes: Iterable[list[Point]], scale: Scale, last: int, height: int, kind: str) -> list[Markup]:
    drawn = []
    for points in passes:
        placed = [(point.step / last * _WIDTH, point.value) for point in points]
        strokes = []
        for line in thin(placed):
            at = [f"{short(x)} {short((1 - scale.share(value)) * height)}" for x, value in line]
            # A line of no length with round ends is a dot: a lone value stays visible.
            strokes.append("M" + "L".join(at) + ("h0" if len(at) == 1 else ""))
        if strokes:
            drawn.append(el("path", d="".join(strokes), class_=kind))
    return drawn


def _band(first: int, last: int, last_step: int, body: int) -> Markup:
    begin = max(0, first - 1) / last_step
    steps = count(last - first + 1, "step")
    title = el("title", f"{steps} done again: {first:,} to {last:,}" if last > first else f"step {first:,} done again")
    width = percent(last / last_step - begin)
    return el("rect", title, x=percent(begin), width=width, y=_HEAD, height=body - _HEAD, class_="redone")


def _interruptions(story: Story, last: int, body: int) -> list[Markup]:
    taken = [one for one in story.attempts if one.interrupted]
    small = len(taken) > _CROWD
    places = [min(1.0, (one.last_step or 0) / last) for one in taken]
    shown, narrow = spread(places, _MARK_GAP[small]), spread(places, _MARK_GAP_NARROW[small])
    drawn = [
        el("line", x1=percent(x), x2=percent(x), y1=_HEAD - 4, y2=body, class_="cut faint" if small else "cut")
        for x in places
    ]
    for one, x, fits, fits_narrow in zip(taken, places, shown, narrow, strict=True):
        if fits and one.cause is not None:
            hide = None if fits_narrow else "odd"
            drawn.append(cause_mark(one.cause, x, 9, tell(one, story.told), small=small, class_=hide))
    return drawn


def _odd_values(points: list[Point], last: int) -> list[Markup]:
    odd = {point.step for point in points if not math.isfinite(point.value)}
    return [
        el(
            "rect",
            el("title", f"No finite value at step {begin:,}" + (f" to {end:,}" if end > begin else "")),
            x=percent((begin - 1) / last if begin else 0),
            width=percent((end - begin + 1) / last),
            y=_HEAD,
            height=4,
            class_="odd-value",
        )
        for begin, end in runs_of(odd)[:500]
    ]


def _saves(story: Story, last: int, body: int) -> list[Markup]:
    drawn, place = [], -1.0
    for one in sorted(story.checkpoints, key=lambda one: one.step):
        x = min(1.0, one.step / last)
        if one.outcome is Outcome.SAVED and x - place < _TICK_GAP:
            continue
        place = x
        drawn.append(checkpoint_tick(one.outcome, x, body + 3, f"Checkpoint at step {one.step:,}: {one.outcome}"))
    return drawn


def _step_axis(last: int, body: int) -> list[Markup]:
    return [
        el(
            "text",
            f"{tick:,}",
            x=percent(tick / last),
            y=body + _FOOT + 12,
            text_anchor="start" if tick == 0 else "end" if tick == last else "middle",
            class_="odd" if index % 2 and tick != last else None,
        )
        for index, tick in enumerate(step_ticks(last))
    ]


def _table(name: str, points: list[Point]) -> Markup:
    every = max(1, math.ceil(len(points) / _SAMPLES))
    rows = [
        el("tr", el("td", f"{point.step:,}"), el("td", str(point.attempt)), el("td", repr(point.value), class_="wide"))
        for index, point in enumerate(points)
        if index % every == 0 or index == len(points) - 1
    ]
    head = el("tr", (el("th", title, scope="col") for title in ("step", "attempt", name)))
    values = f"{len(points):,} values" if every == 1 else f"every {every:,}th of {len(points):,} values"
    table = el("div", el("table", el("thead", head), el("tbody", rows), class_="figures"), class_="scroll")
    return el("details", el("summary", f"Table of {values}"), table)
