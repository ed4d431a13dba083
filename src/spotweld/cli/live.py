"""Following a run on a terminal or off one, until it ends."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from spotweld.checkpoint import events as told
from spotweld.cli.output import is_coloured, json_bytes, progress_mode, say
from spotweld.cli.telling import Teller
from spotweld.errors import RunError, StoreError
from spotweld.project.settings import Progress
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


def status_line(teller: Teller) -> str:
    """Machine, price, metrics: what stands behind the bar."""
    state = teller.state
    if state is None:
        return ""
    parts = []
    if state.current is not None:
        offer = state.current.offer
        parts.append(f"#{state.current.number} {offer.zone} {offer.capacity_type} {format_money(offer.hourly)}/h")
    else:
        parts.append(state.phase)
    parts += [f"{name} {value:.4g}" for name, value in sorted(teller.metrics.items())[:2]]
    interruptions = sum(1 for attempt in state.attempts if attempt.cause is not None and attempt.cause.interruption)
    parts.append(f"{interruptions} interruptions, {teller.saves} saves, {teller.lost} steps again")
    cost = spent(state, time.time())
    if cost is not None:
        parts.append(format_money(cost))
    return " | ".join(parts)


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
            say(f"{'':13} step {teller.step} of {teller.total} | {status_line(teller)}")


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
    """A bar that stays at the bottom while lines scroll above it."""
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only terminals need
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stderr, no_color=not is_coloured(sys.stderr), highlight=False)
    columns = (BarColumn(24), TextColumn("{task.completed}/{task.total} steps"), TextColumn("{task.description}"))
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None)

        class Terminal:
            def happened(self, happening: Happening, line: str | None) -> None:
                if line is not None:
                    console.print(Text(line, style=_style(happening)))

            def aside(self, line: str) -> None:
                console.print(Text(line, style="bold magenta"))

            def refresh(self, teller: Teller) -> None:
                status = Text(status_line(teller)).markup
                bars.update(task, total=teller.total or None, completed=teller.step, description=status)

        yield Terminal()


def _style(happening: Happening) -> str:
    match happening.event:
        case logged.AttemptEnded(cause=logged.Cause.DONE) | logged.Ended(outcome=logged.Outcome.DONE):
            return "green"
        case logged.AttemptEnded() | logged.Ended() | told.SaveFailed() | told.Fenced():
            return "red"
        case told.Restored(damaged=damaged):
            return "red" if damaged else "green"
        case logged.Waiting() | told.Noticed() | told.Withdrawn() | told.Emergency() | told.Leaving():
            return "yellow"
        case told.Saved(reason="cadence"):
            return "dim"
        case _:
            return ""
