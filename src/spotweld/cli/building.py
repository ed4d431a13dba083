"""Showing a build while it goes on, on a terminal or off one."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spotweld.cli.courses import Course, follow
from spotweld.cli.imagery import in_words, short_place
from spotweld.cli.output import is_coloured, json_bytes, progress_mode, say
from spotweld.images.builds.happenings import Begun, Failed, Published, Ran, Warned
from spotweld.images.steps.mounts import unmounted
from spotweld.project.settings import Progress
from spotweld.report.markup import clean
from spotweld.report.words import count
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spotweld.images.builds.happenings import Built, Happening, Watch

_BAR = 16
_DRAWS = 5
"""Times a second that a terminal is drawn."""


def summary(results: Sequence[Built]) -> str:
    """How it went: what was built, how much of it was there, and what that saved."""
    built = [one for one in results if one.built]
    hits, ran = sum(one.hits for one in built), sum(one.ran for one in built)
    saved = sum(one.saved for one in built)
    rate = f" ({100 * hits / (hits + ran):.0f} %)" if hits + ran else ""
    parts = [
        f"{count(len(built), 'image')} built, {len(results) - len(built)} there",
        f"{hits} of {count(hits + ran, 'instruction')} were there{rate}",
    ]
    if saved >= 1:
        parts.append(f"which saved {format_duration(saved)}")
    return "; ".join(parts)


def line_of(happening: Happening) -> tuple[str, str] | None:
    """The image, and the line that tells of it; None: there is nothing to tell."""
    match happening:
        case Begun(image=image, layers=layers, expected=expected, why=why):
            real = [layer for layer in layers if layer.number]
            misses = sum(not layer.hit for layer in real)
            again = f"{why}; " if why else ""
            return image, f"begins: {again}{misses} of {count(len(real), 'instruction')} to run, {in_words(expected)}"
        case Ran(image=image, outcome=outcome, seconds=seconds, text=text):
            return image, f"{outcome.upper():<6} {seconds:7.1f} s  {unmounted(text)[:90]}"
        case Published(built=built):
            how = f"built in {format_duration(built.seconds)}" if built.built else "was there"
            return built.image, f"{how}: {short_place(built.repository, built.tag)}"
        case Failed(image=image, code=code, what=what):
            return image, f"failed: {code} {what}"
        case Warned(image=image, what=what):
            return image, f"warning: {what}"
        case _:
            return None


@contextmanager
def watching(progress: str) -> Iterator[Watch]:
    """What shows the build's happenings, until the block ends."""
    match progress_mode(progress):
        case Progress.TTY:
            with _terminal() as watch:
                yield watch
        case Progress.RAWJSON:
            yield lambda happening: say(json_bytes(happening).decode())
        case Progress.QUIET:
            yield lambda _: None
        case _:
            yield _plain


def _plain(happening: Happening) -> None:
    told = line_of(happening)
    if told:
        say(f"{told[0]:<12}  {_flat(told[1])}")


def _flat(line: str) -> str:
    return " ".join(clean(line).splitlines())


@contextmanager
def _terminal() -> Iterator[Watch]:
    """A bar for each image that is being built, below the lines of what happens."""
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only terminals need
    from rich.live import Live  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stderr, no_color=not is_coloured(sys.stderr), highlight=False)
    courses: dict[str, Course] = {}
    lock = threading.Lock()

    class Bars:
        def __rich__(self) -> Table:
            table = Table.grid(padding=(0, 1), expand=True)
            table.add_column(no_wrap=True, min_width=max((len(name) for name in courses), default=0))
            table.add_column(no_wrap=True, min_width=_BAR)
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
            now = time.monotonic()
            with lock:
                for one in courses.values():
                    bar = ProgressBar(total=1.0, completed=one.share(now), width=_BAR, complete_style="cyan")
                    state = f"{one.done}/{one.count}  {one.when(now)}  {_flat(one.last)}"
                    table.add_row(Text(one.image), bar, Text(state))
            return table

    def watch(happening: Happening) -> None:
        with lock:
            follow(courses, happening, time.monotonic())
        told = line_of(happening)
        if told:
            console.print(Text(f"{told[0]:<12}  {_flat(told[1])}", style=_style(happening)))

    with Live(Bars(), console=console, transient=True, refresh_per_second=_DRAWS):
        yield watch


def _style(happening: Happening) -> str:
    match happening:
        case Ran(outcome="hit"):
            return "dim"
        case Ran(outcome="failed") | Failed():
            return "red"
        case Published():
            return "green"
        case Warned():
            return "yellow"
        case _:
            return ""
