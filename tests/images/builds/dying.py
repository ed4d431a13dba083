"""A process that builds one image and kills itself: ``python -m tests.images.builds.dying FOLDER IMAGE POINT``.

A point is before or after something durable: ``before put key 1`` is the first time that the image's key is about to
be given. Without a point it comes to its end, and says which it has passed. ``FOLDER/log`` has what ran and was sent.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.images.workshop import Double

from spotweld.images.builds.building import build
from spotweld.images.registries.distribution import Distribution
from spotweld.images.registries.layouts import Layout
from spotweld.project.reading import load_project
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

passed: Counter[str] = Counter()


def deadly(owner: Any, method: str, name: Callable[..., str], wanted: str) -> None:  # noqa: ANN401 - any class
    """Have a method die before or after it has done its work."""
    real = getattr(owner, method)

    def called(self: object, *args: Any, **more: Any) -> object:  # noqa: ANN401 - whatever it takes
        # What a registry does for a client is the client's step.
        if not threading.current_thread().name.startswith("build-"):
            return real(self, *args, **more)
        what = name(*args)
        passed[what] += 1
        number = passed[what]
        if wanted == f"before {what} {number}":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(self, *args, **more)
        if wanted == f"after {what} {number}":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, called)


def tag(repository: str, _: object, tag: str | None = None) -> str:
    if repository.endswith("/cache"):
        return "put cached step"
    return "put key" if re.fullmatch("[0-9a-f]{40}", tag or "") else f"put {tag}"


def main() -> None:
    folder, image, wanted = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    project, builder = load_project(folder / "spotweld.yaml"), Double()
    objects = open_store(project.store)
    for registry in (Layout, Distribution):
        deadly(registry, "put_manifest", tag, wanted)
        deadly(registry, "write_blob", lambda *_: "blob", wanted)
    for method in ("create", "replace"):
        deadly(type(objects), method, lambda key, *_: f"store {key.split('/')[2].partition('.')[0]}", wanted)

    def log(point: str) -> None:
        with (folder / "log").open("a") as file:
            file.write(f"{point}\n")

    builder.hook = log
    build(project, [image], builder, objects)
    for what, number in passed.items():
        for at in range(number):
            sys.stdout.write(f"before {what} {at + 1}\nafter {what} {at + 1}\n")


if __name__ == "__main__":
    main()
