"""Steps and their preimages: all inputs of an instruction, kept so that a miss can be explained."""

from __future__ import annotations

from typing import Literal

import msgspec

from spotweld.values.digests import Digest, digest

_FORMAT = 1
"""Goes into every key: another way to make keys makes other keys."""

Kind = Literal[
    "parent", "base", "platform", "syntax", "stage", "instruction", "heredoc", "argument", "environment", "remote",
    "file", "executable", "link", "folder", "special", "mode",
]  # fmt: skip


class Input(msgspec.Struct, frozen=True):
    """One input: what it is, its name, and what it was.

    A file's value is its digest, a link's its target, a mode's its octal digits.
    """

    kind: Kind
    name: str
    value: str


class Preimage(msgspec.Struct, frozen=True):
    """The inputs of one instruction.

    Attributes:
        stage: the name of its stage, or the stage's number. Not in the key.
        inputs: what the key is made of, in order; the parent's key first. The instruction itself is one of them: its
            word is the name, and its value the JSON list of its flags and arguments after substitution.
        notes: what explains a change and is in the inputs in another form: the variables that the instruction
            replaced, the names behind the digests. Not in the key.
    """

    stage: str
    inputs: tuple[Input, ...]
    notes: tuple[Input, ...] = ()

    @property
    def key(self) -> Digest:
        """The digest of the inputs."""
        fields = [[one.kind, one.name, one.value] for one in self.inputs]
        return digest(msgspec.json.encode([_FORMAT, fields]))

    @property
    def instruction(self) -> Input:
        """The instruction among the inputs."""
        return next(one for one in self.inputs if one.kind == "instruction")

    def text(self) -> str:
        """The instruction in one line, for people."""
        one = self.instruction
        words = msgspec.json.decode(one.value, type=list[str])
        return " ".join([one.name, *words]).replace("\0", "")


class Step(msgspec.Struct, frozen=True):
    """One instruction that makes something; ``ARG`` makes nothing and is no step.

    Attributes:
        stage: the number of its stage in the file.
        number: its place among the stage's instructions; 0 is ``FROM``, and what its ``ONBUILD`` triggers do.
        key: what names its result.
        preimage: what the key is made of.
        prefix: the Dockerfile's text up to and with this instruction.
        line: where it begins.
        doubts: what the key cannot see, in words.
    """

    stage: int
    number: int
    key: Digest
    preimage: Preimage
    prefix: str
    line: int
    doubts: tuple[str, ...] = ()


class Reference(msgspec.Struct, frozen=True):
    """Something outside the context: an image, a file behind a URL, or the image of the file's own parser.

    An image has to be resolved to a digest before there are keys; the others may be.
    """

    kind: Literal["image", "remote", "syntax"]
    name: str
    platform: str
