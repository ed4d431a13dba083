"""Cost bars: what was paid, which part of it was lost, what on-demand would have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.report.markup import Markup, el, percent
from spotweld.report.words import share
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from decimal import Decimal

    from spotweld.costs.totals import Total
    from spotweld.report.story import Comparison
    from spotweld.values.money import Money


def cost_bars(total: Total, undisturbed: Comparison | None) -> Markup:
    """The bars of one currency: this run, then what it is compared with."""
    measured = undisturbed.cost if undisturbed and undisturbed.cost else None
    if measured and measured.currency != total.billed.currency:
        measured = None
    most = max(total.billed.amount, total.on_demand.amount, measured.amount if measured else total.billed.amount)
    pieces = [("spot", total.spot), ("firm", total.kept - total.spot), ("lost", total.lost)]
    bars = [_bar("This run", total.billed, pieces, most, estimated=total.estimated)]
    if measured:
        bars.append(_bar("Undisturbed run, measured", measured, [("plain", measured)], most))
    bars.append(_bar("On-demand, same machine time without loss", total.on_demand, [("plain", total.on_demand)], most))
    return el("div", bars, el("p", savings(total), class_="note"), class_="bars")


def savings(total: Total) -> str:
    """The comparison with on-demand in one sentence."""
    ratio = total.saved_share
    if ratio is None:
        return "These machines cost nothing."
    lost = f"net of {format_money(total.lost)} of lost work" if total.lost.amount else "with no lost work"
    if total.savings.amount < 0:
        more = format_money(total.billed - total.on_demand)
        return f"{more} more than on-demand would have cost: interruptions ate up the discount ({lost})."
    return f"{format_money(total.savings)} saved, {share(ratio, 1)} of what on-demand would have cost, {lost}."


def _bar(
    name: str, amount: Money, pieces: list[tuple[str, Money]], most: Decimal, *, estimated: bool = False
) -> Markup:
    drawn = [
        el("i", class_=kind, style=f"width:{percent(float(part.amount / most))}", title=format_money(part))
        for kind, part in pieces
        if most and part.amount > 0
    ]
    figure = format_money(amount) + (" so far" if estimated else "")
    return el(
        "div",
        el("div", el("span", name), el("b", figure), class_="bar-name"),
        el("div", drawn, class_="bar"),
        class_="bar-row",
    )
