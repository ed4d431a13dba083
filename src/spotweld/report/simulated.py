"""A comparison of policies as a picture: an SVG that needs nothing else, alone or on a page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spotweld.placement.comparing import summaries
from spotweld.report.markup import Markup, el
from spotweld.report.page import document
from spotweld.report.scale import Scale, spread, value_ticks
from spotweld.report.words import count
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.placement.comparing import Comparison, Summary

# Pixels of the drawing: it grows with the page, all of it.
_WIDTH, _NAMES, _FIGURES, _ROW, _HEAD, _FOOT = 960, 150, 130, 54, 52, 46
_DOTS = 400
"""Jobs that are drawn of each policy; the bars and the figures are of all."""
_STYLE = """
.sim { --ink: #1d2126; --soft: #5c636d; --grid: #e2e0d9; --spot: #2f6b8a; --firm: #7b6ba8; --mid: #d4553f;
  font: 13px ui-sans-serif, system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media screen and (prefers-color-scheme: dark) {
  .sim { --ink: #e7e9ea; --soft: #a5acb5; --grid: #2d333a; --spot: #5aa3c4; --firm: #9d8fd0; --mid: #ee8b78; }
}
.sim text { font: inherit; fill: var(--soft); }
.sim text.name { fill: var(--ink); font-weight: 600; }
.sim text.head { fill: var(--ink); font-weight: 600; font-size: 15px; }
.sim line { stroke: var(--grid); }
.sim .job { fill: var(--spot); fill-opacity: .38; }
.sim .most { fill: var(--spot); fill-opacity: .16; }
.sim .middle { stroke: var(--mid); stroke-width: 2.5; }
.sim .spot { fill: var(--spot); }
.sim .firm { fill: var(--firm); }
"""


def page(comparison: Comparison) -> str:
    """The picture with its figures as a table, as one HTML file."""
    rows = summaries(comparison)
    title = f"{format_duration(comparison.task.work)} of work on {_zones(comparison)}"
    head = el("thead", el("tr", (el("th", name, scope="col") for name, _ in _COLUMNS)))
    cells = (el("tr", (el("td", of(row)) for _, of in _COLUMNS)) for row in rows)
    table = el("div", el("table", head, el("tbody", cells), class_="figures"), class_="scroll")
    header = el(
        "header",
        el("p", "Spotweld ", el("span", "simulation"), class_="eyebrow"),
        el("h1", title),
        el("p", _conditions(comparison), class_="note"),
    )
    notes = [el("p", note, class_="note") for note in comparison.market.notes]
    return document(
        title, [header, el("section", picture(comparison)), el("section", el("h2", "Figures"), table, notes)]
    )


def picture(comparison: Comparison) -> Markup:
    """The drawing: what each job cost over its optimum, and how long each policy paid for what."""
    rows = summaries(comparison)
    body = len(rows) * _ROW
    height = 2 * (_HEAD + body + _FOOT)
    described = f"Cost over optimum of {count(len(comparison.starts), 'job')}: {', '.join(row.policy for row in rows)}"
    return el(
        "svg",
        el("title", described),
        el("style", Markup(_STYLE)),
        _ratios(comparison, rows, _HEAD),
        _hours(comparison, rows, 2 * _HEAD + body + _FOOT),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"-12 0 {_WIDTH + 24} {height}",
        class_="sim",
        role="img",
    )


def _ratios(comparison: Comparison, rows: list[Summary], top: int) -> Markup:
    finite = [row.ratio_most for row in rows if math.isfinite(row.ratio_most)]
    # An optimum that a policy reaches is a dot in the line at 1, so there is some room before it.
    high = max([1.05, *finite])
    scale = Scale(1.0 - (high - 1.0) * 0.02, high + (high - 1.0) * 0.02)
    drawn = []
    for place, row in enumerate(rows):
        middle = top + place * _ROW + _ROW / 2
        ratios = comparison.ratios(row.policy).tolist()
        every = max(1, math.ceil(len(ratios) / _DOTS))
        low, end = _x(scale, row.ratio_low), _x(scale, row.ratio_high)
        drawn += [
            el("text", row.policy, x=0, y=middle + 4, class_="name"),
            el("rect", x=low, y=middle - 16, width=max(end - low, 2), height=32, rx=4, class_="most"),
            *(
                # The dots of one height would hide each other: the golden ratio spreads any number of them.
                el("circle", cx=_x(scale, ratio), cy=middle + ((job * 0.618034) % 1 - 0.5) * 26, r=2.6, class_="job")
                for job, ratio in enumerate(ratios[::every])
            ),
            _stroke(_x(scale, row.ratio_median), middle - 18, middle + 18),
            el("text", f"{row.ratio:.3f} mean", x=_WIDTH, y=middle - 3, text_anchor="end", class_="name"),
            el("text", f"{row.ratio_median:.3f} median", x=_WIDTH, y=middle + 14, text_anchor="end"),
        ]
    key = "cost over optimum: a dot is a job, the stroke their median, the bar holds eight in ten"
    return _panel("How much more than necessary", key, scale, top, len(rows), drawn, lambda tick: f"{tick:g}")


def _hours(comparison: Comparison, rows: list[Summary], top: int) -> Markup:
    most = max(row.spot + row.on_demand for row in rows) / 3600
    scale = Scale(0.0, most * 1.02)
    drawn = []
    for place, row in enumerate(rows):
        middle = top + place * _ROW + _ROW / 2
        spot, whole = row.spot / 3600, (row.spot + row.on_demand) / 3600
        start, border, end = (_x(scale, hours) for hours in (0.0, spot, whole))
        drawn += [
            el("text", row.policy, x=0, y=middle + 4, class_="name"),
            el("rect", x=start, y=middle - 11, width=border - start, height=22, class_="spot"),
            el("rect", x=border, y=middle - 11, width=end - border, height=22, class_="firm"),
            el("text", f"{spot:.1f} h spot", x=_WIDTH, y=middle - 3, text_anchor="end"),
            el("text", f"{whole - spot:.1f} h on-demand", x=_WIDTH, y=middle + 14, text_anchor="end"),
        ]
    key = f"hours paid for a job of {comparison.task.work / 3600:g} h: spot, then on-demand"
    return _panel("What was rented", key, scale, top, len(rows), drawn, lambda tick: f"{tick:g} h")


def _panel(
    title: str, key: str, scale: Scale, top: int, rows: int, drawn: list[Markup], word: Callable[[float], str]
) -> Markup:
    foot = top + rows * _ROW
    ticks = value_ticks(scale, 8)
    shown = spread((_x(scale, tick) for tick in ticks), 40.0)
    return el(
        "g",
        el("text", title, x=0, y=top - 30, class_="head"),
        el("text", key, x=0, y=top - 10),
        (el("line", x1=_x(scale, tick), x2=_x(scale, tick), y1=top, y2=foot) for tick in ticks),
        drawn,
        (
            el("text", word(tick), x=_x(scale, tick), y=foot + 18, text_anchor="middle")
            for tick, fits in zip(ticks, shown, strict=True)
            if fits
        ),
    )


def _x(scale: Scale, value: float) -> float:
    return _NAMES + scale.share(value) * (_WIDTH - _NAMES - _FIGURES - 20)


def _stroke(x: float, y1: float, y2: float) -> Markup:
    return el("line", x1=x, x2=x, y1=y1, y2=y2, class_="middle")


def _zones(comparison: Comparison) -> str:
    zones = comparison.market.zones
    return zones[0] if len(zones) == 1 else f"{len(zones)} zones"


def _conditions(comparison: Comparison) -> str:
    task = comparison.task
    parts = [
        count(len(comparison.starts), "job"),
        f"deadline {format_duration(task.deadline)}",
        f"changeover {format_duration(task.changeover)}",
        f"gang of {task.gang}" if task.gang > 1 else "",
        f"saves {format_duration(task.cadence)} apart" if task.cadence else "",
        f"mean optimum {comparison.least.mean():.2f} {comparison.market.currency}",
    ]
    return " · ".join(part for part in parts if part)


_COLUMNS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("policy", lambda row: row.policy),
    ("cost", lambda row: f"{row.cost:.2f}"),
    ("over optimum, mean", lambda row: f"{row.ratio:.3f}"),
    ("median", lambda row: f"{row.ratio_median:.3f}"),
    ("10-90 %", lambda row: f"{row.ratio_low:.3f}-{row.ratio_high:.3f}"),
    ("most", lambda row: f"{row.ratio_most:.3f}"),
    ("delay", lambda row: format_duration(row.delay) if row.delay else "0"),
    ("missed", lambda row: str(row.missed)),
    ("preempted", lambda row: f"{row.preemptions:.1f}"),
    ("lost work", lambda row: format_duration(row.lost) if row.lost else "0"),
    ("moves", lambda row: f"{row.moves:.1f}"),
)
