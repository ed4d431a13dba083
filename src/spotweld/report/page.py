"""The report as one HTML file that needs nothing else: no script, no request, light and dark, on paper too."""

from __future__ import annotations

import math
from importlib.resources import files
from typing import TYPE_CHECKING

from spotweld.report.bars import cost_bars
from spotweld.report.curves import chart
from spotweld.report.figures import figures, verdict
from spotweld.report.marks import inline_mark
from spotweld.report.markup import Child, Markup, el
from spotweld.report.segments import Segment
from spotweld.report.tables import attempts_table, checkpoints_part, decisions_table, facts, ledger_table
from spotweld.report.timeline import timeline
from spotweld.report.words import CAUSES, brief, count, share
from spotweld.runs.events import Cause
from spotweld.values.durations import format_duration
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.report.figures import Figures, Verdict
    from spotweld.report.story import Story

# Metrics drawn beside the first one; a table of sampled values stands below each.
_MOST_CURVES = 9
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_SEGMENTS = {
    Segment.BOOT: "booting, set-up",
    Segment.RESTORE: "restoring",
    Segment.TRAIN: "training",
    Segment.LOST: "training that was lost",
}


def render(story: Story) -> str:
    """The page. The same story gives the same text; it loads nothing from anywhere, and says so to the browser."""
    known = figures(story)
    ending = verdict(story, known)
    return document(f"{story.job}: {ending.text}", [_top(story, known, ending), _parts(story, known)])


def document(title: str, parts: Child) -> str:
    """A page that holds ``parts`` and all that they need."""
    style = files("spotweld.report").joinpath("page.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="generator", content=f"Spotweld {VERSION}"),
        el("link", rel="icon", href="data:,"),
        el("title", title),
        el("style", Markup(style)),
    )
    body = el("body", el("main", parts))
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _top(story: Story, known: Figures, ending: Verdict) -> Markup:
    cells = _key_figures(story, known)
    columns = len(cells) if len(cells) <= 6 else math.ceil(len(cells) / 2)
    return el(
        "header",
        el("p", "Spotweld ", el("span", f"{story.project} / {story.run}"), class_="eyebrow"),
        el("h1", story.job),
        el("p", el("strong", ending.text), " ", el("span", ending.detail), class_=f"verdict {ending.tone}"),
        el("dl", cells, class_="keys", style=f"--columns:{columns}"),
    )


def _key_figures(story: Story, known: Figures) -> list[Markup]:
    notices = f"{known.with_notice} with notice, {known.without_notice} without" if known.interruptions else ""
    if known.refusals:
        notices = "; ".join(filter(None, [notices, count(known.refusals, "refusal")]))
    whole = story.total_steps or known.step
    lost = f"{share(known.steps_lost, whole)} of {whole:,}" if known.steps_lost and whole else ""
    cells = [
        ("Interruptions", f"{known.interruptions:,}", notices or count(known.attempts, "attempt")),
        ("Steps done again", f"{known.steps_lost:,}", lost or (f"of {whole:,}" if whole else "")),
    ]
    if not known.totals:
        cells.append(("Cost", "unknown", "no machine time in the ledger"))
    for total in known.totals:
        wasted = share(float(total.lost.amount), float(total.billed.amount)) if total.lost.amount else ""
        ratio = total.saved_share
        against = "" if ratio is None else f"{share(abs(ratio), 1)} {'below' if ratio >= 0 else 'above'} on-demand"
        paid = brief(total.billed) + (" so far" if total.estimated else "")
        cells += [
            ("Lost work", brief(total.lost), f"{wasted} of the cost" if wasted else "nothing"),
            ("Cost", paid, against),
        ]
    other = story.undisturbed.seconds if story.undisturbed else None
    beside = f"{format_duration(known.seconds_lost)} of work lost" if known.seconds_lost else ""
    if other is not None:
        beside = f"undisturbed {format_duration(other)}"
    cells.append(("Time", format_duration(known.seconds), beside))
    cells += [(name, value, "") for name, value in story.results.items()]
    return [
        el("div", el("dt", term), el("dd", _figure(value), el("small", note) if note else None))
        for term, value, note in cells
    ]


def _figure(text: str) -> Child:
    """The number large, its unit small: not the seconds of ``2m 33s``, which are as much a number."""
    number, _, unit = text.partition(" ")
    return el("b", text) if unit[:1].isdigit() else [el("b", number), el("span", f" {unit}") if unit else None]


def _parts(story: Story, known: Figures) -> list[Markup]:
    curves = story.curves[:_MOST_CURVES]
    shown = {attempt.cause for attempt in story.attempts}
    signs = [el("span", inline_mark(cause), CAUSES[cause]) for cause in Cause if cause in shown]
    if any(attempt.noticed is not None for attempt in story.attempts):
        signs.append(el("span", el("i", class_="swatch warned"), "notice standing"))
    parts = [
        _part("Timeline", timeline(story), _legend(_SEGMENTS.items(), signs) if story.attempts else None),
    ]
    if curves:
        rest = el("div", (chart(story, one, 120) for one in curves[1:]), class_="small-charts")
        hidden = len(story.curves) - _MOST_CURVES
        note = el("p", f"{count(hidden, 'more metric')} in the JSON.", class_="note") if hidden > 0 else None
        keys = (
            ("redone", "steps done again"),
            ("thrown", "values that were thrown away"),
            ("saved", "checkpoint"),
        )
        parts.append(_part("Metrics", chart(story, curves[0]), rest if curves[1:] else None, note, _legend(keys)))
    if story.attempts:
        parts.append(_part("Attempts", attempts_table(story), decisions_table(story) if story.decisions else None))
    parts.append(_part("Checkpoints", checkpoints_part(story, known)))
    if known.totals:
        bars = [cost_bars(total, story.undisturbed) for total in known.totals]
        keys = (("spot", "spot"), ("firm", "on-demand"), ("lost", "lost work"))
        parts.append(_part("Cost", bars, _legend(keys), ledger_table(story)))
    parts.append(_part("Run", facts(story)))
    return parts


def _legend(keys: Iterable[tuple[str, str]], *more: Child) -> Markup:
    return el("p", (el("span", el("i", class_=f"swatch {kind}"), name) for kind, name in keys), more, class_="legend")


def _part(title: str, *children: Child) -> Markup:
    return el("section", el("h2", title), children)
