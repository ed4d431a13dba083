"""How the builds of an image went: how many came to their end, how many lost their machine, and what was a hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.images.builds.reporting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.builds.records import Build


class Rates(msgspec.Struct, frozen=True):
    """What became of the tries at some builds, and of their instructions.

    Attributes:
        done: tries that came to their end.
        failed: tries that ended with an error.
        interrupted: tries that were begun and followed by another: their machine was lost, or somebody ended them.
        open: a last try that has no end yet.
        hits: instructions of the newest try at each build that needed not to run.
        ran: instructions of it that ran.
        saved: seconds that the hits took when they were last run, less what it took to find them.
    """

    done: int = 0
    failed: int = 0
    interrupted: int = 0
    open: int = 0
    hits: int = 0
    ran: int = 0
    saved: float = 0.0


def rates(builds: Sequence[Build]) -> Rates:
    """Of the builds of one image."""
    tries = [one for build in builds for one in build.attempts]
    last = max((one.started for one in tries), default=0.0)
    begun = [one for one in tries if one.outcome == "begun"]
    opened = sum(one.started == last for one in begun)
    counts = [counted(build.steps) for build in builds]
    return Rates(
        sum(one.outcome == "done" for one in tries),
        sum(one.outcome == "failed" for one in tries),
        len(begun) - opened,
        opened,
        sum(hits for hits, _, _ in counts),
        sum(ran for _, ran, _ in counts),
        sum(saved for _, _, saved in counts),
    )
