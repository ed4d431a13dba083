"""The market as a project's own runs have seen it: where spot was had, refused and lost, and at which price.

A zone is up while a spot machine of ours runs there. It is down from a refusal on, and from an interruption on, until
the next machine is had. What was there when nobody looked is not known: the value before holds on, as in any other
recording, and a note says how much that is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from spotweld.errors import UsageError
from spotweld.providers.local.zones import PROVIDER
from spotweld.runs.events import Cause
from spotweld.values.durations import format_duration
from spotweld.values.offers import CapacityType
from spotweld.values.recordings import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spotweld.runs.states import Attempt, RunState

GAP = 60.0
"""Seconds of a tick. A tick in which a zone was ever down is down."""
FRESH = 3600.0
"""Seconds for which a refusal or an interruption is taken as having seen that nothing could be had."""
_MOST = 10_000_000
"""Ticks of all zones together."""


class PastMarket(msgspec.Struct, frozen=True):
    """Recordings of all zones from one moment to another, and notes for people."""

    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]


class _Kind(NamedTuple):
    """What one market sells: prices and capacity of other kinds are of another one."""

    provider: str
    machine_type: str
    currency: str
    speed: float
    """Seconds of the market in a second of the log."""


class _Change(NamedTuple):
    """At a moment, in seconds of the market since its beginning. Ends come before starts."""

    at: float
    is_start: bool
    is_loss: bool
    """A refusal, or an interruption: there is no room for more than what still runs."""
    machines: int
    """By how many more or fewer run."""


def past_market(states: Iterable[RunState], since: float, now: float) -> PastMarket:
    """A market of what runs have seen.

    All zones of one provider, machine type and currency: of those that most spot attempts were made on. On the local
    provider a second of the log is ``speed`` seconds of the market.

    Args:
        states: the runs of a project.
        since: seconds since 1970; what was over by then does not count.
        now: until when machines that have not ended are known to have run.

    Raises:
        UsageError: there was no attempt on a spot machine, or all of them within two ticks, or more ticks apart than
            can be kept in mind, as runs on a fast local market are that lie some days back.
    """
    kinds: dict[_Kind, list[Attempt]] = defaultdict(list)
    for state in states:
        for attempt in state.attempts:
            if attempt.offer.capacity_type is CapacityType.SPOT and _end(attempt, now) >= since:
                kinds[_kind(attempt, state.local.speed)].append(attempt)
    if not kinds:
        why = f"no run has tried to get a spot machine in the last {format_duration(now - since)}"
        raise UsageError("this project has no past to simulate", why, "name recordings, or look further back: --since")
    kind = max(kinds, key=lambda one: (len(kinds[one]), one))
    attempts = kinds[kind]
    begin = max(since, min(attempt.opened for attempt in attempts))
    length = (max(_end(attempt, now) for attempt in attempts) - begin) * kind.speed
    if length < 2 * GAP:
        why = f"its spot machines tell of {format_duration(length)} of a market"
        raise UsageError("this project's past is too short to simulate", why, "name recordings instead")
    zones: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        zones[attempt.offer.zone].append(attempt)
    if length / GAP * len(zones) > _MOST:
        why = f"at {kind.speed:g} times its speed it is {format_duration(length)} of a market"
        raise UsageError("this project's past is too long to simulate", why, "look less far back: --since 1h")
    others = Counter({_named(one): len(tried) for one, tried in kinds.items() if one != kind})
    left_out = [f"{count} attempts on {name} are left out" for name, count in sorted(others.items())]
    what = f"the past of {_named(kind)}, {format_duration(length)} of it in {len(attempts)} attempts"
    fast = [f"a second of the log is {kind.speed:g} seconds of the market"] if kind.speed != 1 else []
    return PastMarket(
        tuple(_recording(tried, begin, length, kind.speed, now) for _, tried in sorted(zones.items())),
        (what, *fast, *left_out),
    )


def _recording(attempts: Sequence[Attempt], begin: float, length: float, speed: float, now: float) -> Recording:
    """One zone."""

    def at(moment: float) -> float:
        return min(max(0.0, (moment - begin) * speed), length)

    attempts = sorted(attempts, key=lambda attempt: attempt.opened)
    changes = sorted(change for attempt in attempts for change in _changes(attempt, now, at))
    ticks = int(length // GAP)
    levels, seen = _levels(changes, length)
    # Those of one moment count as one.
    prices = list({at(attempt.opened): float(attempt.offer.hourly.amount) for attempt in attempts}.items())
    last = attempts[-1]
    refused = sum(attempt.cause is Cause.NO_CAPACITY for attempt in attempts)
    note = (
        f"{seen / length:.0%} of its time was observed, in {len(attempts)} attempts ({refused} refused); "
        f"for the rest the value before holds on"
    )
    return Recording(
        zone=last.offer.zone,
        region=last.offer.region,
        gap=GAP,
        start=datetime.fromtimestamp(begin, UTC),
        capacity=[round(level) for level in _on_ticks(levels, ticks, lowest=True)],
        prices=_on_ticks(prices, ticks, lowest=False),
        on_demand=float(last.on_demand_hourly.amount),
        currency=last.offer.hourly.currency,
        notes=(note,),
    )


def _changes(attempt: Attempt, now: float, at: Callable[[float], float]) -> list[_Change]:
    ended = _end(attempt, now)
    lost = attempt.cause is Cause.NO_CAPACITY or (attempt.cause is not None and attempt.cause.interruption)
    if attempt.started is None:
        # Nothing is known of an offer that we gave up before the provider answered.
        return [_Change(at(ended), is_start=False, is_loss=True, machines=0)] if lost else []
    return [
        _Change(at(attempt.started), is_start=True, is_loss=False, machines=1),
        _Change(at(max(ended, attempt.started)), is_start=False, is_loss=lost, machines=-1),
    ]


def _levels(changes: Sequence[_Change], length: float) -> tuple[list[tuple[float, float]], float]:
    """How many machines could be had from which moment on, and for how many seconds that was observed."""
    running, level, seen, looked = 0, 0, 0.0, 0.0
    levels: list[tuple[float, float]] = []
    for place, change in enumerate(changes):
        running += change.machines
        level = running if change.is_loss else max(level, running)
        before = changes[place - 1] if place else None
        if change.is_start and before is not None and before.is_start and before.at == change.at:
            # Machines that came together were there together.
            levels.pop()
        levels.append((change.at, level))
        until = changes[place + 1].at if place + 1 < len(changes) else length
        looked = change.at + FRESH if change.is_loss else looked
        seen += until - change.at if running else max(0.0, min(until, looked) - change.at)
    return levels, seen


def _on_ticks(values: Sequence[tuple[float, float]], ticks: int, *, lowest: bool) -> list[float]:
    """What holds in each tick: the lowest, or the last. Before the first value, that one; one value at least."""
    found = [values[0][1]] * ticks if values else [0.0] * ticks
    for place, (moment, value) in enumerate(values):
        tick = math.floor(moment / GAP)
        until = math.floor(values[place + 1][0] / GAP) if place + 1 < len(values) else ticks - 1
        if tick < ticks:
            found[tick] = min(found[tick], value) if lowest else value
        found[tick + 1 : until + 1] = [value] * (min(until, ticks - 1) - tick)
    return found


def _end(attempt: Attempt, now: float) -> float:
    return now if attempt.ended is None else attempt.ended


def _kind(attempt: Attempt, speed: float) -> _Kind:
    offer = attempt.offer
    return _Kind(
        offer.provider, offer.machine_type, offer.hourly.currency, speed if offer.provider == PROVIDER else 1.0
    )


def _named(kind: _Kind) -> str:
    fast = f" at {kind.speed:g} times its speed" if kind.speed != 1 else ""
    return f"{kind.provider} {kind.machine_type} in {kind.currency}{fast}"
