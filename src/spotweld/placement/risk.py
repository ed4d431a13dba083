"""How likely spot machines are lost, alone and together.

Three things were told from 16 days of nine zones of AWS in 2023 (684 losses, Poisson regression; held against the 11
days after):

- what has lasted lasts: the rate of loss falls with the age of a zone's capacity;
- a zone whose neighbours in the region have capacity is safer than one that is the last;
- zones of a region go together: the chance is a share of the lesser of their two rates, whatever the ages are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.fleets import Site
    from spotweld.placement.market import Floats, Ints

HOUR = 3600.0
RATE, YOUNG, FALL, NEIGHBOURS = 1.27, 0.4, 0.69, 0.94
"""Losses per hour: ``RATE * (age + YOUNG) ** -FALL * exp(-NEIGHBOURS * share)``, with the age in hours, and the share
of neighbours that have capacity."""
SAME_REGION, ELSEWHERE = 0.33, 0.05
"""Of the lesser of two zones' rates: losses that they have at once."""
WHOLE_REGION = 0.12
"""Of a region's lesser rates: losses of all that is there at once."""
UNKNOWN = 0.5
"""The share of neighbours that is taken where nobody knows."""


def rates(sites: Sequence[Site], oldest: Sequence[float]) -> Floats:
    """(Z,): losses per hour in each zone.

    Args:
        sites: the zones.
        oldest: seconds since the start of the oldest spot machine in each zone; its capacity is at least as old.
    """
    age = np.array([max(site.age if site.up else 0.0, old) for site, old in zip(sites, oldest, strict=True)])
    share = np.array([_neighbours(sites, place) for place in range(len(sites))])
    found: Floats = RATE * (age / HOUR + YOUNG) ** -FALL * np.exp(-NEIGHBOURS * share)
    return found


def joint(rate: Floats, regions: Sequence[str], first: Ints, second: Ints, window: float) -> Floats:
    """(P,): losses per hour of both of two zones within ``window`` seconds, for the pairs ``first[i], second[i]``."""
    region = np.unique(regions, return_inverse=True)[1]
    share = np.where(region[first] == region[second], SAME_REGION, ELSEWHERE)
    found: Floats = share * np.minimum(rate[first], rate[second]) + rate[first] * rate[second] * window / HOUR
    return found


def _neighbours(sites: Sequence[Site], place: int) -> float:
    region = sites[place].region
    known = [
        site.up
        for other, site in enumerate(sites)
        if region and other != place and site.region == region and site.up is not None
    ]
    return sum(known) / len(known) if known else UNKNOWN
