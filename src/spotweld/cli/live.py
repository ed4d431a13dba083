"""Following a run on a terminal or off one, until it ends."""

from __future__ import annotations

import sys
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from spotweld.checkpoint import events as told
from spotweld.cli.output import is_coloured, json_bytes, progress_mode, say
from spotweld.cli.telling import INDENT, Teller
from spotweld.errors import RunError, StoreError
from spotweld.project.settings import Progress
from spotweld.report.markup import clean
from spotweld.report.words import count
from spotweld.runs import events as logged
from spotweld.runs.accounts import spent
from spotweld.runs.drive import controller_log, ensure_driven
from spotweld.runs.following import Follower
from spotweld.values.money import format_money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spotweld.cli.parts import Known
    from spotweld.runs.events import Outcome
    from spotweld.runs.following import Happening

_LOOK = 0.1
_DRIVEN_EVERY = 2.0
_PLAIN_EVERY = 5.0
_AFTER_A_FAULT = 1.0
_DRAW = 0.2
_BAR = 16
_MOST_STARTS = 5
"""Controllers in a row that died without having done anything, after which something is wrong for good."""


class Show(Protocol):
    """A way to show progress."""

    def happened(self, happening: Happening, line: str | None) -> None:
        """Something happened; ``line`` tells it to people."""

    def aside(self, line: str) -> None:
        """Something else to say."""

    def refresh(self, teller: Teller) -> None:
        """Called several times a second."""


def follow(known: Known, progress: str, asides: Callable[[], list[str]] = list) -> Outcome:
    """Show what happens in the run until it ends; keeps a controller at work on it.

    Args:
        known: the run.
        progress: how to show it (``project.settings.Progress``).
        asides: gives lines that are to be shown between those of the run.
    """
    follower = Follower(known.run, known.log, known.objects())
    teller = Teller()
    looked, starts, trouble = float("-inf"), 0, ""
    with _show(progress) as show:
        while True:
            if time.monotonic() - looked > _DRIVEN_EVERY:
                looked = time.monotonic()
                starts += ensure_driven(known.project.state, known.run)
                if starts > _MOST_STARTS:
                    raise RunError(
                        f"the controller of {known.run} ends as soon as it is started",
                        "",
                        f"see {controller_log(known.project.state, known.run)}",
                    )
            try:
                happenings = follower.poll()
            except StoreError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    show.aside(f"{error}; trying again")
                time.sleep(_AFTER_A_FAULT)
                continue
            trouble = ""
            starts = starts if not happenings else 0
            for happening in happenings:
                show.happened(happening, teller.tell(happening))
            for line in asides():
                show.aside(line)
            show.refresh(teller)
            if teller.state is not None and teller.state.outcome is not None:
                return teller.state.outcome
            time.sleep(_LOOK)


def machine_line(teller: Teller) -> str:
    """Where the run is, and what it has cost so far."""
    state = teller.state
    if state is None:
        return ""
    if state.current is None:
        parts = [state.phase]
    else:
        offer = state.current.offer
        parts = [f"#{state.current.number} {offer.zone} {offer.capacity_type} {format_money(offer.hourly)}/h"]
    cost = spent(state, time.time())
    return " | ".join([*parts, format_money(cost)] if cost is not None else parts)


def work_line(teller: Teller) -> str:
    """The program's first two figures, and what it has been through."""
    attempts = teller.state.attempts if teller.state is not None else ()
    interruptions = sum(1 for attempt in attempts if attempt.cause is not None and attempt.cause.interruption)
    figures = [f"{clean(name)} {value:.4g}" for name, value in sorted(teller.metrics.items())[:2]]
    counts = [count(interruptions, "interruption"), count(teller.saves, "save"), f"{count(teller.lost, 'step')} redone"]
    counts += [f"durable to step {teller.durable:,}"] if teller.durable is not None else []
    return " | ".join([*figures, ", ".join(counts)])


