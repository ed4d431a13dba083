"""What an engine might have planned."""

from __future__ import annotations

from spotweld.checkpoint.cadence import Plan, Rule

PLAN = Plan(
    interval=42.0,
    steps=None,
    rule=Rule.LEAST_LOSS,
    stall=0.11,
    interference=0.02,
    measured=True,
    durable=0.9,
    hazard=1 / 3.2,
    age=720.0,
    risky=False,
    max_lost_work=None,
)
