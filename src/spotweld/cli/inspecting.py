"""``spotweld checkpoint verify`` and ``diff``."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import click

from spotweld.checkpoint.differing import Compared, Verdict, compare
from spotweld.checkpoint.opened import open_checkpoint
from spotweld.checkpoint.restoring import read_manifest
from spotweld.checkpoint.scrubbing import Damage, scrub, spots
from spotweld.cli.output import print_json, print_table, say, styled
from spotweld.cli.session import json_option, progress_option, store_option
from spotweld.cli.stores import complete_run, head_of, progress, run_and_step, run_argument, store_here
from spotweld.errors import Corrupt, NotFound, UsageError
from spotweld.report.words import count
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.checkpoint.format import Manifest
    from spotweld.checkpoint.opened import Checkpoint
    from spotweld.checkpoint.scrubbing import Spot
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Objects

_WORDS = {
    Verdict.EQUAL: "equal",
    Verdict.DIFFERS: "differs",
    Verdict.FIRST: "only in the first",
    Verdict.SECOND: "only in the second",
}


@click.command("verify", short_help="Read every byte; exit 1 if any is damaged.")
@run_argument
@click.option("--step", type=click.IntRange(0), metavar="N", help="This checkpoint instead of the newest.")
@click.option("--all", "every", is_flag=True, help="Every checkpoint that the run keeps.")
@store_option
@progress_option
@json_option
def verify_verb(run: str, step: int | None, *, every: bool, as_json: bool) -> int:
    """Read every byte of a run's newest checkpoint; exit 1 if any is damaged.

    Bytes that checkpoints share are read once.

    \b
    With --json: a list of {step, read, whole, dropped, damage: [{leaf,
    why}]}, newest first; "read" counts the stored bytes, "dropped": the run
    went on and let go of this checkpoint meanwhile.
    """
    run, step = run_and_step(run, step)
    if every and step is not None:
        raise UsageError("--all is every step", "and one step was named, too", "leave one of them out")
    objects = store_here()
    kept = head_of(objects, run).kept
    meant = kept if every else [one for one in kept if step is None or one.step == step][:1]
    if not meant:
        steps = ", ".join(str(one.step) for one in kept)
        raise UsageError(f"the run {run} has no checkpoint of step {step}", f"it has {steps}")
    rows = _verify(objects, run, meant)
    if as_json:
        print_json(rows)
    else:
        print_table(("STEP", "READ", "VERDICT"), [_verdict(row) for row in rows], right=(0, 1))
        for row in rows:
            for damage in row["damage"]:
                say(f"step {row['step']}: {damage.leaf}: {damage.why}")
    return 0 if all(row["whole"] or row["dropped"] for row in rows) else 1


def _verify(objects: Objects, run: str, meant: Sequence[Kept]) -> list[dict[str, Any]]:
    manifests: dict[str, Manifest] = {}
    damage: dict[str, tuple[Damage, ...]] = {}
    for one in meant:
        try:
            manifests[one.key] = read_manifest(objects, run, one)
        except (Corrupt, NotFound) as error:
            damage[one.key] = (Damage("(manifest)", str(error)),)
    sizes = {spot: chunk.stored for manifest in manifests.values() for spot, chunk in spots(manifest).items()}
    total, done = sum(sizes.values()), 0
    known: dict[Spot, str] = {}
    reads: dict[str, int] = {}
    with progress(f"verifying {run}") as told:

        def add(size: int) -> None:
            nonlocal done
            done += size
            told(done, total)

        for key, manifest in manifests.items():
            before = done
            damage[key] = scrub(objects, manifest, known, add)
            reads[key] = done - before
    gone = _dropped(objects, run, meant) if any(damage.values()) else set()
    return [
        {
            "step": one.step,
            "read": reads.get(one.key, 0),
            "whole": not damage[one.key],
            "dropped": one.key in gone,
            "damage": damage[one.key],
        }
        for one in meant
    ]


def _dropped(objects: Objects, run: str, meant: Iterable[Kept]) -> set[str]:
    """What the run has let go of since: it is no damage that its bytes are not there."""
    current = {one.key for one in head_of(objects, run).kept}
    return {one.key for one in meant if one.key not in current}


def _verdict(row: dict[str, Any]) -> list[str]:
    if row["whole"]:
        verdict = "whole"
    elif row["dropped"]:
        verdict = "dropped by the run meanwhile"
    else:
        verdict = f"DAMAGED: {count(len(row['damage']), 'leaf').replace('leafs', 'leaves')}"
    return [str(row["step"]), format_size(row["read"]), verdict]


@click.command("diff", short_help="Say what differs between two; exit 1 if anything.")
@click.argument(
    "names", nargs=-1, required=True, metavar="RUN STEP STEP | RUN[@STEP] RUN[@STEP]", shell_complete=complete_run
)
@store_option
@progress_option
@json_option
def diff_verb(names: tuple[str, ...], *, as_json: bool) -> int:
    """Say what differs between two checkpoints, leaf by leaf; exit 1 if anything does.

    Chunks with the same digest are not read. "(rng)" stands for the states of the random number generators.

    \b
    With --json: {"equal": bool, "leaves": [{part, path, verdict, elements,
    of, largest, forms}]}; the verdict is equal, differs, first or second
    (only that one has it); "elements" of "of" numbers differ in a bit,
    "largest" is the largest absolute difference of numbers with a fraction
    (null: none, or not a number), "forms" says what both are where dtype,
    shape or a plain value differs.
    """
    objects = store_here()
    one, other = (_opened(objects, run, step) for run, step in _two(names))
    with progress("comparing") as told:
        found = compare(one, other, told)
    equal = all(leaf.verdict is Verdict.EQUAL for leaf in found)
    if as_json:
        print_json({"equal": equal, "leaves": found})
        return 0 if equal else 1
    rows = [row for part in dict.fromkeys(leaf.part for leaf in found) for row in _part_rows(part, found)]
    print_table(("PATH", "VERDICT", "DETAIL"), rows)
    say(styled("equal in every bit" if equal else "they differ", sys.stderr, bold=True))
    return 0 if equal else 1


def _two(names: tuple[str, ...]) -> list[tuple[str, int | None]]:
    match names:
        case (run, first, second) if "@" not in run:
            return [run_and_step(f"{run}@{first}"), run_and_step(f"{run}@{second}")]
        case (first, second):
            return [run_and_step(first), run_and_step(second)]
        case _:
            raise UsageError("two checkpoints can be compared", "", "write RUN STEP STEP, or RUN@STEP RUN@STEP")


def _opened(objects: Objects, run: str, step: int | None) -> Checkpoint:
    head_of(objects, run)
    return open_checkpoint(objects, run, step)


def _part_rows(part: str, found: Sequence[Compared]) -> list[list[str]]:
    """What differs in a part, one row each, and the rest in one."""
    leaves = [leaf for leaf in found if leaf.part == part]
    verdicts = {leaf.verdict for leaf in leaves}
    if len(verdicts) == 1 and verdicts != {Verdict.DIFFERS}:
        return [[part, _WORDS[verdicts.pop()], f"all {len(leaves)}"]]
    rows = [[leaf.path, _WORDS[leaf.verdict], _detail(leaf)] for leaf in leaves if leaf.verdict != Verdict.EQUAL]
    if same := len(leaves) - len(rows):
        rows.append([part, _WORDS[Verdict.EQUAL], f"the other {same} of {len(leaves)}"])
    return rows


def _detail(leaf: Compared) -> str:
    if leaf.forms is not None:
        return " -> ".join(leaf.forms)
    if leaf.elements is None:
        return ""
    most = "" if leaf.largest is None else f", by at most {leaf.largest:.3g}"
    if leaf.largest is not None and math.isnan(leaf.largest):
        most = ", NaN among them"
    return f"{leaf.elements} of {leaf.of} elements{most}"
