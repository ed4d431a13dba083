"""Keys of build steps, from content alone.

The key of a step is the digest of its inputs: the key of the step before it, the instruction after substitution, and
what it takes from elsewhere: files, other stages, other images, arguments. Nothing that can change the result is left
out; comments, the place of the checkout, the times of files and the names of stages are not in it. A key decides only
that nothing needs doing: what a builder finds in its own cache remains the builder's word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import DockerfileError
from spotweld.images.steps.preimages import Reference, Step
from spotweld.images.steps.walking import Walk
from spotweld.project.words import nearest
from spotweld.values.digests import Digest, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spotweld.images.dockerfiles.dockerfile import Dockerfile
    from spotweld.images.steps.context import Context

__all__ = ["Reference", "Step", "image_key", "references", "step_keys"]


def step_keys(
    dockerfile: Dockerfile,
    context: Context,
    args: Mapping[str, str],
    bases: Mapping[str, Digest],
    platform: str,
    *,
    target: str = "",
    builder: str = "",
    triggers: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Step, ...]:
    """The steps that ``target`` needs, in the order of the file.

    Args:
        dockerfile: the parsed file.
        context: the files.
        args: the build's arguments.
        bases: the digest that each of `references` has now, by its name.
        platform: what the image is for: ``linux/amd64``.
        target: the name or the number of a stage; empty for the last one.
        builder: the platform on which it is built, if another.
        triggers: the instructions that base images have kept for builds upon them (``ONBUILD``), by their names.

    Raises:
        DockerfileError: an instruction breaks a rule.
        ContextError: an instruction names a file that is not there.
        BaseUnresolved: ``bases`` lacks an image that the target needs.
    """
    walk = Walk(dockerfile, context, args, bases, platform, builder or platform, triggers or {})
    walk.stage(_target(dockerfile, target), 1)
    return tuple(step for _, steps in sorted(walk.steps.items()) for step in steps)


def references(
    dockerfile: Dockerfile,
    args: Mapping[str, str],
    platform: str,
    *,
    target: str = "",
    builder: str = "",
    triggers: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Reference, ...]:
    """What ``bases`` must hold for `step_keys`, without doubles, in the order in which it is needed.

    Raises:
        DockerfileError: an instruction breaks a rule.
    """
    walk = Walk(dockerfile, None, args, None, platform, builder or platform, triggers or {})
    walk.stage(_target(dockerfile, target), 1)
    return tuple(walk.references)


def image_key(steps: Sequence[Step], platform: str, labels: Mapping[str, str] | None = None) -> Digest:
    """The key of an image: of its last step, the platform, and the labels that are added to it from outside.

    Labels that only tell people something, such as the git commit, must not be among them.
    """
    return digest(msgspec.json.encode(["image", steps[-1].key, platform, sorted((labels or {}).items())]))


def _target(dockerfile: Dockerfile, target: str) -> int:
    if not target:
        return len(dockerfile.stages) - 1
    names = {stage.name: number for number, stage in reversed([*enumerate(dockerfile.stages)]) if stage.name}
    numbers = {str(number): number for number in range(len(dockerfile.stages))}
    found = {**numbers, **names}.get(target.lower())
    if found is None:
        guess = nearest(target, names)
        todo = f"did you mean {guess!r}?" if guess else "name one of the stages"
        raise DockerfileError(f"there is no stage {target!r}", "", todo, file=dockerfile.file)
    return found
