"""``spotweld teardown --forget REGISTRY``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from spotweld.cli.output import print_json, say_changed
from spotweld.errors import UsageError
from spotweld.images.lifetimes.forgetting import answers, canonical, forget, on_record
from spotweld.values.clocks import iso

if TYPE_CHECKING:
    from collections.abc import Collection

    from spotweld.images.lifetimes.forgetting import Forgotten, Lost
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects


def forget_registry(
    project: Project, objects: Objects, named: str, names: Collection[str], now: float, *, dry_run: bool, as_json: bool
) -> None:
    """Forget a registry that is gone for good, when its name has been typed.

    Args:
        project: whose registry it was.
        objects: its store.
        named: the registry's URL.
        names: what was typed beforehand.
        now: seconds since 1970.
        dry_run: only say what would be forgotten.
        as_json: say it as JSON.

    Raises:
        UsageError: there is no need to forget it, or nobody has typed its name.
    """
    url = canonical(named)
    lost = _checked(project, objects, url)
    if dry_run:
        _tell(url, lost, as_json=as_json)
        return
    if not as_json:
        _tell(url, lost, as_json=False)
    if not _agreed(url, names):
        sys.exit(1)
    done = forget(project, objects, url, now)
    if as_json:
        print_json({"dry_run": False, "registry": url, "images": done.images})
    else:
        say_changed(f"{url} is forgotten", "spotweld teardown --dry-run")


def told(one: Forgotten) -> str:
    """A registry that was forgotten, in one line."""
    what = "; ".join(_described(lost) for lost in one.images)
    return f"forgotten: {one.registry} on {iso(one.when)[:10]}, with {what}"


def _checked(project: Project, objects: Objects, url: str) -> tuple[Lost, ...]:
    known = on_record(project, objects)
    if url in {canonical(project.registries.persistent), canonical(project.registries.ephemeral)}:
        todo = "name another one under registries: in the project file first"
        raise UsageError(f"{url} cannot be forgotten", "the project file names it", todo)
    if url not in known:
        why = f"the registries on record are: {', '.join(sorted(known)) or 'none'}"
        raise UsageError(f"{url} cannot be forgotten", "nothing is on record there", why)
    if answers(url, known[url]):
        todo = "see what is in it: spotweld teardown --dry-run"
        raise UsageError(f"{url} cannot be forgotten", "it answers, so it is not gone", todo)
    return known[url]


def _agreed(url: str, names: Collection[str]) -> bool:
    if names:
        if url not in {canonical(name) for name in names}:
            raise UsageError(f"--confirm does not name {url}", "", f"type it: --confirm {shlex.quote(url)}")
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        todo = f"type it beforehand: --confirm {shlex.quote(url)}"
        raise UsageError("nobody can be asked for a name here", "standard input is not a terminal", todo)
    question = "to forget this registry for good, type its URL (anything else keeps it)"
    return str(click.prompt(question, default="", show_default=False, err=True)) == url


def _tell(url: str, lost: Collection[Lost], *, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": True, "registry": url, "images": lost})
        return
    click.echo(f"last known to be in {url}:")
    for one in lost:
        click.echo(f"  {_described(one)}")


def _described(one: Lost) -> str:
    count = f"{len(one.builds)} build{'s' * (len(one.builds) != 1)}"
    return f"image {one.image} ({'PERSISTENT, ' * one.protected}{count}, {one.repository})"
