"""Starting a builder's programs: none outlives us, all that they say is heard line by line.

The programs of util-linux do what no line of Python can do safely between fork and exec: ``setpriv`` asks the kernel to
kill the program when its parent dies (prctl(2), PR_SET_PDEATHSIG), and ``unshare`` puts it into process and mount
namespaces of its own. Whatever it starts there dies with it, and what it mounts is unmounted by the kernel.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import BuilderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

KEPT = 60
"""Lines of output that are remembered for the message of an error."""
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--")


class Ended(msgspec.Struct, frozen=True):
    """A program that ended."""

    status: int
    """What it exited with; negative: the signal that killed it."""
    last: tuple[str, ...]
    """The last lines that it wrote, on either stream."""

    @property
    def words(self) -> str:
        """What it said went wrong: its last ``Error: ...`` or ``ERROR: ...``, else its last line."""
        said = [line for line in self.last if line.startswith(("Error: ", "ERROR: ", "error: "))] or self.last
        return said[-1].strip() if said else f"exit status {self.status}"


def follow(
    argv: Sequence[str], hear: Callable[[str], None], *, env: Mapping[str, str], alone: bool = False, hold: int = -1
) -> Ended:
    """Run a program to its end.

    Args:
        argv: the program and its arguments.
        hear: gets every line of both streams, without its end, as it comes.
        env: variables that are set or replaced for it.
        alone: in namespaces of its own, where this process may make them.
        hold: a file descriptor that it and everything it starts keeps open; -1: none.

    Raises:
        BuilderUnavailable: there is no such program.
    """
    last: deque[str] = deque(maxlen=KEPT)
    with _running(argv, env=env, alone=alone, hold=hold) as process:
        assert process.stdout is not None  # noqa: S101  for the type checker: it was asked for
        for line in process.stdout:
            last.append(line.rstrip("\n"))
            hear(last[-1])
        status = process.wait()
    return Ended(status, tuple(last))


@contextmanager
def _running(argv: Sequence[str], *, env: Mapping[str, str], alone: bool, hold: int) -> Iterator[subprocess.Popen[str]]:
    program = shutil.which(argv[0])
    if program is None:
        raise BuilderUnavailable(
            f"{argv[0]} is not installed", "no program of that name is on PATH", f"Debian: apt-get install {argv[0]}"
        )
    process = subprocess.Popen(
        [*_guards(alone=alone), program, *argv[1:]],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=() if hold < 0 else (hold,),
        encoding="utf-8",
        errors="replace",
    )
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _guards(*, alone: bool) -> list[str]:
    mortal = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    return [*mortal, *(_ALONE if alone and _may_unshare() else ())]


@functools.cache
def _may_unshare() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode == 0
