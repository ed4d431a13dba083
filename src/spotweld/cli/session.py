"""What one call of the command line knows: which project, and what was said by flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from spotweld.project.reading import find_project
from spotweld.project.settings import Progress, Setting, settings
from spotweld.values.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.project.nouns import Project


class Session(msgspec.Struct):
    """The object that click carries from the group to the verb."""

    project: Path | None = None
    """``-C``: a project file, or a folder in or above which there is one."""
    flags: dict[str, str | None] = {}
    """Settings that were given as flags."""


def session() -> Session:
    """The session of the verb that runs."""
    return click.get_current_context().ensure_object(Session)


def project_file() -> Path:
    """The project file of this call.

    Raises:
        ProjectError: there is none.
    """
    return find_project(session().project or Path.cwd())


def open_project() -> tuple[Project, dict[str, Setting]]:
    """The project of this call with all settings applied, and the settings with their origins.

    Raises:
        ProjectError: there is none, or it is wrong.
        UsageError: a flag or an environment variable is wrong.
    """
    project, found = settings(project_file(), session().flags)
    assert project is not None  # noqa: S101 - settings() gives a project whenever it gets a file
    return project, found


def _keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).flags[str(parameter.name)] = value


def seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """An option's callback: a duration such as ``90m`` in seconds.

    Raises:
        BadParameter: it is none.
    """
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


def store_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take ``--store URL``."""
    about = "Where checkpoints live, instead of what the project file says."
    return click.option("--store", metavar="URL", callback=_keep, expose_value=False, help=about)(verb)


def progress_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take ``--progress MODE``."""
    modes = click.Choice([str(mode) for mode in Progress])
    about = "How progress is shown."
    return click.option("--progress", type=modes, callback=_keep, expose_value=False, help=about)(verb)


def json_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take ``--json``; it arrives as ``as_json``. Errors are JSON then, too."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and errors as JSON on stderr.")(
        verb
    )
