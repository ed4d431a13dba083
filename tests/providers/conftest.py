"""Clouds to test with, and the rig that lets one suite run over every provider."""

from __future__ import annotations

import json
import os
import signal
import time
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from spotweld.project.nouns import LocalProvider, LocalZone
from spotweld.providers.local.cloud import LocalCloud
from spotweld.providers.provider import Boot, Machine, MachineEnd, Provider
from spotweld.testing.providers import Live, Refuse, ScriptedProvider
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

FOREVER = Boot(("sleep", "100000"), {})


class FakeClock:
    """Stands still until somebody lets time pass."""

    def __init__(self) -> None:
        self._wall = 1_700_000_000.0
        self._monotonic = 5000.0

    def now(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """The wall clock is set."""
        self._wall += seconds


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


def wait_for(true: Callable[[], object]) -> None:
    """Until ``true()`` holds, for as long as a slow machine may need."""
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def offer_of(cloud: Provider, zone: str, capacity_type: CapacityType) -> Offer:
    return next(o for o in cloud.offers() if o.zone == zone and o.capacity_type is capacity_type)


class Clouds:
    """Makes local clouds, and stops all their machines when the test is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: list[LocalCloud] = []

    def zone(self, name: str = "a", *, levels: list[int | None] | None = None, **more: object) -> LocalZone:
        """One that always has capacity, or has ``levels``, one for each tick of ``gap`` (else ten million) seconds."""
        trace = self.folder / f"{name}.json"
        gap = more.pop("gap", 1e7)
        trace.write_text(json.dumps({"metadata": {"gap_seconds": gap}, "data": levels or [9]}))
        nouns: dict[str, object] = {"spot": Money(Decimal("0.3")), "on_demand": Money(Decimal(1)), "trace": trace}
        return LocalZone(name=name, **{**nouns, **more})

    def make(self, *zones: LocalZone, folder: str = "cloud", **more: object) -> LocalCloud:
        """A cloud; a second one with the same ``folder`` is the same cloud as another process sees it."""
        cloud = LocalCloud(self.folder / folder, LocalProvider(zones or (self.zone(),), **more))
        self._made.append(cloud)
        return cloud

    def started(self, cloud: LocalCloud, *argv: str, token: str = "t", **env: str) -> Machine:
        """A spot machine in zone ``a`` that runs ``argv``."""
        return cloud.start(self.offer(cloud), Boot(argv or FOREVER.argv, env), token=token, labels={})

    def folder_of(self, machine: Machine) -> Path:
        return self.folder / "cloud" / "machines" / machine.id

    def disk(self, machine: Machine) -> Path:
        return self.folder_of(machine) / "disk"

    def console(self, machine: Machine) -> str:
        return (self.folder_of(machine) / "console.log").read_text()

    def supervisor(self, machine: Machine) -> int:
        """Its process id."""
        pid = json.loads((self.folder_of(machine) / "supervisor.json").read_text())["pid"]
        assert isinstance(pid, int)
        return pid

    def ended(self, cloud: LocalCloud, machine: Machine) -> Machine:
        """The machine's end record, once there is one."""
        look = lambda: next(m for m in cloud.machines({}) if m.id == machine.id)  # noqa: E731
        wait_for(lambda: look().ended is not None)
        return look()

    offer = staticmethod(lambda cloud, zone="a", kind=CapacityType.SPOT: offer_of(cloud, f"local/{zone}", kind))
    wait_for = staticmethod(wait_for)

    def close(self) -> None:
        for cloud in self._made:
            for machine in cloud.machines({}):
                cloud.stop(machine.id)


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[Clouds]:
    made = Clouds(tmp_path)
    yield made
    made.close()


class Rig(ABC):
    """A provider, and what a test needs to know of its world."""

    provider: Provider
    offer: Offer
    """Can be had."""

    @abstractmethod
    def start(self, token: str = "t", labels: Mapping[str, str] | None = None) -> Machine:
        """A machine that lives until somebody ends it."""

    @abstractmethod
    def start_briefly(self, token: str) -> Machine:
        """A machine that shuts itself down at once."""

    @abstractmethod
    def start_refused(self, token: str) -> Machine:
        """Ask for what cannot be had."""

    @abstractmethod
    def lose(self, machine: str) -> None:
        """Let the machine be gone without the provider knowing why."""

    @abstractmethod
    def wait_for(self, true: Callable[[], object]) -> None:
        """Let time pass until ``true()``."""

    def the(self, machine: str) -> Machine:
        return next(m for m in self.provider.machines({}) if m.id == machine)

    def ended(self, machine: str) -> Machine:
        self.wait_for(lambda: self.the(machine).ended is not None)
        return self.the(machine)


class LocalRig(Rig):
    def __init__(self, clouds: Clouds) -> None:
        self.provider = self.cloud = clouds.make(clouds.zone(), clouds.zone("full", levels=[0]))
        self.offer = clouds.offer(self.cloud)
        self.full = clouds.offer(self.cloud, "full")
        self.clouds = clouds

    def start(self, token: str = "t", labels: Mapping[str, str] | None = None) -> Machine:
        return self.cloud.start(self.offer, FOREVER, token=token, labels=labels or {})

    def start_briefly(self, token: str) -> Machine:
        return self.cloud.start(self.offer, Boot(("true",), {}), token=token, labels={})

    def start_refused(self, token: str) -> Machine:
        return self.cloud.start(self.full, FOREVER, token=token, labels={})

    def lose(self, machine: str) -> None:
        os.kill(self.clouds.supervisor(self.the(machine)), signal.SIGKILL)

    def wait_for(self, true: Callable[[], object]) -> None:
        wait_for(true)


class ScriptedRig(Rig):
    def __init__(self) -> None:
        self.offer = Offer("scripted", "r", "z", "m", CapacityType.SPOT, Money(Decimal("0.1")), "script")
        self.clock = FakeClock()
        self.provider = self.scripted = ScriptedProvider([self.offer], [], self.clock)

    def start(self, token: str = "t", labels: Mapping[str, str] | None = None) -> Machine:
        return self.provider.start(self.offer, FOREVER, token=token, labels=labels or {})

    def start_briefly(self, token: str) -> Machine:
        self.scripted.script.append(Live(seconds=1, end=MachineEnd.EXITED))
        return self.start(token)

    def start_refused(self, token: str) -> Machine:
        self.scripted.script.append(Refuse())
        return self.start(token)

    def lose(self, machine: str) -> None:
        self.scripted.end(machine, MachineEnd.LOST)

    def wait_for(self, true: Callable[[], object]) -> None:
        for _ in range(10_000):
            if true():
                return
            self.clock.sleep(0.1)
        pytest.fail("waited in vain")


@pytest.fixture(params=["local", "scripted"])
def rig(request: pytest.FixtureRequest) -> Rig:
    return LocalRig(request.getfixturevalue("clouds")) if request.param == "local" else ScriptedRig()
