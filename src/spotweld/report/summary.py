"""The story in a few lines for the terminal, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.report.figures import figures, verdict
from spotweld.report.markup import clean
from spotweld.report.words import count, ended_by, share
from spotweld.runs.events import Cause
from spotweld.values.durations import format_duration
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from spotweld.costs.totals import Total
    from spotweld.report.figures import Figures
    from spotweld.report.story import Attempt, Story

_HEAD = ("attempt", "where", "ended by", "at step", "lost steps", "lost time")
_RIGHT = (True, False, False, True, True, True)
_LONGEST = 32


def summary(story: Story) -> list[str]:
    """Plain lines: the verdict, what became of each attempt that was not simply done, and the sums."""
    known = figures(story)
    ending = verdict(story, known)
    lines = [clean(f"{story.job} ({story.run})"), clean(ending.text)]
    if ending.detail:
        lines.append(clean(ending.detail))
    troubled = [one for one in story.attempts if one.cause not in {None, Cause.DONE}]
    if troubled:
        lines += ["", *_table([_HEAD, *(_row(one) for one in troubled)])]
    return [*lines, "", *_sums(story, known)]


def to_json(story: Story) -> bytes:
    """Everything: the story, its figures and its verdict. Values that are not finite are null, as JSON has none."""
    known = figures(story)
    return msgspec.json.encode({"verdict": verdict(story, known), "figures": known, "story": story})


def _row(one: Attempt) -> tuple[str, ...]:
    return (
        str(one.number),
        f"{_cut(one.zone)} {one.capacity_type}",
        ended_by(one),
        "" if one.last_step is None else f"{one.last_step:,}",
        f"{one.steps_lost:,}",
        format_duration(one.seconds_lost) if one.seconds_lost else "0",
    )


def _sums(story: Story, known: Figures) -> list[str]:
    whole = story.total_steps or known.step
    steps = f"{known.step:,}" + (f" of {story.total_steps:,}" if story.total_steps else "")
    if whole:
        steps += f", {known.steps_lost:,} done again ({share(known.steps_lost, whole)})"
    time = f"{format_duration(known.seconds)}, {format_duration(known.seconds_lost)} of work lost{_beside(story)}"
    saves = count(known.saved, "checkpoint")
    if known.published < known.saved:
        saves += f", {known.published:,} of them in the run's store"
    if known.unsaved:
        saves += f", {known.unsaved:,} failed, cut off or damaged"
    costs = [("cost", _cost(total)) for total in known.totals] or [("cost", "unknown")]
    results = [(_cut(name), _cut(value)) for name, value in story.results.items()]
    terms = [("steps", steps), ("time", time), ("saves", saves), *costs, *results]
    width = max(len(term) for term, _ in terms)
    return [f"{term.ljust(width)}  {text}" for term, text in terms]


def _cost(total: Total) -> str:
    paid = format_money(total.billed) + (" so far" if total.estimated else "")
    text = f"{paid}, {format_money(total.lost)} of it for lost work"
    ratio = total.saved_share
    if ratio is None:
        return text
    less = "saved" if ratio >= 0 else "more paid"
    return f"{text}; on-demand {format_money(total.on_demand)} ({share(abs(ratio), 1)} {less})"


def _beside(story: Story) -> str:
    if story.undisturbed is None or story.undisturbed.seconds is None:
        return ""
    return f"; undisturbed {format_duration(story.undisturbed.seconds)}"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, _RIGHT, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cut(text: str) -> str:
    text = clean(text).replace("\n", " ")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
