"""The ladder: a Dockerfile cut after every instruction that is worth keeping.

BuildKit sends its cache to a registry only when a whole solve has succeeded. A *rung* is the document's text up to the
end of one instruction: solved for itself, it is a whole solve, and because the text before the cut is untouched, its
steps have the same cache keys as those of the whole document. Nothing here runs anything.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import DockerfileError
from spotweld.images.dockerfiles.dockerfile import meaning
from spotweld.values.digests import digest, hex_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from spotweld.images.builders.builder import Solve
    from spotweld.images.dockerfiles.dockerfile import Dockerfile, Instruction
    from spotweld.images.dockerfiles.dockerfile import Stage as Parsed
    from spotweld.values.digests import Digest

WORTH = frozenset({"RUN", "COPY", "ADD"})
"""Instructions that deserve a rung. The others only write metadata: they cost nothing and ride along with the next."""
_MOUNTED = re.compile(r"(?:^|,)from=([^,]+)")


class Rung(msgspec.Struct, frozen=True):
    """One place to cut a Dockerfile."""

    stage: int
    """Counted from 0."""
    number: int
    """Of the instruction in its stage, its FROM being 0."""
    line: int
    """Where the instruction begins, counted from 1."""
    text: str
    """The document up to the instruction's end. Its last stage is this one."""
    tags: tuple[str, ...]
    """Name the places of this rung's cache. The last one is the same for documents whose instructions agree up to
    here. If the content's key is known, the first one names that, and nothing else is ever kept there."""


class Stage(msgspec.Struct, frozen=True):
    """One stage, as far as the ladder needs to know it."""

    label: str
    """As BuildKit prints it: its own name, or ``stage-N``."""
    base: str
    """As its FROM says it."""
    layers: tuple[int, ...]
    """The numbers of the instructions for which BuildKit has a step, in order."""
    rungs: tuple[Rung, ...]
    tags: tuple[str, ...]
    """Of every instruction, its FROM included: as the first of `Rung.tags`."""
    needs: frozenset[int]
    """The stages that its instructions name."""


def stages(
    dockerfile: Dockerfile, salt: Mapping[str, str], keys: Iterable[tuple[int, int, Digest]] = ()
) -> tuple[Stage, ...]:
    """The stages of a Dockerfile with their rungs.

    Args:
        dockerfile: it.
        salt: whatever else changes the result as a whole: arguments, platform.
        keys: see `Solve.keys`.
    """
    known = {(stage, number): f"key-{hex_of(key)[:40]}" for stage, number, key in keys}
    common = _seal(json.dumps(dict(salt), sort_keys=True), *(one.text for one in dockerfile.arguments))
    found: list[Stage] = []
    seals: list[str] = []
    for index, parsed in enumerate(dockerfile.stages):
        seal = common
        needs: set[int] = set()
        cuts: list[Rung] = []
        tags: list[str] = []
        for number, one in enumerate(parsed.instructions):
            named = _named(one, dockerfile.stages[:index])
            needs |= named
            bodies = (heredoc.text for heredoc in one.heredocs)
            seal = _seal(seal, one.word, *one.flags, *meaning(one), *bodies, *(seals[other] for other in sorted(named)))
            key = known.get((index, number), "")
            if not key and tags and tags[-1].startswith("key-"):  # ARG has no key
                key = f"key-{_seal(tags[-1], one.text)}"
            names = (key, f"rung-{seal}") if key else (f"rung-{seal}",)
            tags.append(names[0])
            if one.word in WORTH:
                cuts.append(Rung(index, number, one.line, dockerfile.prefix(one), names))
        layers = tuple(number for number, one in enumerate(parsed.instructions) if _makes_layer(one))
        found.append(
            Stage(parsed.name or f"stage-{index}", parsed.base, layers, tuple(cuts), tuple(tags), frozenset(needs))
        )
        seals.append(seal)
    return tuple(found)


def rungs(
    dockerfile: Dockerfile,
    target: str = "",
    salt: Mapping[str, str] | None = None,
    keys: Iterable[tuple[int, int, Digest]] = (),
) -> tuple[Rung, ...]:
    """The rungs of the stages that ``target`` needs, in the document's order.

    Args:
        dockerfile: it.
        target: a stage's name or number; empty: the last one.
        salt: see ``stages``.
        keys: see ``stages``.

    Raises:
        DockerfileError: there is no such stage.
    """
    every = stages(dockerfile, salt or {}, keys)
    left = [_find(target, dockerfile)] if target else [len(every) - 1]
    needed: set[int] = set()
    while left:
        index = left.pop()
        if index not in needed:
            needed.add(index)
            left.extend(every[index].needs)
    return tuple(rung for index in sorted(needed) for rung in every[index].rungs)


def salt_of(solve: Solve) -> dict[str, str]:
    """What changes the result of a solve as a whole, next to its document. Where a base lies does not."""
    bases = {f"base {name}": pinned.rpartition("@")[2] for name, pinned in solve.bases.items()}
    return {**solve.args, **bases, "": solve.platform}


def _makes_layer(instruction: Instruction) -> bool:
    return instruction.word in WORTH or (instruction.word == "WORKDIR" and instruction.arguments != ("/",))


def _find(target: str, dockerfile: Dockerfile) -> int:
    names = [stage.name for stage in dockerfile.stages]
    if target.lower() in names:
        return len(names) - 1 - names[::-1].index(target.lower())
    if target.isdecimal() and int(target) < len(names):
        return int(target)
    known = ", ".join(name for name in names if name) or "none has a name"
    raise DockerfileError(f"there is no stage {target!r}", f"the stages are: {known}", file=dockerfile.file)


def _named(instruction: Instruction, earlier: Sequence[Parsed]) -> set[int]:
    """The earlier stages that an instruction names. A name that holds a variable may be any of them."""
    if instruction.word == "FROM":
        said = list(instruction.arguments[:1])
    else:
        mounts = instruction.values("mount") if instruction.word == "RUN" else ()
        said = [*instruction.values("from"), *(mount[1] for one in mounts if (mount := _MOUNTED.search(one)))]
    if any("$" in name for name in said):
        return set(range(len(earlier)))
    found: set[int] = set()
    for name in said:
        same = [index for index, stage in enumerate(earlier) if stage.name == name.lower()]
        if same:
            found.add(same[-1])
        elif instruction.word != "FROM" and name.isdecimal() and int(name) < len(earlier):
            found.add(int(name))
    return found


def _seal(*parts: str) -> str:
    return hex_of(digest(json.dumps(parts).encode()))[:40]
