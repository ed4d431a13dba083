"""``spotweld setup``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from spotweld.cli.output import print_json, say, say_changed, styled
from spotweld.cli.session import json_option, open_project, store_option
from spotweld.images.lifetimes.settling import Step, settle
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.project.nouns import Project


@click.command
@store_option
@json_option
def command(*, as_json: bool) -> int:
    """Make what the project's images need, and look at what is there.

    The store, both registries, and the record that protects each persistent image. What is there already is left as
    it is, so this may be called at any time, by several people at once.

    Exit status 0 when all is as it should be, else 1.

    \b
    With --json: {"changed", "ok", "steps": [{"of", "name", "ok", "changed",
    "what", "todo"}]}.
    """
    project, _ = open_project()
    steps = []
    for step in _steps(project):
        steps.append(step)
        if not as_json:
            click.echo("\n".join(_lines(step)))
    changed, ok = any(step.changed for step in steps), all(step.ok for step in steps)
    if as_json:
        print_json({"changed": changed, "ok": ok, "steps": steps})
    elif ok and changed:
        say_changed("the project is set up", "spotweld build" if project.images else "spotweld plan")
    elif ok:
        say("nothing to do: all is set up")
    return int(not ok)


def _steps(project: Project) -> Iterator[Step]:
    objects = open_store(project.store)
    yield Step("store", "store", ok=True, changed=False, what=f"{objects.url} honours conditional writes")
    yield from settle(project, objects)


def _lines(step: Step) -> list[str]:
    if step.ok:
        mark = styled("ok", sys.stdout, fg="green") if not step.changed else styled("++", sys.stdout, fg="green")
    else:
        mark = styled("--", sys.stdout, fg="red")
    lines = [f"{mark}  {step.name + ':':<16}{step.what}"]
    return [*lines, f"    {'':<16}{step.todo}"] if step.todo else lines
