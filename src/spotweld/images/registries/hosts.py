"""Registries as builders see them: each made reachable once, for as long as builds go on."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from spotweld.images.registries.serving import reachable

if TYPE_CHECKING:
    from types import TracebackType

    from spotweld.images.registries.opening import Registries


class Hosts:
    """Leaving the ``with`` block ends what was served.

    Args:
        registries: by their URLs.
    """

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._stack = ExitStack()
        self._hosts: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def of(self, url: str) -> str:
        """``HOST[:PORT]`` of the registry with this URL."""
        with self._lock:
            if url not in self._hosts:
                self._hosts[url] = self._stack.enter_context(reachable(self._registries[url]))
            return self._hosts[url]
