"""One machine's time, as the ledger takes it."""

from __future__ import annotations

import msgspec

from spotweld.values.money import Money
from spotweld.values.offers import Offer


class Since(msgspec.Struct, frozen=True, order=True):
    """What a machine costs from a moment on."""

    at: float
    """Seconds since 1970 UTC."""
    hourly: Money
    on_demand_hourly: Money
    source: str
    """Where the price comes from, as in an offer."""


class Usage(msgspec.Struct, frozen=True):
    """The time of one attempt on one machine. Times are seconds since 1970 UTC."""

    project: str
    run: str
    attempt: int
    machine: str
    offer: Offer
    on_demand_hourly: Money
    """What the same machine type costs on demand in the same zone, for the comparison."""
    started: float
    ended: float
    closed: bool
    """False while the machine still runs: ``ended`` is then now, and the figure an estimate."""
    lost_seconds: float
    """The part of the time whose result was thrown away: since the last state that a later attempt resumed from."""
    labels: dict[str, str]
    prices: tuple[Since, ...] = ()
    """What it cost after the offer's price had changed. Order does not matter."""
    taken: bool = False
    """The provider's own record says that it took the machine."""
    settled: bool = False
    """When it began and ended is the provider's own word."""
    whole: bool = True
    """False: a part of the machine's time only, because it went from a pool to a run."""
