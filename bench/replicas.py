"""Rows of ``bench-placement`` about replicas: how long too few were ready, and what that cost.

The setting is SpotHedge's (EuroSys'25): three replicas, one more at most, a cold start of two minutes, nine zones of
V100, and as many machines as are wanted wherever the recording says that there is capacity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from harness import Figure

from spotweld.placement.fleetpolicies import FLEET_POLICIES
from spotweld.placement.market import Market, market_of
from spotweld.placement.reading import read_recordings
from spotweld.placement.serving import Service, roomy, serve

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = "make bench-placement OPTIONS='--only replicas'"
FITTED = 0.6
"""The share of the V100 recordings, from their beginning, that the rates of loss were fitted to."""
SERVICE = Service(target=3, spare=1, cold_start=120.0)


def figures(traces: Path) -> list[Figure]:
    """Two for each market."""
    whole = roomy(market_of(read_recordings([traces / "aws-v100-2023"])), SERVICE.target + SERVICE.spare)
    third = np.broadcast_to(whole.on_demand / 3, whole.spot.shape)
    markets = {
        "9 zones, days not fitted to": (whole.between(round(FITTED * whole.ticks), whole.ticks), True),
        "9 zones, all days": (whole, True),
        "9 zones, all days, spot at a third of on-demand": (replace(whole, spot=third), True),
        "13 zones of H100": (market_of(read_recordings([traces / "gcp-h100-2025"])), False),
    }
    return [one for name, (market, promised) in markets.items() for one in _rows(name, market, promised=promised)]


def _rows(name: str, market: Market, *, promised: bool) -> list[Figure]:
    found = {policy: serve(market, SERVICE, kind()) for policy, kind in FLEET_POLICIES.items()}
    short = {policy: 100 * (1 - served.availability) for policy, served in found.items()}
    cost = {policy: 100 * served.cost_share for policy, served in found.items()}
    days = f"{market.ticks * market.gap / 86_400:.0f} days"
    return [
        _figure(f"3 replicas, {name} ({days}): {what}", values, limit if promised else None, goal)
        for what, values, limit, goal in (
            ("time with fewer", short, 0.1, "SpotHedge's paper: 0.33 % on V100 in 9 zones"),
            ("cost, of 3 on-demand machines'", cost, 45.0, "SpotHedge's paper: 45.6 % on V100 in 9 zones"),
        )
    ]


def _figure(measure: str, values: dict[str, float], limit: float | None, goal: str) -> Figure:
    peers = {policy: value for policy, value in values.items() if policy != "ours"}
    return Figure(measure, "%", values["ours"], peers, limit, goal, COMMAND)
