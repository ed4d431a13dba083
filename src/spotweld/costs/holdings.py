"""What lies in stores and registries, and what that costs."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Literal

import msgspec

from spotweld.costs.charges import REGISTRY, STORE, Charge, gib_months, row
from spotweld.costs.periods import microseconds
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spotweld.costs.focus import Row

DAY = 86_400_000_000
"""Microseconds."""


class Weighing(msgspec.Struct, frozen=True):
    """What something weighs from a moment on, until it is weighed again."""

    time: float
    """Seconds since 1970 UTC."""
    place: str
    """The URL of a store or a registry."""
    sort: Literal["store", "registry"]
    owner: str
    """Whose it is: a run, or ``image NAME``."""
    size: int
    """Bytes; 0: it is gone."""
    monthly: Money
    """Of a GiB."""
    project: str
    labels: dict[str, str] = {}


def held(weighings: Iterable[Weighing], begin: float, end: float, now: float) -> list[Row]:
    """A row for each day (UTC) on which something lay somewhere, in the order of time.

    Args:
        weighings: of any things, in any order. Of two of one moment the later one counts.
        begin: rows are of the time from here; seconds since 1970 UTC.
        end: to here.
        now: nothing is known beyond.
    """
    # A sort is stable: of one moment the later one stays last, and holds.
    ordered = sorted(weighings, key=lambda one: (one.place, one.owner, one.time))
    since, until = microseconds(begin), microseconds(min(end, now))
    charges = [
        charge
        for _, group in groupby(ordered, key=lambda one: (one.place, one.owner))
        for charge in _charges(list(group), since, until, growing=now < end)
    ]
    return [row(charge) for charge in sorted(charges, key=lambda one: (one.start, one.resource, one.run))]


def _charges(weighings: list[Weighing], since: int, until: int, *, growing: bool) -> Iterator[Charge]:
    moments = [microseconds(one.time) for one in weighings]
    for one, (start, end) in zip(weighings, pairwise([*moments, until]), strict=True):
        first, last = max(start, since), min(end, until)
        if not one.size or first >= last:
            continue
        cuts = [first, *range((first // DAY + 1) * DAY, last, DAY), last]
        for begin, finish in pairwise(cuts):
            yield _charge(one, begin, finish, estimated=growing and finish == until)


def _charge(one: Weighing, start: int, end: int, *, estimated: bool) -> Charge:
    scheme, _, rest = one.place.partition(":")
    return Charge(
        sort=STORE if one.sort == "store" else REGISTRY,
        start=start,
        end=end,
        units=gib_months(one.size, start, end),
        price=one.monthly,
        list_price=one.monthly,
        source="spotweld.yaml",
        project=one.project,
        run=one.owner,
        attempt=0,
        resource=one.place,
        what=f"what lies in the {one.sort} {one.place} of {one.owner}",
        sku=one.sort,
        provider=rest.strip("/").partition("/")[0] if scheme in {"http", "https"} else scheme,
        region=None,
        zone=None,
        labels=one.labels,
        estimated=estimated,
    )
