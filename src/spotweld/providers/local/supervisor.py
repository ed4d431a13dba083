"""The process that is a machine's hypervisor: ``python -m spotweld.providers.local.supervisor FOLDER LOCK``.

It outlives whoever started it, and sleeps until something is due. Its first act is to fork, so that the starter has no
child to wait for. The closing of its standard output says that the machine exists.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.preemption.metadata_server import MetadataServer
from spotweld.preemption.notices import Kind
from spotweld.providers.local import control, endings, fates, processes, records
from spotweld.providers.local.births import elapsed, read_birth
from spotweld.providers.local.guests import Console, Guest, environment
from spotweld.providers.local.zones import Zone, find_zone
from spotweld.providers.provider import Boot, Machine, MachineEnd, MachineState
from spotweld.values.clocks import SystemClock
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from spotweld.providers.local.zones import Loss

CLOCK = SystemClock()
LOOK = 5.0
"""Seconds between two signs of life, each of which also sees whether the machine's folder is still there. Everything
else wakes the supervisor."""


class Supervisor:
    """One machine, from its birth to its end record.

    Args:
        folder: the machine's, with ``request.json`` and ``boot.json`` in it and the lock in our hands.
    """

    def __init__(self, folder: Path) -> None:
        request = records.read(folder / "request.json", records.Request)
        boot = records.read(folder / "boot.json", Boot)
        birth = read_birth(folder.parent.parent)
        if request is None or boot is None or birth is None:
            raise SystemExit(f"{folder} holds no machine that was asked for")
        self._folder, self._request = folder, request
        self._zone = Zone(request.config, find_zone(request.config, request.offer))
        self._began = CLOCK.monotonic() - elapsed(birth, CLOCK)
        """The cloud's birth on our monotonic clock."""
        self._boot_at: float | None = CLOCK.monotonic() + request.config.boot
        self._loss = self._foresee()
        self._fate: fates.Fate | None = None
        self._termed = False
        self._guest_left = False
        self._metadata = MetadataServer(machine=folder.name)
        disk = folder / "disk"
        disk.mkdir(exist_ok=True)
        self._guest = Guest(boot, environment(boot, folder, self._metadata.url, os.environ), disk)
        self._console = Console(folder, self._guest.console)
        self._inbox = control.Inbox(folder)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._inbox, selectors.EVENT_READ, self._hear)
        self._selector.register(self._guest.console, selectors.EVENT_READ, self._drain)
        self._signals, wake = socket.socketpair()
        self._signals.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        self._selector.register(self._signals, selectors.EVENT_READ, self._reap)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._host_goes_down)
        self._metadata.start()
        self._machine = Machine(
            id=folder.name,
            token=request.token,
            offer=request.offer,
            labels=request.labels,
            state=MachineState.STARTING,
            started=request.granted,
        )
        myself = processes.look_up(os.getpid())
        if myself is not None:
            records.write(folder / "supervisor.json", records.Supervisor(pid=myself.pid, started=myself.started))
        records.write(folder / "machine.json", self._machine)

    def run(self) -> None:
        """Watch over the machine until it has ended."""
        while not self._guest_left and not (self._fate and self._is_due(self._fate.kill)):
            self._act()
            for key, _ in self._selector.select(self._pause()):
                key.data()
        by_itself = self._fate is None or (self._guest_left and not self._termed)
        end = MachineEnd.EXITED if self._fate is None or by_itself else self._fate.end
        endings.finish(self._folder, self._machine, end, CLOCK, self._living)

    def _act(self) -> None:
        """Do what is due."""
        try:
            os.utime(self._folder / records.ALIVE)
        except FileNotFoundError:
            # Somebody removed the cloud's folder; nobody will ever ask for this machine again.
            self._host_goes_down()
        if self._is_due(self._boot_at):
            self._boot_at = None
            self._guest.release()
            self._record(state=MachineState.RUNNING)
        while self._loss is not None and self._is_due(self._began + self._loss.decided):
            loss = self._foresee()
            if loss == self._loss:
                self._decide(fates.taken(self._began + loss.at, loss.lead, CLOCK.monotonic()))
                self._loss = None
            else:
                self._loss = loss
        if self._fate is not None and not self._termed and self._is_due(self._fate.term):
            self._termed = True
            self._guest.terminate()

    def _foresee(self) -> Loss | None:
        """The loss of capacity that will take this machine, as things stand: machines that leave make room for it."""
        if self._request.offer.capacity_type is not CapacityType.SPOT:
            return None
        mine = (self._request.elapsed, self._folder.name)
        others = records.occupants(self._folder.parent.parent, self._zone.name)
        older = sum((request.elapsed, folder.name) < mine for folder, request in others)
        return self._zone.loss(self._request.elapsed, older)

    def _decide(self, fate: fates.Fate) -> None:
        """Let ``fate`` hold, unless there is a sooner one, and tell the guest if it is to know."""
        before, self._fate = self._fate, fates.sooner(self._fate, fate)
        if self._fate is not before and fate.announced:
            self._metadata.announce(Kind.TERMINATE, CLOCK.now() + max(0.0, fate.kill - CLOCK.monotonic()))
            if self._machine.noticed is None:
                self._record(noticed=endings.moment(self._folder, self._request, CLOCK))

    def _hear(self) -> None:
        for ask in self._inbox.read():
            now = CLOCK.monotonic()
            if isinstance(ask, control.Stop):
                self._decide(fates.stopped(now))
            else:
                self._decide(fates.taken(now + (ask.notice or 0.0), ask.notice, now))

    def _host_goes_down(self, *_: object) -> None:
        self._decide(fates.Fate(MachineEnd.LOST, announced=False, term=None, kill=CLOCK.monotonic()))

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._signals.recv(4096):
                pass
        self._guest_left |= self._guest.pid in processes.reap()

    def _drain(self) -> None:
        if not self._console.drain():
            self._selector.unregister(self._guest.console)

    def _living(self) -> list[processes.Process]:
        """What still runs on the machine; on the way, its last words and its dead are taken in."""
        self._console.drain()
        processes.reap()
        return processes.descendants([os.getpid()], processes.everything())

    def _pause(self) -> float:
        """Seconds until something is due."""
        fate = self._fate
        moments = [
            self._boot_at,
            None if self._loss is None else self._began + self._loss.decided,
            None if fate is None or self._termed else fate.term,
            None if fate is None else fate.kill,
        ]
        known = [moment - CLOCK.monotonic() for moment in moments if moment is not None]
        return max(0.0, min([LOOK, *known]))

    def _is_due(self, at: float | None) -> bool:
        return at is not None and CLOCK.monotonic() >= at

    def _record(self, **changes: object) -> None:
        self._machine = msgspec.structs.replace(self._machine, **changes)
        # A full disk is no reason to lose the machine: the next record says it too.
        with contextlib.suppress(OSError):
            records.write(self._folder / "machine.json", self._machine)


def main() -> None:
    """Come up for the machine in the folder named on the command line."""
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    if os.fork():
        os._exit(0)
    os.set_inheritable(lock, False)
    processes.become_subreaper()
    supervisor = Supervisor(folder)
    os.dup2(2, 1)
    supervisor.run()


if __name__ == "__main__":
    main()
