"""Buildah's storage on a machine, looked after between builds: steps are fetched into it, or forgotten."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.errors import CacheUnfetched
from spotweld.images.builders.buildah import Buildah
from spotweld.images.builders.builder import Solve, ignore
from spotweld.images.builders.commands import follow
from spotweld.images.builders.restocking import MEMORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Storage(Buildah):
    """Buildah's storage.

    Args:
        folder: the one that builds use.
    """

    def fetch(self, references: Sequence[str], tell: Callable[[int, int], None], plain: Sequence[str] = ()) -> None:
        """Pull images, so that a build finds them without a registry.

        Args:
            references: what to pull.
            tell: hears how many of how many are there.
            plain: hosts that speak no TLS, besides this machine itself.

        Raises:
            CacheUnfetched: one could not be pulled; those before it are there.
        """
        with self._machine(_solve(references[0], plain)) as (env, hold):
            run = functools.partial(follow, env=env, alone=True, hold=hold)
            for done, reference in enumerate(references):
                tell(done, len(references))
                ended = run(self._argv(["pull", "--quiet", reference]), ignore)
                if ended.status != 0:
                    todo = "What came before it is here; mend what is said there and try again."
                    raise CacheUnfetched(f"{reference} could not be fetched", ended.words, todo)
            tell(len(references), len(references))

    def forget(self, ids: Iterable[str]) -> None:
        """Remove images by what buildah calls them; those that are not there are no matter."""
        with self._machine(_solve("")) as (env, hold):
            (self._folder / MEMORY).unlink(missing_ok=True)
            listed: list[str] = []
            run = functools.partial(follow, env=env, alone=True, hold=hold)
            run(self._argv(["images", "--all", "--quiet", "--no-trunc"]), listed.append)
            here = {line.removeprefix("sha256:") for line in listed}
            for one in here & set(ids):
                run(self._argv(["rmi", "--force", one]), ignore)


def _solve(reference: str, plain: Sequence[str] = ()) -> Solve:
    """What tells buildah how to speak with the registry of a reference."""
    return Solve(Path(), Path("/dev/null"), reference.rpartition(":")[0], plain=tuple(plain))
