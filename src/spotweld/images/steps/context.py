"""The files that ``COPY``, ``ADD`` and bind mounts really name.

Content, modes, links and names count, since they end up in the image. Times, owners, the place of the checkout and the
group's right to write do not: ``docs/decisions/0020-modes-of-files.md``.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import stat
from typing import TYPE_CHECKING, Literal

import msgspec

from spotweld.images.dockerfiles.ignore import Ignore
from spotweld.images.dockerfiles.patterns import WILD, clean, compiled
from spotweld.images.steps.filedigests import FileDigests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_MOST_LINKS = 40
"""Linux's own limit of links in one path."""
_PATTERN = re.compile(r"(?<!\\)[*?\[]")
"""What can be nothing: a backslash alone makes no pattern."""
_COUNTED = {"file": 0o6757, "executable": 0o6757, "folder": 0o1757}
"""Of a mode: not the group's right to write, nor the bits that a folder has from the one that it is in."""
_USUAL = {"file": 0o644, "executable": 0o755, "folder": 0o755}
"""What git makes of files, and a mask of 022 of folders."""


class NotInContext(Exception):
    """A source names nothing. It carries what, why, and what to do."""

    def __init__(self, what: str, why: str = "", todo: str = "") -> None:
        super().__init__(what, why, todo)
        self.what, self.why, self.todo = what, why, todo


class Entry(msgspec.Struct, frozen=True, order=True):
    r"""One thing in the context.

    Attributes:
        path: relative to the context, with slashes; bytes that are no UTF-8 are shown as ``\xNN``.
        kind: what it is.
        value: a file's digest, a link's target, otherwise empty.
        mode: what counts of its mode, in octal digits; empty for what is usual.
    """

    path: str
    kind: Literal["file", "executable", "link", "folder", "special"]
    value: str = ""
    mode: str = ""


