"""What a ledger comes to, by day, zone, team and so on: integers are summed, and then multiplied by exact decimals."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal, localcontext
from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.costs.charges import EXACT, UNIT
from spotweld.costs.focus import Row, plain
from spotweld.costs.ledgerfile import LedgerFile, whole
from spotweld.costs.totals import total
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Group: TypeAlias = tuple[str | None, ...]
PERIODS: dict[str, Callable[[date], str]] = {
    "day": date.isoformat,
    "week": lambda day: f"{day.isocalendar().year}-W{day.isocalendar().week:02}",
    "month": lambda day: f"{day:%Y-%m}",
}
"""Calendar periods in UTC, and what they are called; weeks are those of ISO 8601."""
PLACES: dict[str, Callable[[Row], str | None]] = {
    "type": lambda row: row.machine_type,
    "zone": lambda row: row.availability_zone,
    "region": lambda row: row.region_id,
    "provider": lambda row: row.provider_name,
    "resource": lambda row: row.resource_type,
    "project": lambda row: row.billing_account_id,
    "run": lambda row: row.run,
}
"""What every row has. Every other word that one may sum by is a label."""
# All that a total depends on: kinds that agree in it can be added up before they are multiplied.
_shape = attrgetter(
    *("billing_currency", "billed_cost", "list_cost", "consumed_quantity", "consumed_unit", "work_lost"),
    *("pricing_category", "resource_type", "estimated"),
)
_EPOCH = date(1970, 1, 1)


class Part(msgspec.Struct, frozen=True):
    """Which rows of a ledger are meant: those that meet all of it."""

    since: float | None = None
    """Charge periods that begin at this moment (seconds since 1970) or later; None: from the first."""
    until: float | None = None
    """Those that begin before this one; None: to the last."""
    runs: tuple[str, ...] = ()
    """Of these runs; empty: of all."""
    labels: dict[str, str] = {}
    """With all of these labels."""

    def holds(self, kind: Row) -> bool:
        """Whether rows of a kind are meant, whatever their time."""
        return (not self.runs or kind.run in self.runs) and self.labels.items() <= kind.tags.items()


class Line(msgspec.Struct, frozen=True):
    """What one group comes to in one currency."""

    group: Group
    """Its values, in the order that was asked for; None: it has no such label."""
    spent: Money
    kept: Money
    """The part of it that went to work that was kept."""
    lost: Money
    """The part that went to work that was thrown away. ``kept`` and ``lost`` are ``spent`` exactly."""
    list_cost: Money
    """What all of the machine time would have cost on demand."""
    on_demand: Money
    """What the kept time would have cost on demand, where nothing is lost."""
    savings: Money
    """``on_demand`` less ``spent``: net of lost work, and below zero when that ate up the discount."""
    hours: Decimal
    """Machine time."""
    lost_hours: Decimal
    estimated: bool
    """Whether a machine still runs; otherwise the line is final."""


class Sums(msgspec.Struct, frozen=True):
    """A ledger, summed up."""

    by: tuple[str, ...]
    lines: tuple[Line, ...]
    """Sorted by group; those without a label come last."""
    totals: tuple[Line, ...]
    """One for each currency, of an empty group."""


def sum_up(file: LedgerFile, part: Part, by: Sequence[str]) -> Sums:
    """Add up a part of a ledger's file; see ``summed``."""
    with file.reading():
        kinds = {number: kind for number, kind in file.kinds().items() if part.holds(kind)}
        counts = file.counts(part.since, part.until, daily=any(word in PERIODS for word in by))
    return summed(kinds, counts, by)


def summed(kinds: Mapping[int, Row], counts: Iterable[tuple[int, int, int]], by: Sequence[str]) -> Sums:
    """Add up what there is of each kind.

    Args:
        kinds: those that count, by number; see ``LedgerFile.kinds``.
        counts: (kind, day, count); see ``LedgerFile.counts``. Kinds that do not count are passed over.
        by: words of ``PERIODS`` and ``PLACES``, or labels.
    """
    # Kinds of one place that are priced alike are one: there are many times as many kinds as of these.
    firsts: dict[tuple[Group, tuple[object, ...]], int] = {}
    places = {number: tuple(_place(kind, word) for word in by) for number, kind in kinds.items()}
    first = {number: firsts.setdefault((places[number], _shape(kind)), number) for number, kind in kinds.items()}
    alike: dict[tuple[int, int], int] = defaultdict(int)
    for number, day, count in counts:
        if number in first:
            alike[first[number], day] += count
    found: dict[Group, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    together: dict[int, int] = defaultdict(int)
    for (number, day), count in alike.items():
        when = _EPOCH + timedelta(days=day)
        group = tuple(
            PERIODS[word](when) if word in PERIODS else place for word, place in zip(by, places[number], strict=True)
        )
        found[group][number] += count
        together[number] += count
    lines = [line for group in sorted(found, key=_order) for line in _lines(group, kinds, found[group])]
    return Sums(tuple(by), tuple(lines), tuple(_lines((), kinds, together)))


def _place(kind: Row, word: str) -> str | None:
    """Where a row belongs; a period is known for each count only."""
    if word in PERIODS:
        return None
    return PLACES[word](kind) if word in PLACES else kind.tags.get(word)


def _lines(group: Group, kinds: Mapping[int, Row], counts: Mapping[int, int]) -> list[Line]:
    by_currency: dict[str, list[Row]] = defaultdict(list)
    for number, count in counts.items():
        by_currency[kinds[number].billing_currency].append(whole(kinds[number], count))
    return [_line(group, rows) for _, rows in sorted(by_currency.items())]


def _line(group: Group, rows: list[Row]) -> Line:
    (found,) = total(rows)
    with localcontext(EXACT):
        listed = Money(sum((row.list_cost for row in rows), Decimal(0)), found.billed.currency)
        return Line(
            group=group,
            spent=_tidy(found.billed),
            kept=_tidy(found.kept),
            lost=_tidy(found.lost),
            list_cost=_tidy(listed),
            on_demand=_tidy(found.on_demand),
            savings=_tidy(found.savings),
            hours=_hours(found.seconds),
            lost_hours=_hours(found.lost_seconds),
            estimated=found.estimated,
        )


def _tidy(money: Money) -> Money:
    """Without digits that say nothing, and without an exponent."""
    return Money(Decimal(plain(money.amount)), money.currency)


def _hours(seconds: Decimal) -> Decimal:
    return Decimal(plain((seconds / 3600).quantize(UNIT)))


def _order(group: Group) -> tuple[tuple[bool, str], ...]:
    return tuple((word is None, word or "") for word in group)
