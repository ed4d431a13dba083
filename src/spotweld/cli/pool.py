"""``spotweld pool``: the verbs about machines that are kept ready."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from spotweld.cli.output import print_json, print_table, say, say_changed
from spotweld.cli.parts import confirmed
from spotweld.cli.session import json_option, open_project
from spotweld.costs.ledger import ledger
from spotweld.costs.totals import total
from spotweld.errors import RunError
from spotweld.providers.opening import open_provider
from spotweld.report.markup import clean
from spotweld.runs.pools.drive import ensure_kept, is_kept, keeper_log, pools_path
from spotweld.runs.pools.events import MemberEnd
from spotweld.runs.pools.log import PoolLog
from spotweld.runs.pools.opening import pools_meant, take_down, want
from spotweld.runs.pools.states import usages
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock
from spotweld.values.durations import format_duration
from spotweld.values.money import Money, format_money

if TYPE_CHECKING:
    from spotweld.project.nouns import Project
    from spotweld.runs.pools.states import Member, PoolState

_MACHINE_COLUMNS = ("POOL", "MACHINE", "WHERE", "STATE", "SINCE")
_LOOK = 0.2
_PATIENCE = 120.0
"""Seconds that a pool may take to go down."""
_MOST_STARTS = 5
"""Keepers in a row that died without having done anything, after which something is wrong for good."""


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Keep machines ready, with image and dependencies in place; launch takes one of them by itself.

    A pool belongs to a keeper of its own: closing this terminal does not end it. Its machines cost while they wait.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command("up", short_help="Keep the pool's machines ready from now on.")
@click.argument("name", metavar="[POOL]", required=False)
@click.option("--detach", is_flag=True, help="Come back at once; the pool fills up by itself.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def up_verb(name: str | None, *, detach: bool, yes: bool) -> None:
    """Keep the pool's machines ready from now on: all pools of the project file, or one.

    Its job's files and image are those of now. After they have changed, say it again: the machines are replaced.
    """
    project, _ = open_project()
    pools = pools_meant(project, name)
    for pool in pools:
        say(f"{pool.name}: {pool.machines} ready, and up to {pool.spare} more, for the job {pool.job}")
    if not confirmed("keep them ready? They cost while they wait", yes=yes):
        raise SystemExit(1)
    log = PoolLog(pools_path(project.state))
    objects, provider = open_store(project.store), open_provider(project.state, project.local)
    for pool in pools:
        if not want(project, pool, log, objects, provider):
            say(f"{pool.name}: nothing to do, it is up")
        ensure_kept(project.state, pool.name)
    if not detach:
        for pool in pools:
            _follow(project, log, pool.name)
    say_changed(f"kept ready: {', '.join(pool.name for pool in pools)}", "spotweld pool ls")


@command.command("ls", short_help="List pools, their machines and what they cost.")
@json_option
def list_verb(*, as_json: bool) -> None:
    """List pools, their machines and what they cost.

    \b
    With --json: a list of {pool, job, state, kept, wanted, spare, ready,
    machines, hourly, cost, cost_is}; "kept" says whether a keeper is at work,
    "machines" holds {machine, zone, capacity_type, hourly, state, since,
    why}. hourly is what all of them cost in an hour, cost what waiting has
    cost so far. Times are seconds since 1970 UTC; null: none, or not known.
    """
    project, _ = open_project()
    found = [_row(project, state) for state in _states(project)]
    if as_json:
        print_json(found)
        return
    if not found:
        say("no pool was ever up; begin with: spotweld pool up")
        return
    columns = ("POOL", "JOB", "STATE", "READY", "PER HOUR", "COST")
    print_table(columns, [_cells(row) for row in found], right=(3, 4, 5))
    if any(row["machines"] for row in found):
        click.echo()
        print_table(_MACHINE_COLUMNS, [cells for row in found for cells in _machine_cells(row)], right=(4,))
    for row in found:
        if row["why"]:
            say(f"{row['pool']}: {row['why']}")
        if row["state"] != "down" and not row["kept"]:
            say(f"{row['pool']}: nobody keeps it; spotweld pool up {row['pool']}")


@command.command("down", short_help="End the pool's machines.")
@click.argument("name", metavar="POOL")
@click.option("--detach", is_flag=True, help="Come back at once; the pool empties by itself.")
def down_verb(name: str, *, detach: bool) -> None:
    """End the pool's machines. Those that a run has taken stay with it."""
    project, _ = open_project()
    log = PoolLog(pools_path(project.state))
    if log.state(name).down:
        say(f"nothing to do: the pool {name} is down")
        return
    left = take_down(log, project.state, [name], SystemClock(), 0.0 if detach else _PATIENCE)
    if left and not detach:
        why = f"see {keeper_log(project.state, name)}"
        raise RunError(f"the pool {name} is still going down after {_PATIENCE:.0f} s", why, "say it again")
    say_changed(f"the pool {name} is {'going down' if left else 'down'}", "spotweld pool ls")


