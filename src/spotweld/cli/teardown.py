"""``spotweld teardown``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from spotweld.cli.caching import described
from spotweld.cli.forgetting import forget_registry, told
from spotweld.cli.output import print_json, say
from spotweld.cli.parts import confirmed, open_log
from spotweld.cli.preserved import preserved
from spotweld.cli.session import json_option, open_project, store_option
from spotweld.errors import LeftBehind, UsageError
from spotweld.images.lifetimes.deciding import plan
from spotweld.project.words import quoted
from spotweld.providers.opening import open_provider
from spotweld.runs.drive import log_path
from spotweld.runs.teardown import Found, Outcome, Places, Scope, empty_pools, look, refuse_active, tear_down
from spotweld.runs.uses import cancel_all
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock
from spotweld.values.money import format_money
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spotweld.images.lifetimes.deciding import Plan, Staying, Unseen
    from spotweld.values.clocks import Clock

_PATIENCE = 120.0
"""Seconds that cancelled runs may take to save their state and end."""


@click.command
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--skip-images", is_flag=True, help="Leave all images; end machines only.")
@click.option("--persistent", is_flag=True, help="Persistent images too: each one whose name is then typed.")
@click.option(
    "--confirm",
    "names",
    multiple=True,
    metavar="NAME",
    help="As if NAME had been typed: an image's with --persistent, a registry's with --forget.",
)
@click.option(
    "--forget", metavar="REGISTRY", help="Only look for nothing any more in a registry that is gone for good."
)
@click.option("--cancel-runs", is_flag=True, help="Stop active runs for good first; their checkpoints stay.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask; it counts for nothing persistent.")
@store_option
@json_option
def command(
    images: tuple[str, ...],
    names: tuple[str, ...],
    forget: str | None,
    *,
    dry_run: bool,
    skip_images: bool,
    persistent: bool,
    cancel_runs: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove what the project has in the cloud and in registries, but for what is persistent.

    Pools, machines of runs that have ended, ephemeral images and their caches go, and what machines of this host have
    fetched of images. Persistent images, checkpoints and the records of runs stay, and are listed. With IMAGE: nothing
    but these images.

    A registry that will never answer again makes every teardown exit with 6. With --forget REGISTRY, and its URL typed,
    nothing is looked for there any more, and what it protected is off the record; nothing else is done.

    Exit status 0 when a second look finds nothing left, 6 when it does; 2 when runs are active.

    \b
    With --json: {"dry_run", "active", "going": {"pools", "machines", "images",
    "host"}, "staying": [{"what", "where", "why", "size", "command"}],
    "left": [{"where", "why", "todo"}], "freed", "forgotten": [{"registry",
    "when", "images"}]}; sizes in bytes. With --forget: {"dry_run", "registry",
    "images": [{"image", "repository", "protected", "builds"}]}.
    """
    if forget is not None:
        if images or skip_images or persistent or cancel_runs:
            raise UsageError("--forget is about one registry alone", "", "say only --dry-run or --confirm with it")
        project, _ = open_project()
        objects = open_store(project.store, verify=False)
        now = SystemClock().now()
        forget_registry(project, objects, forget, names, now, dry_run=dry_run, as_json=as_json)
        return
    _check(images, names, skip_images=skip_images, persistent=persistent)
    places = _places()
    scope = Scope(images=not skip_images, only=images)
    clock = SystemClock()
    found = look(places, scope, clock.now())
    agreed = plan(found.survey, _named(found, scope, names, ask=persistent and not dry_run), images)
    staying = (*agreed.staying, *preserved(places.project, places.objects))
    if not as_json:
        click.echo("\n".join(_described(found, agreed, staying)))
    if dry_run:
        if as_json:
            print_json(_fields(found, agreed, staying, dry_run=True))
        return
    if not cancel_runs:
        refuse_active(found)
    # Space that a killed teardown has left is given back without a question.
    if (found.machines or agreed.going or found.active or found.host or found.pools) and not confirmed(
        "remove all that?", yes=yes
    ):
        sys.exit(1)
    if found.active and places.log is not None:
        cancel_all(places.log, places.project.state, clock, _PATIENCE)
        found = look(places, scope, clock.now())
    if found.pools:
        found = _without_pools(places, scope, found, clock, cancelled=cancel_runs)
    outcome = tear_down(places, scope, found, agreed, clock, lambda one: say(f"removing {one.image}"))
    _finish(found, agreed, staying, outcome, as_json=as_json)


def _without_pools(places: Places, scope: Scope, found: Found, clock: Clock, *, cancelled: bool) -> Found:
    """What is found once the pools are down.

    Raises:
        TeardownRefused: a run has begun meanwhile, or has taken one of their machines.
    """
    say(f"taking down: {', '.join(found.pools)}")
    empty_pools(places, clock, _PATIENCE)
    again = look(places, scope, clock.now())
    if not cancelled:
        refuse_active(again)
    return replace(again, pools=found.pools)


