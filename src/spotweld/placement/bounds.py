"""What may be rented at all, whoever decides: the zones, regions and prices that a project file allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.placement.placer import Ending
from spotweld.project.nouns import Egress
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.placer import Placement
    from spotweld.project.nouns import PlacementRules
    from spotweld.values.offers import Offer

_CONTINENTS = {
    "us": "north america",
    "ca": "north america",
    "mx": "north america",
    "northamerica": "north america",
    "sa": "south america",
    "southamerica": "south america",
    "eu": "europe",
    "europe": "europe",
    "ap": "asia and oceania",
    "asia": "asia and oceania",
    "australia": "asia and oceania",
    "me": "middle east",
    "il": "middle east",
    "af": "africa",
    "africa": "africa",
}
"""By the first word of a region's name at AWS and at GCP."""


def permitted(offers: Sequence[Offer], rules: PlacementRules, past: Sequence[Placement]) -> tuple[Offer, ...]:
    """The offers that a run may use.

    Args:
        offers: what is sold.
        rules: the project file's.
        past: the run's placements; its state is where the last one was that got a machine.

    Raises:
        UsageError: prices in several currencies.
    """
    regions = {offer.zone: offer.region for offer in offers}
    homes = [regions[one.zone] for one in past if one.zone in regions and one.ended > one.started]
    home = homes[-1] if homes else None
    return tuple(
        offer
        for offer in offers
        if (not rules.zones or {offer.zone, offer.zone.rpartition("/")[2]} & set(rules.zones))
        and (not rules.regions or offer.region in rules.regions)
        and (home is None or _reachable(offer.region, home, rules.egress))
        and not _dear(offer, rules)
    )


def share_holds(past: Sequence[Placement], least: float | None) -> bool:
    """Whether on-demand may be rented for now, so that ``least`` of all machine time is spot's."""
    had = [one for one in past if one.ending is not Ending.REFUSED]
    total = sum(one.ended - one.started for one in had)
    spot = sum(one.ended - one.started for one in had if one.capacity_type is CapacityType.SPOT)
    return least is None or (total > 0 and spot > least * total)


def _dear(offer: Offer, rules: PlacementRules) -> bool:
    if rules.max_price is None or offer.capacity_type is CapacityType.ON_DEMAND:
        return False
    if offer.hourly.currency != rules.max_price.currency:
        raise UsageError(
            "The prices on offer are not in the currency of `max_price`",
            f"{offer.hourly.currency} and {rules.max_price.currency} cannot be compared",
            "write all prices of the project file in one currency.",
        )
    return offer.hourly > rules.max_price


def _reachable(region: str, home: str, egress: Egress) -> bool:
    if egress is Egress.CONTINENTAL:
        return _continent(region) == _continent(home)
    return region == home or egress is Egress.GLOBAL


def _continent(region: str) -> str:
    word = region.partition("-")[0]
    return _CONTINENTS.get(word, region)
