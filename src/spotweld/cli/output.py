"""How verbs speak: data on stdout, everything else on stderr, colour only for people."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import msgspec

from spotweld.project.settings import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at ``stream``: only there may lines redraw themselves."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_coloured(stream: TextIO) -> bool:
    """Whether to colour what goes to ``stream``: on a terminal, unless ``NO_COLOR`` is set (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def progress_mode(progress: str) -> Progress:
    """The mode that ``auto`` stands for here, by what stderr is; the others stand for themselves."""
    if progress != Progress.AUTO:
        return Progress(progress)
    return Progress.TTY if is_terminal(sys.stderr) else Progress.PLAIN


def json_bytes(value: Any) -> bytes:  # noqa: ANN401 - everything that msgspec encodes
    """``value`` as one line of JSON; amounts of money and paths become text."""
    return msgspec.json.encode(value, enc_hook=_plain)


def print_json(value: Any) -> None:  # noqa: ANN401 - see json_bytes
    """Print ``value`` on stdout as JSON, indented on a terminal and on one line elsewhere."""
    data = json_bytes(value)
    click.echo(msgspec.json.format(data, indent=2) if is_terminal(sys.stdout) else data)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows on stdout under a heading, each column as wide as it needs.

    Args:
        columns: the headings.
        rows: plain text, one cell per column; nothing in it is taken for markup.
        right: the positions of the columns that are aligned to the right, such as numbers.
    """
    from rich.console import Console  # noqa: PLC0415 - takes 60 ms to import, and most verbs print no table
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if is_terminal(sys.stdout):
        Console(file=sys.stdout, no_color=not is_coloured(sys.stdout), highlight=False).print(table)
        return
    # A pipe has no width at which a line would have to be broken.
    console = Console(file=io.StringIO(), no_color=True, width=100_000, highlight=False)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def say(text: str) -> None:
    """Print a line for people on stderr."""
    click.echo(text, err=True)


def say_changed(what: str, then: str) -> None:
    """Say on stderr what was changed, and the command to type next."""
    say(what)
    say(f"next: {styled(then, sys.stderr, bold=True)}")


def styled(text: str, stream: TextIO, **style: Any) -> str:  # noqa: ANN401 - click.style's keywords
    """``text`` with click's styles, if it goes to somebody who sees them."""
    return click.style(text, **style) if is_coloured(stream) else text


def _plain(value: Any) -> str:  # noqa: ANN401 - msgspec calls it with what it does not know
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
