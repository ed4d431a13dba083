"""The timeline: one lane for each zone and capacity type, one bar for each attempt."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from spotweld.report.marks import cause_mark, checkpoint_tick
from spotweld.report.markup import Markup, el, percent
from spotweld.report.scale import tick_words, time_ticks
from spotweld.report.segments import segments, span, tell
from spotweld.report.story import Outcome
from spotweld.report.words import OUTCOMES, middle
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.report.story import Attempt, Checkpoint, Story
    from spotweld.runs.events import Cause

_HEIGHT = 54
_NUMBER, _NOTICE, _TOP, _BAR, _TICKS = 10, 14.5, 17, 18, 41
# With more attempts than this in some lane all marks shrink.
_CROWD = 24
# Attempt numbers need this share of the width, on wide and on narrow screens.
_ROOM, _ROOM_NARROW = 0.028, 0.075
# Ticks closer than this share of the width would lie on each other.
_TICK_GAP = 0.0035


def timeline(story: Story) -> Markup:
    """The chart, or a sentence if no attempt was made."""
    if not story.attempts:
        return el("p", "No machine has been rented yet.", class_="empty")
    window = span(story)
    seconds = window[1] - window[0]
    ticks = [(tick, tick / seconds) for tick in time_ticks(seconds)]
    lanes: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in story.attempts:
        lanes.setdefault((attempt.zone, attempt.capacity_type), []).append(attempt)
    small = max(map(len, lanes.values())) > _CROWD
    drawn = [
        el(
            "div",
            el("div", el("b", middle(zone, 17), title=zone), " ", el("span", capacity), class_="lane-name"),
            _lane(story, lanes[zone, capacity], window, [place for _, place in ticks], small=small),
            class_="lane",
        )
        for zone, capacity in sorted(lanes)
    ]
    axis = el("svg", [_tick(*tick, odd=index % 2 == 1) for index, tick in enumerate(ticks)], height=18, class_="axis")
    return el(
        "div",
        drawn,
        el("div", el("div", class_="lane-name"), axis, class_="lane"),
        class_="lanes",
        role="img",
        aria_label="Timeline of attempts by zone. The table of attempts below tells the same.",
    )


def _tick(seconds: float, place: float, *, odd: bool) -> Markup:
    anchor = "start" if place == 0 else "end" if place > 0.95 else "middle"
    return el("text", tick_words(seconds), x=percent(place), y=13, text_anchor=anchor, class_="odd" if odd else None)


def _lane(
    story: Story, attempts: list[Attempt], window: tuple[float, float], grid: list[float], *, small: bool
) -> Markup:
    begin, end = window

    def at(moment: float) -> float:
        return min(1.0, max(0.0, (moment - begin) / (end - begin)))

    numbers = {attempt.number for attempt in attempts}
    attempts = _seen(attempts, at, end)
    starts = [at(attempt.started) for attempt in attempts]
    rooms = [after - start for start, after in pairwise([*starts, 1.02])]
    marks = [
        cause_mark(one.cause, at(one.ended), _TOP + _BAR / 2, tell(one, end), small=small)
        for one in attempts
        if one.cause is not None and one.ended is not None
    ]
    return el(
        "svg",
        (el("line", x1=percent(x), x2=percent(x), y1=0, y2=_HEIGHT, class_="grid") for x in grid),
        (_bar(one, at, end) for one in attempts),
        (
            el("text", str(one.number), x=percent(start), y=_NUMBER, class_=None if room >= _ROOM_NARROW else "odd")
            for one, start, room in zip(attempts, starts, rooms, strict=True)
            if room >= _ROOM
        ),
        _ticks([one for one in story.checkpoints if one.attempt in numbers], at),
        marks,
        height=_HEIGHT,
        class_="track",
    )


def _seen(attempts: list[Attempt], at: Callable[[float], float], now: float) -> list[Attempt]:
    """Those that would not be hidden by one before that ended in the same way: of thousands of refusals hundreds."""
    kept: list[Attempt] = []
    last: dict[Cause | None, float] = {}
    for one in attempts:
        start, end = at(one.started), at(now if one.ended is None else one.ended)
        if end - min(start, last.get(one.cause, -1.0)) >= _TICK_GAP:
            kept.append(one)
            last[one.cause] = end
    return kept


def _bar(attempt: Attempt, at: Callable[[float], float], now: float) -> Markup:
    pieces = [
        el("rect", x=percent(at(begin)), width=percent(at(end) - at(begin)), y=_TOP, height=_BAR, class_=kind)
        for kind, begin, end in segments(attempt, now)
    ]
    if attempt.noticed is not None:
        begin = at(attempt.noticed)
        end = at(now if attempt.ended is None else attempt.ended)
        warned = (
            f"Notice, {format_duration(attempt.notice_lead)} ahead" if attempt.notice_lead is not None else "Notice"
        )
        pieces.append(
            el("line", el("title", warned), x1=percent(begin), x2=percent(end), y1=_NOTICE, y2=_NOTICE, class_="warned")
        )
    return el("g", el("title", tell(attempt, now)), pieces)


def _ticks(saves: list[Checkpoint], at: Callable[[float], float]) -> list[Markup]:
    drawn: list[Markup] = []
    last = -1.0
    for one in sorted(saves, key=lambda one: one.time):
        place = at(one.time)
        if one.outcome is Outcome.SAVED and place - last < _TICK_GAP:
            continue
        last = place
        title = f"Checkpoint at step {one.step:,}: {OUTCOMES[one.outcome]} ({one.reason})"
        drawn.append(checkpoint_tick(one.outcome, place, _TICKS, title))
    return drawn
