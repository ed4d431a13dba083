"""At what price images are built: predicted time, times what a machine asks for an hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from spotweld.placement.placer import Rent, Wait
from spotweld.values.money import Money, per_second
from spotweld.values.offers import Offer

if TYPE_CHECKING:
    from spotweld.images.builds.predicting import Estimate


class Price(msgspec.Struct, frozen=True):
    """What builds cost.

    Attributes:
        on: where they are done.
        costs: ``nothing``, ``known`` or ``unknown``; an amount is there only if it is known.
        why: of an unknown price.
        offer: what would be rented; None: this machine, or nothing that can be had now.
        likely: the predicted time at the price of the offer.
        low: hardly less.
        high: hardly more.
    """

    on: Literal["this machine", "a rented machine"]
    costs: Literal["nothing", "known", "unknown"]
    why: str = ""
    offer: Offer | None = None
    likely: Money | None = None
    low: Money | None = None
    high: Money | None = None


HERE = Price("this machine", "nothing")


def rented(expected: Estimate, first: Rent | Wait) -> Price:
    """What builds cost on the machine that would be rented, while they run one after the other.

    What the machine takes to come up and to fetch, and what interruptions cost, is not in it.

    Args:
        expected: seconds of all builds together.
        first: what the policy would rent.
    """
    if not isinstance(first, Rent):
        return Price("a rented machine", "unknown", first.why)
    if expected.unknown or not expected.high:
        why = f"{expected.unknown} never timed" if expected.unknown else "nothing like it was ever timed"
        return Price("a rented machine", "unknown", why, first.offer)
    low, likely, high = (
        per_second(first.offer.hourly, seconds) for seconds in (expected.low, expected.seconds, expected.high)
    )
    return Price("a rented machine", "known", "", first.offer, likely, low, high)
