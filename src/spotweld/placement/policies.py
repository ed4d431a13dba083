"""The policies by name: the one place that knows them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.placement.baselines import Greedy, OnDemand, UniformProgress
from spotweld.placement.ours import Ours
from spotweld.placement.pricewindows import PriceWindows
from spotweld.project.words import nearest, quoted

if TYPE_CHECKING:
    from spotweld.placement.seeing import Policy

POLICIES: dict[str, type[Policy]] = {
    kind.name: kind for kind in (Ours, PriceWindows, UniformProgress, Greedy, OnDemand)
}


def policy_of(name: str) -> Policy:
    """A policy by its name.

    Raises:
        UsageError: there is none.
    """
    if name not in POLICIES:
        near = nearest(name, POLICIES)
        todo = f"did you mean {near}?" if near else f"there are {', '.join(POLICIES)}"
        raise UsageError(f"there is no policy {quoted(name)}", "", todo)
    return POLICIES[name]()
