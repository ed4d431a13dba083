"""What moved from region to region, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.charges import EGRESS, Charge, gib, row
from spotweld.costs.periods import microseconds
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.costs.focus import Row


class Move(msgspec.Struct, frozen=True):
    """A run's state that went on in another region."""

    project: str
    run: str
    attempt: int
    """The one that went on with it."""
    time: float
    """When it had it; seconds since 1970 UTC."""
    size: int
    """Bytes."""
    price: Money
    """Of a GiB."""
    provider: str
    """Whose region it left."""
    origin: str
    target: str
    labels: dict[str, str]


def moved(moves: Iterable[Move]) -> list[Row]:
    """A row for each move, in the order of time."""
    return [row(_charge(move)) for move in sorted(moves, key=lambda move: (move.time, move.run, move.attempt))]


def _charge(move: Move) -> Charge:
    at = microseconds(move.time)
    return Charge(
        sort=EGRESS,
        start=at,
        # A charge period is longer than nothing.
        end=at + 1,
        units=gib(move.size),
        price=move.price,
        list_price=move.price,
        source="spotweld.yaml",
        project=move.project,
        run=move.run,
        attempt=move.attempt,
        resource=f"{move.origin} to {move.target}",
        what=f"the state of the run, from {move.origin} to {move.target}",
        sku="egress",
        provider=move.provider,
        region=move.origin,
        zone=None,
        labels=move.labels,
    )
