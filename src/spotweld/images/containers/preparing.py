"""A job's image on a machine: whether jobs can run in images there, and a root to run one in."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import ContainerRefused
from spotweld.images.builders.builder import ignore
from spotweld.images.containers.fetching import HostImages
from spotweld.images.containers.hosting import hold
from spotweld.images.containers.rooting import ALONE, Container, lacking, make_root
from spotweld.store.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from spotweld.images.containers.pinning import Pinned
    from spotweld.images.registries.copying import Progress

_NEEDED = (
    ("buildah", "buildah"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("chroot", "coreutils"),
)


class Prepared(msgspec.Struct, frozen=True):
    """An image that a job can live in."""

    container: Container
    moved: int
    """Bytes that had to be fetched over the network."""
    here: bool
    """An earlier machine of this host had fetched it."""


def check_here() -> None:
    """See that this machine can run jobs in images.

    Raises:
        ContainerRefused: it cannot.
    """
    what = "a job cannot run in an image here"
    if platform.system() != "Linux":
        raise ContainerRefused(what, "that takes Linux", "remove image from the job")
    if packages := lacking(_NEEDED):
        todo = f"Debian: apt-get install --no-install-recommends {' '.join(packages)}"
        raise ContainerRefused(what, "programs are missing", todo)
    if os.geteuid() != 0:
        raise ContainerRefused(what, "only root may mount its files", "be root, or remove image from the job")
    tried = subprocess.run([*ALONE, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        todo = "if this is a container itself, start it with the right to mount (docker run --privileged)"
        raise ContainerRefused(what, tried.stderr.strip() or "root may make no namespaces here", todo)


def prepare(
    pinned: Pinned,
    host: Path,
    disk: Path,
    work: Path,
    shared: Sequence[Path],
    environment: Mapping[str, str],
    tell: Callable[[Progress], None] = ignore,
) -> Prepared:
    """Make a root with the image's files. This process lives as long as the root is used, in its own mount namespace.

    Args:
        pinned: the image.
        host: a folder that all machines of this host share.
        disk: a folder of this machine, made anew.
        work: the job's folder.
        shared: folders that appear in the image under their own paths.
        environment: says where credentials lie.
        tell: hears what is fetched over the network.

    Raises:
        ContainerRefused: the image cannot be lived in here.
        ImageDamaged: a part of it is gone, or differs from its digest.
        ImageNotFound: it was removed from its registry.
        RegistryUnavailable: the registry does not answer.
        RegistryRefused: the registry does not allow it.
    """
    shutil.rmtree(disk, ignore_errors=True)
    make_folder(disk)
    lock = hold(host)
    try:
        images = HostImages(host, _driver(host, disk))
        found, moved = images.fetch(pinned, environment, tell)
        try:
            root = images.unpack(found, disk)
        except ContainerRefused:
            # Somebody may have emptied the storage.
            images.forget(pinned.digest)
            found, moved = images.fetch(pinned, environment, tell)
            root = images.unpack(found, disk)
        return Prepared(make_root(root, work, dict(found.env), shared, found.user), moved or 0, moved is None)
    except BaseException:
        os.close(lock)
        raise


def _driver(host: Path, disk: Path) -> str:
    """``overlay`` where the kernel can lay a folder of the machine over one of the host, else ``vfs``, which copies."""
    under, over, work, both = host / "probe", disk / "over", disk / "work", disk / "both"
    for folder in (under, over, work, both):
        make_folder(folder)
    options = f"lowerdir={under},upperdir={over},workdir={work}"
    tried = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(both)], capture_output=True, check=False
    )
    if tried.returncode:
        return "vfs"
    subprocess.run(["umount", str(both)], check=True)
    return "overlay"
