"""``spotweld logs``."""

from __future__ import annotations

import sys
import time

import click

from spotweld.cli.output import say
from spotweld.cli.parts import known_run, run_argument
from spotweld.errors import StoreError, UsageError
from spotweld.runs.following import Output

_LOOK = 0.2


@click.command
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--attempt", type=int, metavar="N", help="Only this attempt.")
def command(name: str | None, attempt: int | None, *, follow: bool) -> None:
    """Print what a run's program wrote, over all attempts.

    The output goes to stdout as it is; the lines that say which attempt it is from go to stderr.
    """
    known = known_run(name)
    if attempt is not None and not 1 <= attempt <= len(known.state.attempts):
        raise UsageError(f"the run {known.run} has no attempt {attempt}", f"it has had {len(known.state.attempts)}")
    output = Output(known.run, known.objects(), attempt)
    said, trouble = 0, ""
    while True:
        # The state is read before the output: what an ended attempt wrote is complete.
        state = known.log.state(known.run)
        try:
            for number, data in output.read(state.attempts):
                if attempt is None and said != number:
                    said = number
                    say(f"--- attempt {said} ---")
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
        except StoreError as error:
            if not follow:
                raise
            if str(error) != trouble:
                trouble = str(error)
                say(f"{error}; trying again")
        else:
            if not follow or state.outcome is not None:
                return
        time.sleep(_LOOK)
