"""The embedded provider: this machine, behaving like a spot cloud. All its state is in one folder."""

from __future__ import annotations

import math
import os
import re
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from spotweld.errors import NoCapacity, ProviderError
from spotweld.providers.local import control, doctor, endings, launches, records
from spotweld.providers.local.births import begin, elapsed, read_birth
from spotweld.providers.local.zones import PROVIDER, Zone, find_zone
from spotweld.providers.provider import Boot, Finding, Machine, MachineEnd, Provider
from spotweld.values.clocks import SystemClock
from spotweld.values.digests import digest, hex_of
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spotweld.project.nouns import LocalProvider, LocalZone
    from spotweld.values.clocks import Clock

PATIENCE = 30.0
"""Seconds after which ``stop`` takes the supervisor for hung and pulls the plug; it should need ``fates.GRACE``."""
PAUSE = 0.01
"""Seconds between two looks at a machine that somebody else is changing."""
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_ID = re.compile(r"m-[0-9a-f]{16}")


def _explained(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """What the system refuses becomes a ``ProviderError``."""

    @wraps(method)
    def explained(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return method(*args, **kwargs)
        except OSError as error:
            what = "the local provider's folder cannot be used"
            raise ProviderError(what, str(error), "see what `spotweld doctor` says") from error

    return explained


class LocalCloud(Provider):
    """Machines that are process groups on this host, in zones that gain and lose spot capacity.

    May be used from any number of threads and processes on one folder at once.

    Args:
        folder: where the cloud lives; made by the first ``start``.
        config: its zones, and how they behave.
        clock: tells the time; supervisors always use the system's.
    """

    name = PROVIDER

    def __init__(self, folder: Path, config: LocalProvider, clock: Clock | None = None) -> None:
        self._folder = Path(folder).absolute()
        self._config = config
        self._clock = clock or SystemClock()
        self._zones: dict[str, Zone] = {}
        self._over: dict[str, Machine] = {}

    @_explained
    def offers(self) -> Sequence[Offer]:
        birth = read_birth(self._folder)
        now = 0.0 if birth is None else elapsed(birth, self._clock)
        return [offer for zone in self._config.zones for offer in self._zone(zone).offers(now)]

    @_explained
    def room(self, offer: Offer) -> int | None:
        if offer.capacity_type is CapacityType.ON_DEMAND:
            return None
        zone, birth = find_zone(self._config, offer), read_birth(self._folder)
        now = 0.0 if birth is None else elapsed(birth, self._clock)
        return max(0, self._zone(zone).capacity(now) - self._taken(zone))

    @_explained
    def start(self, offer: Offer, boot: Boot, *, token: str, labels: Mapping[str, str]) -> Machine:
        zone = find_zone(self._config, offer)
        folder = self._folder / "machines" / machine_id(token)
        while (machine := self._settled(folder)) is None:
            lock = self._grant(zone, folder, offer, boot, token, labels)
            if lock is None:
                self._clock.sleep(PAUSE)
                continue
            try:
                launches.launch(folder, lock)
            finally:
                os.close(lock)
            if (machine := records.read_machine(folder)) is not None:
                return machine
            raise ProviderError(
                f"machine {folder.name} did not come up",
                doctor.last_line(folder / "supervisor.log"),
                f"look at {folder / 'supervisor.log'}",
            )
        return machine

    @_explained
    def stop(self, machine: str) -> None:
        folder = self._machine_folder(machine)
        if folder is None:
            return
        asked, began = False, self._clock.monotonic()
        while records.in_charge(folder):
            found = records.read_machine(folder)
            if found is not None and found.ended is not None:
                return
            asked = asked or control.send(folder, control.Stop())
            waited = self._clock.monotonic() - began
            if waited > PATIENCE:
                endings.pull_the_plug(folder)
            if waited > 2 * PATIENCE:
                raise ProviderError(f"machine {machine} does not end", todo=f"look at {folder / 'supervisor.log'}")
            self._clock.sleep(PAUSE)
        endings.bury(folder, self._clock, MachineEnd.STOPPED if asked else MachineEnd.LOST)

    @_explained
    def machines(self, labels: Mapping[str, str]) -> Sequence[Machine]:
        place = self._folder / "machines"
        known = (self._over.get(name) or self._settled(place / name) for name in records.names(self._folder))
        carrying = [machine for machine in known if machine is not None and labels.items() <= machine.labels.items()]
        return sorted(carrying, key=lambda machine: (machine.started, machine.id))

    @_explained
    def interrupt(self, machine: str, *, notice: float | None) -> None:
        if notice is not None and not (math.isfinite(notice) and notice >= 0):
            raise ProviderError(f"no notice of {notice} seconds can be given", "it must be a number, not below 0")
        folder = self._machine_folder(machine)
        found = None if folder is None else self._settled(folder)
        if folder is None or found is None or found.ended is not None:
            raise ProviderError(f"machine {machine} cannot be taken", "it has ended" if found else "there is none")
        if not control.send(folder, control.Interrupt(notice)):
            raise ProviderError(f"machine {machine} cannot be taken", "it ends just now")

    def disk(self, machine: str) -> Path | None:
        """Where the machine's disk is, as long as there is such a machine. No cloud lets one look there."""
        folder = self._machine_folder(machine)
        return folder / "disk" if folder is not None else None

    @_explained
    def health(self) -> Sequence[Finding]:
        return doctor.examine(self._folder, self._config)

    def _grant(
        self, zone: LocalZone, folder: Path, offer: Offer, boot: Boot, token: str, labels: Mapping[str, str]
    ) -> int | None:
        """Take up room for a machine.

        Returns:
            The machine's lock, which keeps the room; None: somebody else is in charge of the machine.

        Raises:
            NoCapacity: there is no room.
        """
        with records.alone(self._folder / "cloud.lock"):
            now = elapsed(begin(self._folder, self._clock), self._clock)
            if records.read_machine(folder) is not None or records.in_charge(folder):
                return None
            if offer.capacity_type is CapacityType.SPOT:
                self._check_room(zone, now)
            alive = records.take(folder)
            if alive is None:
                return None
            try:
                records.write(folder / "boot.json", boot)
                records.write(
                    folder / "request.json",
                    records.Request(
                        token=token,
                        offer=offer,
                        labels=dict(labels),
                        zone=zone.name,
                        granted=self._clock.now(),
                        elapsed=now,
                        config=self._config,
                    ),
                )
            except BaseException:
                os.close(alive)
                raise
            return alive

    def _check_room(self, zone: LocalZone, now: float) -> None:
        capacity = self._zone(zone).capacity(now)
        taken = self._taken(zone)
        if taken >= capacity:
            raise NoCapacity(
                f"no spot machine can be had in {PROVIDER}/{zone.name}",
                f"{taken} run there, and there is capacity for {capacity}",
                "wait, or take another zone or an on-demand machine",
            )

    def _taken(self, zone: LocalZone) -> int:
        return sum(1 for _ in records.occupants(self._folder, zone.name, self._over))

    def _settled(self, folder: Path) -> Machine | None:
        """The machine in ``folder``; one that lost its supervisor is ended first. None: never started."""
        known = self._over.get(folder.name)
        if known is not None:
            return known
        machine = records.read_machine(folder)
        if machine is not None and machine.ended is None and not records.in_charge(folder):
            machine = endings.bury(folder, self._clock)
        if machine is not None and machine.ended is not None:
            self._over[folder.name] = machine
        return machine

    def _zone(self, zone: LocalZone) -> Zone:
        if zone.name not in self._zones:
            self._zones[zone.name] = Zone(self._config, zone)
        return self._zones[zone.name]

    def _machine_folder(self, machine: str) -> Path | None:
        folder = self._folder / "machines" / machine
        return folder if _ID.fullmatch(machine) and folder.is_dir() else None


def machine_id(token: str) -> str:
    """The id of the machine that ``token`` starts."""
    return f"m-{hex_of(digest(token.encode()))[:16]}"
