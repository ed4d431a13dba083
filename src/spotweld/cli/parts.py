"""What the verbs about runs have in common: the project's event log, store and provider, and which run is meant."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from spotweld.cli.session import open_project
from spotweld.errors import UsageError
from spotweld.project.words import nearest, quoted
from spotweld.providers.opening import open_provider
from spotweld.runs.drive import log_path
from spotweld.runs.log import EventLog
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.project.nouns import Project
    from spotweld.providers.provider import Provider
    from spotweld.runs.states import RunState
    from spotweld.store.objects import Objects


@dataclass(frozen=True)
class Known:
    """A run of this project, and where it lives."""

    project: Project
    log: EventLog
    state: RunState

    @property
    def run(self) -> str:
        """Its id."""
        return self.state.run

    def objects(self) -> Objects:
        """The run's store: the one it was opened with, whatever the project file says now."""
        return open_store(self.state.store, verify=False)

    def provider(self) -> Provider:
        """Where its machines are."""
        return open_provider(self.project.state, self.state.local)


def open_log(project: Project) -> EventLog:
    """The project's event log."""
    return EventLog(log_path(project.state))


def known_run(name: str | None) -> Known:
    """The run that is meant: the named one, or the newest.

    Raises:
        UsageError: there is none, or none of that name.
    """
    project, _ = open_project()
    log = open_log(project)
    runs = log.runs()
    if not runs:
        raise UsageError("this project has no runs yet", "", "begin one with: spotweld launch")
    if name is not None and name not in runs:
        near = nearest(name, runs)
        todo = f"did you mean {near}?" if near else "`spotweld status` lists the runs of this project"
        raise UsageError(f"there is no run {quoted(name)}", "", todo)
    return Known(project, log, log.state(name or runs[0]))


def run_argument(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Let a verb take a run's name; without one the newest run is meant. It arrives as ``name``."""
    return click.argument("name", metavar="[RUN]", required=False, shell_complete=_complete)(verb)


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask on a terminal; elsewhere ``-y`` has to have been said.

    Raises:
        UsageError: nobody can be asked.
    """
    if yes:
        return True
    # Python has no stdin at all where its descriptor was closed.
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("nobody can be asked here", "standard input is not a terminal", "say yes beforehand with -y")
    return click.confirm(question, default=True, err=True)


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    try:
        with context.scope(cleanup=False):
            project, _ = open_project()
        return [run for run in open_log(project).runs() if run.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - completion has nobody to tell
        return []
