"""The small signs of the charts: one shape for each cause and outcome, so that none is told by its colour alone."""

from __future__ import annotations

from spotweld.report.markup import Markup, el, percent
from spotweld.report.story import Outcome
from spotweld.runs.events import Cause

# Drawn around 0,0 within a circle of radius 4.
_SHAPES = {
    Cause.DONE: "M-3 .2 -.9 2.4 3.2 -2.2",
    Cause.FAILED: "M0 -3.2V.9M0 2.9V3",
    Cause.PREEMPTED: "M0 -3V2.6M-2.4 .4 0 3 2.4 .4",
    Cause.PREEMPTED_UNNOTICED: "M-2.4 -2.4 2.4 2.4M2.4 -2.4 -2.4 2.4",
    Cause.NO_CAPACITY: "M-2.6 0H2.6",
    Cause.SETUP_FAILED: "M0 -3.2V.9M0 2.9V3",
    Cause.CANCELLED: "M-2 -2H2V2H-2Z",
    Cause.BUDGET: "M-2 -2H2V2H-2Z",
    Cause.TIMED_OUT: "M-2 -2H2V2H-2Z",
    Cause.MOVED: "M-3 0H2.6M.4 -2.4 3 0 .4 2.4",
    Cause.PASSED: "M-2.6 0H2.6",
}
_TONES = {
    Cause.DONE: "good",
    Cause.PREEMPTED: "notice",
    Cause.NO_CAPACITY: "quiet",
    Cause.CANCELLED: "quiet",
    Cause.BUDGET: "quiet",
    Cause.TIMED_OUT: "quiet",
    Cause.MOVED: "quiet",
    Cause.PASSED: "quiet",
}


def cause_mark(cause: Cause, x: float, y: float, title: str, *, small: bool, class_: str | None = None) -> Markup:
    """The sign of ``cause`` at the share ``x`` of the width and ``y`` pixels down."""
    return el(
        "svg",
        el(
            "g",
            el("title", title),
            el("circle", r=7),
            el("path", d=_SHAPES[cause]),
            class_=f"mark {_TONES.get(cause, 'bad')}",
            transform="scale(.72)" if small else None,
        ),
        x=percent(x),
        y=y,
        width=1,
        height=1,
        overflow="visible",
        class_=class_,
    )


def inline_mark(cause: Cause) -> Markup:
    """The sign of ``cause`` within text."""
    inner = el("g", el("circle", r=7), el("path", d=_SHAPES[cause]), class_=f"mark {_TONES.get(cause, 'bad')}")
    return el("svg", inner, class_="inline", viewBox="-8 -8 16 16", width=16, height=16, aria_hidden="true")


def checkpoint_tick(outcome: Outcome, x: float, y: float, title: str) -> Markup:
    """A save at the share ``x`` of the width, in the seven pixels from ``y`` down: a line; a cross if it is no use."""
    shape = el("path", d="M0 0V7") if outcome is Outcome.SAVED else el("path", d="M-3 .5 3 6.5M3 .5 -3 6.5")
    inner = el("g", el("title", title), shape, class_=f"tick {outcome}")
    return el("svg", inner, x=percent(x), y=y, width=1, height=1, overflow="visible")
