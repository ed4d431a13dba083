"""Why a step is there already, or has to be made: two lists of preimages, compared in words."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spotweld.images.steps.preimages import Input, Preimage

_SHORT = 12
"""Digits of a digest that people are shown."""
_CHANGED = "file {} changed"
_FILES = frozenset({"file", "executable", "link", "folder", "special"})


class Verdict(msgspec.Struct, frozen=True):
    """What became of one instruction.

    Attributes:
        stage: the stage's name, or its number.
        text: the instruction in one line, after substitution.
        hit: whether its result is there already.
        why: of a miss, the first input that differs; of a hit, nothing.
        file: the file whose content that is, so that a caller who has both can tell how many lines.
    """

    stage: str
    text: str
    hit: bool
    why: str = ""
    file: str = ""


def explain(old: Sequence[Preimage], new: Sequence[Preimage]) -> tuple[Verdict, ...]:
    """What of ``new`` is in ``old``, and why the rest is not.

    Args:
        old: the preimages of an earlier build, in the order of its file.
        new: those of the build that is asked about.
    """
    known = {preimage.key for preimage in old}
    verdicts = []
    for before, now in _paired(old, new):
        hit = now.key in known
        why = "" if hit else _reason(before, now)
        file = next((one.name for one in now.inputs if one.kind in _FILES and why == _CHANGED.format(one.name)), "")
        verdicts.append(Verdict(now.stage, now.text(), hit, why, file))
    return tuple(verdicts)


def _paired(old: Sequence[Preimage], new: Sequence[Preimage]) -> Iterator[tuple[Preimage | None, Preimage]]:
    """Every new preimage with the old one that it came from."""
    # The same stage and instruction is the same step; between two such, steps of one stage and word pair up in order.
    matcher = difflib.SequenceMatcher(
        None, [(one.stage, one.instruction) for one in old], [(one.stage, one.instruction) for one in new], False
    )
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            yield from zip(old[a:b], new[c:d], strict=True)
            continue
        left = list(old[a:b])
        for now in new[c:d]:
            alike = [one for one in left if one.instruction.name == now.instruction.name]
            same = [one for one in alike if one.stage == now.stage] or alike
            if same:
                left.remove(same[0])
            yield (same[0] if same else None), now


def _reason(before: Preimage | None, now: Preimage) -> str:
    if before is None:
        return "the instruction is new"
    for told in (_noted(before, now), _taken(before, now)):
        if told:
            return told
    return "parent missed"


def _noted(before: Preimage, now: Preimage) -> str:
    """The first variable that made the instruction another one, or the base that its name means."""
    was = {(one.kind, one.name): one.value for one in before.notes}
    moved = [one for one in now.notes if was.get((one.kind, one.name), one.value) != one.value]
    for one in moved:
        if one.kind == "argument":
            return f"ARG {one.name}: {_shown(was[one.kind, one.name])} -> {_shown(one.value)}"
        if one.kind == "environment":
            return f"ENV {one.name}: {_shown(was[one.kind, one.name])} -> {_shown(one.value)}"
    return ""


def _taken(before: Preimage, now: Preimage) -> str:
    was = _by_name(before)
    fresh = _by_name(now)
    gone = [one for name, one in was.items() if name not in fresh and name[0] != "parent"]
    come = [one for name, one in fresh.items() if name not in was and name[0] != "parent"]
    for name, one in fresh.items():
        if one.kind != "parent" and name in was and was[name] != one:
            return _changed(was[name], one, before, now)
    # A file that went away and one of the same content that came is a file that was renamed.
    left = {(one.kind, one.value): one.name for one in reversed(gone) if one.kind in _FILES and one.value}
    for one in come:
        if (one.kind, one.value) in left:
            return f"{one.kind} {left[one.kind, one.value]} renamed to {one.name}"
    if come:
        return _alone(come[0], now, "is new")
    if gone:
        return _alone(gone[0], before, "is gone")
    return "the order of its inputs changed" if _own(before) != _own(now) else ""


def _own(preimage: Preimage) -> list[Input]:
    return [one for one in preimage.inputs if one.kind != "parent"]


def _by_name(preimage: Preimage) -> dict[tuple[str, str, int], Input]:
    """The inputs by what they are called. A file that becomes a link keeps its name."""
    found: dict[tuple[str, str, int], Input] = {}
    for one in preimage.inputs:
        kind = "file" if one.kind in _FILES else one.kind
        name = "" if kind == "instruction" else one.name
        count = 0
        while (kind, name, count) in found:
            count += 1
        found[kind, name, count] = one
    return found


def _changed(old: Input, new: Input, before: Preimage, now: Preimage) -> str:
    if new.kind == "instruction":
        return f"the instruction changed: {before.text()} -> {now.text()}"
    if new.kind == "base":
        name, other = _note(now, "base"), _note(before, "base")
        moved = f"{_shown(old.value)} to {_shown(new.value)}"
        return f"base {name} moved from {moved}" if name == other else f"base changed: {other} -> {name}"
    if new.kind == "stage":
        return f"stage {_note(now, 'stage')} changed"
    if new.kind == "heredoc":
        return f"here-document {new.name} changed: {_lines(old.value, new.value)}"
    if new.kind == "argument":
        return f"ARG {new.name}: {_shown(old.value)} -> {_shown(new.value)}"
    if new.kind in _FILES:
        return _file(old, new)
    what = " ".join(filter(None, (new.kind, new.name)))
    return f"{what} changed: {_shown(old.value)} -> {_shown(new.value)}"


def _file(old: Input, new: Input) -> str:
    kinds = {old.kind, new.kind}
    if kinds == {"file", "executable"} and old.value == new.value:
        return f"file {new.name} is {'now' if new.kind == 'executable' else 'no longer'} executable"
    if old.kind != new.kind and kinds != {"file", "executable"}:
        return f"{new.name} was a {old.kind} and is a {new.kind}"
    if new.kind == "link":
        return f"link {new.name}: {old.value} -> {new.value}"
    return _CHANGED.format(new.name)


def _alone(one: Input, preimage: Preimage, what: str) -> str:
    if one.kind == "argument":
        return f"ARG {one.name} {what}"
    if one.kind == "mode":
        return f"the mode of {one.name} {'is now' if what == 'is new' else 'is no longer'} {one.value}"
    if one.kind in {"base", "stage"}:
        return f"{one.kind} {_note(preimage, one.kind)} {what}"
    return " ".join(filter(None, ("here-document" if one.kind == "heredoc" else one.kind, one.name, what)))


def _note(preimage: Preimage, kind: str) -> str:
    return next((one.value for one in preimage.notes if one.kind == kind), "scratch")


def _lines(old: str, new: str) -> str:
    """``+3 -1``."""
    diff = [*difflib.ndiff(old.splitlines(), new.splitlines())]
    return f"+{sum(line.startswith('+ ') for line in diff)} -{sum(line.startswith('- ') for line in diff)}"


def _shown(value: str) -> str:
    algorithm, colon, digits = value.partition(":")
    if colon and algorithm in {"sha256", "blake3", "hidden"} and len(digits) > _SHORT:
        return f"{algorithm}:{digits[:_SHORT]}"
    return value.replace("\0", "") or "(empty)"
