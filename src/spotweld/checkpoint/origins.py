"""Why a checkpoint was restored from where it was, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from spotweld.checkpoint.tiers import Opened
    from spotweld.project.nouns import Tier
    from spotweld.store.heads import Kept


def why_there(
    tier: str,
    kept: Kept,
    rules: Iterable[Tier],
    opened: Iterable[Opened],
    published: Sequence[Kept],
    damaged: Collection[str],
) -> str:
    """What spoke against every place that is faster, and for this one against the store.

    Args:
        tier: the URL of the tier that it was read from; empty: the store.
        kept: the checkpoint.
        rules: the tiers that were asked for, fastest first.
        opened: those of them that can be used.
        published: what the store's head names, newest first.
        damaged: keys of the manifests that were passed over.

    Returns:
        Nothing where there was only the store.
    """
    usable = {one.rules.store: one.writer.head.kept for one in opened}
    said: list[str] = []
    for place in rules:
        if place.store == tier:
            return "; ".join([*said, _of_the_store(kept, published)])
        said.append(f"{place.store} {_against(usable.get(place.store), kept, damaged)}")
    return "; ".join(said)


def _against(had: Sequence[Kept] | None, kept: Kept, damaged: Collection[str]) -> str:
    if had is None:
        return "could not be used"
    if not had:
        return "was empty"
    if any(one.key in damaged for one in had):
        return "was damaged"
    newest = max(one.step for one in had)
    if newest < kept.step:
        return f"had only step {newest}"
    return f"had step {newest} of an attempt that others have overtaken"


def _of_the_store(kept: Kept, published: Sequence[Kept]) -> str:
    if not published:
        return "the store had none yet"
    newest = published[0].step
    if newest == kept.step:
        return "the same is in the store"
    return f"the store had step {newest}"
