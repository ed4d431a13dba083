"""The guest of a machine: what its owner asked to run, from the first process to the last."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.providers.local import processes
from spotweld.values.environment import HOST_CACHE, METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.providers.provider import Boot

IMAGE = (
    *("LANG", "LC_ALL", "TZ", "USER", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "CUDA_VISIBLE_DEVICES"),
    *("SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    "DOCKER_HOST",
)
"""What a machine takes over from the environment it was started in: what a cloud's image or network would bring along.
Nothing else: a job that needs a variable from its user's shell would fail in a cloud, so it fails here."""
CACHE = "cache"
"""The folder, beside that of the machines, in which they leave what others of this host may use."""
CONSOLE = 4 * 1000 * 1000
"""Bytes of a console file; the one before it is kept as well."""


def environment(boot: Boot, folder: Path, metadata: str, host: Mapping[str, str]) -> dict[str, str]:
    """The guest's environment.

    Args:
        boot: what the owner asked for.
        folder: the machine's.
        metadata: base URL of the machine's metadata service.
        host: the environment of the supervisor.
    """
    image = {name: host[name] for name in IMAGE if name in host}
    path = boot.env.get("PATH") or host.get("PATH") or os.defpath
    return {
        **image,
        **boot.env,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}",
        "HOME": str(folder / "disk"),
        HOST_CACHE: str(folder.parent.parent / CACHE),
        METADATA: metadata,
        processes.MARK: str(folder),
    }


class Guest:
    """The guest's first process, forked at once and held back until ``release``.

    It is forked before the supervisor has threads, because a fork beside threads may find any lock taken for ever.

    Args:
        boot: what to run.
        env: its whole environment.
        disk: its working folder.
    """

    def __init__(self, boot: Boot, env: Mapping[str, str], disk: Path) -> None:
        self.console, console = os.pipe()
        gate, self._gate = os.pipe()
        supervisor = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            _become(boot, env, disk, supervisor, gate=gate, console=console)
        os.close(gate)
        os.close(console)
        os.set_blocking(self.console, False)

    def release(self) -> None:
        """Let it run."""
        os.write(self._gate, b"!")
        os.close(self._gate)

    def terminate(self) -> None:
        """TERM to the first process and those of its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)


class Console:
    """Keeps the end of what a guest writes: ``console.log``, and ``console.1.log`` before it."""

    def __init__(self, folder: Path, source: int) -> None:
        self._path = folder / "console.log"
        self._older = folder / "console.1.log"
        self._source = source
        self._file = self._path.open("ab", buffering=0)

    def drain(self) -> bool:
        """Take over what there is now; False: nobody can write any more."""
        # No more than a moment's worth, so that a guest which floods it cannot hold its own end up.
        for _ in range(16):
            try:
                chunk = os.read(self._source, 65536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._keep(chunk)
        return True

    def _keep(self, chunk: bytes) -> None:
        # A full disk must not end the machine: the console is for people.
        with contextlib.suppress(OSError):
            if self._file.tell() + len(chunk) > CONSOLE:
                self._file.close()
                self._path.replace(self._older)
                self._file = self._path.open("ab", buffering=0)
            self._file.write(chunk)


def wipe(disk: Path) -> None:
    """Remove a machine's disk. All its processes have ended.

    A disk with something mounted below it stays: what is removed there might be anybody's.
    """
    if mounts_below(disk, Path("/proc/self/mountinfo").read_text()):
        return
    for folder, _, _ in os.walk(disk):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o700)
    shutil.rmtree(disk, ignore_errors=True)


def mounts_below(folder: Path, mountinfo: str) -> bool:
    r"""Whether something is mounted in ``folder``. ``mountinfo``: proc_pid_mountinfo(5), where blanks are ``\040``."""
    points = (Path(line.split()[4].replace("\\040", " ")) for line in mountinfo.splitlines())
    return any(folder in point.parents or folder == point for point in points)


def _become(
    boot: Boot, env: Mapping[str, str], disk: Path, supervisor: int, *, gate: int, console: int
) -> None:  # pragma: no cover
    """Turn the forked process into the guest; never returns."""
    try:
        os.setsid()
        processes.die_with(supervisor)
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(console, 1)
        os.dup2(console, 2)
        # Python ignores it, and an ignored signal stays ignored over an exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if os.read(gate, 1):
            os.chdir(disk)
            os.execvpe(boot.argv[0], boot.argv, env)  # noqa: S606
    except BaseException:  # noqa: BLE001 nothing may run on in this copy of the supervisor
        os.write(2, traceback.format_exc(limit=0).encode())
    os._exit(127)
