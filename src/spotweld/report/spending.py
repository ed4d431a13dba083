"""What a project spent over time as one HTML page: stacked by label, what was lost, and what on-demand would cost."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from spotweld.costs.sums import PERIODS, sum_up
from spotweld.report.burndown import STYLE, burndowns
from spotweld.report.markup import Markup, el
from spotweld.report.page import document
from spotweld.report.scale import Scale, spread, value_ticks
from spotweld.report.words import brief, share
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spotweld.costs.burndown import Burndown
    from spotweld.costs.ledgerfile import LedgerFile
    from spotweld.costs.sums import Group, Line, Part, Sums

# Pixels of a drawing: it grows with the page, all of it.
_WIDTH, _HEIGHT, _LEFT, _TOP, _FOOT = 960, 240, 64, 12, 26
_MOST_SERIES = 6
_MOST_LINES = 200
# The longest span in days that is drawn by this period; beyond the last it is months.
_FITTING = (("day", 62), ("week", 366))
_STYLE = """
.spend { --s0: #2f6b8a; --s1: #c9832b; --s2: #5b8c5a; --s3: #7b6ba8; --s4: #b0637f; --s5: #6fa3a8; --rest: #b3b8bd;
  --firm-line: #1d2126; }
@media screen and (prefers-color-scheme: dark) {
  .spend { --s0: #5aa3c4; --s1: #e0a75a; --s2: #83b981; --s3: #9d8fd0; --s4: #d58aa5; --s5: #93c5c9; --rest: #5d656d;
    --firm-line: #e7e9ea; }
}
.spend svg text { font-size: 13px; }
.spend .s0 { fill: var(--s0); background: var(--s0); } .spend .s1 { fill: var(--s1); background: var(--s1); }
.spend .s2 { fill: var(--s2); background: var(--s2); } .spend .s3 { fill: var(--s3); background: var(--s3); }
.spend .s4 { fill: var(--s4); background: var(--s4); } .spend .s5 { fill: var(--s5); background: var(--s5); }
.spend .rest { fill: var(--rest); background: var(--rest); }
.spend .on-demand { stroke: var(--firm-line); stroke-width: 2; }
.spend i.on-demand { height: 2px; background: var(--firm-line); }
"""


def page(project: str, file: LedgerFile, part: Part, by: Sequence[str], budgets: Sequence[Burndown] = ()) -> str | None:
    """The page of a part of a ledger; None: nothing was spent.

    Args:
        project: its name.
        file: the ledger.
        part: of which rows.
        by: what is stacked, as words that ``costs.sums`` knows; a period among them says how time is cut, otherwise
            one that fits is taken.
        budgets: of the project, whatever the part is.
    """
    days = sum_up(file, part, ("day",))
    if not days.lines:
        return None
    dates = [date.fromisoformat(line.group[0] or "") for line in days.lines]
    first, length = min(dates), (max(dates) - min(dates)).days + 1
    word = next((word for word in by if word in PERIODS), None)
    word = word or next((word for word, most in _FITTING if length <= most), "month")
    periods = list(dict.fromkeys(PERIODS[word](first + timedelta(days=number)) for number in range(length)))
    others = tuple(one for one in by if one not in PERIODS)
    over_time, whole = sum_up(file, part, (word, *others)), sum_up(file, part, others)
    title = f"{project}: {', '.join(brief(line.spent) for line in whole.totals)}"
    header = el(
        "header",
        el("p", "Spotweld ", el("span", f"{project} / costs"), class_="eyebrow"),
        el("h1", f"{first.isoformat()} to {max(dates).isoformat()}"),
        [_key_figures(line) for line in whole.totals],
    )
    parts = [header, *([burndowns(budgets)] if budgets else [])]
    for currency in (line.spent.currency for line in whole.totals):
        mine = [line for line in over_time.lines if line.spent.currency == currency]
        what = f"Spent by {', '.join(others)}" if others else "Spent"
        parts += [
            _section(what, f"{currency} a {word}", *_stacked(periods, mine, others)),
            _section("Kept and lost, against on-demand", f"{currency} a {word}", *_against(periods, mine)),
        ]
    if others:
        parts.append(el("section", el("h2", "Figures"), _table(whole)))
    return document(title, el("div", el("style", Markup(_STYLE + STYLE)), parts, class_="spend"))


def _key_figures(total: Line) -> Markup:
    wasted = share(float(total.lost.amount), float(total.spent.amount)) if total.lost.amount else ""
    ratio = float(total.savings.amount / total.on_demand.amount) if total.on_demand.amount else None
    against = "" if ratio is None else f"{share(abs(ratio), 1)} {'below' if ratio >= 0 else 'above'} on-demand"
    cells = (
        ("Spent", brief(total.spent), "so far" if total.estimated else "final"),
        ("Lost work", brief(total.lost), f"{wasted} of it" if wasted else "nothing"),
        ("Saved, net of lost work", brief(total.savings), against),
        ("Machine time", f"{total.hours:,.1f} h", f"{total.lost_hours:,.1f} h of it lost"),
    )
    shown = (
        el("div", el("dt", term), el("dd", _large(value), el("small", note) if note else None))
        for term, value, note in cells
    )
    return el("dl", shown, class_="keys", style=f"--columns:{len(cells)}")


def _large(text: str) -> list[Markup]:
    number, _, unit = text.partition(" ")
    return [el("b", number), el("span", f" {unit}")]


def _section(name: str, unit: str, picture: Markup, keys: Sequence[tuple[str, str]]) -> Markup:
    legend = el("div", (el("span", el("i", class_=f"swatch {kind}"), what) for kind, what in keys), class_="legend")
    return el("section", el("h2", name, " ", el("span", unit, class_="soft")), picture, legend)


def _stacked(periods: list[str], lines: list[Line], words: Sequence[str]) -> tuple[Markup, list[tuple[str, str]]]:
    """Bars of what was spent, the greatest spenders apart, and what their colours mean."""
    amounts: dict[Group, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for line in lines:
        when, *where = line.group
        amounts[tuple(where)][when or ""] += line.spent.amount
    ranked = sorted(amounts, key=lambda group: (-sum(amounts[group].values()), [name or "" for name in group]))
    series = [(f"s{place}", _name(words, group), amounts[group]) for place, group in enumerate(ranked[:_MOST_SERIES])]
    if rest := ranked[_MOST_SERIES:]:
        together = {period: sum((amounts[group][period] for group in rest), Decimal(0)) for period in periods}
        series.append(("rest", f"{len(rest)} others", together))
    bars = {period: [(kind, what, found.get(period, Decimal(0))) for kind, what, found in series] for period in periods}
    return _picture("What was spent", periods, bars, {}), [(kind, what) for kind, what, _ in series if what]


def _against(periods: list[str], lines: list[Line]) -> tuple[Markup, list[tuple[str, str]]]:
    """Bars of kept and lost, with what the kept work would have cost on demand as a stroke."""
    sums: dict[str, list[Decimal]] = {period: [Decimal(0)] * 3 for period in periods}
    for line in lines:
        values = (line.kept.amount, line.lost.amount, line.on_demand.amount)
        sums[line.group[0] or ""] = [a + b for a, b in zip(sums[line.group[0] or ""], values, strict=True)]
    keys = [("spot", "kept work"), ("lost", "lost work")]
    bars = {period: [("s0", "kept", kept), ("lost", "lost", lost)] for period, (kept, lost, _) in sums.items()}
    strokes = {period: firm for period, (_, _, firm) in sums.items()}
    keys.append(("on-demand", "what the kept work would have cost on demand"))
    return _picture("Kept and lost work", periods, bars, strokes), keys


def _picture(
    title: str,
    periods: list[str],
    bars: dict[str, list[tuple[str, str, Decimal]]],
    strokes: dict[str, Decimal],
) -> Markup:
    high = max(
        *(float(sum(amount for *_, amount in pieces)) for pieces in bars.values()), *map(float, strokes.values()), 0
    )
    scale = Scale(0.0, high * 1.04 or 1.0)
    step = (_WIDTH - _LEFT) / len(periods)
    width = min(step * 0.8, 48.0)

    def y(amount: float) -> float:
        return _TOP + (1 - scale.share(amount)) * _HEIGHT

    drawn: list[Markup] = []
    for place, period in enumerate(periods):
        x, foot = _LEFT + place * step + (step - width) / 2, Decimal(0)
        for kind, what, amount in bars[period]:
            if amount:
                top = y(float(foot + amount))
                label = el("title", f"{period} {what}: {amount:,.2f}")
                drawn.append(el("rect", label, x=x, y=top, width=width, height=y(float(foot)) - top, class_=kind))
                foot += amount
        if strokes.get(period):
            at = y(float(strokes[period]))
            label = el("title", f"{period} on-demand: {strokes[period]:,.2f}")
            drawn.append(el("line", label, x1=x - 2, x2=x + width + 2, y1=at, y2=at, class_="on-demand"))
    ticks = value_ticks(scale, 5)
    centres = [_LEFT + (place + 0.5) * step for place in range(len(periods))]
    shown = spread(centres, 92.0)
    foot_line = _TOP + _HEIGHT
    return el(
        "svg",
        el("title", title),
        (el("line", x1=_LEFT, x2=_WIDTH, y1=y(tick), y2=y(tick), class_="grid") for tick in ticks),
        (el("text", f"{tick:,g}", x=_LEFT - 10, y=y(tick) + 4, text_anchor="end") for tick in ticks),
        drawn,
        el("line", x1=_LEFT, x2=_WIDTH, y1=foot_line, y2=foot_line, class_="base"),
        (
            el("text", period, x=centre, y=foot_line + 19, text_anchor="middle")
            for period, centre, fits in zip(periods, centres, shown, strict=True)
            if fits
        ),
        viewBox=f"0 0 {_WIDTH} {_TOP + _HEIGHT + _FOOT}",
        role="img",
    )


def _name(words: Sequence[str], group: Group) -> str:
    return ", ".join(f"no {word}" if name is None else name for word, name in zip(words, group, strict=True))


def _table(whole: Sums) -> Markup:
    lines = sorted(whole.lines, key=lambda line: (line.spent.currency, -line.spent.amount))
    head = el(
        "thead", el("tr", el("th", ", ".join(whole.by)), (el("th", name, class_="number") for name, _ in _COLUMNS))
    )
    rows = (
        el("tr", el("td", _name(whole.by, line.group)), (el("td", of(line), class_="number") for _, of in _COLUMNS))
        for line in lines[:_MOST_LINES]
    )
    hidden = len(lines) - _MOST_LINES
    note = el("p", f"{hidden:,} more: cost report --by {','.join(whole.by)}", class_="note") if hidden > 0 else None
    return el("div", el("table", head, el("tbody", rows)), note, class_="scroll")


_COLUMNS: tuple[tuple[str, Callable[[Line], str]], ...] = (
    ("spent", lambda line: format_money(line.spent)),
    ("lost", lambda line: format_money(line.lost)),
    ("list cost", lambda line: format_money(line.list_cost)),
    ("savings", lambda line: format_money(line.savings)),
    ("hours", lambda line: f"{line.hours:,.1f}"),
    ("", lambda line: "estimated" if line.estimated else "final"),
)
