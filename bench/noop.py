"""How long it takes to find that nothing has to be built: a chain of three images, against the builder's own answer."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import command_output, figure, in_turns, report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUNS = 15
PROJECT = """\
name: noop
images:
  base: {context: base, lifetime: persistent}
  ml-stack: {context: ml-stack, bases: {base: base}, lifetime: persistent}
  trainer: {context: trainer, bases: {ml-stack: ml-stack}}
jobs: {train: {command: "true"}}
"""
FILES = {
    "base/Dockerfile": 'FROM scratch\nCOPY busybox /bin/\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n',
    "ml-stack/Dockerfile": "FROM base\nRUN echo one > /one\nENV A=1\nRUN echo two > /two\nRUN echo three > /three\n",
    "trainer/Dockerfile": 'FROM ml-stack\nWORKDIR /code\nCOPY . .\nRUN cat *.py > all\nCMD ["sh"]\n',
    **{f"trainer/module{number}.py": f"print({number})\n" for number in range(50)},
}


def wall_ms(*commands: Sequence[str], cwd: Path) -> Callable[[], float]:
    """Milliseconds that commands take, one after the other."""

    def measure() -> float:
        begun = time.perf_counter()
        for argv in commands:
            command_output(argv, cwd=cwd)
        return (time.perf_counter() - begun) * 1000

    return measure


def own(storage: Path, name: str, *more: str) -> list[str]:
    """Buildah's own build of an image upon images of its own storage: no registry is asked."""
    places = ["--root", f"{storage}/own", "--runroot", f"{storage}/run"]
    return ["buildah", *places, "bud", "--isolation=chroot", "--layers", "--quiet", f"--tag={name}", *more, name]


def main() -> int:
    """Measure, print, write."""
    busybox = shutil.which("busybox")
    if os.geteuid() != 0 or shutil.which("buildah") is None or busybox is None:
        print("bench-noop needs root, buildah and busybox", file=sys.stderr)
        return 0
    spotweld = str(Path(sysconfig.get_path("scripts")) / "spotweld")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "spotweld.yaml").write_text(PROJECT)
        for name, text in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        shutil.copy(busybox, folder / "base/busybox")
        command_output([spotweld, "build", "--builder", "buildah"], cwd=folder)
        chain = [
            own(folder, "base"),
            own(folder, "ml-stack", "--build-context=base=docker-image://localhost/base"),
            own(folder, "trainer", "--build-context=ml-stack=docker-image://localhost/ml-stack"),
        ]
        for argv in chain:
            command_output(argv, cwd=folder)
        runs = in_turns(
            {
                "spotweld": wall_ms([spotweld, "build"], cwd=folder),
                "buildah, all layers in its own storage": wall_ms(*chain, cwd=folder),
            },
            RUNS,
        )
    goal = "faster than the builder, since none is started"
    return report(
        "noop", [figure("build, nothing to do", "ms", runs, limit=300.0, goal=goal, command="make bench-noop")]
    )


if __name__ == "__main__":
    sys.exit(bool(main()))
