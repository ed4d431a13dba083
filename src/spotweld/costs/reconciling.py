"""What we logged of a machine, against the provider's own record of it."""

from __future__ import annotations

from decimal import localcontext
from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.charges import EXACT
from spotweld.costs.ledger import cost
from spotweld.values.money import Money

if TYPE_CHECKING:
    from spotweld.costs.usage import Usage


class Difference(msgspec.Struct, frozen=True):
    """How the provider's record of a machine differs from what was logged. The ledger has the provider's."""

    attempt: int
    machine: str
    started: float
    """Seconds by which it began later than we had logged; below zero: earlier."""
    ended: float
    """The same of its end."""
    cost: Money
    """What it costs more by the provider's record; below zero: less."""


def difference(ours: Usage, theirs: Usage) -> Difference:
    """Compare two accounts of the same machine time."""
    with localcontext(EXACT):
        more = cost(theirs) - cost(ours)
    started, ended = theirs.started - ours.started, theirs.ended - ours.ended
    return Difference(theirs.attempt, theirs.machine, started, ended, more)
