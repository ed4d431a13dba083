"""The fast tiers of a group: those that every rank reaches.

A checkpoint in a tier is a whole one, of all ranks' shares, so that it can be read, carried on and compared like any
other. What lies near one machine alone could only have a part of it, and be worth nothing once another machine goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.distributed.group import by_first
from spotweld.checkpoint.tiers import Candidate
from spotweld.checkpoint.voice import warn
from spotweld.errors import SpotweldError
from spotweld.store.heads import Kept, read_head
from spotweld.store.objects import Objects
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.checkpoint.distributed.group import Group
    from spotweld.checkpoint.tiers import Opened


class Near(msgspec.Struct, frozen=True):
    """A fast tier that every rank reaches."""

    url: str
    objects: Objects
    run: str
    """The name of the run within it."""


class _Place(msgspec.Struct, frozen=True):
    url: str
    run: str
    write_id: str
    """Of the head that rank 0 has just written there: who reads another one looks at another place."""


class _Choice(msgspec.Struct, frozen=True):
    url: str
    run: str
    kept: Kept


def reached_by_all(group: Group, opened: Sequence[Opened]) -> list[Near]:
    """The fast tiers of the group. Every rank calls this, and gets the same; rank 0 says what is left out.

    Args:
        group: the ranks.
        opened: what rank 0 has taken over, fastest first; the others' are ignored.
    """
    places = [_Place(tier.rules.store, tier.run, tier.writer.head.write_id) for tier in opened]
    places = msgspec.json.decode(by_first(group, lambda: msgspec.json.encode(places)), type=list[_Place])
    found = [_reach(place) for place in places]
    told = group.gather(msgspec.json.encode([objects is not None for objects in found]))
    seen = [msgspec.json.decode(data, type=list[bool]) for data in told]
    near = []
    for at, (place, objects) in enumerate(zip(places, found, strict=True)):
        blind = [str(rank) for rank, saw in enumerate(seen) if not saw[at]]
        if objects is not None and not blind:
            near.append(Near(place.url, objects, place.run))
        elif group.rank == 0:
            who = "rank" if len(blind) == 1 else "ranks"
            what = f"{who} {', '.join(blind)} cannot read there what rank 0 has written, as on another machine"
            warn(f"the tier {place.url} is left out: {what}")
    return near


def same_candidates(
    group: Group, objects: Objects, near: Sequence[Near], found: Sequence[Candidate]
) -> list[Candidate]:
    """What rank 0 has found to be restorable, best first, at every rank.

    Args:
        group: the ranks.
        objects: the store.
        near: the group's fast tiers.
        found: by rank 0; the others' are ignored.
    """
    choices = [_Choice(one.tier, one.run, one.kept) for one in found]
    told = msgspec.json.decode(by_first(group, lambda: msgspec.json.encode(choices)), type=list[_Choice])
    places = {"": objects} | {tier.url: tier.objects for tier in near}
    return [Candidate(places[one.url], one.run, one.kept, one.url) for one in told]


def _reach(place: _Place) -> Objects | None:
    try:
        objects = open_store(place.url, verify=False)  # rank 0 has done so
        head = read_head(objects, place.run)
    except (SpotweldError, OSError):
        return None
    return objects if head is not None and head.write_id == place.write_id else None