class Context:
    """A folder, less what its ignore rules leave out.

    Args:
        root: the folder.
        ignore: the rules.
        digests: the memory of the files' digests.
    """

    def __init__(self, root: Path, ignore: Ignore | None = None, digests: FileDigests | None = None) -> None:
        self.root = root
        self.ignore = Ignore() if ignore is None else ignore
        self._base = os.fspath(root)
        self._digests = FileDigests() if digests is None else digests
        self._entries: dict[str, Entry] = {}

    def named(self, source: str) -> tuple[Entry, ...]:
        """Everything that ``source`` brings into the image: sorted, without doubles.

        A pattern may name nothing, as long as the folder in which it looks is there: ``COPY`` takes optional files so.

        Args:
            source: a path or a pattern as in ``COPY``; ``.`` for the whole context.

        Raises:
            NotInContext: it names nothing, or is no pattern.
        """
        if not os.path.isdir(self._base):  # noqa: PTH112 - see the other places
            raise NotInContext("there is no context", f"{self.root} is not a folder", "point the context to a folder")
        try:
            found = self._named(clean(source))
        except OSError as error:
            reason = error.strerror or str(error)
            raise NotInContext(f"{source!r} cannot be read", reason, "look at its permissions") from error
        except (ValueError, re.error) as error:
            raise NotInContext(f"{source!r} is no pattern", str(error), "correct it") from error
        if not found and clean(source) != "." and not self._may_be_empty(clean(source)):
            raise self._nothing(clean(source))
        return tuple(sorted(found))

    def _may_be_empty(self, source: str) -> bool:
        parts = source.split("/")
        first = next((at for at, part in enumerate(parts) if _PATTERN.search(part)), None)
        if first is None:
            return False
        return any(stat.S_ISDIR(self._mode(folder)) for folder, _ in self._resolved("", parts[:first], ()))

    def _named(self, source: str) -> set[Entry]:
        parts = [] if source == "." else source.split("/")
        if any("**" in part for part in parts):
            return self._matched(compiled(source))
        return self._at(self._resolved("", parts, ()))

    def _matched(self, matcher: re.Pattern[str]) -> set[Entry]:
        """What a pattern over folders names: with all that is in a folder, and what a link leads to."""
        found: set[Entry] = set()
        folders: set[str] = set()
        for entry in self._below(""):
            folder, _, name = entry.path.rpartition("/")
            is_named = matcher.fullmatch(entry.path) is not None
            if is_named or folder in folders:
                found.add(entry)
            if entry.kind == "folder" and entry in found:
                folders.add(entry.path)
            if entry.kind == "link" and is_named:
                with contextlib.suppress(NotInContext):  # one that leads in circles is still a link
                    found |= self._at(self._onward(folder, name, [], ()))
        return found

    def _at(self, places: Iterable[tuple[str, tuple[str, ...]]]) -> set[Entry]:
        """All that lies at real paths, and the links on the way to it."""
        found: set[Entry] = set()
        for path, links in places:
            below = set(self._below(path))
            if below or not path:
                found |= below | {self._entry(link) for link in links}
        return found

    def _resolved(self, folder: str, parts: list[str], links: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The real paths that ``parts`` below ``folder`` lead to, and the links on the way."""
        if not parts:
            yield folder, links
            return
        first, *rest = parts
        if WILD & set(first):
            matcher = compiled(first)
            names = [name for name in self._names(folder) if matcher.fullmatch(name)]
        else:
            names = [first]
        for name in names:
            yield from self._onward(folder, name, rest, links)

    def _onward(
        self, folder: str, name: str, rest: list[str], links: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The same for ``rest`` below the thing called ``name`` in ``folder``."""
        path = _join(folder, name)
        mode = self._mode(path)
        if stat.S_ISLNK(mode):
            if len(links) == _MOST_LINKS:
                raise NotInContext(f"{path!r} leads in circles", "a link leads back to itself", "mend the link")
            target = os.readlink(f"{self._base}/{path}")  # noqa: PTH115 - pathlib would tidy the target
            start = "" if target.startswith("/") else folder
            onward = [] if (whole := clean(_join(start, target))) == "." else whole.split("/")
            if self.ignore.decides(path) is None:
                yield from self._resolved("", [*onward, *rest], (*links, path))
        elif mode and (not rest or stat.S_ISDIR(mode)):
            yield from self._resolved(path, rest, links)

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(f"{self._base}/{folder}"))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _status(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(f"{self._base}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _mode(self, path: str) -> int:
        status = self._status(path)
        return status.st_mode if status else 0

    def _below(self, path: str) -> Iterator[Entry]:
        """``path`` itself, unless it is the root, and all below it; links are not followed."""
        ignored = bool(path) and self.ignore.decides(path) is not None
        if ignored and not self.ignore.may_keep_below(path):
            return
        status = self._status(path)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            if not ignored and not stat.S_ISSOCK(status.st_mode):
                yield self._entry(path, status)
            return
        inside = [entry for name in self._names(path) for entry in self._below(_join(path, name))]
        if path and (inside or not ignored):
            yield self._entry(path, status)
        yield from inside

    def _entry(self, path: str, status: os.stat_result | None = None) -> Entry:
        found = self._entries.get(path)
        if found is None:
            found = self._entries[path] = self._fresh(path, status or os.lstat(f"{self._base}/{path}"))
        return found

    def _fresh(self, path: str, status: os.stat_result) -> Entry:
        place = f"{self._base}/{path}"
        shown = shown_path(path)
        if stat.S_ISLNK(status.st_mode):
            return Entry(shown, "link", shown_path(os.readlink(place)))  # noqa: PTH115 - see above
        if stat.S_ISDIR(status.st_mode):
            return Entry(shown, "folder", mode=_mode_of("folder", status))
        if not stat.S_ISREG(status.st_mode):
            return Entry(shown, "special", f"{stat.S_IFMT(status.st_mode):o}")
        kind: Literal["file", "executable"] = "executable" if status.st_mode & stat.S_IXUSR else "file"
        return Entry(shown, kind, self._digests.of(place, shown, status), _mode_of(kind, status))

    def _nothing(self, source: str) -> NotInContext:
        rule = self.ignore.decides(source)
        if rule is not None and self._mode(source):
            why = f"line {rule.line} of {self.ignore.file} leaves it out: {rule.text}"
            return NotInContext(f"{source!r} is not in the context", why, "change that rule, or add one with '!'")
        if stat.S_ISLNK(self._mode(source)):
            target = shown_path(os.readlink(f"{self._base}/{source}"))  # noqa: PTH115 - see above
            todo = f"mend the link, or look whether {self.ignore.file} leaves out what it leads to"
            return NotInContext(f"{source!r} leads nowhere", f"it is a link to {target!r}", todo)
        folder, _, name = source.rpartition("/")
        near = difflib.get_close_matches(name, self._names(folder), n=1)
        todo = f"did you mean {_join(folder, near[0])!r}?" if near else "add it, or correct the name"
        return NotInContext(f"there is no {source!r} in the context", f"the context is {self.root}", todo)


def _mode_of(kind: str, status: os.stat_result) -> str:
    counted = status.st_mode & _COUNTED[kind]
    return "" if counted == _USUAL[kind] else f"{counted:03o}"


def shown_path(path: str) -> str:
    r"""The path as text that can be stored: bytes that are no UTF-8 as ``\xNN``, and backslashes doubled then."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
    return path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
