"""``spotweld explain``."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from spotweld.cli.imagery import complete_image
from spotweld.cli.output import print_json, print_table
from spotweld.cli.session import json_option, open_project, store_option
from spotweld.errors import ProjectError, UsageError, catalogue
from spotweld.project.words import nearest, quoted

if TYPE_CHECKING:
    from collections.abc import Collection

    from spotweld.errors import SpotweldError
    from spotweld.project.nouns import Image

_CODE = re.compile(r"[Ss][Ww]\d+")


@click.command()
@click.argument("what", metavar="[CODE | IMAGE]", required=False, shell_complete=complete_image)
@store_option
@json_option
def command(*, what: str | None, as_json: bool) -> None:
    """Explain an error code such as SW1101, or what a build does with an image; without either, list all codes.

    For an image: each instruction with HIT (its result is there, and from which build) or MISS, and the first input
    that differs. Of a fresh image, how its last build went.

    \b
    With --json: {"code", "name", "exit_status", "text"}, or {"image", "fresh",
    "tag", "digest", "layers": [{stage, line, text, hit, source, why, ...}]}.
    """
    known = catalogue()
    if what is None:
        rows = [(name, str(kind.exit_status), _text(kind).splitlines()[0]) for name, kind in known.items()]
        if as_json:
            print_json([{"code": name, "exit_status": int(status), "what": what} for name, status, what in rows])
        else:
            print_table(("code", "exit", "what"), rows, right=(1,))
        return
    name = what.upper()
    if name not in known:
        _explain_image(what, known, as_json=as_json)
        return
    kind = known[name]
    if as_json:
        text = _text(kind)
        print_json({"code": name, "name": kind.__name__, "exit_status": kind.exit_status, "text": text})
        return
    click.echo(f"{name} {kind.__name__} (exit status {kind.exit_status})\n\n{_text(kind)}")


def _explain_image(name: str, codes: Collection[str], *, as_json: bool) -> None:
    images: dict[str, Image] = {}
    if not _CODE.fullmatch(name):
        # A misspelt code is to be told also where there is no project.
        with suppress(ProjectError):
            project, _ = open_project()
            images = project.images
    if name in images:
        from spotweld.cli.layering import explain_image  # noqa: PLC0415 - error codes need none of it

        explain_image(project, name, as_json=as_json)
        return
    near = nearest(name, images) or nearest(name.upper(), codes)
    what = "error code" if _CODE.fullmatch(name) or not images else "error code and no image"
    todo = f"did you mean {near}?" if near else "list them all with: spotweld explain"
    raise UsageError(f"there is no {what} {quoted(name)}", "", todo)


def _text(kind: type[SpotweldError]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:")[0].replace("``", "")
