"""Small values that the tests of this room share."""

from decimal import Decimal

from spotweld.project.nouns import Job, LocalProvider, LocalZone, PlacementRules
from spotweld.runs.events import AttemptOpened, Opened
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

SPOT_PRICE = Money(Decimal("0.90"))
ON_DEMAND_PRICE = Money(Decimal("3.06"))


def offer(zone: str = "a", capacity_type: CapacityType = CapacityType.SPOT) -> Offer:
    price = SPOT_PRICE if capacity_type is CapacityType.SPOT else ON_DEMAND_PRICE
    return Offer("local", "local", zone, "machine", capacity_type, price, "test")


OFFER = offer()
OFFERS = tuple(offer(zone, kind) for zone in "abc" for kind in CapacityType)
LOCAL = LocalProvider(tuple(LocalZone(zone, SPOT_PRICE, ON_DEMAND_PRICE) for zone in "abc"))


def opened(command: str = "true", **job: object) -> Opened:
    return Opened("project", Job("job", command, **job), "memory:", "sources/00.json", LOCAL, PlacementRules())  # type: ignore[arg-type]


def attempt_opened(number: int) -> AttemptOpened:
    return AttemptOpened(number, OFFER, ON_DEMAND_PRICE, f"token-{number}", "cheapest")
