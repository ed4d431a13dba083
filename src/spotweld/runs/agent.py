"""The agent: what runs on a machine and starts the job's process there.

It lays out the frozen files, runs the set-up and the command, forwards notices and TERM, ships output and events to the
store, gives signs of life, and reports how the process ended. It decides nothing: the controller does, from the result,
or from its absence.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from spotweld.errors import Conflict, SpotweldError, StoreError
from spotweld.preemption.detect import sources_here
from spotweld.preemption.files import clear_notice, write_notice
from spotweld.preemption.notices import Kind, Notice
from spotweld.preemption.watcher import Watcher
from spotweld.runs.deaths import die_with_parent
from spotweld.runs.reports import Heard, Result, Spec, Stage, Status, result_key, spec_key, status_key
from spotweld.runs.shipping import Shipper
from spotweld.runs.source import lay_out
from spotweld.store.opening import open_store
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from spotweld.store.objects import Objects

T = TypeVar("T")
_LOOK = 0.05
_SHIP = 0.25
"""Seconds between two shipments. GCS takes one write per second and object; every segment is a new object."""
_BEAT = 1.0
_TRAP = "trap 'exit $?' TERM"
"""Said before the job's command. Without it TERM ends the shell at once, and the machine with it, while the program is
still writing its last checkpoint; with it the shell waits for the program and leaves with the same status."""
_PATIENCE = 60.0
"""Seconds for which the last words are tried again when the store does not answer."""


class Agent:
    """One attempt's agent.

    Args:
        spec: what to do.
        objects: the run's store.
        folder: the machine's disk; the process runs in ``folder/work``.
        environ: the machine's environment.
    """

    def __init__(self, spec: Spec, objects: Objects, folder: Path, environ: dict[str, str]) -> None:
        self._spec = spec
        self._objects = objects
        self._work = folder / "work"
        self._console = folder / "console.txt"
        self._events = folder / "events.jsonl"
        self._notice_file = folder / "notice.json"
        self._environ = environ
        self._stage = Stage.PREPARING
        self._notice: Notice | None = None
        self._beat = 0
        self._shippers = (
            Shipper(self._console, objects, spec.run, spec.attempt, "log"),
            Shipper(self._events, objects, spec.run, spec.attempt, "events", whole_lines=True),
        )
        self._next_beat = 0.0
        self._next_shipment = 0.0
        self._term_heard = False
        self._term_forwarded = False

    def work(self) -> Result:
        """Do what the spec says. Never raises for what the job does."""
        with Watcher(sources_here(self._environ)) as watcher:
            self._hear_term()
            result = self._attempt(watcher)
        for shipper in self._shippers:
            _insist(shipper.ship_all)
        return result

    def _attempt(self, watcher: Watcher) -> Result:
        self._tick(watcher, None)
        try:
            self._work.mkdir(parents=True)
            lay_out(self._spec.source, self._objects, self._work)
        except (SpotweldError, OSError) as error:
            return self._result(1, f"the job's files could not be laid out: {error}")
        if self._spec.setup:
            self._stage = Stage.SETTING_UP
            code = self._run(self._spec.setup, watcher)
            if code != 0:
                return self._result(code, f"`{self._spec.setup}` ended with exit status {code}")
        self._stage = Stage.RUNNING
        return self._result(self._run(self._spec.command, watcher))

    def _run(self, command: str, watcher: Watcher) -> int:
        with self._console.open("ab", buffering=0) as console:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"{_TRAP}\n{command}"],
                cwd=self._work,
                env=self._process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  it only calls prctl, and no thread of ours holds a lock it needs
            )
        while True:
            self._tick(watcher, process)
            try:
                code = process.wait(_LOOK)
            except subprocess.TimeoutExpired:
                continue
            return code if code >= 0 else 128 - code

    def _tick(self, watcher: Watcher, process: subprocess.Popen[bytes] | None) -> None:
        """Forward what was heard and ship what is new. A store that does not answer is tried again at the next tick."""
        self._forward(watcher.current(), process)
        now = time.monotonic()
        try:
            if now >= self._next_beat:
                self._next_beat = now + _BEAT
                self._say_alive()
            if now >= self._next_shipment:
                self._next_shipment = now + _SHIP
                for shipper in self._shippers:
                    shipper.ship()
        except StoreError as error:
            print(f"spotweld agent: {error}; trying again", file=sys.stderr, flush=True)

    def _forward(self, notice: Notice | None, process: subprocess.Popen[bytes] | None) -> None:
        if notice != self._notice:
            self._notice = notice
            self._next_beat = 0.0
            if notice is None:
                clear_notice(self._notice_file)
            else:
                write_notice(self._notice_file, notice)
        if process is not None and self._term_heard and not self._term_forwarded:
            # Programs that know nothing of notice files know TERM. The whole group gets it: a shell passes nothing on.
            self._term_forwarded = True
            os.killpg(process.pid, signal.SIGTERM)

    def _hear_term(self) -> None:
        """Note TERM beside the watcher, to whom it is a notice like any other: the process has to get it as well."""
        watchers = signal.getsignal(signal.SIGTERM)

        def note(signum: int, frame: FrameType | None) -> None:
            self._term_heard = True
            if callable(watchers):
                watchers(signum, frame)

        signal.signal(signal.SIGTERM, note)

    def _say_alive(self) -> None:
        self._beat += 1
        status = Status(self._beat, self._stage, self._heard())
        self._objects.put(status_key(self._spec.run, self._spec.attempt), msgspec.json.encode(status))

    def _heard(self) -> Heard | None:
        notice = self._notice
        if notice is None or notice.kind is not Kind.TERMINATE:
            return None
        return Heard(notice.source, notice.deadline, notice.received)

    def _result(self, code: int, detail: str = "") -> Result:
        return Result(self._stage, code, self._heard(), time.time(), detail)

    def _process_environment(self) -> dict[str, str]:
        spec = self._spec
        given = {
            environment.NOTICE_FILE: str(self._notice_file),
            environment.EVENTS_FILE: str(self._events),
            environment.CHECKPOINT: msgspec.json.encode(spec.checkpoint).decode(),
            "PYTHONUNBUFFERED": "1",
        }
        if spec.hazard is not None:
            given[environment.HAZARD] = repr(spec.hazard)
        # The process hears of notices from the agent alone; two listeners could disagree.
        base = {name: value for name, value in self._environ.items() if name != environment.METADATA}
        return base | given | spec.env


def _insist(act: Callable[[], T]) -> T | None:
    """Last words: tried for a while, then given up; the controller copes without them."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return act()
        except StoreError as error:
            if time.monotonic() > until:
                print(f"spotweld agent: {error}; giving up", file=sys.stderr, flush=True)
                return None
            time.sleep(1)


def main() -> None:
    """Run the agent of the attempt that the environment names."""
    environ = dict(os.environ)
    run, attempt = environ[environment.RUN_ID], int(environ[environment.ATTEMPT])
    objects = open_store(environ[environment.STORE], verify=False)
    spec = msgspec.json.decode(objects.get(spec_key(run, attempt)), type=Spec)
    result = Agent(spec, objects, Path.cwd(), environ).work()

    def report() -> None:
        try:
            objects.create(result_key(run, attempt), msgspec.json.encode(result))
        except Conflict:
            return  # our own earlier try, whose answer was lost

    _insist(report)


if __name__ == "__main__":
    main()
