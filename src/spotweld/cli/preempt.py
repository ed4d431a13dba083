"""``spotweld preempt``."""

from __future__ import annotations

import click

from spotweld.cli.output import say_changed
from spotweld.cli.parts import known_run, run_argument
from spotweld.errors import UsageError
from spotweld.values.durations import format_duration, parse_duration


@click.command
@run_argument
@click.option(
    "--notice", default="30s", metavar="TIME", help="How long before the end to warn (default 30s), or `none`."
)
def command(name: str | None, notice: str) -> None:
    """Take a run's machine away, as its provider would: a drill.

    The run does not know that it is one. Nothing but the work since its newest checkpoint can be lost.
    """
    seconds = _seconds(notice)
    known = known_run(name)
    attempt = known.state.current
    if attempt is None or attempt.machine is None:
        raise UsageError(
            f"the run {known.run} has no machine now",
            f"it is {known.state.phase}",
            "`spotweld status` tells when it has",
        )
    known.provider().interrupt(attempt.machine, notice=seconds)
    when = "now" if seconds is None else f"in {format_duration(seconds)}"
    say_changed(f"machine {attempt.machine} goes {when}", f"spotweld watch {known.run}")


def _seconds(notice: str) -> float | None:
    if notice == "none":
        return None
    try:
        return parse_duration(notice)
    except ValueError as error:
        raise UsageError(f"--notice: {error}", "", "write a duration such as 30s, or none") from None
