"""A whole run of a small real training, one of whose processes is killed at a chosen point; and what must hold then."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from spotweld.project.nouns import CheckpointPolicy, EverySteps, Job, LocalProvider, LocalZone, PlacementRules, Retry
from spotweld.providers.local.cloud import LocalCloud
from spotweld.providers.provider import MachineState
from spotweld.runs.comparing import compare, final_state, metrics
from spotweld.runs.controller import Controller
from spotweld.runs.drive import log_path
from spotweld.runs.events import Opened, Outcome
from spotweld.runs.following import Follower
from spotweld.runs.history import progress
from spotweld.runs.log import EventLog
from spotweld.runs.placing import placer_of
from spotweld.runs.source import freeze, scan
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock
from spotweld.values.money import Money

if TYPE_CHECKING:
    from spotweld.placement.placer import Placer
    from spotweld.providers.provider import Boot, Machine
    from spotweld.store.objects import Objects
    from spotweld.values.offers import Offer

STEPS = 60
EVERY = 8
RUN = "drill"
MARK = "SPOTWELD_TEST_TREE"
PROGRAM = f"""
import time
import numpy as np
from spotweld import Checkpointer, Sampler

rng = np.random.default_rng(3)
inputs = rng.normal(size=(64, 16))
targets = inputs @ rng.normal(size=16)
weights, moment, sampler = np.zeros(16), np.zeros(16), Sampler(64, 8, seed=5)
np.random.seed(7)
checkpointer = Checkpointer({{"weights": weights, "moment": moment, "sampler": sampler}})
for _ in checkpointer.steps({STEPS}):
    rows = sampler.next()
    error = inputs[rows] @ weights - targets[rows] + np.random.normal(scale=0.01, size=8)
    moment *= 0.9
    moment += inputs[rows].T @ error / 8
    weights -= 0.05 * moment
    checkpointer.log(loss=float((error**2).mean()))
    time.sleep(0.02)
"""


_EIGHTIETH = 0.03
"""Seconds: an eightieth of what the run takes, undisturbed, on a quiet machine with two cores."""


class Field(msgspec.Struct, frozen=True):
    """One run in a folder of its own."""

    state: Path
    objects_url: str

    def log(self) -> EventLog:
        return EventLog(log_path(self.state))

    def objects(self) -> Objects:
        return open_store(self.objects_url, verify=False)

    def cloud(self) -> LocalCloud:
        return LocalCloud(self.state / "cloud", LOCAL)


LOCAL = LocalProvider((LocalZone("a", Money(Decimal("0.9")), Money(Decimal(3)), machines=2),), up=1e7, down=1.0)


def prepare(folder: Path, prefix: str = "", store: str | None = None, **fields: float) -> Field:
    """Open the run of a job with these fields. ``prefix`` is put before the program's command in the first attempt."""
    work = folder / "work"
    work.mkdir(parents=True)
    (work / "program.py").write_text(PROGRAM)
    field = Field(folder / "state", store or f"file:{folder / 'store'}")
    field.state.mkdir()
    source = scan(work)
    freeze(work, source, field.objects())
    python = f"{sys.executable} program.py"
    command = f'if [ "$SPOTWELD_ATTEMPT" = 1 ]; then exec {prefix} {python}; else exec {python}; fi'
    job = Job(
        "drill",
        command,
        workdir=work,
        checkpoint=CheckpointPolicy(EverySteps(EVERY), keep_last=2),
        retry=Retry(failures=2),
        **fields,
    )
    rules = PlacementRules(interruptions=100, avoid=0.0, back_off=0.2)
    field.log().open_run(RUN, Opened("project", job, field.objects_url, source.key, LOCAL, rules))
    return field


class Point(msgspec.Struct, frozen=True):
    """Where to kill: before the ``number``-th ``call``; for everything at once, after so many eightieths of a run."""

    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.call}-{self.number}"


