"""Settings: what may be said in more than one place, and which place had the last word.

Flags come before the environment, the environment before the project file, that before the user's own file, and that
before the defaults.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.errors import UsageError
from spotweld.project.keys import PROJECT
from spotweld.project.reading import load_with_lines, read_file
from spotweld.project.shapes import Choice, Key, Table
from spotweld.project.urls import DEFAULT_STORE, absolute_store, check_store
from spotweld.project.words import listed, quoted
from spotweld.values.environment import STORE
from spotweld.values.homes import own_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.project.nouns import Project


class Progress(StrEnum):
    """How progress is shown while something runs."""

    AUTO = "auto"
    """Like tty on a terminal, like plain elsewhere."""
    TTY = "tty"
    """Lines that redraw themselves."""
    PLAIN = "plain"
    """One line for each thing that happens."""
    QUIET = "quiet"
    """Nothing but errors."""
    RAWJSON = "rawjson"
    """One JSON object for each thing that happens."""


class Setting(msgspec.Struct, frozen=True):
    """A setting's value and where it was said."""

    name: str
    value: str
    origin: str
    """``flag --store``, ``SPOTWELD_STORE``, ``FILE:LINE`` or ``default``."""


PROGRESS_VARIABLE = "SPOTWELD_PROGRESS"
USER = Table(
    "a user file",
    {"store": PROJECT.keys["store"], "progress": Key(Choice(Progress), "How progress is shown.")},
    dict,
)
_VARIABLES = {"store": STORE, "progress": PROGRESS_VARIABLE}


def user_file(environ: Mapping[str, str]) -> Path:
    """Where the user's own settings stand, by the XDG base directory specification."""
    return own_folder(environ, "XDG_CONFIG_HOME", ".config") / "spotweld" / "config.yaml"


def settings(
    project_file: Path | None, flags: Mapping[str, str | None], environ: Mapping[str, str] = os.environ
) -> tuple[Project | None, dict[str, Setting]]:
    """The project with its settings applied, and every setting with its origin.

    Args:
        project_file: the project file; None: there is none, only the other places speak.
        flags: what was said on the command line, by the setting's name; None: nothing.
        environ: the environment.

    Raises:
        ProjectError: the project file or the user file is wrong.
        UsageError: a flag or a variable is wrong.
    """
    found = {
        "store": Setting("store", absolute_store(DEFAULT_STORE, Path.cwd()), "default"),
        "progress": Setting("progress", Progress.AUTO, "default"),
    }
    mine = user_file(environ)
    if _is_there(mine):
        values, lines, _ = read_file(mine, USER)
        if "store" in values:
            values["store"] = absolute_store(values["store"], mine.parent)
        found |= {name: Setting(name, str(value), f"{mine}:{lines[name]}") for name, value in values.items()}
    project = None
    if project_file is not None:
        project, lines = load_with_lines(project_file)
        if "store" in lines:
            found["store"] = Setting("store", project.store, f"{project.file}:{lines['store']}")
        elif found["store"].origin == "default":
            found["store"] = Setting("store", project.store, "default")
    for name, variable in _VARIABLES.items():
        if environ.get(variable):
            found[name] = _spoken(name, environ[variable], variable)
    for name, value in flags.items():
        if value is not None:
            found[name] = _spoken(name, value, f"flag --{name}")
    return (replace(project, store=found["store"].value) if project else None), found


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except PermissionError:
        # HOME is another user's, as where a container is run as somebody else: its settings are not ours.
        return False


def _spoken(name: str, value: str, origin: str) -> Setting:
    try:
        if name == "store":
            return Setting(name, absolute_store(check_store(value), Path.cwd()), origin)
        return Setting(name, Progress(value), origin)
    except ValueError as error:
        why = str(error) if name == "store" else f"it takes {listed(Progress)}"
        raise UsageError(f"{origin}: {quoted(value)} is not a value of {name}", why) from None
