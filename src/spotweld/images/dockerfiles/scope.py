"""Which variables an instruction sees: ``ARG``, ``ENV``, and the names that every build knows.

https://docs.docker.com/reference/dockerfile/#understand-how-arg-and-from-interact and the sections around it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spotweld.images.dockerfiles.substitution import expand
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spotweld.images.dockerfiles.substitution import Expansion

_PRIVATE = re.compile(r"passw|secret|token|credential|private|api_?key|access_?key|auth", re.IGNORECASE)
HIDDEN = "hidden:"
"""What the digest of a private value begins with, where the value itself must not be stored."""


def hidden(name: str, value: str) -> str:
    """The value, or its digest where the name says that it is private."""
    if not value or value.startswith(HIDDEN) or not _PRIVATE.search(name):
        return value
    return HIDDEN + digest(value.encode("utf-8", "surrogatepass")).partition(":")[2][:32]


def platform_arguments(platform: str, builder: str) -> dict[str, str]:
    """What every build knows of the platform that it is for, and of the one that it runs on: ``os/arch[/variant]``."""
    found: dict[str, str] = {}
    for prefix, text in (("TARGET", platform), ("BUILD", builder)):
        system, _, rest = text.partition("/")
        machine, _, variant = rest.partition("/")
        values = {"PLATFORM": text, "OS": system, "ARCH": machine, "VARIANT": variant}
        found |= {prefix + name: value for name, value in values.items()}
    return found


class Scope:
    """The variables at one place of a stage.

    Args:
        given: the build's arguments.
        outer: the values of the arguments above the first ``FROM``, the platform's among them.
        parent: the scope at the end of the stage that this one is built upon.
        hides: whether private values are replaced by their digests.
        escape: the Dockerfile's escape character.

    Attributes:
        environment: what ``ENV`` set so far.
        declared: what ``ARG`` set so far.
    """

    def __init__(
        self,
        given: Mapping[str, str],
        outer: Mapping[str, str],
        parent: Scope | None = None,
        *,
        hides: bool = False,
        escape: str = "\\",
    ) -> None:
        self._given = given
        self._outer = outer
        self._hides = hides
        self._escape = escape
        self.environment: dict[str, str] = dict(parent.environment) if parent else {}
        self.declared: dict[str, str] = dict(parent.declared) if parent else {}

    @property
    def values(self) -> dict[str, str]:
        """Everything that can be replaced; ``ENV`` goes before ``ARG``."""
        return {**self.declared, **self.environment}

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments that a ``RUN`` has in its environment."""
        return {name: value for name, value in self.declared.items() if name not in self.environment}

    def expand(self, text: str, *, quotes: bool = True) -> Expansion:
        """Replace the variables; what only the base image may know is kept.

        Raises:
            BadSubstitution: the text breaks the rules.
        """
        # A part of a private value's digest could be the same for two values.
        whole = HIDDEN if self._hides else ""
        return expand(text, self.values, escape=self._escape, keep=True, quotes=quotes, whole=whole)

    def declare(self, words: Iterable[str]) -> None:
        """Carry out an ``ARG``. One without a value takes it from above the first ``FROM``.

        Raises:
            BadSubstitution: a default breaks the rules.
        """
        for word in words:
            name, has_default, default = word.partition("=")
            if name in self._given:
                value: str | None = self._given[name]
            elif has_default:
                value = self.expand(default).text
            else:
                value = self._outer.get(name)
            if value is not None:
                self.declared[name] = self._stored(name, value)

    def define(self, words: Iterable[str]) -> tuple[str, ...]:
        """Carry out an ``ENV`` and give its pairs as they came out. All see the values from before it.

        Raises:
            BadSubstitution: a value breaks the rules.
        """
        pairs = [
            (self.expand(name).text, self.expand(value).text) for name, _, value in (w.partition("=") for w in words)
        ]
        fresh = {name: self._stored(name, value) for name, value in pairs}
        self.environment |= fresh
        return tuple(f"{name}={fresh[name]}" for name, _ in pairs)

    def _stored(self, name: str, value: str) -> str:
        return hidden(name, value) if self._hides else value
