"""``spotweld logs``."""

from __future__ import annotations

import sys
import time

import click

from spotweld.cli.output import say
from spotweld.cli.parts import known_run, run_argument
from spotweld.errors import UsageError
from spotweld.runs.shipping import Reader

_LOOK = 0.2


@click.command
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--attempt", type=int, metavar="N", help="Only this attempt.")
def command(name: str | None, attempt: int | None, *, follow: bool) -> None:
    """Print what a run's program wrote, over all attempts."""
    known = known_run(name)
    if attempt is not None and not 1 <= attempt <= len(known.state.attempts):
        raise UsageError(f"the run {known.run} has no attempt {attempt}", f"it has had {len(known.state.attempts)}")
    objects = known.objects()
    readers: dict[int, Reader] = {}
    said = 0
    while True:
        # The state is read before the output: what an ended run wrote is complete.
        state = known.log.state(known.run)
        for one in state.attempts:
            if attempt is not None and one.number != attempt:
                continue
            data = readers.setdefault(one.number, Reader(objects, known.run, one.number, "log")).read()
            if data and attempt is None and said != one.number:
                said = one.number
                say(f"--- attempt {said} ---")
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        if not follow or state.outcome is not None:
            return
        time.sleep(_LOOK)