def strace(point: Point, *more: str) -> list[str]:
    """A command that runs the next one and kills it at ``point``. With ``-f`` every thread counts for itself."""
    inject = f"inject={point.call}:signal=KILL:when={point.number}"
    return ["strace", "-qq", *more, "-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject]


def drive(field: Field, prefix: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """A controller as a process, under ``prefix``."""
    command = [*prefix, sys.executable, "-m", "spotweld.runs.drive", str(field.state), RUN]
    with (field.state / "controller.log").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environ)


def finish(field: Field) -> None:
    """Drive the run to its end, in this process."""
    Controller(RUN, field.log(), field.objects(), field.cloud(), placer(field), SystemClock(), lambda _: None).drive()


def placer(field: Field) -> Placer:
    state = field.log().state(RUN)
    return placer_of(state.job, state.placement, LOCAL)


class PrefixedFirst(LocalCloud):
    """The local provider, but the first machine boots under ``prefix``."""

    def __init__(self, folder: Path, prefix: list[str]) -> None:
        super().__init__(folder, LOCAL)
        self.prefix = prefix

    def start(self, offer: Offer, boot: Boot, *, token: str, labels: dict[str, str]) -> Machine:  # type: ignore[override]
        if token.startswith(f"{RUN}-1-"):
            boot = replace(boot, argv=(*self.prefix, *boot.argv))
        return super().start(offer, boot, token=token, labels=labels)


def kill_controller(folder: Path, point: Point, **job: float) -> tuple[Field, bool]:
    """Kill the controller; whether it lived so long as to be killed."""
    field = prepare(folder, **job)
    process = drive(field, strace(point), dict(os.environ))
    killed = process.wait(120) != 0
    finish(field)
    return field, killed


def kill_agent(folder: Path, point: Point) -> tuple[Field, bool]:
    """Kill the first attempt's agent when one of its threads comes to the point. The program is not followed."""
    field = prepare(folder)
    cloud = PrefixedFirst(field.state / "cloud", ["/usr/bin/env", *strace(point, "-f", "-b", "execve")])
    Controller(RUN, field.log(), field.objects(), cloud, placer(field), SystemClock(), lambda _: None).drive()
    return field, len(field.log().state(RUN).attempts) > 1


def kill_program(folder: Path, point: Point) -> tuple[Field, bool]:
    """Kill the first attempt's training process when one of its threads comes to the point."""
    field = prepare(folder, " ".join(strace(point, "-f")))
    finish(field)
    return field, len(field.log().state(RUN).attempts) > 1


def kill_everything(folder: Path, point: Point) -> tuple[Field, bool]:
    """Kill controller, supervisor, agent and program together."""
    field = prepare(folder)
    mark = secrets.token_hex(8)
    process = drive(field, [], os.environ | {MARK: mark})
    time.sleep(point.number * _EIGHTIETH)
    killed = process.poll() is None
    kill_marked(mark)
    process.wait(30)
    finish(field)
    return field, killed


def check(field: Field, reference: Field) -> None:
    """What must hold after any kill: done, the same bits, nothing doubled, nothing left, no finished work redone."""
    state = field.log().state(RUN)
    assert state.outcome is Outcome.DONE, state
    happenings = Follower(RUN, field.log(), field.objects()).poll()
    other = Follower(RUN, reference.log(), reference.objects()).poll()
    states = final_state(field.objects(), RUN), final_state(reference.objects(), RUN)
    difference = compare(states, (metrics(happenings), metrics(other)))
    assert difference.state == ()
    assert [name for name in difference.metrics if not _only_missing(happenings, other)] == []
    machines = field.cloud().machines({"run": RUN})
    assert all(machine.state is MachineState.ENDED for machine in machines)
    rented = [attempt.machine for attempt in state.attempts if attempt.machine is not None]
    assert sorted(machine.id for machine in machines) == sorted(rented)
    history = progress(happenings)
    published = 0
    for number in sorted(history):
        attempt = history[number]
        if attempt.first is not None:
            assert attempt.first >= published, f"attempt {number} went back to {attempt.first} behind {published}"
        published = max(published, attempt.durable or 0)


def _only_missing(happenings: list[object], other: list[object]) -> bool:
    """Whether the curves differ only in steps of which a killed agent could not tell any more."""
    ours, theirs = metrics(happenings), metrics(other)
    return all(theirs[name].get(step) == value for name, curve in ours.items() for step, value in curve.items())


def kill_marked(mark: str) -> None:
    """SIGKILL to every process with the mark in its environment, until there is none."""
    wanted = f"{MARK}={mark}".encode()
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                    if stat != "Z" and wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