def _follow(project: Project, log: PoolLog, name: str) -> None:
    """Show what happens until the pool is ready.

    Raises:
        RunError: its machines cannot be prepared, or nobody can keep it.
    """
    began, starts, told = time.time(), 0, len(log.state(name).members)
    lines: set[str] = set()
    while True:
        state = log.state(name)
        for member in state.members:
            for line in _lines(member) if member.live or member.opened >= began else ():
                if line not in lines:
                    lines.add(line)
                    say(f"{name}: {line}")
        if state.phase != "filling":
            return
        failed = [m for m in state.members[told:] if m.closed is MemberEnd.FAILED]
        if failed:
            todo = f"mend it and say `spotweld pool up {name}` again; until then it is tried again, ever more slowly"
            raise RunError(f"a machine of the pool {name} could not be prepared", clean(failed[-1].closed_why), todo)
        started = ensure_kept(project.state, name)
        starts += started
        if starts > _MOST_STARTS:
            raise RunError(
                f"the keeper of {name} ends as soon as it is started", "", f"see {keeper_log(project.state, name)}"
            )
        time.sleep(_LOOK)


def _lines(member: Member) -> list[str]:
    lines = [f"renting {member.offer.place}: {member.why}"] if member.machine is None else []
    if member.machine is not None:
        lines.append(f"machine {member.machine} ({member.offer.place}) is starting")
    if member.ready is not None and member.started is not None:
        lines.append(f"machine {member.machine} is ready after {format_duration(member.ready - member.started)}")
    if member.closed is not None:
        lines.append(f"{member.machine or member.offer.place}: {member.closed} ({clean(member.closed_why)})")
    return lines


def _states(project: Project) -> list[PoolState]:
    # A log that is not there yet is not made: nothing is changed here.
    if not pools_path(project.state).exists():
        return []
    log = PoolLog(pools_path(project.state))
    return [log.state(name) for name in log.pools()]


def _row(project: Project, state: PoolState) -> dict[str, Any]:
    now = time.time()
    live = [member for member in state.live if member.machine is not None]
    totals = total(ledger(usages(state, now)))
    last = next((member for member in reversed(state.members) if member.closed is not None), None)
    return {
        "pool": state.name,
        "job": state.wanted.pool.job,
        "state": state.phase,
        "kept": not state.down and is_kept(project.state, state.name),
        "wanted": 0 if state.going_down else state.wanted.pool.machines,
        "spare": state.wanted.pool.spare,
        "ready": len(state.waiting),
        "machines": [
            {
                "machine": member.machine,
                "zone": member.offer.zone,
                "capacity_type": member.offer.capacity_type,
                "hourly": member.offer.hourly,
                "state": "ending" if member.closed else "ready" if member.ready is not None else "preparing",
                "since": member.started,
                "why": member.why,
            }
            for member in live
        ],
        "hourly": _sum([member.offer.hourly for member in live]),
        "cost": totals[0].billed if totals else None,
        "cost_is": "estimate",
        "why": last.closed_why if last is not None and state.phase == "filling" else "",
    }


def _sum(prices: list[Money]) -> Money | None:
    return sum(prices[1:], prices[0]) if prices else None


def _cells(row: dict[str, Any]) -> list[str]:
    money = [format_money(row[name]) if row[name] is not None else "-" for name in ("hourly", "cost")]
    return [row["pool"], row["job"], row["state"], f"{row['ready']} of {row['wanted']}+{row['spare']}", *money]


def _machine_cells(row: dict[str, Any]) -> list[list[str]]:
    return [
        [
            row["pool"],
            one["machine"],
            f"{one['zone']} {one['capacity_type']}",
            one["state"],
            format_duration(time.time() - one["since"]),
        ]
        for one in row["machines"]
    ]