class _Plain:
    """A line for each thing that happens, and now and then one that says how far it is."""

    def __init__(self) -> None:
        self._next = 0.0
        self._step = -1

    def happened(self, happening: Happening, line: str | None) -> None:  # noqa: ARG002 - one of several shows
        if line is not None:
            say(line)

    def aside(self, line: str) -> None:
        say(line)

    def refresh(self, teller: Teller) -> None:
        if time.monotonic() >= self._next and teller.total and teller.step != self._step:
            self._next = time.monotonic() + _PLAIN_EVERY
            self._step = teller.step
            say(f"{'':14} step {teller.step} of {teller.total} | {machine_line(teller)} | {work_line(teller)}")


class _RawJson:
    def happened(self, happening: Happening, line: str | None) -> None:  # noqa: ARG002 - one of several shows
        say(json_bytes(happening).decode())

    def aside(self, line: str) -> None:
        pass

    def refresh(self, teller: Teller) -> None:
        pass


class _Quiet:
    def happened(self, happening: Happening, line: str | None) -> None:
        pass

    def aside(self, line: str) -> None:
        pass

    def refresh(self, teller: Teller) -> None:
        pass


@contextmanager
def _show(progress: str) -> Iterator[Show]:
    match progress_mode(progress):
        case Progress.TTY:
            with _terminal() as show:
                yield show
        case Progress.RAWJSON:
            yield _RawJson()
        case Progress.QUIET:
            yield _Quiet()
        case _:
            yield _Plain()


@contextmanager
def _terminal() -> Iterator[Show]:
    """Two lines that stay at the bottom while others scroll above them."""
    from rich.console import Console, Group  # noqa: PLC0415 - 60 ms that only terminals need
    from rich.live import Live  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stderr, no_color=not is_coloured(sys.stderr), highlight=False)

    def bottom(teller: Teller) -> Group:
        first = Table.grid(padding=(0, 1))
        for width in (_BAR, None, None):
            first.add_column(width=width, no_wrap=True, overflow="ellipsis")
        steps = f"{teller.step}/{teller.total} steps" if teller.total else "not begun"
        bar = ProgressBar(total=teller.total or 1, completed=teller.step, width=_BAR, complete_style="cyan")
        first.add_row(bar, Text(steps), Text(f"| {machine_line(teller)}"))
        return Group(first, Text(work_line(teller), no_wrap=True, overflow="ellipsis"))

    with Live(console=console, transient=True, auto_refresh=False) as live:

        class Terminal:
            _next = 0.0

            def happened(self, happening: Happening, line: str | None) -> None:
                if line is not None:
                    console.print(Text(_hanging(line, console.width), style=_style(happening)))

            def aside(self, line: str) -> None:
                console.print(Text(_hanging(line, console.width), style="bold magenta"))

            def refresh(self, teller: Teller) -> None:
                if time.monotonic() >= self._next:
                    self._next = time.monotonic() + _DRAW
                    live.update(bottom(teller), refresh=True)

        yield Terminal()


def _hanging(line: str, width: int) -> str:
    """``line``, broken where the terminal ends, and indented below the text of its first line."""
    return "\n".join(textwrap.wrap(line, max(width, 40), subsequent_indent=" " * INDENT, break_on_hyphens=False))


def _style(happening: Happening) -> str:
    match happening.event:
        case (
            logged.AttemptEnded(cause=logged.Cause.DONE)
            | logged.Ended(outcome=logged.Outcome.DONE | logged.Outcome.LATE)
        ):
            return "green"
        case logged.AttemptEnded(cause=logged.Cause.NO_CAPACITY | logged.Cause.MOVED | logged.Cause.PASSED):
            return "yellow"
        case logged.Reopened():
            return "green"
        case logged.AttemptEnded() | logged.Ended() | told.SaveFailed() | told.Fenced():
            return "red"
        case told.Restored(damaged=damaged):
            return "red" if damaged else "green"
        case logged.Waiting() | told.Noticed() | told.Withdrawn() | told.Emergency() | told.Leaving():
            return "yellow"
        case told.Saved(reason="cadence") | told.Carried():
            return "dim"
        case _:
            return ""
