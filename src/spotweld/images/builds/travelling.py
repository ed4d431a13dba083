"""What a machine needs to build images: the files of their contexts, and the order.

The files keep their modes and links, which would be lost if they were frozen one by one as a job's files are; so they
travel as one tar. On the machine the project stands in another folder; registries and store stay where they are.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.errors import UsageError
from spotweld.images.builds.commits import Commit, commit_of
from spotweld.images.builds.freshness import ignore_file, ignore_rules, memory_of
from spotweld.images.steps.context import Context, NotInContext
from spotweld.images.steps.filedigests import FileDigests
from spotweld.project.graph import build_order
from spotweld.project.nouns import Project
from spotweld.values.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from spotweld.project.nouns import Image

_FILES = "contexts.tar"
_ORDER = "order.json"
_LARGEST = 900_000_000
"""Bytes: what a run's files may have, less some room."""
_LINKED = ("file", "executable", "link", "folder")


class Order(msgspec.Struct, frozen=True):
    """What to build."""

    project: Project
    names: tuple[str, ...]
    builder: str
    at_once: int
    """Images built side by side; 0: as many as the machine has cores."""
    commit: Commit
    """Of the folder that the files come from."""


def pack(project: Project, names: Sequence[str], builder: str, at_once: int, folder: Path) -> Order:
    """Write the contexts and the order into an empty folder.

    Args:
        project: the project.
        names: of the images to build; what they need is built too.
        builder: which one, as ``images.builders.choose_builder`` takes it.
        at_once: how many images may be built side by side; 0: as many as the machine has cores.
        folder: where to.

    Raises:
        UsageError: the files are too many bytes, or cannot be read.
        DockerfileError: an ignore file cannot be used.
    """
    root = project.file.parent
    images = build_order(project.images, names)
    order = Order(project, tuple(names), builder, at_once, commit_of(root))
    (folder / _ORDER).write_bytes(msgspec.json.encode(order, enc_hook=str))
    try:
        _write(folder / _FILES, _paths(project, images), root)
    except NotInContext as error:
        raise _cannot_travel(error.what, error.why) from error
    except OSError as error:
        raise _cannot_travel(f"{error.filename or 'they'} cannot be packed", error.strerror or str(error)) from error
    return order


def _cannot_travel(what: str, why: str) -> UsageError:
    todo = "mend its permissions or make room, or name what the images do not need in .dockerignore"
    return UsageError("the contexts cannot travel to a machine", f"{what}: {why}", todo)


def _write(file: Path, paths: Iterable[Path], root: Path) -> None:
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as tar:
        total = 0
        for path in paths:
            entry = tar.gettarinfo(path, str(path.relative_to(root)))
            # The same files make the same bytes; a second name of a file would be a link to the first one.
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            if entry.islnk():
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
            total += entry.size
            if total > _LARGEST:
                raise UsageError(
                    "the contexts are too large to travel to a machine",
                    f"more than {format_size(_LARGEST)}",
                    "name what the images do not need in .dockerignore",
                )
            if entry.isfile():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)


def unpack(folder: Path, into: Path) -> Order:
    """What ``pack`` wrote: its files go below ``into``, where the order's project then stands.

    Args:
        folder: with what ``pack`` wrote.
        into: made when it is missing; what an earlier call left there is written over.
    """
    order: Order = msgspec.json.decode((folder / _ORDER).read_bytes(), type=Order, dec_hook=_path)
    into.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / _FILES) as tar:
        # With their modes and links as they are; what we have packed ourselves is all below `into`.
        tar.extraction_filter = lambda member, _: member
        tar.extractall(into)  # noqa: S202
    project, former = order.project, order.project.file.parent
    images = {
        name: msgspec.structs.replace(
            image,
            context=into / image.context.relative_to(former),
            dockerfile=into / image.dockerfile.relative_to(former),
        )
        for name, image in project.images.items()
    }
    return msgspec.structs.replace(
        order, project=msgspec.structs.replace(project, file=into / project.file.name, images=images)
    )


def _paths(project: Project, images: Iterable[Image]) -> Iterator[Path]:
    """Every file, link and folder that the images' builds may look at, each once."""
    seen: set[Path] = set()
    for image in images:
        with FileDigests(memory_of(project, image)) as digests:
            context = Context(image.context, ignore_rules(project, image), digests)
            inside = [image.context / entry.path for entry in context.named(".") if entry.kind in _LINKED]
        for path in (image.context, *inside, image.dockerfile, ignore_file(image)):
            if path is None or path in seen:
                continue
            if not os.path.lexists(path):
                why = "its name is not UTF-8, or it was removed just now"
                raise UsageError(f"{path} cannot travel to a machine", why, "rename it, or name it in .dockerignore")
            seen.add(path)
            yield path


def _path(kind: type, text: Any) -> Any:  # noqa: ANN401  as msgspec has it
    if kind is not Path:
        raise NotImplementedError(kind)
    return Path(text)
