"""A service under several policies as a picture: what was ready over time, and when it was not enough."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spotweld.report.markup import Markup, el
from spotweld.report.page import document
from spotweld.report.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.market import Market
    from spotweld.placement.serving import Served, Service

# Pixels of the drawing: it grows with the page, all of it.
_WIDTH, _NAMES, _FIGURES, _ROW, _GAP, _HEAD = 960, 110, 150, 70, 26, 52
_BINS = 360
_STYLE = """
.sim { --ink: #1d2126; --soft: #5c636d; --grid: #e2e0d9; --spot: #2f6b8a; --firm: #7b6ba8; --short: #d4553f;
  font: 13px ui-sans-serif, system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media screen and (prefers-color-scheme: dark) {
  .sim { --ink: #e7e9ea; --soft: #a5acb5; --grid: #2d333a; --spot: #5aa3c4; --firm: #9d8fd0; --short: #ee8b78; }
}
.sim text { font: inherit; fill: var(--soft); }
.sim text.name { fill: var(--ink); font-weight: 600; }
.sim text.head { fill: var(--ink); font-weight: 600; font-size: 15px; }
.sim line { stroke: var(--ink); stroke-dasharray: 3 3; }
.sim .frame { fill: none; stroke: var(--grid); }
.sim .spot { fill: var(--spot); }
.sim .firm { fill: var(--firm); }
.sim .short { fill: var(--short); }
"""


def page(market: Market, service: Service, found: Sequence[Served]) -> str:
    """The picture as one HTML file."""
    title = f"{count(service.target, 'replica')} in {count(len(market.zones), 'zone')}"
    conditions = f"{service.spare} spare · cold start {service.cold_start:g} s · cost in {market.currency}"
    header = el(
        "header",
        el("p", "Spotweld ", el("span", "simulation"), class_="eyebrow"),
        el("h1", title),
        el("p", conditions, class_="note"),
    )
    notes = [el("p", note, class_="note") for note in market.notes]
    return document(title, [header, el("section", picture(market, service, found), notes)])


def picture(market: Market, service: Service, found: Sequence[Served]) -> Markup:
    """The drawing: for each policy the ready members over time, spot below on-demand, and where they were too few."""
    days = market.ticks * market.gap / 86_400
    key = "members ready over time: spot, on-demand above it; the dashed line is the target, red below it: too few"
    return el(
        "svg",
        el("title", f"Replicas ready under {', '.join(one.policy for one in found)}"),
        el("style", Markup(_STYLE)),
        el("text", f"What was ready for {days:.1f} days", x=0, y=16, class_="head"),
        el("text", key, x=0, y=36),
        (_row(service, one, _HEAD + place * (_ROW + _GAP)) for place, one in enumerate(found)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"-12 0 {_WIDTH + 24} {_HEAD + len(found) * (_ROW + _GAP)}",
        class_="sim",
        role="img",
    )


def _row(service: Service, one: Served, top: int) -> Markup:
    bins = _binned(one.ticks)
    high = max([service.target, *(spot + firm for spot, firm, _, _ in bins)])
    width, unit, foot = (_WIDTH - _NAMES - _FIGURES) / len(bins), _ROW / high, top + _ROW
    bars = []
    for place, (spot, firm, _, enough) in enumerate(bins):
        x = round(_NAMES + place * width, 2)
        for value, below, kind in ((spot, 0.0, "spot"), (firm, spot, "firm")):
            if value:
                y, tall = foot - (below + value) * unit, value * unit
                bars.append(_bar(x, width, y, tall, kind))
        if enough < 1.0:
            bars.append(_bar(x, max(width, 1.5), foot + 3, 6, "short"))
    right, target = _WIDTH - _FIGURES, foot - service.target * unit
    return el(
        "g",
        el("text", one.policy, x=0, y=top + _ROW / 2 + 4, class_="name"),
        bars,
        el("rect", x=_NAMES, y=top, width=right - _NAMES, height=_ROW, class_="frame"),
        el("line", x1=_NAMES, x2=right, y1=target, y2=target),
        el("text", f"{100 * one.availability:.3f} % enough", x=_WIDTH, y=top + 26, text_anchor="end", class_="name"),
        el("text", f"{100 * one.cost_share:.1f} % of the cost", x=_WIDTH, y=top + 44, text_anchor="end"),
    )


def _binned(ticks: Sequence[tuple[float, float, float, float]]) -> list[tuple[float, ...]]:
    each = math.ceil(len(ticks) / _BINS)
    return [
        tuple(sum(column) / len(column) for column in zip(*ticks[first : first + each], strict=True))
        for first in range(0, len(ticks), each)
    ]


def _bar(x: float, width: float, y: float, height: float, kind: str) -> Markup:
    # A little wider than its place: no seams between neighbours.
    return el("rect", x=x, y=round(y, 2), width=round(width + 0.2, 2), height=round(height, 2), class_=kind)
