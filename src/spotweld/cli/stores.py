"""What the verbs about checkpoints have in common: which store and which run is meant, and how long work is shown."""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spotweld.checkpoint.opened import published
from spotweld.cli.output import is_coloured, json_bytes, progress_mode, say
from spotweld.cli.session import session
from spotweld.errors import UsageError
from spotweld.project.reading import find_project, seek_project
from spotweld.project.settings import Progress, settings
from spotweld.project.words import nearest, quoted
from spotweld.store.opening import open_store
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.project.settings import Setting
    from spotweld.store.heads import Head
    from spotweld.store.objects import Meta, Objects

_EVERY = 5.0
"""Seconds between two lines off a terminal."""


def found_settings() -> dict[str, Setting]:
    """The settings, with or without a project file: a store can be looked at from anywhere."""
    known = session()
    project: Path | None = None
    if known.project is not None:
        project = find_project(known.project)
    elif not known.flags.get("store"):
        project = seek_project(Path.cwd())
    return settings(project, known.flags)[1]


def store_here() -> Objects:
    """The store that is meant."""
    return open_store(found_settings()["store"].value, verify=False)


def runs_in(objects: Objects) -> dict[str, list[Meta]]:
    """What the store holds, by run."""
    runs: dict[str, list[Meta]] = {}
    for meta in objects.list("runs/"):
        runs.setdefault(meta.key.split("/")[1], []).append(meta)
    return {run: metas for run, metas in runs.items() if any(meta.key == f"runs/{run}/head" for meta in metas)}


def head_of(objects: Objects, run: str) -> Head:
    """The head of a run with checkpoints.

    Raises:
        UsageError: there is none; the message names what is near.
    """
    try:
        return published(objects, run)
    except UsageError as error:
        known = runs_in(objects)
        if run in known:
            raise
        near = nearest(run, known)
        todo = f"did you mean {near}?" if near else "see: spotweld checkpoint ls"
        raise UsageError(error.what, error.why, todo) from None


def run_and_step(text: str, step: int | None = None) -> tuple[str, int | None]:
    """What ``RUN`` or ``RUN@STEP`` names.

    Raises:
        UsageError: the step is no number, or is said twice.
    """
    run, at, number = text.partition("@")
    if not at:
        return run, step
    # Eighteen digits are more than any step has, and int() of thousands of them raises.
    if not re.fullmatch("[0-9]{1,18}", number) or (step is not None and step != int(number)):
        raise UsageError(f"{quoted(text)} names no checkpoint", "", "write RUN@STEP, such as default@1200")
    return run, int(number)


def run_argument(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take a run of the store; it arrives as ``run``."""
    return click.argument("run", metavar="RUN", shell_complete=complete_run)(verb)


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """Runs in the store, if that is a folder: nobody waits for a network at each key."""
    try:
        with context.scope(cleanup=False):
            objects = store_here()
        names = sorted(runs_in(objects)) if objects.url.startswith("file:") else []
    except Exception:  # noqa: BLE001 - completion has nobody to tell
        return []
    return [name for name in names if name.startswith(incomplete)]


@contextmanager
def progress(label: str, noun: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show how far long work is, on stderr; gives a function that takes the bytes done and the bytes of all.

    Args:
        label: the work.
        noun: what is counted instead of bytes, in the plural.
    """
    mode = progress_mode(found_settings()["progress"].value)
    if mode == Progress.TTY:
        with _bar(label, noun) as told:
            yield told
        return
    at = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal at
        if mode == Progress.QUIET or time.monotonic() - at < _EVERY:
            return
        at = time.monotonic()
        if mode == Progress.RAWJSON:
            say(json_bytes({"work": label, "done": done, "total": total}).decode())
        elif noun:
            say(f"{label}: {done} of {total} {noun}")
        else:
            say(f"{label}: {format_size(done)} of {format_size(total)}")

    yield line


@contextmanager
def _bar(label: str, noun: str) -> Iterator[Callable[[int, int], None]]:
    from rich import progress as shown  # noqa: PLC0415 - 60 ms that only terminals need
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=sys.stderr, no_color=not is_coloured(sys.stderr), highlight=False)
    amount: tuple[shown.ProgressColumn, ...] = (shown.DownloadColumn(), shown.TransferSpeedColumn())
    if noun:
        amount = (shown.MofNCompleteColumn(), shown.TextColumn(noun))
    columns = (shown.TextColumn(label), shown.BarColumn(bar_width=24), *amount, shown.TimeRemainingColumn())
    with shown.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
