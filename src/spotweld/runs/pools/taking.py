"""How a run takes a machine from a pool: it looks for one, logs that it means to, and creates the claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.placement.placer import Held, Rent
from spotweld.providers.provider import MachineState
from spotweld.runs.events import Drawn
from spotweld.runs.pools.members import (
    Claim,
    claim,
    member_prefix,
    read_claim,
    read_orders,
    read_readiness,
    recipe_of,
)
from spotweld.runs.pools.states import allowed
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from spotweld.images.containers.pinning import Pinned
    from spotweld.placement.placer import Observation, Placer, Wait
    from spotweld.project.nouns import Job, SpotUse
    from spotweld.providers.provider import Provider
    from spotweld.runs.states import Attempt, RunState
    from spotweld.store.objects import Objects


class Warm(msgspec.Struct, frozen=True):
    """A machine of a pool that a run could have."""

    pool: str
    token: str
    machine: str
    offer: Offer
    started: float

    @property
    def drawn(self) -> Drawn:
        """What the run's log keeps of it."""
        return Drawn(self.pool, self.machine)


def find(
    objects: Objects, provider: Provider, project: str, job: Job, source: str, image: Pinned | None, store: str
) -> tuple[Warm, ...]:
    """The machines that are ready for this job, the cheapest first; of equal price, the oldest: they live longest.

    Args:
        objects: the run's store.
        provider: where machines come from.
        project: whose.
        job: with its flags applied.
        source: key of its frozen files.
        image: the job's image, as the run has it.
        store: the run's store's URL.

    Raises:
        ProviderError: the machines cannot be listed.
        StoreError: the store failed.
    """
    wanted = recipe_of(job, store, source, image)
    found = []
    for machine in provider.machines({"managed-by": "spotweld", "project": project, "job": job.name}):
        pool = machine.labels.get("pool")
        if pool is None or machine.state is not MachineState.RUNNING or machine.noticed is not None:
            continue
        if not allowed(job.spot_policy, machine.offer.capacity_type):
            continue
        at = member_prefix(project, machine.token)
        orders, readiness = read_orders(objects, at), read_readiness(objects, at)
        is_ready = orders is not None and orders.recipe == wanted and readiness is not None and readiness.ready
        if is_ready and read_claim(objects, at) is None:
            found.append(Warm(pool, machine.token, machine.id, machine.offer, machine.started))
    return tuple(sorted(found, key=lambda warm: (warm.offer.hourly.amount, warm.started, warm.token)))


def keeping(warm: Iterable[Warm], observation: Observation, placer: Placer) -> Iterator[Warm]:
    """Those that the placer would stay on: what it would give up at its next look is not worth to be taken."""
    for one in warm:
        held = Held(one.offer, began=observation.now, running=None, working=None)
        if placer.reconsider(replace(observation, held=held)) is None:
            yield one


def fitting(warm: Iterable[Warm], choice: Rent | Wait, use: SpotUse) -> Warm | None:
    """The machine to take instead of what would be rented; None: none fits.

    Whoever chose an on-demand machine had a reason not to be interrupted, and a machine that may be taken is none.
    """
    firm = isinstance(choice, Rent) and choice.offer.capacity_type is CapacityType.ON_DEMAND
    return next(
        (
            one
            for one in warm
            if allowed(use, one.offer.capacity_type) and not (firm and one.offer.capacity_type is CapacityType.SPOT)
        ),
        None,
    )


def take(objects: Objects, state: RunState, attempt: Attempt, now: float) -> Claim:
    """Create the claim of the machine that the attempt means to have, unless there is one; the one that holds.

    Raises:
        Unavailable: the store did not answer; doing it again finds out.
    """
    return claim(objects, member_prefix(state.project, attempt.token), Claim(state.run, attempt.number, now))


def taken(objects: Objects, state: RunState, attempt: Attempt) -> Claim | None:
    """The claim, if it is the attempt's own."""
    found = read_claim(objects, member_prefix(state.project, attempt.token))
    return found if found is not None and is_mine(found, state, attempt) else None


def is_mine(found: Claim, state: RunState, attempt: Attempt) -> bool:
    """Whether the claim gives the machine to this attempt."""
    return (found.run, found.attempt) == (state.run, attempt.number)


def attempt_labels(state: RunState, attempt: Attempt) -> Mapping[str, str]:
    """What the attempt's machine carries: labels cannot be changed, so one from a pool carries the pool's for ever."""
    mine = {"run": state.run} if attempt.drawn is None else {"pool": attempt.drawn.pool}
    return {"managed-by": "spotweld", "project": state.project} | mine
