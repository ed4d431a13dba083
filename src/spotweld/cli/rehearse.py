"""``spotweld rehearse``."""

from __future__ import annotations

import queue
import sys
import threading
from typing import TYPE_CHECKING

import click

from spotweld.cli.launch import watch
from spotweld.cli.output import say
from spotweld.cli.parts import Known, known_run, open_log, run_argument
from spotweld.cli.session import open_project, progress_option
from spotweld.errors import UsageError
from spotweld.providers.local.cloud import LocalCloud
from spotweld.rehearsal.drills import Drill, Range, Struck, rehearse
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from pathlib import Path


_FAREWELL = 5.0
"""Seconds in which the drills notice that the run has ended."""


@click.command
@run_argument
@click.option(
    "--drill",
    "drills",
    multiple=True,
    type=click.Choice([str(drill) for drill in Drill]),
    help="Only these, in this order; all five if left out.",
)
@progress_option
def command(name: str | None, drills: tuple[str, ...]) -> None:
    """Fire drills at a run and follow it to its end: does it survive them?

    The machine is taken away with notice, with too short a notice, without any, in the middle of a save, and once with
    a bit of the newest checkpoint flipped. Each waits until there is work to lose. Exits with 1 if the run ended before
    all of them hit. Compare the result with an undisturbed run: spotweld report RUN --against OTHER.
    """
    _, found = open_project()
    known = known_run(name)
    if known.state.outcome is not None:
        raise UsageError(f"the run {known.run} has ended", "", "launch another one with --detach")
    wanted = [Drill(drill) for drill in drills] or list(Drill)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    struck: list[Struck] = []
    # A daemon: once the run has ended there is nothing left to strike.
    range_master = threading.Thread(target=_fire, args=(known, wanted, lines, struck), daemon=True)
    range_master.start()
    try:
        watch(known, found["progress"].value, lambda: [lines.get() for _ in range(lines.qsize())])
    except SystemExit as end:
        range_master.join(_FAREWELL if known.log.state(known.run).outcome is not None else 0)
        for line in (lines.get() for _ in range(lines.qsize())):
            say(line)
        say(f"{len(struck)} of {len(wanted)} drills hit")
        sys.exit(end.code or int(len(struck) < len(wanted)))


def _fire(known: Known, drills: list[Drill], lines: queue.SimpleQueue[str], struck: list[Struck]) -> None:
    provider = known.provider()

    def events_file(machine: str) -> Path | None:
        disk = provider.disk(machine) if isinstance(provider, LocalCloud) else None
        return disk / "events.jsonl" if disk is not None else None

    log = open_log(known.project)
    under_fire = Range(known.run, log, known.objects(), provider, events_file, SystemClock())
    try:
        for one in rehearse(under_fire, drills):
            where = f" {one.detail}" if one.detail else ""
            if one.missed:
                lines.put(f"{'':14} drill {one.drill} missed at attempt {one.attempt}{where}: {one.missed}")
                continue
            struck.append(one)
            lines.put(f"{'':14} drill {one.drill} hit attempt {one.attempt} at step {one.step}{where}")
    except Exception as error:  # noqa: BLE001  a thread has nobody else to tell
        lines.put(f"{'':14} no more drills: {error}")
