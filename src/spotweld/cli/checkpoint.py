"""``spotweld checkpoint``: the verbs about what is stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from spotweld.checkpoint.restoring import read_manifest
from spotweld.checkpoint.scrubbing import spots
from spotweld.cli.carrying import export_verb, import_verb
from spotweld.cli.inspecting import diff_verb, verify_verb
from spotweld.cli.output import print_json, print_table, say
from spotweld.cli.session import json_option, store_option
from spotweld.cli.stores import complete_run, head_of, runs_in, store_here
from spotweld.errors import Corrupt, NotFound, UnknownFormat
from spotweld.store.heads import read_head
from spotweld.values.durations import format_duration
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.checkpoint.format import Manifest
    from spotweld.store.heads import Kept
    from spotweld.store.objects import Meta, Objects


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, verify, compare, export and import checkpoints.

    The store is the one that --store names, else the project's, else file:.spotweld/store. Nothing but import writes,
    and that makes a new run: no verb here disturbs a run that is at work.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


command.add_command(verify_verb)
command.add_command(diff_verb)
command.add_command(export_verb)
command.add_command(import_verb)


@command.command("ls", short_help="List the runs in the store, or a run's checkpoints.")
@click.argument("run", metavar="[RUN]", required=False, shell_complete=complete_run)
@store_option
@json_option
def list_verb(run: str | None, *, as_json: bool) -> None:
    """List the runs in the store; with a run's name, its checkpoints.

    ALONE is what only this checkpoint needs of the store, SHARED what others of the run need, too.

    \b
    With --json: a list of {run, steps, newest, stored, saved, damage}; with
    a run's name, of {step, saved, size, alone, shared, codecs, attempt,
    epoch, damage}, newest first. Sizes are bytes, codecs the stored bytes by
    codec, times seconds since 1970 UTC. "damage" says what cannot be read;
    null: nothing that was looked at.
    """
    objects = store_here()
    rows = _runs(objects) if run is None else _checkpoints(objects, run)
    if as_json:
        print_json(rows)
    elif run is not None:
        columns = ("STEP", "AGE", "SIZE", "ALONE", "SHARED", "CODECS", "ATTEMPT", "EPOCH")
        print_table(columns, [_checkpoint_row(row) for row in rows], right=(0, 1, 2, 3, 4, 6, 7))
    elif rows:
        print_table(("RUN", "STEPS", "NEWEST", "STORED", "AGE"), [_run_row(row) for row in rows], right=(2, 3, 4))
    else:
        say(f"there are no runs in {objects.url}")
    for row in rows if not as_json else ():
        if row["damage"]:
            say(f"{row.get('run', run)}{'' if run is None else '@' + str(row['step'])}: {row['damage']}")


def _runs(objects: Objects) -> list[dict[str, Any]]:
    rows = [_run(objects, run, metas) for run, metas in runs_in(objects).items()]
    return sorted(rows, key=lambda row: -(row["saved"] or 0))


def _run(objects: Objects, run: str, metas: list[Meta]) -> dict[str, Any]:
    kept: tuple[Kept, ...] = ()
    damage = None
    try:
        head = read_head(objects, run)
        kept = head.kept if head is not None else ()
    except (Corrupt, UnknownFormat) as error:
        damage = str(error)
    folders = (f"runs/{run}/packs/", f"runs/{run}/manifests/")
    return {
        "run": run,
        "steps": [one.step for one in kept],
        "newest": kept[0].step if kept else None,
        "stored": sum(meta.size for meta in metas if meta.key.startswith(folders)),
        "saved": kept[0].saved if kept else None,
        "damage": damage,
    }


def _checkpoints(objects: Objects, run: str) -> list[dict[str, Any]]:
    kept = head_of(objects, run).kept
    manifests: dict[str, Manifest] = {}
    damage: dict[str, str] = {}
    for one in kept:
        try:
            manifests[one.key] = read_manifest(objects, run, one)
        except (Corrupt, NotFound, UnknownFormat) as error:
            damage[one.key] = str(error)
    if damage:
        # What the run has let go of since is not damaged, and not there any more.
        current = {one.key for one in head_of(objects, run).kept}
        kept = tuple(one for one in kept if one.key in manifests or one.key in current)
    stored = {key: _stored(manifest) for key, manifest in manifests.items()}
    users: dict[tuple[str, int], int] = {}
    for spot in (spot for spots_of in stored.values() for spot in spots_of):
        users[spot] = users.get(spot, 0) + 1
    rows = []
    for one in kept:
        row: dict[str, Any] = {"step": one.step, "saved": one.saved, "damage": damage.get(one.key)}
        if one.key in manifests:
            manifest, sizes = manifests[one.key], stored[one.key]
            alone = sum(size for spot, (size, _) in sizes.items() if users[spot] == 1)
            codecs: dict[str, int] = {}
            for size, codec in sizes.values():
                codecs[codec] = codecs.get(codec, 0) + size
            row |= {
                "size": sum(leaf.size for leaf in manifest.leaves),
                "alone": alone,
                "shared": sum(codecs.values()) - alone,
                "codecs": codecs,
                "attempt": manifest.attempt,
                "epoch": manifest.epoch,
            }
        rows.append(row)
    return rows


def _stored(manifest: Manifest) -> Mapping[tuple[str, int], tuple[int, str]]:
    """The size and the codec of every piece of a pack that a checkpoint needs, bases among them."""
    chunks = [one for chunk in spots(manifest).values() for one in (chunk, chunk.base) if one is not None]
    return {(manifest.packs[one.pack].key, one.offset): (one.stored, one.codec) for one in chunks}


def _run_row(row: dict[str, Any]) -> list[str]:
    steps = [str(step) for step in row["steps"]]
    return [
        row["run"],
        ", ".join(steps[:5] + ["..."] * (len(steps) > 5)) or "-",
        steps[0] if steps else "-",
        format_size(row["stored"]),
        _age(row["saved"]),
    ]


def _checkpoint_row(row: dict[str, Any]) -> list[str]:
    if "size" not in row:
        return [str(row["step"]), _age(row["saved"]), "-", "-", "-", "damaged", "-", "-"]
    total = sum(row["codecs"].values()) or 1
    mix = sorted(row["codecs"].items(), key=lambda item: -item[1])
    codecs = ", ".join(f"{codec} {100 * size / total:.0f}%" if len(mix) > 1 else codec for codec, size in mix)
    sizes = [format_size(row[name]) for name in ("size", "alone", "shared")]
    writer = [str(row["attempt"] or "-"), str(row["epoch"])]
    return [str(row["step"]), _age(row["saved"]), *sizes, codecs or "-", *writer]


def _age(saved: float | None) -> str:
    return "-" if saved is None else format_duration(max(0.0, time.time() - saved))
