"""Going through the stages that a target needs, and gathering the inputs of each of their instructions."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Literal

import msgspec

from spotweld.errors import BaseUnresolved, ContextError, DockerfileError
from spotweld.images.dockerfiles.dockerfile import kept_by, meaning, trigger
from spotweld.images.dockerfiles.scope import Scope, hidden, platform_arguments
from spotweld.images.dockerfiles.substitution import KEPT, BadSubstitution, expand
from spotweld.images.steps.context import NotInContext
from spotweld.images.steps.preimages import Input, Preimage, Reference, Step
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spotweld.images.dockerfiles.dockerfile import Dockerfile, Instruction, Stage
    from spotweld.images.steps.context import Context, Entry

_SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "zsh"})
_MOUNT_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_REMOTE = ("http://", "https://", "git://", "ssh://", "git@")


class _Built:
    """A stage as far as it has been gone through."""

    def __init__(self, given: Mapping[str, str], outer: Mapping[str, str], escape: str, base: _Built | None) -> None:
        # What is stored sees private values as digests only; what finds files has to see them as they are.
        self.real: Scope = Scope(given, outer, base.real if base else None, escape=escape)
        veiled = {name: hidden(name, value) for name, value in given.items()}
        covered = {name: hidden(name, value) for name, value in outer.items()}
        self.shown: Scope = Scope(veiled, covered, base.shown if base else None, hides=True, escape=escape)
        self.usual_shell: bool = base.usual_shell if base else True
        self.triggers: list[Instruction] = []
        self.key = Digest("")


class _Step:
    """The inputs of one instruction while they are gathered."""

    def __init__(self, instruction: Instruction, shown: Scope) -> None:
        self.instruction = instruction
        self.inputs: list[Input] = []
        self.notes: list[Input] = []
        self.doubts: list[str] = []
        self._shown = shown
        self._noted: set[str] = set()
        self._taken: set[Input] = set()

    def expand(self, text: str, *, quotes: bool = True) -> str:
        """What is stored of ``text``; the variables that it used are noted."""
        found = self._shown.expand(text, quotes=quotes)
        values = self._shown.values
        for name in found.used:
            if name not in self._noted:
                self._noted.add(name)
                kind: Literal["environment", "argument"] = (
                    "environment" if name in self._shown.environment else "argument"
                )
                self.notes.append(Input(kind, name, values[name]))
        return found.text

    def says(self, *words: str) -> None:
        """The instruction itself, after substitution."""
        value = msgspec.json.encode(list(words)).decode()
        self.inputs.append(Input("instruction", self.instruction.word, value))

    def takes(self, entries: Sequence[Entry]) -> None:
        """Files, links and folders of the context; one that is named twice counts once."""
        fresh: list[Input] = []
        for one in entries:
            fresh.append(Input(one.kind, one.path, one.value))
            if one.mode:
                fresh.append(Input("mode", one.path, one.mode))
        self.inputs += [one for one in fresh if one not in self._taken]
        self._taken.update(fresh)


class Walk:
    """One way through the file.

    Args:
        dockerfile: the parsed file.
        context: the files; None looks at none, and is for learning the references only.
        args: the build's arguments.
        bases: the digests of the references; None takes any for resolved.
        platform: what the image is for.
        builder: the platform on which it is built.
        triggers: the instructions that images have kept for builds upon them, by their names.

    Attributes:
        steps: what was gone through, by the stages' numbers.
        references: what lies outside the context, in the order in which it was needed.

    Raises:
        DockerfileError: an argument above the first ``FROM`` breaks a rule.
    """

    def __init__(
        self,
        dockerfile: Dockerfile,
        context: Context | None,
        args: Mapping[str, str],
        bases: Mapping[str, Digest] | None,
        platform: str,
        builder: str,
        triggers: Mapping[str, Sequence[str]],
    ) -> None:
        self.file = dockerfile
        self.context = context
        self.args = args
        self.bases = bases
        self.platform = platform
        self.triggers = triggers
        self.escape = dockerfile.directives.escape
        self.steps: dict[int, list[Step]] = {}
        self.references: dict[Reference, None] = {}
        self._built: dict[int, _Built | None] = {}
        known = platform_arguments(platform, builder)
        self.outer: dict[str, str] = {**known, **{name: args[name] for name in known if name in args}}
        for instruction in dockerfile.arguments:
            for word in instruction.arguments:
                name, has_default, default = word.partition("=")
                if name in args:
                    self.outer[name] = args[name]
                elif has_default:
                    self.outer[name] = self._outer(default, instruction.line)

    def _error(self, what: str, why: str, line: int, todo: str = "") -> DockerfileError:
        return DockerfileError(what, why, todo, file=self.file.file, line=line)

    def stage(self, number: int, line: int) -> _Built:
        """Go through a stage, and before it through those that it needs.

        Args:
            number: its place in the file, from 0.
            line: of the instruction that needs it.

        Raises:
            DockerfileError: an instruction breaks a rule, names no file, or names an image that is not resolved.
        """
        if number in self._built:
            found = self._built[number]
            if found is None:
                why = "a stage cannot take anything from itself"
                raise self._error(f"stage {self._name(number)!r} needs itself", why, line)
            return found
        self._built[number] = None
        stage = self.file.stages[number]
        self.steps[number] = []
        built, pending = self._begin(number, stage)
        for position, instruction in [*((0, one) for one in pending), *enumerate(stage.instructions)]:
            if instruction.word != "FROM":
                self._take(number, position, instruction, built)
        self._built[number] = built
        return built

    def _name(self, number: int) -> str:
        return self.file.stages[number].name or str(number)

    def _begin(self, number: int, stage: Stage) -> tuple[_Built, list[Instruction]]:
        start = stage.instructions[0]
        base = self._outer(stage.base, start.line)
        platform = self._outer(stage.platform, start.line) or self.platform
        if not base:
            raise self._error(
                f"the base {stage.base!r} comes out empty",
                "an argument has no value",
                start.line,
                "give the argument, or a default above the first FROM",
            )
        below = self._earlier(base, number)
        under = None if below is None else self.stage(below, start.line)
        built = _Built(self.args, self.outer, self.escape, under)
        step = _Step(start, built.shown)
        if under is not None:
            step.inputs.append(Input("parent", "", under.key))
            if stage.platform:
                step.inputs.append(Input("platform", "", platform))
        else:
            value = "" if base == "scratch" else self._image(base, platform, start.line)
            step.inputs += [Input("base", "", value), Input("platform", "", platform)]
            step.notes.append(Input("base", "", base))
        syntax = self.args.get("BUILDKIT_SYNTAX") or self.file.directives.syntax
        if syntax and under is None:
            self.references[Reference("syntax", syntax, platform)] = None
            step.inputs.append(Input("syntax", "", (self.bases or {}).get(syntax, syntax)))
        step.says()
        self._finish(number, 0, step, built)
        pending = under.triggers if under is not None else [kept_by(start, one) for one in self.triggers.get(base, ())]
        return built, [trigger(one, self.escape, self.file.file) for one in pending]

    def _take(self, number: int, position: int, instruction: Instruction, built: _Built) -> None:
        step = _Step(instruction, built.shown)
        try:
            if instruction.word == "ARG":
                built.real.declare(instruction.arguments)
                built.shown.declare(instruction.arguments)
                return
            if built.key:
                step.inputs.append(Input("parent", "", built.key))
            self._gather(instruction, step, built)
        except BadSubstitution as error:
            raise self._error(f"{instruction.word} is not understood", str(error), instruction.line) from error
        except NotInContext as error:
            raise ContextError(error.what, error.why, error.todo, file=self.file.file, line=instruction.line) from error
        self._finish(number, position, step, built)

    def _gather(self, instruction: Instruction, step: _Step, built: _Built) -> None:
        word, arguments = instruction.word, instruction.arguments
        if word in {"ADD", "COPY"}:
            self._copy(instruction, step, built)
        elif word == "RUN":
            self._run(instruction, step, built)
        elif word == "ENV":
            for one in arguments:
                step.expand(one.partition("=")[2])
            built.real.define(arguments)
            step.says(*built.shown.define(arguments))
        elif word in {"EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}:
            step.says(*instruction.flags, *map(step.expand, arguments))
        else:
            # Neither commands nor triggers are touched: their variables are replaced when they run.
            if word == "SHELL":
                built.usual_shell = arguments[:1] != () and arguments[0].rpartition("/")[2] in _SHELLS
            if word == "ONBUILD":
                built.triggers.append(instruction)
            form = ("exec",) if instruction.listed else ()
            step.says(*instruction.flags, *form, *meaning(instruction, shell=built.usual_shell))
            step.inputs += [Input("heredoc", one.name, one.text) for one in instruction.heredocs]

    def _run(self, instruction: Instruction, step: _Step, built: _Built) -> None:
        flags: list[str] = []
        mounts: list[tuple[dict[str, str], str]] = []
        for flag in instruction.flags:
            if flag.startswith("--mount="):
                said = self._mount(flag.removeprefix("--mount="), instruction)
                fields = {name: step.expand(value) for name, value in said.items()}
                mounts.append((fields, said.get("source", ".")))
                flags.append("--mount=" + ",".join(f"{k}={v}" for k, v in sorted(fields.items()) if k != "from"))
            else:
                flags.append(step.expand(flag))
        form = ("exec",) if instruction.listed else ()
        step.says(*flags, *form, *meaning(instruction, shell=built.usual_shell))
        step.inputs += [Input("heredoc", one.name, one.text) for one in instruction.heredocs]
        step.inputs += [Input("argument", name, value) for name, value in sorted(built.shown.arguments.items())]
        for fields, source in mounts:
            if "from" in fields:
                self._from(fields["from"], instruction, step)
            elif fields["type"] == "bind":
                self._files(source, step, built)

    def _mount(self, text: str, instruction: Instruction) -> dict[str, str]:
        fields = {"type": "bind"}
        try:
            parts = next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            raise self._error("--mount is not understood", str(error), instruction.line) from error
        for part in parts:
            name, equals, value = part.partition("=")
            name = name.strip().lower()
            fields[_MOUNT_NAMES.get(name, name)] = value if equals else "true"
        return fields

    def _copy(self, instruction: Instruction, step: _Step, built: _Built) -> None:
        *sources, _ = instruction.arguments
        flags = [step.expand(flag) for flag in instruction.flags if not flag.startswith("--from=")]
        bodies = list(instruction.heredocs)
        step.says(*flags, *map(step.expand, instruction.arguments))
        if instruction.flag("from"):
            self._from(instruction.flag("from"), instruction, step)
            return
        for source in sources:
            if bodies and source.startswith("<<"):
                body = bodies.pop(0)
                text = step.expand(body.text, quotes=False) if body.expands else body.text
                step.inputs.append(Input("heredoc", body.name, text))
            elif instruction.word == "ADD" and built.real.expand(source).text.startswith(_REMOTE):
                self._remote(step.expand(source), instruction, step)
            else:
                self._files(source, step, built)

    def _files(self, source: str, step: _Step, built: _Built) -> None:
        path = built.real.expand(source).text
        if KEPT in path:
            step.doubts.append(f"{source} needs the environment of the base image; the whole context counts")
            path = "."
        if self.context is not None:
            step.takes(self.context.named(path))

    def _from(self, name: str, instruction: Instruction, step: _Step) -> None:
        number = self._any(name)
        if number is None:
            value = "" if name == "scratch" else self._image(name, self.platform, instruction.line)
            step.inputs += [Input("base", "", value), Input("platform", "", self.platform)]
            step.notes.append(Input("base", "", name))
        else:
            step.inputs.append(Input("stage", "", self.stage(number, instruction.line).key))
            step.notes.append(Input("stage", "", self._name(number)))

    def _remote(self, url: str, instruction: Instruction, step: _Step) -> None:
        self.references[Reference("remote", url, self.platform)] = None
        found = (self.bases or {}).get(url, "")
        step.inputs.append(Input("remote", url, found))
        if not found and not instruction.flag("checksum"):
            step.doubts.append(f"{url} has no --checksum: a change behind it is not seen")

    def _image(self, name: str, platform: str, line: int) -> str:
        self.references[Reference("image", name, platform)] = None
        _, _, pinned = name.partition("@")
        # A name with a digest may still be one of those that mean an image of the project.
        found = (self.bases or {}).get(name, pinned)
        if not found and self.bases is not None:
            raise BaseUnresolved(
                f"the image {name!r} was not resolved to a digest",
                "",
                "name a registry that has it, or give it by its digest",
                file=self.file.file,
                line=line,
            )
        return found

    def _earlier(self, name: str, before: int) -> int | None:
        """The stage of that name that ``FROM`` in stage ``before`` means."""
        numbers = [number for number in range(before) if self.file.stages[number].name == name.lower()]
        return numbers[-1] if numbers else None

    def _any(self, name: str) -> int | None:
        """The stage that ``--from`` means: by its name, or by its number."""
        found = self._earlier(name, len(self.file.stages))
        if found is None and name.isdecimal() and int(name) < len(self.file.stages):
            return int(name)
        return found

    def _outer(self, text: str, line: int) -> str:
        try:
            return expand(text, self.outer, escape=self.escape).text
        except BadSubstitution as error:
            raise self._error(f"{text!r} is not understood", str(error), line) from error

    def _finish(self, number: int, position: int, step: _Step, built: _Built) -> None:
        name = self._name(number)
        preimage = Preimage(name, tuple(step.inputs), tuple(step.notes))
        built.key = preimage.key
        instruction = step.instruction
        prefix = self.file.prefix(instruction if position else self.file.stages[number].instructions[0])
        self.steps[number].append(
            Step(number, position, built.key, preimage, prefix, instruction.line, tuple(step.doubts))
        )
