"""The seam to the programs that run a Dockerfile.

A builder is not told what is fresh: it decides that by itself, and its word stands. What Spotweld adds is that every
finished instruction is durable in a registry before the build has ended, whichever builder ran it, so that a machine
that is taken away costs the instruction in progress and no other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgspec

from spotweld.values.digests import Digest

EPOCH = 315_619_200
"""The time that built things bear, seconds since 1970 UTC: 1980-01-02. All machines write the same one, so that they
make the same layers. Not 1970: zip archives, Python wheels among them, cannot hold a time before 1980."""


class Solve(msgspec.Struct, frozen=True):
    """One Dockerfile to bring to its end."""

    context: Path
    """The folder that COPY and ADD read."""
    dockerfile: Path
    """The file itself; ``NAME.dockerignore`` beside it counts before the context's own ``.dockerignore``."""
    cache: str
    """Where finished instructions go to and come from: a repository ``HOST[:PORT]/NAME``. A host that is this machine
    itself (``127.0.0.1``, ``localhost``) is spoken to without TLS; of the others only those in ``plain``."""
    image: str = ""
    """The reference under which the result is published; empty: it is not."""
    target: str = ""
    """The stage to build; empty: the last one."""
    args: dict[str, str] = {}
    bases: dict[str, str] = {}
    """What a base's name means, by digest: ``debian:bookworm`` -> ``debian@sha256:...``. A name that is not here means
    what its registry says at the time."""
    platform: str = ""
    """``linux/amd64`` and the like; empty: this machine's."""
    epoch: int = EPOCH
    keys: tuple[tuple[int, int, Digest], ...] = ()
    """The content keys of instructions, as far as they are known: stage, number in it, key.
    They name what is kept, so that a text with other files has a place of its own. Whether it fits, the builder says.
    """
    plain: tuple[str, ...] = ()
    """Hosts that speak no TLS, besides this machine itself."""


class Outcome(StrEnum):
    """What became of an instruction."""

    HIT = "hit"
    """It was not run: the result was there."""
    RAN = "ran"
    FAILED = "failed"


class Step(msgspec.Struct, frozen=True):
    """The builder's report of one instruction."""

    stage: int
    """Counted from 0, as ``COPY --from=0`` does."""
    number: int
    """Of the instruction in its stage, its FROM being 0."""
    text: str
    """The instruction as the builder prints it."""
    outcome: Outcome
    seconds: float = 0.0
    """Wall time that it took; of a hit, to find and fetch it."""
    remote: bool = False
    """The hit came from the registry. A builder that does not tell says False."""
    tag: str = ""
    """Under which ``Solve.cache`` has its result, for machines that have nothing; empty: it has no tag of its own."""


Tell: TypeAlias = Callable[[Step], None]
Hear: TypeAlias = Callable[[str], None]
Sure: TypeAlias = Callable[[], None]
SHOWN = 10
"""Lines of the builder's output in the message of an error."""


def ignore(_: object) -> None:
    """Do nothing with a report."""


def sure_of_it() -> None:
    """Publish whatever was built."""


class Solved(msgspec.Struct, frozen=True):
    """A Dockerfile that came to its end."""

    steps: tuple[Step, ...]
    """In the order in which they ended. Instructions that only set metadata may be missing: not every builder names
    them."""
    seconds: float
    digest: str = ""
    """Of the published manifest, ``sha256:...``; empty: nothing was published."""

    def ran(self) -> tuple[Step, ...]:
        """Those that were really run."""
        return tuple(step for step in self.steps if step.outcome is Outcome.RAN)


class Builder(ABC):
    """Runs Dockerfiles. Several solves may go on at once, from several threads and processes."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """What it calls itself.

        Raises:
            BuilderUnavailable: it is not there.
        """

    @abstractmethod
    def solve(self, solve: Solve, tell: Tell = ignore, hear: Hear = ignore, sure: Sure = sure_of_it) -> Solved:
        """Bring it to its end.

        Finished instructions are read from ``solve.cache`` and sent there one by one, while the build goes on. When
        this process is killed, so is everything that it started.

        Args:
            solve: what to build.
            tell: is called with each instruction that has ended, the failed one included, from whichever thread.
            hear: is called with every line that the builder and its instructions print.
            sure: is called once the context has been read, before ``solve.image`` is sent; if it raises, that is not.

        Raises:
            BuildFailed: an instruction failed, or the builder refused the Dockerfile.
            BuilderUnavailable: the builder is not there, or cannot work here.
            CacheUnsaved: a finished instruction could not be sent.
        """
