"""What may be asked of a single process's checkpoints, and not of a group's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.errors import UsageError

if TYPE_CHECKING:
    from spotweld.project.nouns import CheckpointPolicy


def check_options(policy: CheckpointPolicy) -> None:
    """See that a group can do all that was asked for, by the program or by its environment.

    Raises:
        UsageError: it cannot.
    """
    if policy.tiers:
        stores = ", ".join(tier.store for tier in policy.tiers)
        raise UsageError(
            "A process group has no tiers",
            f"what lies near one machine is only a part of the state, and {stores} was asked for",
            "Remove tiers and store_every from the job's checkpoint, and tiers= from the program.",
        )
