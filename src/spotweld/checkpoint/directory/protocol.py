"""When a directory is consistent: what its program says by renewing a file, what a command sees to, or a standstill."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from spotweld.checkpoint.voice import warn
from spotweld.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.project.nouns import CheckpointPolicy

GROUP = "SPOTWELD_GROUP"
"""The environment variable that tells both commands the process group of the program."""
PATIENCE = 60.0
"""Seconds that each of the two commands may take."""

Ready: TypeAlias = frozenset[tuple[str, int, int, int]]
"""The marker's files: path, inode, time of the last change in ns, size."""


class Place(msgspec.Struct, frozen=True):
    """Where the commands run."""

    folder: Path
    """The job's, in which the program runs as well."""
    environ: Mapping[str, str]
    console: Path
    """The file that takes what they write."""
    group: int
    """The program's process group."""
    shell: tuple[str, ...] = ("/bin/sh", "-c")
    """Followed by a command line, it runs that where the program runs."""


def ready_now(folder: Path, pattern: str) -> Ready:
    """The marker as it is now; empty: it is not there, so the directory is not consistent.

    Args:
        folder: the job's.
        pattern: of paths below it.
    """
    found = set()
    for path in glob.glob(pattern, root_dir=folder, include_hidden=True):
        with contextlib.suppress(OSError):
            status = (folder / path).stat()
            found.add((path, status.st_ino, status.st_mtime_ns, status.st_size))
    return frozenset(found)


@contextlib.contextmanager
def stopped(group: int) -> Iterator[None]:
    """While the processes of a group stand still (SIGSTOP). None of them hears of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)


@contextlib.contextmanager
def quiesced(policy: CheckpointPolicy, place: Place) -> Iterator[None]:
    """Between ``quiesce`` and ``resume``. ``resume`` is run whatever happens.

    Raises:
        CheckpointError: ``quiesce`` failed.
    """
    try:
        _command("quiesce", policy.quiesce, place)
        yield
    finally:
        if policy.resume:
            try:
                _command("resume", policy.resume, place)
            except CheckpointError as error:
                # What was copied is good; but the program may stand still for ever.
                warn(f"{error}; the program may be standing still")


def _command(name: str, line: str, place: Place) -> None:
    with place.console.open("ab", buffering=0) as console:
        process = subprocess.Popen(
            [*place.shell, line],
            cwd=place.folder,
            env={**place.environ, GROUP: str(place.group)},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise CheckpointError(f"the job's {name} failed", f"`{line}` did not end within {PATIENCE:g} s") from None
    if code:
        raise CheckpointError(f"the job's {name} failed", f"`{line}` ended with exit status {code}")
