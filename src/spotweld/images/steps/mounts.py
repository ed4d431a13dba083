"""What buildah does not see: the content of what a ``RUN`` mounts. And how such an instruction is shown.

Buildah (1.28 at least) looks a ``RUN`` up in its cache by the command alone. Where the command reads files through
``--mount=type=bind`` from the context, a stage or an image, it would take the old result for files that have changed.
So such a command gets the digest of what it mounts in front of it, as an argument of the shell's ``:``, which does
nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import BuildFailed
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.values.digests import digest, hex_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.dockerfiles.dockerfile import Dockerfile, Instruction
    from spotweld.images.steps.preimages import Step

BLIND = frozenset({"buildah"})
"""Builders that do not see it."""
_MOUNTED = frozenset({"file", "executable", "link", "folder", "special", "mode", "stage", "base"})
# A line goes on after comments and empty lines.
_GAP = r"(?:[ \t]|\\[ \t]*\r?\n(?:[ \t]*(?:#.*)?\r?\n)*)+"
_FLAGS = re.compile(rf"[ \t]*RUN(?:{_GAP}--[a-z]+=[^\s\"']+)+(?=[ \t\\])", re.IGNORECASE)
_DIGITS = 16
_MOUNTS = re.compile(rf"(?i)(?<=^RUN)(?: --mount=\S+)+(?: : [0-9a-f]{{{_DIGITS}}};)?")


def with_mounts(document: Dockerfile, steps: Sequence[Step]) -> str:
    """The Dockerfile's text, in which every command that mounts something names what that is.

    Raises:
        BuildFailed: a command takes no such addition.
    """
    lines = document.source.split("\n")
    for step in steps:
        taken = [one for one in step.preimage.inputs if one.kind in _MOUNTED]
        if step.preimage.instruction.name != "RUN" or not taken or not step.number:
            continue
        instruction = document.stages[step.stage].instructions[step.number]
        seal = hex_of(digest(msgspec.json.encode(taken)))[:_DIGITS]
        begin, end = instruction.line - 1, instruction.end
        text = _sealed("\n".join(lines[begin:end]), instruction, document, seal)
        # As many lines as before, so that those after them stay where they are.
        lines[begin:end] = text.split("\n")
    return "\n".join(lines)


def unmounted(text: str) -> str:
    """An instruction on one line, without the mounts it begins with and what ``with_mounts`` put in front of it."""
    return _MOUNTS.sub("", " ".join(text.replace("\\\n", " ").split()))


def _sealed(text: str, instruction: Instruction, document: Dockerfile, seal: str) -> str:
    found = _FLAGS.match(text)
    shells = any(one.word == "SHELL" for stage in document.stages for one in stage.instructions)
    odd = instruction.listed or instruction.heredocs or shells or document.directives.escape != "\\"
    sealed = "" if found is None or odd else f"{text[: found.end()]} : {seal};{text[found.end() :]}"
    if not sealed or parse(f"FROM scratch\n{sealed}").stages[0].instructions[1].flags != instruction.flags:
        raise BuildFailed(
            f"{document.file}:{instruction.line}: buildah does not see when what this RUN mounts has changed",
            "its cache looks at the command alone, and this form takes no addition",
            "write it as RUN --mount=... COMMAND, without brackets, quotes in its flags, << and SHELL; or use BuildKit",
        )
    return sealed
