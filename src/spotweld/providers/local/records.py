"""What is written in a machine's folder, and the lock that says whether somebody is in charge of it.

::

    cloud.json            when the cloud's clock began
    cache/                what machines keep for the next ones on this host: images; may be removed while none runs
    cloud.lock            held while somebody decides who may start
    machines/ID/
        alive             locked by whoever is in charge: first the starter, then the supervisor, which inherits the
                          lock itself; free again the instant they are gone, however they went. Its time of change is
                          the last sign of life. Removed in the end
        request.json      what was asked for. Alone it means: asked for, never started
        boot.json         what the guest runs
        machine.json      the machine, as ``machines()`` gives it; rewritten at each change by whoever is in charge
        supervisor.json   the supervisor's process, for people and for the last resort of ``stop``
        control           a FIFO on which the supervisor takes requests
        console.log       what the guest wrote; console.1.log is the part before it
        supervisor.log    what the supervisor had to say, usually nothing
        disk/             the guest's working folder and HOME; removed when the machine has ended
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from spotweld.errors import ProviderError
from spotweld.project.nouns import LocalProvider
from spotweld.providers.provider import Machine
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

ALIVE = "alive"
_Record = TypeVar("_Record", bound=msgspec.Struct)


class Request(msgspec.Struct, frozen=True):
    """What was asked for, and when it was granted."""

    token: str
    offer: Offer
    labels: dict[str, str]
    zone: str
    """The zone's name in ``config``."""
    granted: float
    """Seconds since 1970 UTC."""
    elapsed: float
    """The same moment by the cloud's clock: seconds since it began."""
    config: LocalProvider
    """As it was then: a changed project file changes no running machine."""


class Supervisor(msgspec.Struct, frozen=True):
    """The process in charge."""

    pid: int
    started: int
    """As in ``processes.Process``."""


def write(path: Path, record: msgspec.Struct) -> None:
    """Put ``record`` at ``path`` in one durable step: the old or the new one is there at any instant."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        # Only for the owner's eyes: a guest's environment may hold secrets.
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(record, enc_hook=_to_text)))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        # What a full disk refuses is tried several times a second.
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def read(path: Path, kind: type[_Record]) -> _Record | None:
    """The record at ``path``; None: there is none.

    Raises:
        ProviderError: there is something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=_from_text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError as error:
        raise ProviderError(f"{path} cannot be read", str(error), "remove the folder that it is in") from error


def read_machine(folder: Path) -> Machine | None:
    """The machine in ``folder``; None: it was never started."""
    return read(folder / "machine.json", Machine)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take(folder: Path) -> int | None:
    """Take charge of the machine in ``folder``, which is made if it is missing.

    Returns:
        A descriptor, whose closing gives the charge back unless it was inherited; None: somebody else has it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _locked(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Do something while nobody else does it who asks with the same ``path``; wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def in_charge(folder: Path) -> bool:
    """Whether a starter or a supervisor is alive for the machine in ``folder``."""
    try:
        descriptor = os.open(folder / ALIVE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask at once do not take each other for a supervisor.
        return not _locked(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def names(cloud: Path) -> list[str]:
    """The ids of all machines that were ever asked for: thousands, after a while, and asked for many times a second."""
    try:
        with os.scandir(cloud / "machines") as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def occupants(cloud: Path, zone: str, ended: Container[str] = ()) -> Iterator[tuple[Path, Request]]:
    """The spot machines that take up room in ``zone`` now: granted, in somebody's charge, and not ended.

    Args:
        cloud: its folder.
        zone: the zone's name.
        ended: ids of machines that are known to have ended, which need not be looked at.
    """
    for folder in (cloud / "machines" / name for name in names(cloud) if name not in ended):
        if not in_charge(folder):
            continue
        machine = read_machine(folder)
        request = read(folder / "request.json", Request)
        if request is None or (machine is not None and machine.ended is not None):
            continue
        if request.zone == zone and request.offer.capacity_type is CapacityType.SPOT:
            yield folder, request


def _locked(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    return True


def _to_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value)} in a record")


def _from_text(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"{kind} in a record")
