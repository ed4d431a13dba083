"""What providers charge for a machine's time. The rules are theirs, as they publish them.

* AWS charges Linux machines by the second, at least one minute. A spot machine that AWS itself interrupts in its first
  hour is not charged; one that its owner ends is (EC2 User Guide: "Billing for interrupted Spot Instances").
* GCP charges by the second, at least one minute (Compute Engine: "VM instance pricing").
* Azure charges by the second. Whether there is a least time, sources do not agree on: none is assumed.
* The local provider charges by the second, and so does everybody else who is not named here.

A machine that went from a pool to a run has its time in two logs. Least times and free hours are of a machine's whole
life, which neither log knows, so neither applies: what is shown is never less for a free hour that may not be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.costs.periods import microseconds, units
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.costs.periods import Period
    from spotweld.costs.usage import Usage
    from spotweld.values.offers import Offer


class _Rule(msgspec.Struct, frozen=True):
    least: float = 0.0
    """Seconds that every machine is charged for."""
    free: float = 0.0
    """Seconds from its start within which a spot machine that the provider takes costs nothing."""


TAKING = 120.0
"""Seconds after its deadline by which a provider has taken a machine that it said it would take."""
_RULES = {"aws": _Rule(least=60.0, free=3600.0), "gcp": _Rule(least=60.0)}


def free_until(offer: Offer, started: float) -> float:
    """Until when a machine costs nothing if the provider takes it; ``started``: it is never free.

    Args:
        offer: what was rented.
        started: seconds since 1970 UTC.
    """
    return started + (_rule(offer).free if offer.capacity_type is CapacityType.SPOT else 0.0)


def goes_free(offer: Offer, started: float, deadline: float, now: float) -> bool:
    """Whether a machine that its provider is about to take costs nothing, unless we end it first.

    Args:
        offer: what was rented.
        started: seconds since 1970 UTC.
        deadline: when the provider said that it would take it.
        now: long after the deadline nobody believes that any more.
    """
    return deadline < free_until(offer, started) and now < deadline + TAKING


def is_free(usage: Usage) -> bool:
    """Whether nothing is charged, because the provider's own record says that it took the machine so early."""
    if not (usage.closed and usage.taken and usage.whole):
        return False
    return usage.ended < free_until(usage.offer, usage.started)


def charged(usage: Usage, cut: Sequence[Period]) -> list[int]:
    """How much time each period is charged for, in 1e-11 hours: its own; the last one also what lacks to the least."""
    used = [period.units for period in cut]
    least = units(microseconds(_rule(usage.offer).least)) if usage.whole and not is_free(usage) else 0
    return [*used[:-1], used[-1] + max(0, least - sum(used))]


def _rule(offer: Offer) -> _Rule:
    return _RULES.get(offer.provider, _Rule())
