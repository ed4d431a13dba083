"""Tiers: stores near the machine that are filled first and read first, and lose to the store that decides.

The last tier, the *store*, alone says what a run has published: it is durable whatever becomes of the machine, and its
head fences. A fast tier (memory, a local disk) holds copies of what is in it, and checkpoints that are still to come
there. Such a one counts only if the store has published nothing since by a later attempt: then it is the continuation
of the newest; otherwise it belongs to a life of the run that was declared dead.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.format import epoch_of
from spotweld.checkpoint.voice import warn
from spotweld.errors import Corrupt, Fenced, SpotweldError
from spotweld.project.nouns import Tier
from spotweld.store.heads import HeadWriter, Kept, head_key, read_head, take_over
from spotweld.store.objects import Objects
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.store.heads import Head
    from spotweld.store.objects import Meta

_FORGOTTEN = 7 * 24 * 3600.0
"""Seconds after which what another run of the same name left in a fast tier is deleted."""


class Opened(msgspec.Struct, frozen=True):
    """A tier that can be used."""

    rules: Tier
    objects: Objects
    run: str
    """The name of the run within it."""
    writer: HeadWriter


class Candidate(msgspec.Struct, frozen=True):
    """A checkpoint that may be restored."""

    objects: Objects
    run: str
    kept: Kept
    tier: str
    """The URL of the fast tier it lies in; empty: it is in the store itself."""


def open_tiers(tiers: Iterable[Tier], run: str, attempt: int, lead: Head) -> list[Opened]:
    """The fast tiers, taken over. One that cannot be used is told and left out: it is not what a run depends on.

    Args:
        tiers: fastest first.
        run: the run's name.
        attempt: the attempt's number.
        lead: the head of the run in the store, which this attempt has taken over.

    Raises:
        Fenced: a later attempt is at work on this machine.
    """
    opened: list[Opened] = []
    # A store that was emptied, or another one, must not meet the copies of its namesake.
    inside = f"{run}.{lead.lineage[:12]}"
    for tier in tiers:
        try:
            objects = open_store(tier.store)
            try:
                writer = take_over(objects, inside, attempt, lead=lead)
            except Corrupt as error:
                warn(f"the tier {tier.store} begins anew, since it has only copies: {error}")
                objects.delete(head_key(inside))
                writer = take_over(objects, inside, attempt, lead=lead)
            _forget(objects, run, inside)
        except Fenced:
            found = read_head(objects, inside)
            twins = [one.rules.store for one in opened if found is not None and one.writer.head == found]
            if not twins:
                raise
            warn(f"the tier {tier.store} is left out: it is the same place as {twins[0]}")
        except (SpotweldError, OSError) as error:
            warn(f"the tier {tier.store} is left out: {error}")
        else:
            opened.append(Opened(tier, objects, inside, writer))
    return opened


def candidates(objects: Objects, run: str, published: Sequence[Kept], tiers: Iterable[Opened]) -> list[Candidate]:
    """What may be restored, best first: the latest step, and of the same checkpoint the copy in the fastest tier.

    Args:
        objects: the store.
        run: the run's name.
        published: what the store's head names, newest first.
        tiers: the fast ones, fastest first.
    """
    known = {(epoch_of(kept.key), kept.step) for kept in published}
    epoch, step = (epoch_of(published[0].key) or 0, published[0].step) if published else (0, -1)

    def counts(kept: Kept) -> bool:
        own = epoch_of(kept.key) or 0
        return (own, kept.step) in known or (own >= epoch and kept.step > step)

    found = [
        Candidate(tier.objects, tier.run, kept, tier.rules.store)
        for tier in tiers
        for kept in tier.writer.head.kept
        if counts(kept)
    ]
    found += [Candidate(objects, run, kept, "") for kept in published]
    order = {id(one): place for place, one in enumerate(found)}
    return sorted(found, key=lambda one: (-one.kept.step, order[id(one)]))


def _forget(objects: Objects, run: str, inside: str) -> None:
    oldest = time.time() - _FORGOTTEN
    others: dict[str, list[Meta]] = {}
    for meta in objects.list(f"runs/{run}."):
        name = meta.key.split("/")[1]
        if name != inside and len(name) == len(inside):
            others.setdefault(name, []).append(meta)
    for left in others.values():
        # One that is alive may refer to packs of long ago: what does not change is written once.
        if max(meta.modified for meta in left) < oldest:
            for meta in left:
                objects.delete(meta.key)
