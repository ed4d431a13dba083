"""Our policy for replicas: of all mixes that could be held, the one whose price and risk are least together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spotweld.placement.fleets import FleetPolicy, FleetWant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.placement.fleets import FleetSeen, Member


class FleetOurs(FleetPolicy):
    """Holds the mix of spot and on-demand machines that is cheapest when its expected shortage is priced in.

    A mix is how many spot machines are in each zone and how many on-demand machines there are: as many as the target,
    or up to the spare more. A shortage comes when more are lost at once than the mix has on top; it lasts a cold start.
    So fresh capacity is backed by on-demand machines and spares, and capacity that has lasted needs none. What is not
    part of the mix any more is kept until what is has become ready.
    """

    name = "ours"

    def decide(self, seen: FleetSeen) -> FleetWant:
        from spotweld.placement.mixes import (  # noqa: PLC0415 - NumPy, which verbs that only know the name do not need
            best_mix,
            promising,
            risks_of,
        )

        if not seen.sites:
            return FleetWant(why="no zone is allowed")
        staying = [member for member in seen.members if not member.going]
        risks = risks_of(seen)
        sites = promising(seen, risks)
        place = {site.zone: number for number, site in enumerate(sites)}
        columns = [_column(member, place) for member in staying]
        held = [columns.count(column) for column in range(len(sites) + 1)]
        # Whoever gives up what is about to be ready for something better may never have anything.
        hurry = sum(member.ready for member in staying) < seen.target
        warming = [column for column, member in zip(columns, staying, strict=True) if hurry and not member.ready]
        least = [warming.count(column) for column in range(len(sites) + 1)]
        mix, short = best_mix(seen, sites, risks, held, least)
        firm = min(seen.sites, key=lambda site: (site.on_demand, site.zone))
        names = [(site.zone, True) for site in sites] + [(firm.zone, False)]
        start = tuple(
            name
            for name, want, have in zip(names, mix, held, strict=True)
            for _ in range(want - have)
            if name[1] or firm.on_demand < math.inf
        )
        stop = _superfluous(staying, place, mix, held)
        return FleetWant(
            start, stop, _why(names, mix, short, "on-demand" if firm.on_demand < math.inf else "not to be had")
        )


def _superfluous(
    staying: Sequence[Member], place: dict[str, int], mix: Sequence[int], held: Sequence[int]
) -> tuple[str, ...]:
    """What is not in the mix: at once if it is not ready, else as long as as many as the mix has stay ready."""
    spare = sum(member.ready for member in staying) - sum(mix)
    over = [have - want for have, want in zip(held, mix, strict=True)]
    found = []
    for member in sorted(staying, key=lambda member: (member.ready, member.age, member.id)):
        column = _column(member, place)
        if (column is not None and over[column] <= 0) or (member.ready and spare <= 0):
            continue
        found.append(member.id)
        spare -= member.ready
        if column is not None:
            over[column] -= 1
    return tuple(found)


def _column(member: Member, place: dict[str, int]) -> int | None:
    """Of a mix; None: in a zone that is not looked at."""
    return place.get(member.zone) if member.spot else len(place)


def _why(names: Sequence[tuple[str, bool]], mix: Sequence[int], short: float, firm: str) -> str:
    counts = [(count, name) for (name, spot), count in zip(names, mix, strict=True) if spot and count]
    held = ", ".join(f"{count} in {name}" for count, name in counts)
    parts = [f"spot: {held}" if held else "no spot", f"{mix[-1]} {firm}" if mix[-1] else ""]
    return "; ".join(part for part in (*parts, f"short for {short:.0f} s a day is expected") if part)
