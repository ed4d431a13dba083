"""Who decides where a run goes: the one place that knows all placers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.placement.cheapest import CheapestSpot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.placement.placer import Placer
    from spotweld.project.nouns import Job, LocalProvider, PlacementRules
    from spotweld.runs.states import RunState


def placer_of(job: Job, rules: PlacementRules, local: LocalProvider, earlier: Iterable[RunState] = ()) -> Placer:
    """The placer of a job: by its deadline, if it has one.

    Args:
        job: what is run.
        rules: the project file's.
        local: the provider, whose zones may go through their recordings faster than time.
        earlier: other runs of the project, from whose sightings to learn.

    Raises:
        UsageError: the job's deadline cannot be met.
    """
    if job.deadline is None:
        return CheapestSpot.of(rules)
    from spotweld.placement.bydeadline import ByDeadline  # noqa: PLC0415 - NumPy, which other runs have no need of
    from spotweld.placement.memory import Stretch  # noqa: PLC0415 - as above
    from spotweld.placement.policies import policy_of  # noqa: PLC0415 - as above

    before = [Stretch(state.sightings, state.ended) for state in earlier if state.sightings and state.ended is not None]
    before.sort(key=lambda one: one.until)
    return ByDeadline(job, rules, policy_of(rules.policy), local.speed, before)
