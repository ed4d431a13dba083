"""``spotweld explain``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from spotweld.cli.output import print_json, print_table
from spotweld.cli.session import json_option
from spotweld.errors import UsageError, catalogue
from spotweld.project.words import nearest, quoted

if TYPE_CHECKING:
    from spotweld.errors import SpotweldError


@click.command()
@click.argument("code", required=False)
@json_option
def command(*, code: str | None, as_json: bool) -> None:
    """Explain an error code such as SW1101; without one, list them all."""
    known = catalogue()
    if code is None:
        rows = [(name, str(kind.exit_status), _text(kind).splitlines()[0]) for name, kind in known.items()]
        if as_json:
            print_json([{"code": name, "exit_status": int(status), "what": what} for name, status, what in rows])
        else:
            print_table(("code", "exit", "what"), rows, right=(1,))
        return
    name = code.upper()
    if name not in known:
        near = nearest(name, known)
        todo = f"did you mean {near}?" if near else "list them all with: spotweld explain"
        raise UsageError(f"there is no error code {quoted(code)}", "", todo)
    kind = known[name]
    if as_json:
        text = _text(kind)
        print_json({"code": name, "name": kind.__name__, "exit_status": kind.exit_status, "text": text})
        return
    click.echo(f"{name} {kind.__name__} (exit status {kind.exit_status})\n\n{_text(kind)}")


def _text(kind: type[SpotweldError]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:")[0].replace("``", "")
