"""What a pool's machine, its keeper and the runs' controllers tell each other through the store.

Each machine of a pool (a *member*) has one object, its *claim*, which is created once and never changes: whoever
creates it has decided what becomes of the machine. A run's controller creates it to take the machine, the keeper or the
machine itself to close it. So no machine is ever given to two runs, and none that is on its way out is given to any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from spotweld.checkpoint.hazard import Hazard
from spotweld.errors import Conflict, NotFound
from spotweld.images.containers.pinning import Pinned
from spotweld.project.nouns import CheckpointPolicy, Job

if TYPE_CHECKING:
    from spotweld.store.objects import Objects

T = TypeVar("T")


class Recipe(msgspec.Struct, frozen=True):
    """All that the preparation of a machine depends on. A run takes only a machine with its own recipe."""

    job: str
    store: str
    checkpoint: CheckpointPolicy
    image: Pinned | None = None
    setup: str = ""
    source: str = ""
    """Key of the frozen files that the set-up sees; empty: there is no set-up, and any files will do."""
    env: dict[str, str] = {}
    """What the set-up sees; empty without one."""


class Readiness(msgspec.Struct, frozen=True):
    """A sign of life of a machine that waits, overwritten every second."""

    beat: int
    ready: bool
    stage: str


class Claim(msgspec.Struct, frozen=True):
    """What becomes of a member. Written once."""

    run: str = ""
    """Which run took it; empty: it was closed."""
    attempt: int = 0
    time: float = 0.0
    """By the writer's clock. From here on the run pays."""
    why: str = ""
    """Why it was closed."""
    failed: bool = False
    """The preparation failed by its own doing."""


class Orders(msgspec.Struct, frozen=True):
    """What a member is to prepare. Written before the machine exists."""

    recipe: Recipe
    hazard: Hazard


def recipe_of(job: Job, store: str, source: str, image: Pinned | None) -> Recipe:
    """What machines for this job have to have been prepared with.

    Args:
        job: the job, with its flags applied.
        store: its URL.
        source: key of its frozen files.
        image: the job's image, as it is now.
    """
    if not job.setup:
        return Recipe(job.name, store, job.checkpoint, image)
    return Recipe(job.name, store, job.checkpoint, image, job.setup, source, job.env)


def member_prefix(project: str, token: str) -> str:
    """``pools/PROJECT/TOKEN``: tokens are random, so no name is used twice."""
    return f"pools/{project}/{token}"


def orders_key(member: str) -> str:
    """Where the keeper leaves the member its orders. ``member`` is its prefix, here and below."""
    return f"{member}/orders.json"


def readiness_key(member: str) -> str:
    """Where the member leaves its signs of life."""
    return f"{member}/readiness.json"


def claim_key(member: str) -> str:
    """Where whoever comes first leaves the claim."""
    return f"{member}/claim.json"


def claim(objects: Objects, member: str, mine: Claim) -> Claim:
    """Create the claim unless there is one; the one that holds.

    Raises:
        Unavailable: the store did not answer. It may hold ``mine``; doing it again finds out.
    """
    try:
        objects.create(claim_key(member), msgspec.json.encode(mine))
    except Conflict:
        return msgspec.json.decode(objects.get(claim_key(member)), type=Claim)
    return mine


def read_claim(objects: Objects, member: str) -> Claim | None:
    """The claim; None: nobody has decided yet."""
    try:
        return msgspec.json.decode(objects.get(claim_key(member)), type=Claim)
    except NotFound:
        return None


def read_orders(objects: Objects, member: str) -> Orders | None:
    """The member's orders; None: there are none, or none that this Spotweld can read."""
    return _read(objects, orders_key(member), Orders)


def read_readiness(objects: Objects, member: str) -> Readiness | None:
    """The member's last sign of life; None: it has not come up yet."""
    return _read(objects, readiness_key(member), Readiness)


def _read(objects: Objects, key: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(objects.get(key), type=kind)
    except (NotFound, msgspec.DecodeError):
        return None