def _check(images: Sequence[str], names: Sequence[str], *, skip_images: bool, persistent: bool) -> None:
    """Refuse flags that contradict each other.

    Raises:
        UsageError: they do.
    """
    if skip_images and (images or persistent):
        raise UsageError("--skip-images leaves all images", "and images were asked for", "leave one of the two out")
    if names and not persistent:
        raise UsageError("--confirm is about persistent images and lost registries", "", "say --persistent or --forget")


def _places() -> Places:
    project, _ = open_project()
    # A log that is not there yet is not made: there is nothing in it.
    log = open_log(project) if log_path(project.state).exists() else None
    objects = open_store(project.store, verify=False)
    return Places(project, objects, open_provider(project.state, project.local), log)


def _named(found: Found, scope: Scope, names: Sequence[str], *, ask: bool) -> list[str]:
    """The protected images whose names were typed.

    Raises:
        UsageError: nobody can be asked, or a name is none of them.
    """
    bare, every = plan(found.survey, (), scope.only), [one.image for one in found.survey.contents]
    mine = {one.image for one in plan(found.survey, every, scope.only).going if one.persistent}
    for name in names:
        if name not in mine:
            which = f"there are: {', '.join(sorted(mine))}" if mine else "there is none here"
            raise UsageError(f"{quoted(name)} is no persistent image that could be removed", "", which)
    if not ask or names or not mine:
        return list(names)
    if sys.stdin is None or not sys.stdin.isatty():
        todo = f"type them beforehand: {' '.join(f'--confirm {name}' for name in sorted(mine))}"
        raise UsageError("nobody can be asked for names here", "standard input is not a terminal", todo)
    for one in bare.staying:
        say(f"{one.what}, {_size(one.size)}, {one.where}")
    said = [(name, _typed(name)) for name in sorted(mine)]
    return [name for name, typed in said if typed == name]


def _typed(name: str) -> str:
    question = f"to remove {name} for good, type its name (anything else keeps it)"
    return str(click.prompt(question, default="", show_default=False, err=True))


def _described(found: Found, agreed: Plan, staying: Sequence[Staying]) -> Iterator[str]:
    yield "goes:" if found.machines or agreed.going or found.host or found.pools else "goes: nothing"
    for pool in found.pools:
        yield f"  pool {pool} (back with: spotweld pool up {pool})"
    for machine in found.machines:
        offer = machine.offer
        price = f"{offer.zone} {offer.capacity_type}, {format_money(offer.hourly)}/h"
        yield f"  machine {machine.id} ({price}) of the run {machine.labels.get('run', 'unknown')}"
    for one in agreed.going:
        parts = f"{len(one.tags)} tags, {len(one.cache)} cached steps, {_size(one.size)}"
        yield f"  {'PERSISTENT ' * one.persistent}image {one.image} ({parts}), {one.registry} ({one.repository})"
    if found.host:
        yield f"  {described(found.host)}"
    yield "stays:" if staying else "stays: nothing"
    for kept in staying:
        yield f"  {kept.what}, {_size(kept.size)}, {kept.where}"
        yield f"    why     {kept.why}"
        yield f"    remove  {kept.command}"
    for lost in found.survey.forgotten:
        yield told(lost)
    for active in found.active:
        yield f"active: {active}"
    for blind in agreed.unseen:
        yield f"cannot look into {blind.where}: {blind.why}"


def _finish(found: Found, agreed: Plan, staying: Sequence[Staying], outcome: Outcome, *, as_json: bool) -> None:
    """Say what came of it.

    Raises:
        LeftBehind: a second look found something.
    """
    done, left = outcome.removed, outcome.left
    if as_json:
        print_json(_fields(found, agreed, staying, dry_run=False) | {"left": left, "freed": done.freed + outcome.freed})
    else:
        for one in done.unfreed:
            say(f"{one.where}: {one.why}")
        freed = done.freed + outcome.freed
        if outcome.machines or done.images or freed:
            counted = f"{len(outcome.machines)} machine(s) and {len(done.images)} image(s)"
            say(f"removed {counted}, {format_size(freed)} freed here")
    if left:
        why = "; ".join(_told(one) for one in left)
        todos = dict.fromkeys(one.todo for one in left if one.todo)
        todo = " ".join(todos) or "Tear down again; it takes up where this one ended."
        raise LeftBehind(f"{len(left)} thing(s) are left", why, todo)
    if not as_json:
        changed = found.machines or found.active or agreed.going or found.host or found.pools
        say("looked again: nothing of this project is left, but for what stays" if changed else "nothing to do")


def _fields(found: Found, agreed: Plan, staying: Sequence[Staying], *, dry_run: bool) -> dict[str, object]:
    machines = [one.id for one in found.machines]
    going = {"pools": found.pools, "machines": machines, "images": agreed.going, "host": found.host}
    return {
        "dry_run": dry_run,
        "active": found.active,
        "going": going,
        "staying": staying,
        "left": agreed.unseen if dry_run else (),
        "freed": 0,
        "forgotten": found.survey.forgotten,
    }


def _told(one: Unseen) -> str:
    return one.why if one.where in one.why else f"{one.where}: {one.why}"


def _size(size: int | None) -> str:
    return "unknown size" if size is None else format_size(size)
