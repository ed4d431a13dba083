"""The tables of the page: attempts, checkpoints, the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from spotweld.costs.focus import plain
from spotweld.report.marks import inline_mark
from spotweld.report.markup import Child, Markup, el
from spotweld.report.story import Outcome
from spotweld.report.words import OUTCOMES, ended_by, moment, price
from spotweld.values.durations import format_duration
from spotweld.values.money import format_money
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.costs.reconciling import Difference
    from spotweld.report.figures import Figures
    from spotweld.report.story import Attempt, Checkpoint, Story

T = TypeVar("T")

# Rows of the long tables; what is left out is counted below them, and the JSON has everything.
_MOST = 200
_WORTH = 1.0
"""Seconds. Less than that is how seldom we look, and how clocks differ."""
_UNITS = {"Hours": "h", "GiB-Months": "GiB mo", "GiB": "GiB"}
_NOTHING = "\N{EN DASH}"


def attempts_table(story: Story) -> Markup:
    """One row for each attempt, oldest first; of many the first and the last."""
    head = ("", "where", "price/h", "began", "time", "steps", "ended by", "lost steps", "lost time")
    rows = [_attempt(story, attempt) for attempt in _few(story.attempts)]
    table = _table(head, rows, numbers=(0, 2, 3, 4, 5, 7, 8), name="Attempts", kind="cards")
    return el("div", table, _rest(len(story.attempts)))


def _attempt(story: Story, one: Attempt) -> tuple[Child, ...]:
    end = story.told if one.ended is None else one.ended
    reached = one.first_step is not None and one.last_step is not None
    cause: list[Child] = [inline_mark(one.cause) if one.cause else None, " ", ended_by(one)]
    if one.detail:
        cause.append(el("div", one.detail, class_="detail"))
    if one.origin:
        cause.append(el("div", f"began {one.origin}", class_="detail"))
    return (
        str(one.number),
        [el("b", one.zone), " ", el("span", one.capacity_type, class_="soft")],
        price(one.hourly),
        f"+{format_duration(max(0.0, one.started - story.opened))}",
        format_duration(max(0.0, end - one.started)),
        f"{one.first_step:,} to {one.last_step:,}" if reached else _NOTHING,
        el("div", cause, class_="cause"),
        f"{one.steps_lost:,}" if one.steps_lost else _NOTHING,
        format_duration(one.seconds_lost) if one.seconds_lost else _NOTHING,
    )


def decisions_table(story: Story) -> Markup:
    """What was seen and decided, with the reasons."""
    head = ("when", "what", "why")
    rows = [
        (f"+{format_duration(max(0.0, one.time - story.opened))}", one.what, one.why or _NOTHING)
        for one in _few(story.decisions)
    ]
    table = _table(head, rows, numbers=(0,), name="Decisions")
    return el("details", el("summary", "Every decision, and why"), table, _rest(len(story.decisions)))


def checkpoints_part(story: Story, known: Figures) -> Markup:
    """What saving cost, and the saves one by one."""
    if not story.checkpoints:
        return el("p", "No checkpoint was saved.", class_="empty")
    saved = [one for one in story.checkpoints if one.outcome is Outcome.SAVED]
    summary: list[tuple[str, str]] = [("saved", f"{known.saved:,}")]
    if known.unsaved:
        summary.append(("failed, cut off or damaged", f"{known.unsaved:,}"))
    if any(one.tier for one in saved):
        summary.append(("of them in the run's store", f"{known.published:,}"))
    if known.median_stall is not None:
        worst = max(one.stall for one in saved)
        stalls = f"{format_duration(known.median_stall)}, at most {format_duration(worst)}"
        summary.append(("training stood still, median", stalls))
    if known.median_durable is not None:
        slowest = max(one.durable or 0.0 for one in saved)
        durable = f"{format_duration(known.median_durable)}, at most {format_duration(slowest)}"
        summary.append(("until durable, median", durable))
    if saved:
        summary.append(("written in all", format_size(sum(one.size for one in story.checkpoints))))
    terms = el("dl", (el("div", el("dt", term), el("dd", text)) for term, text in summary), class_="terms")
    head = ("step", "attempt", "when", "why", "outcome", "stall", "until durable", "size")
    rows = [_checkpoint(story, one) for one in _few(story.checkpoints)]
    table = _table(head, rows, numbers=(0, 1, 2, 5, 6, 7), name="Checkpoints")
    details = el("details", el("summary", "Every save"), table, _rest(len(story.checkpoints)))
    return el("div", terms, details)


def _checkpoint(story: Story, one: Checkpoint) -> tuple[Child, ...]:
    outcome: Child = OUTCOMES[one.outcome]
    if one.outcome is not Outcome.SAVED:
        outcome = [
            el("span", outcome, class_="bad-word"),
            el("div", one.detail, class_="detail") if one.detail else None,
        ]
    elif one.tier:
        places = [(one.tier, one.seconds), *((carry.store, carry.seconds) for carry in one.carried)]
        outcome = [
            outcome,
            *(el("div", f"{store} in {format_duration(seconds)}", class_="detail") for store, seconds in places),
            el("div", one.detail, class_="detail") if one.detail else None,
        ]
    until = one.durable if one.tier else one.seconds
    return (
        f"{one.step:,}",
        str(one.attempt),
        f"+{format_duration(max(0.0, one.time - story.opened))}",
        one.reason,
        outcome,
        format_duration(one.stall),
        format_duration(until) if until is not None else _NOTHING,
        format_size(one.size),
    )


def ledger_table(story: Story) -> Markup:
    """The ledger's rows; the same figures as the bars."""
    head = ("attempt", "work", "charge", "quantity", "price", "cost", "price from")
    rows = [
        (
            str(row.attempt),
            "lost" if row.lost else "kept",
            f"{row.sku_id} in {row.availability_zone or row.region_id}",
            f"{row.pricing_quantity:.6f} {_UNITS[row.pricing_unit]}",
            plain(row.contracted_unit_price),
            f"{row.billed_cost:.6f} {row.billing_currency}" + (" so far" if row.estimated else ""),
            row.price_source,
        )
        for row in _few(story.rows)
    ]
    table = _table(head, rows, numbers=(0, 3, 4, 5), name="Ledger")
    told = [one for one in story.differences if abs(one.started) >= _WORTH or abs(one.ended) >= _WORTH]
    notes = [el("p", _difference(one), class_="note") for one in _few(told)]
    return el("details", el("summary", "Ledger"), table, _rest(len(story.rows)), notes)


