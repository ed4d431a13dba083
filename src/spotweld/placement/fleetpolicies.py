"""The policies for replicas by name: the one place that knows them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.placement.hedging import FleetOnDemand, SpotHedge, SpotOnly
from spotweld.placement.keeping import FleetOurs
from spotweld.project.words import nearest, quoted

if TYPE_CHECKING:
    from spotweld.placement.fleets import FleetPolicy

FLEET_POLICIES: dict[str, type[FleetPolicy]] = {
    kind.name: kind for kind in (FleetOurs, SpotHedge, SpotOnly, FleetOnDemand)
}


def fleet_policy_of(name: str) -> FleetPolicy:
    """A policy for replicas by its name.

    Raises:
        UsageError: there is none.
    """
    if name not in FLEET_POLICIES:
        near = nearest(name, FLEET_POLICIES)
        todo = f"did you mean {near}?" if near else f"there are {', '.join(FLEET_POLICIES)}"
        raise UsageError(f"there is no policy {quoted(name)} for replicas", "", todo)
    return FLEET_POLICIES[name]()
