"""What a program would have told, put where its agent would have shipped it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint import events as told
from spotweld.runs.reports import segment_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.store.objects import Objects


def ship(objects: Objects, run: str, attempt: int, events: Sequence[told.Event], number: int = 1) -> None:
    """Put these events there as one segment."""
    data = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    objects.put(segment_key(run, attempt, "events", number), data)


def saved(t: float, step: int, reason: str = "cadence") -> told.Saved:
    return told.Saved(t, step, reason, 0.01, 0.1, 1000, f"runs/r/manifests/1-{step}-aa.json")


def training(t: float, first: int, last: int, total: int = 100) -> list[told.Event]:
    """A program that does a step a second from ``first`` to ``last`` and saves after every tenth."""
    begin: told.Event = told.Restored(t, first, "m", 0.1) if first else told.Fresh(t)
    events: list[told.Event] = [told.Start(t, total, 1), begin]
    for step in range(first, last):
        now = t + step - first + 1
        events += [told.Metrics(now - 0.5, step, {"loss": 1 / (step + 1)}), told.Step(now, step + 1)]
        if (step + 1) % 10 == 0:
            events += [told.Saving(now, step + 1, "cadence"), saved(now, step + 1)]
    return events
