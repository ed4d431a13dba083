"""``spotweld checkpoint export`` and ``import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from spotweld.checkpoint.exporting import export
from spotweld.checkpoint.importing import publish, read_file
from spotweld.checkpoint.opened import open_checkpoint
from spotweld.checkpoint.scrubbing import scrub
from spotweld.cli.output import print_json, say, say_changed
from spotweld.cli.session import json_option, progress_option, store_option
from spotweld.cli.stores import head_of, progress, run_and_step, run_argument, store_here
from spotweld.errors import Corrupt
from spotweld.project.words import quoted
from spotweld.report.words import count
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("export", short_help="Write tensors to a safetensors file.")
@run_argument
@click.option("--step", type=click.IntRange(0), metavar="N", help="This checkpoint instead of the newest.")
@click.option("--to", "form", type=click.Choice(["safetensors"]), default="safetensors", help="The file's format.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", required=True, help="The file to write."
)
@click.option(
    "--only", multiple=True, metavar="PATH", help="Only this part, such as model or model.layer1; may be repeated."
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@store_option
@progress_option
@json_option
def export_verb(
    run: str,
    step: int | None,
    form: str,  # noqa: ARG001 - there is one so far
    output: Path,
    only: tuple[str, ...],
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Write a checkpoint's tensors to a safetensors file, for other programs.

    Tensors go under their paths (model.weight); with --only and one part, under what follows it (weight), as that
    module calls them. Plain values are in the file's metadata as JSON text.

    \b
    With --json: {file, run, step, size, tensors, values, as_bytes, renamed}.
    """
    run, step = run_and_step(run, step)
    objects = store_here()
    head_of(objects, run)
    checkpoint = open_checkpoint(objects, run, step)
    with progress(f"writing {output.name}") as told:
        done = export(checkpoint, output, only=list(only) or None, force=force, told=told)
    if as_json:
        print_json(done)
        return
    say(f"not in the file: the states of the random number generators; spotweld resumes from {run} only")
    if done.as_bytes:
        say(f"safetensors has no such dtype, so these are there as bytes: {_some(done.as_bytes)}")
    if done.renamed:
        say(f"others have the same name, so these got a number: {_some(done.renamed)}")
    say(
        f"{output}: {format_size(done.size)}, {count(done.tensors, 'tensor')}, {count(done.values, 'plain value')} "
        f"of step {done.step} of {run}"
    )


@click.command("import", short_help="Make a new run of a safetensors file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run", required=True, metavar="RUN", help="The name of the new run.")
@click.option("--part", metavar="PART", help="Take the tensors as they are, as the content of this part.")
@click.option("--step", type=click.IntRange(0), metavar="N", help="Steps finished; 0, or what an export says.")
@store_option
@progress_option
@json_option
def import_verb(file: Path, run: str, part: str | None, step: int | None, *, as_json: bool) -> None:
    """Make a new run of a safetensors file, to start a program from.

    A file that spotweld has exported becomes the state that it was. The tensors of any other file become the part
    "model", or the one that --part names. A run that exists is never touched. What was stored is read again and
    verified.

    \b
    With --json: {run, step, size, tensors, parts}.
    """
    found = read_file(file, part)
    objects = store_here()
    say(f"storing {format_size(found.size)}")
    publish(objects, run, found, found.step if step is None else step)
    checkpoint = open_checkpoint(objects, run)
    total, done = sum(chunk.stored for chunk in checkpoint.manifest.chunks), 0
    with progress(f"verifying {run}") as told:

        def add(size: int) -> None:
            nonlocal done
            done += size
            told(done, total)

        damage = scrub(objects, checkpoint.manifest, {}, add)
    if damage:
        raise Corrupt(
            f"What was stored of {quoted(str(file), 200)} is damaged already",
            f"{damage[0].leaf}: {damage[0].why}",
            f"Do not use the run {run}; look at the disk.",
        )
    names = list(dict.fromkeys(entry.part for entry in checkpoint.entries))
    if as_json:
        result = {"run": run, "step": checkpoint.step, "size": found.size, "tensors": len(found.leaves)}
        print_json(result | {"parts": names})
        return
    say_changed(
        f"the run {run} has {count(len(found.leaves), 'tensor')} in {_some(names)} at step {checkpoint.step}, verified",
        f"spotweld checkpoint ls {run}",
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(quoted(name, 80)[1:-1] for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