def _difference(one: Difference) -> str:
    """How the provider's record, which the rows follow, differs from what was logged."""
    record = " and ".join(
        f"{what} {format_duration(abs(seconds))} {'later' if seconds > 0 else 'earlier'}"
        for what, seconds in (("begins", one.started), ("ends", one.ended))
        if abs(seconds) >= _WORTH
    )
    amount = format_money(replace(one.cost, amount=abs(one.cost.amount)))
    charged = f"costs {amount} {'less' if one.cost.amount < 0 else 'more'}"
    return f"By its provider's record the machine of attempt {one.attempt} {record} than was logged, and {charged}."


def facts(story: Story) -> Markup:
    """What the run is called and when it was."""
    known = {
        "run": story.run,
        "project": story.project,
        "opened": moment(story.opened),
        "closed": moment(story.closed) if story.closed is not None else "not yet",
        "report of": moment(story.told),
        **story.labels,
    }
    return el("dl", (el("div", el("dt", term), el("dd", text)) for term, text in known.items()), class_="terms")


def _table(
    head: Sequence[str], rows: Sequence[Sequence[Child]], *, numbers: Sequence[int], name: str, kind: str | None = None
) -> Markup:
    aligned = ["number" if column in numbers else None for column in range(len(head))]
    titles = [el("th", title, scope="col", class_=align) for title, align in zip(head, aligned, strict=True)]
    # A narrow screen shows each row as a card, with the column's title beside the value.
    labels = head if kind == "cards" else [None] * len(head)
    body = [
        el("tr", (el("td", c, class_=a, data_label=h) for c, a, h in zip(row, aligned, labels, strict=True)))
        for row in rows
    ]
    caption = el("caption", name, class_="hidden")
    table = el("table", caption, el("thead", el("tr", titles)), el("tbody", body), class_=kind)
    return el("div", table, class_="scroll")


def _few(rows: Sequence[T]) -> Sequence[T]:
    return rows if len(rows) <= _MOST else [*rows[: _MOST // 2], *rows[-_MOST // 2 :]]


def _rest(number: int) -> Markup | None:
    if number <= _MOST:
        return None
    return el("p", f"{number - _MOST:,} more in the middle are left out here; the JSON has them.", class_="note")
