"""How a verb's failure ends: three short lines and an exit status."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path

import click

from spotweld.cli.output import json_bytes, say, styled
from spotweld.errors import DockerfileError, ProjectError, SpotweldError, SystemRefused, Unexpected, UsageError
from spotweld.project.words import quoted
from spotweld.values.advice import ADVICE

DEBUG = "SPOTWELD_DEBUG"


def explained(error: Exception) -> SpotweldError:
    """Any exception as one that says what, why and what to do."""
    if isinstance(error, SpotweldError):
        return error
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "spotweld"
        return UsageError(error.format_message().rstrip("."), "", f"see: {path} --help")
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message())
    if isinstance(error, OSError) and error.errno in ADVICE:
        what = f"{quoted(str(error.filename), 200)} was refused" if error.filename else "the system refused"
        return SystemRefused(what, f"{error.strerror} ({errno.errorcode[error.errno]})", ADVICE[error.errno])
    text = quoted(str(error).strip(), 200)[1:-1]
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Unexpected(f"Spotweld failed: {shown}", "", f"set {DEBUG}=1 to see where, and report it")


def report(error: Exception, *, as_json: bool) -> int:
    """Print ``error`` on stderr.

    Returns:
        The exit status that belongs to it.
    """
    known = explained(error)
    if os.environ.get(DEBUG):
        say("".join(traceback.format_exception(error)).rstrip())
    if as_json:
        say(json_bytes({"error": _fields(known)}).decode())
        return known.exit_status
    label = styled("error", sys.stderr, fg="red", bold=True)
    place = _place(known)
    say(f"{label} {known.code}: {place + ': ' if place else ''}{known.what}")
    for line in (known.why, known.todo):
        if line:
            say(f"  {line}")
    return known.exit_status


def _fields(error: SpotweldError) -> dict[str, str | int]:
    fields: dict[str, str | int] = {"code": error.code, "what": error.what, "why": error.why, "todo": error.todo}
    if isinstance(error, ProjectError):
        fields |= {"file": error.file, "line": error.line, "column": error.column}
    elif isinstance(error, DockerfileError):
        fields |= {"file": error.file, "line": error.line}
    return fields


def _place(error: SpotweldError) -> str:
    if isinstance(error, DockerfileError):
        return f"{error.file}:{error.line}" if error.line else error.file
    if not isinstance(error, ProjectError) or not error.line:
        return ""
    path, here = Path(error.file), Path.cwd()
    name = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{name}:{error.line}:{error.column}" if error.column else f"{name}:{error.line}"
