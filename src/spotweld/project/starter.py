"""What ``spotweld init`` writes."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

from spotweld.errors import UsageError
from spotweld.project.nodes import Kind, kind_of
from spotweld.project.reading import FILE_NAME
from spotweld.project.schema import schema_json

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "name: my-project"


def starter(name: str) -> str:
    """A commented project file for a project of this name."""
    text = files("spotweld.project").joinpath("starter.yaml").read_text(encoding="utf-8")
    shown = name if kind_of(name) is Kind.TEXT else f'"{name}"'
    return text.replace(_NAME, f"name: {shown}", 1)


def name_for(folder: Path) -> str:
    """A project name made from the folder's: ``My Digits!`` gives ``my-digits``."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower())
    return re.sub(r"^[^a-z0-9]+", "", plain)[:63].rstrip("-_") or "my-project"


def write_starter(folder: Path) -> list[Path]:
    """Write a project file, the schema that it names, and a rule that keeps ``.spotweld`` out of git.

    Returns:
        The files that were written.

    Raises:
        UsageError: there is a project file, which is not changed, or the folder cannot be written. No project file is
            made then.
    """
    project, state = folder / FILE_NAME, folder / ".spotweld"
    try:
        stream = project.open("x", encoding="utf-8")
    except FileExistsError:
        what, why = f"{project} is there already", "init does not overwrite a project file; nothing was changed"
        raise UsageError(what, why, "see what it would do with: spotweld plan") from None
    except OSError as error:
        raise UsageError(f"{project} cannot be written", error.strerror or str(error)) from None
    try:
        with stream:
            stream.write(starter(name_for(folder)))
        state.mkdir(exist_ok=True)
        for name, text in (("schema.json", schema_json()), (".gitignore", "*\n")):
            (state / name).write_text(text, encoding="utf-8")
    except OSError as error:
        # What is left of it would keep the next init from writing a whole one.
        project.unlink(missing_ok=True)
        raise UsageError(f"{error.filename or project} cannot be written", error.strerror or str(error)) from None
    return [project, state / "schema.json", state / ".gitignore"]
