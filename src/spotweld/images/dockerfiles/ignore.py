"""``.dockerignore``: what of a folder is not part of the context.

Rules are read in order and the last one that matches decides; ``!`` takes back. A rule that matches a folder matches
all that is below it. https://docs.docker.com/build/concepts/context/#dockerignore-files.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from spotweld.errors import DockerfileError
from spotweld.images.dockerfiles.patterns import WILD, clean, compiled

if TYPE_CHECKING:
    from pathlib import Path


class Rule(NamedTuple):
    """One line: where it stands, its text, and what it matches."""

    line: int
    text: str
    keeps: bool
    pattern: str
    matcher: re.Pattern[str]


class Ignore:
    """The rules of one file.

    Args:
        text: the whole file.
        file: its name, for errors.

    Raises:
        DockerfileError: a rule is no pattern.
    """

    def __init__(self, text: str = "", file: str = ".dockerignore") -> None:
        self.file = file
        lines = text.removeprefix("\ufeff").split("\n")
        self.rules = tuple(rule for number, line in enumerate(lines, 1) if (rule := _rule(line, number, file)))
        self._kept = [rule.pattern.split("/") for rule in self.rules if rule.keeps]
        self._folders: dict[str, frozenset[int]] = {}

    def decides(self, path: str) -> Rule | None:
        """The rule that leaves ``path`` (relative, with slashes) out of the context; None where none does."""
        folder = path.rpartition("/")[0]
        return self._step(path, self._holding(folder))[0]

    def _holding(self, folder: str) -> frozenset[int]:
        """The rules that hold for all below ``folder``."""
        if not folder:
            return frozenset()
        found = self._folders.get(folder)
        if found is None:
            found = self._step(folder, self._holding(folder.rpartition("/")[0]))[1]
            self._folders[folder] = found
        return found

    def _step(self, path: str, above: frozenset[int]) -> tuple[Rule | None, frozenset[int]]:
        """What decides for ``path``, and which rules hold for all below it; ``above`` hold for its folder.

        BuildKit goes down from folder to folder like this, and does not try a rule that would change nothing there:
        an ignoring one on what is ignored, a keeping one on what is kept.
        """
        found: Rule | None = None
        holding: set[int] = set()
        for number, rule in enumerate(self.rules):
            if number in above or (rule.keeps is (found is not None) and rule.matcher.fullmatch(path)):
                holding.add(number)
                found = None if rule.keeps else rule if found is None else found
        return found, frozenset(holding)

    def is_kept_by_others(self, path: str) -> bool:
        """Whether who tries every rule on every folder above takes back what is left out here.

        With ``**/*.md`` and ``!docs`` BuildKit leaves ``docs/a.md`` out, since ``docs`` itself was never left out. The
        matcher of buildah, which Docker had before BuildKit, keeps it.
        """
        rule = self.decides(path)
        if rule is None:
            return False
        parts = path.split("/")
        above = ["/".join(parts[:length]) for length in range(1, len(parts))]
        later = [one for one in self.rules if one.keeps and one.line > rule.line]
        return any(one.matcher.fullmatch(folder) for one in later for folder in above)

    def may_keep_below(self, folder: str) -> bool:
        """Whether a rule with ``!`` may take back something below ``folder``."""
        parts = folder.split("/")
        return any(_may_reach(kept, parts) for kept in self._kept)


def read(context: Path, dockerfile: Path) -> Ignore:
    """The rules for a build: ``NAME.dockerignore`` beside the Dockerfile goes before the context's ``.dockerignore``.

    Bytes that are no UTF-8 stand for themselves, as in the names of files.

    Raises:
        DockerfileError: a rule is no pattern, or the file cannot be read.
    """
    for path in (dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"):
        try:
            return Ignore(path.read_text("utf-8", "surrogateescape"), path.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise DockerfileError("the rules cannot be read", str(error), file=str(path)) from error
    return Ignore()


def _may_reach(kept: list[str], folder: list[str]) -> bool:
    for pattern, part in zip(kept, folder, strict=False):
        if WILD & set(pattern):
            return True
        if pattern != part:
            return False
    return True


def _rule(line: str, number: int, file: str) -> Rule | None:
    text = line.strip()
    if line.startswith("#") or not text:
        return None
    keeps = text.startswith("!")
    bare = text[keeps:].strip()
    # Only a path from the root stays in it: a rule such as "../a" matches nothing.
    pattern = clean(bare) if bare.startswith("/") else posixpath.normpath(bare)
    if not bare:
        raise DockerfileError("'!' is no pattern", "nothing follows it", "correct the line", file=file, line=number)
    try:
        return Rule(number, text, keeps, pattern, compiled(pattern))
    except (ValueError, re.error) as error:
        raise DockerfileError(
            f"{text!r} is no pattern", str(error), "correct the line", file=file, line=number
        ) from error
