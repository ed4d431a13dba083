"""The agent: what runs on a machine and starts the job's process there.

It lays out the frozen files, runs the set-up and the command, forwards notices and TERM, ships output and events to the
store, gives signs of life, and reports how the process ended. It decides nothing: the controller does, from the result,
or from its absence.

What counts is the exit of the command itself. Processes that it leaves behind end with the machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.checkpoint.directory.protocol import Place
from spotweld.checkpoint.hazard import spelled
from spotweld.errors import Conflict, Fenced, NotFound
from spotweld.preemption.detect import sources_here
from spotweld.preemption.files import clear_notice, write_notice
from spotweld.preemption.notices import Kind, Notice
from spotweld.preemption.watcher import Watcher
from spotweld.runs.courier import Courier, persist, say
from spotweld.runs.deaths import die_with_parent
from spotweld.runs.inside import enter, seen_inside
from spotweld.runs.keeping import keeper_of
from spotweld.runs.reports import (
    EX_TEMPFAIL,
    Heard,
    Result,
    Spec,
    Stage,
    Status,
    over_key,
    result_key,
    spec_key,
    status_key,
)
from spotweld.runs.shipping import Shipper
from spotweld.runs.source import lay_out
from spotweld.store.opening import open_store
from spotweld.values import environment

if TYPE_CHECKING:
    from types import FrameType

    from spotweld.images.containers.rooting import Container
    from spotweld.runs.keeping import Keeper
    from spotweld.store.objects import Objects

_LOOK = 0.05
_OURS = (environment.METADATA, environment.REGISTRY_AUTH, environment.HOST_CACHE)
_TRAP = "trap 'exit $?' TERM"
"""Said before the job's command. Without it TERM ends the shell at once, and the machine with it, while the program is
still writing its last checkpoint; with it the shell waits for the program and leaves with the same status."""
_CATCH_UP = 2.0
"""Seconds at most until a signal that has been received is known as a notice."""
_GLANCE = 0.01
_STOPPING = 10.0
"""Seconds that a program is given to end when a later attempt owns its run."""
PATIENCE = 900.0
"""Seconds that a silent store is waited for where nothing can be done without it: the files, the result."""
_FAREWELL = 60.0
"""The same for the last output, which can be done without."""


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
        self._folder = folder
        self._work = folder / "work"
        self._console = folder / "console.txt"
        self._events = folder / "events.jsonl"
        self._notice_file = folder / "notice.json"
        self._environ = environ
        self._stage = Stage.PREPARING
        self._container: Container | None = None
        self._notice: Notice | None = None
        self._is_passed_on = True
        self._trouble = ""
        self._last_heard: Heard | None = None
        self._beat = 0
        self._term_heard = False
        self._began = time.time()
        self._laid_out = ""
        self._prepared = False
        self._courier = self._new_courier()

    @property
    def stage(self) -> Stage:
        """How far it is."""
        return self._stage

    @property
    def noticed(self) -> bool:
        """Whether the machine has been told that it ends: by a notice, or by TERM."""
        return self._term_heard or self._heard() is not None

    def work(self) -> Result:
        """Do what the spec says and report it. Never raises for what the job does."""
        with Watcher(sources_here(self._environ)) as watcher:
            self.listen()
            return self.attempt(watcher)

    def listen(self) -> None:
        """Note TERM beside the watcher, to whom it is a notice like any other: the process has to get it as well."""
        watchers = signal.getsignal(signal.SIGTERM)

        def note(signum: int, frame: FrameType | None) -> None:
            self._term_heard = True
            if callable(watchers):
                watchers(signum, frame)

        signal.signal(signal.SIGTERM, note)

    def attempt(self, watcher: Watcher) -> Result:
        """``work``, with whom notices come from."""
        self._courier.start()
        try:
            result = self._attempt(watcher)
        except Exception as error:  # noqa: BLE001  without a result the job would be tried again for ever
            result = self._result(1, f"{type(error).__name__}: {error}")
        # What is left to do takes a moment, and nobody is left to whom TERM could be forwarded.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._courier.finish(_FAREWELL)
        persist(lambda: self._report(result), PATIENCE)
        return result

    def prepare(self, watcher: Watcher) -> Result | None:
        """Do all that comes before the program, once; how it failed, if it did."""
        if not self._prepared:
            # A machine that was only restarted still has the directory, and what it has need not be fetched.
            self._work.mkdir(parents=True, exist_ok=bool(self._spec.checkpoint.directory))
        if self._spec.source != self._laid_out:
            persist(lambda: lay_out(self._spec.source, self._objects, self._work), PATIENCE)
            self._laid_out = self._spec.source
        if self._prepared:
            return None
        if self._spec.image is not None:
            self._stage = Stage.ENTERING
            self._container = enter(self._spec.image, self._spec, self._folder, self._environ, self._events)
        if self._spec.setup:
            self._stage = Stage.SETTING_UP
            code = self._run(self._spec.setup, watcher)
            if code != 0:
                return self._result(code, f"`{self._spec.setup}` ended with exit status {code}")
        self._prepared = True
        return None

    def assign(self, spec: Spec) -> None:
        """Go on as the attempt of this spec, whose preparation has been done under another one."""
        self._spec = spec
        ours = {environment.RUN_ID: spec.run, environment.ATTEMPT: str(spec.attempt)}
        self._environ = {name: value for name, value in self._environ.items() if name != environment.POOL_MEMBER} | ours
        # What was told of the preparation is no part of the run; what was written is its set-up's output.
        self._events.unlink(missing_ok=True)
        self._courier = self._new_courier()

    def hear(self, watcher: Watcher) -> None:
        """Take in the standing notice."""
        self._forward(watcher.current())

    def _new_courier(self) -> Courier:
        run, attempt = self._spec.run, self._spec.attempt
        shippers = (
            Shipper(self._console, self._objects, run, attempt, "log"),
            Shipper(self._events, self._objects, run, attempt, "events", whole_lines=True),
        )
        return Courier(self._say_alive, shippers, self._objects.url)

    def _attempt(self, watcher: Watcher) -> Result:
        failed = self.prepare(watcher)
        if failed is not None:
            return failed
        if self._spec.checkpoint.directory:
            return self._attempt_with_directory(watcher)
        self._stage = Stage.RUNNING
        return self._result(self._run(self._spec.command, watcher))

    def _attempt_with_directory(self, watcher: Watcher) -> Result:
        try:
            keeper = keeper_of(self._spec, self._objects, self._folder, self._events, watcher, self._began)
        except Fenced as error:
            return self._result(EX_TEMPFAIL, str(error))
        self._stage = Stage.RUNNING
        if keeper.finished:
            return self._result(0)
        return self._result(*keeper.finish(self._run(self._spec.command, watcher, keeper)))

    def _run(self, command: str, watcher: Watcher, keeper: Keeper | None = None) -> int:
        if self._container is not None:
            self._container.hand_over(self._work)
        with self._console.open("ab", buffering=0) as console:
            process = subprocess.Popen(
                [*self._shell(), f"{_TRAP}\n{command}"],
                cwd=self._work,
                env=self._process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  it only calls prctl, and no thread of ours holds a lock it needs
            )
        if keeper is not None:
            environ = self._process_environment()
            keeper.start(Place(self._work, environ, self._console, process.pid, self._shell()))
        termed = False
        try:
            while True:
                self._forward(watcher.current())
                if keeper is not None and keeper.fenced:
                    return _stop(process)
                if self._term_heard and not termed:
                    # Programs that know nothing of notice files know TERM. The whole group gets it: a shell passes
                    # nothing on.
                    termed = True
                    _signal_group(process, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(_LOOK)
                    self._catch_up(watcher)
                    return code if code >= 0 else 128 - code
        finally:
            if process.returncode is None:
                _signal_group(process, signal.SIGKILL)

    def _catch_up(self, watcher: Watcher) -> None:
        """Hear the notice that the process died of; it may have been quicker than the watcher's thread."""
        patience = time.monotonic() + _CATCH_UP
        while self._term_heard and watcher.current() is None and time.monotonic() < patience:
            time.sleep(_GLANCE)
        self._forward(watcher.current())

    def _forward(self, notice: Notice | None) -> None:
        if notice != self._notice:
            self._notice = notice
            self._is_passed_on, self._trouble = False, ""
            if notice is not None and notice.kind is Kind.TERMINATE:
                self._last_heard = Heard(notice.source, notice.deadline, notice.received)
            self._courier.hurry()
        if not self._is_passed_on:
            self._pass_on(notice)

    def _pass_on(self, notice: Notice | None) -> None:
        """Tell the program; what a full disk refuses, the next look tries again."""
        try:
            if notice is None:
                clear_notice(self._notice_file)
            else:
                write_notice(self._notice_file, notice)
            self._is_passed_on = True
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                say(f"the notice cannot be forwarded: {error}; trying again")

    def _say_alive(self) -> None:
        self._beat += 1
        status = Status(self._beat, self._stage, self._heard())
        self._objects.put(status_key(self._spec.run, self._spec.attempt), msgspec.json.encode(status))

    def _heard(self) -> Heard | None:
        return self._last_heard if self._notice is not None and self._notice.kind is Kind.TERMINATE else None

    def _result(self, code: int, detail: str = "") -> Result:
        # Who leaves as resumable had a notice, even if that was taken back in the same moment.
        heard = self._last_heard if code == EX_TEMPFAIL else self._heard()
        return Result(self._stage, code, heard, time.time(), detail)

    def _report(self, result: Result) -> None:
        # A conflict is our own earlier try, whose answer was lost.
        with contextlib.suppress(Conflict):
            self._objects.create(result_key(self._spec.run, self._spec.attempt), msgspec.json.encode(result))

    def _process_environment(self) -> dict[str, str]:
        spec = self._spec
        given = {
            environment.NOTICE_FILE: str(self._notice_file),
            environment.EVENTS_FILE: str(self._events),
            environment.CHECKPOINT: msgspec.json.encode(spec.checkpoint).decode(),
            environment.HAZARD: spelled(spec.hazard),
            environment.MACHINE_STARTED: repr(self._began),
            "PYTHONUNBUFFERED": "1",
        }
        base = self._environ if self._container is None else seen_inside(self._container, self._environ)
        # The process hears of notices from the agent alone; two listeners could disagree.
        ours = _OURS if not spec.hosts else tuple(name for name in _OURS if name != environment.REGISTRY_AUTH)
        return {name: value for name, value in base.items() if name not in ours} | given | spec.env

    def _shell(self) -> tuple[str, ...]:
        return ("/bin/sh", "-c") if self._container is None else self._container.shell


def _stop(process: subprocess.Popen[bytes]) -> int:
    """End the program; its exit status does not matter any more."""
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOPPING)
    _signal_group(process, signal.SIGKILL)
    process.wait()
    return EX_TEMPFAIL


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def is_over(objects: Objects, run: str, attempt: int) -> bool:
    """Whether the controller has given the attempt up."""
    try:
        objects.get(over_key(run, attempt))
    except NotFound:
        return False
    return True


def main() -> None:
    """Run the agent of the attempt that the environment names."""
    environ = dict(os.environ)
    run, attempt = environ[environment.RUN_ID], int(environ[environment.ATTEMPT])
    objects = open_store(environ[environment.STORE], verify=False)
    if persist(lambda: is_over(objects, run, attempt), PATIENCE):
        # The controller gave this machine up before it came up.
        say(f"attempt {attempt} of {run} is over; nothing to do")
        return
    spec = persist(lambda: msgspec.json.decode(objects.get(spec_key(run, attempt)), type=Spec), PATIENCE)
    Agent(spec, objects, Path.cwd(), environ).work()


if __name__ == "__main__":
    main()
