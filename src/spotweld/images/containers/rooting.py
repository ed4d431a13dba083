"""From a folder with an image's files to a root that a program can live in: what of the machine appears in it.

All mounts are made in the caller's own mount namespace, which it must share with nothing but its machine: they vanish
with its last process, however that ends.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path, PurePosixPath
from shutil import copyfile, which
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ContainerRefused
from spotweld.images.containers.accounts import GROUP, PASSWD, account, read_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from spotweld.images.containers.accounts import Account

ALONE = (
    *("unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"),
    *("sh", "-c", '"$@"; exit "$?"', "sh"),
)
"""What stands before a machine's first command so that it has process and mount namespaces of its own: the kernel ends
every process and every mount in them with ``unshare``, which itself is deaf to TERM. The shell is process 1, which has
to take in orphans; no program expects to be it."""
_MACHINE = ("/proc", "/sys", "/dev")
_NETWORK = ("/etc/resolv.conf", "/etc/hosts")
_MOST_LINKS = 40
_ENTER = 'cd "$0" && exec /bin/sh -c "$1"'
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's, for an image that sets none."""
_RIGHTS = "+dac_override,+sys_chroot"
"""What an account other than root gets (capabilities(7)): to write to the machine's folders and the store's, which are
root's, and to go into the image."""


class Container(msgspec.Struct, frozen=True):
    """A root with an image's files in it, and how a program comes to live there."""

    root: Path
    env: dict[str, str]
    """The image's own variables."""
    shell: tuple[str, ...]
    """Followed by a command line, it runs that in the image, in the job's folder, as the image's user."""
    owner: tuple[int, int] = (0, 0)
    """That user's numbers: of the account and of its group."""

    def hand_over(self, folder: Path) -> None:
        """Let everything below a folder of the machine be the user's, as far as it is root's."""
        if self.owner == (0, 0):
            return
        for path in (folder, *folder.rglob("*")):
            with suppress(FileNotFoundError):  # what the set-up has left running may be at work
                if path.lstat().st_uid == 0:
                    os.chown(path, *self.owner, follow_symlinks=False)


def make_root(root: Path, work: Path, env: dict[str, str], shared: Sequence[Path], user: str = "") -> Container:
    """Let the machine's devices, network and folders appear in an image's files.

    Args:
        root: the image's files, where writing changes no other machine's.
        work: the job's folder, in one of ``shared``.
        env: the image's variables.
        shared: folders of the machine that appear under their own paths.
        user: the image's ``USER``; empty: it names none, so it is root.

    Raises:
        ContainerRefused: the image has no shell or no such user, or a mount is not allowed here.
    """
    if not os.path.lexists(within(root, PurePosixPath("/bin/sh"))):
        why = "setup and command are shell command lines, and it has no /bin/sh"
        raise ContainerRefused("the image cannot run a job", why, "build it upon an image that has a shell")
    who = account(user, read_list(within(root, PASSWD)), read_list(within(root, GROUP)))
    for path in _MACHINE:
        _mount(Path(path), root, "--rbind")
    for folder in shared:
        folder.mkdir(parents=True, exist_ok=True)
        _mount(folder, root, "--bind")
    for path in _NETWORK:
        _copy(Path(path), root)
    env.setdefault("PATH", _PATH)
    home = env.setdefault("HOME", who.home)
    for name, mode, owner in ((home, 0o700, (who.uid, who.gid)), ("/tmp", 0o1777, (0, 0))):  # noqa: S108  the image's own
        folder = within(root, PurePosixPath(name))
        # Accounts of services have homes such as /dev/null, and no program of theirs looks for one.
        with suppress(FileExistsError, NotADirectoryError):
            folder.mkdir(parents=True)
            folder.chmod(mode)
            os.chown(folder, *owner)
    shell = (*_become(who), _program("chroot"), str(root), "/bin/sh", "-c", _ENTER, str(work))
    return Container(root, env, shell, (who.uid, who.gid))


def _become(who: Account) -> tuple[str, ...]:
    """What stands before a command that this account runs (setpriv(1))."""
    if (who.uid, who.gid, who.groups) == (0, 0, ()):
        return ()
    groups = f"--groups={','.join(map(str, who.groups))}" if who.groups else "--clear-groups"
    numbers = (f"--reuid={who.uid}", f"--regid={who.gid}", groups)
    rights = () if who.uid == 0 else (f"--inh-caps={_RIGHTS}", f"--ambient-caps={_RIGHTS}")
    return (_program("setpriv"), *numbers, *rights, "--")


def within(root: Path, path: PurePosixPath) -> Path:
    """Where ``path`` of an image really is, below ``root``: links in the image mean the image's own files.

    Raises:
        ContainerRefused: its links lead in a circle.
    """
    ahead, here, links = list(reversed(path.parts[1:])), root, 0
    while ahead:
        part = ahead.pop()
        step = here.parent if part == ".." and here != root else here if part == ".." else here / part
        if not step.is_symlink():
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise ContainerRefused("the image cannot run a job", f"its {path} is a link that leads in a circle")
        target = PurePosixPath(step.readlink())
        here = root if target.is_absolute() else here
        ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return here


def lacking(programs: Iterable[tuple[str, str]]) -> list[str]:
    """What of ``programs`` (each with its Debian package) is not here: the packages."""
    return sorted({package for program, package in programs if _found(program) is None})


def _mount(source: Path, root: Path, how: str) -> None:
    target = within(root, PurePosixPath(source))
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [_program("mount"), how, str(source), str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ContainerRefused(
            f"{source} cannot appear in the image",
            done.stderr.strip(),
            "run the job as root on a machine that allows mounts",
        )


def _copy(source: Path, root: Path) -> None:
    """A copy, not a mount: what the image has in this place is often a link."""
    if source.is_file():
        target = within(root, PurePosixPath(source.parent)) / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        copyfile(source, target)


def _program(name: str) -> str:
    return _found(name) or name


def _found(name: str) -> str | None:
    # Whoever is not root often has no sbin on the PATH.
    return which(name) or which(name, path="/usr/sbin:/sbin")
