"""What it costs to send every finished instruction to a registry, and what the builders themselves take for nothing.

Each builder builds a file of INSTRUCTIONS instructions of two seconds, with what it has made before thrown away: once
by itself, once with the ladder. The no-op is a second build of the same file on the same machine.

Its machines and its registry are the rigs of the tests, on purpose: starting a daemon with an empty storage is nothing
that users need, so it is no part of ``spotweld.testing``, and a second copy of it would drift from what is tested.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Figure, command_output, figure, in_turns, report
from tests.images.builders.rigs import DOCKER, KINDS, Machine, machine, make_base
from tests.images.servers import docker_registry

from spotweld.images.builders.builder import Solve

if TYPE_CHECKING:
    from collections.abc import Callable

INSTRUCTIONS = 6
SECONDS = 2
RUNS = 3
NOOPS = 7
COMMAND = "make bench-ladder"
OVERHEAD = 5.0
"""Per cent of an instruction of SECONDS that the ladder may cost."""


def document(base: str) -> str:
    """Instructions that no earlier build has made, on a chain."""
    nonce = uuid.uuid4().hex
    runs = (f"RUN sleep {SECONDS}; echo {nonce}-{number} >/{number}" for number in range(INSTRUCTIONS))
    return "\n".join([f"FROM {base}", *runs, ""])


def plain(where: Machine, context: Path) -> float:
    """Seconds of the builder alone: the image stays on its machine."""
    if where.kind == "buildah":
        argv = ["buildah", f"--root={where.folder}/storage", f"--runroot={where.folder}/run", "bud", "--layers"]
        argv += ["--isolation=chroot", "--tls-verify=false", "--timestamp=315619200", str(context)]
        env = {}
    else:
        argv = [f"{DOCKER}/docker-buildx", "build", "--network=host", "--provenance=false", "--output=type=cacheonly"]
        argv += ["--build-arg=SOURCE_DATE_EPOCH=315619200", str(context)]
        env = {"DOCKER_HOST": f"unix://{where.folder}/socket"}
    begun = time.perf_counter()
    command_output(argv, env={**os.environ, **env}, timeout=300)
    return time.perf_counter() - begun


def laddered(where: Machine, context: Path, cache: str) -> float:
    """Seconds of the builder with the ladder, until the last instruction is in the registry."""
    begun = time.perf_counter()
    where.builder().solve(Solve(context, context / "Dockerfile", cache))
    return time.perf_counter() - begun


def measured(kind: str, where: Machine, folder: Path, base: str, host: str) -> list[Figure]:
    """The figures of one builder."""
    context = folder / "context"
    context.mkdir(exist_ok=True)

    def new(build: Callable[[], float]) -> Callable[[], float]:
        def measure() -> float:
            (context / "Dockerfile").write_text(document(base))
            return build()

        return measure

    def by_itself() -> float:
        return plain(where, context)

    def with_ladder() -> float:
        return laddered(where, context, f"{host}/cache/{kind}")

    whole = in_turns({"spotweld": new(with_ladder), kind: new(by_itself)}, RUNS)
    over = {
        "spotweld": [
            100 * (ours - theirs) / (INSTRUCTIONS * SECONDS)
            for ours, theirs in zip(whole["spotweld"], whole[kind], strict=True)
        ]
    }
    again = in_turns({"spotweld": with_ladder, kind: by_itself}, NOOPS)
    of = f"{kind}: {INSTRUCTIONS} instructions of {SECONDS} s"
    goal = "an instruction of two seconds costs less than 5 % more when it is made durable"
    return [
        figure(f"{of}, from nothing", "s", whole, limit=None, goal=goal, command=COMMAND),
        figure(f"{of}: the ladder above the plain build", "%", over, limit=OVERHEAD, goal=goal, command=COMMAND),
        figure(f"{of}, nothing to do", "s", again, limit=None, goal="what our own no-op is against", command=COMMAND),
    ]


def main() -> int:
    """Measure, print, write."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="ladder-", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        host = stack.enter_context(docker_registry(folder)).removeprefix("http://")
        (folder / "base").mkdir()
        base = make_base(host, folder / "base")
        for kind in KINDS:
            where = stack.enter_context(machine(kind, folder / kind))
            figures += measured(kind, where, folder, base, host)
    return report("ladder", figures)


if __name__ == "__main__":
    sys.exit(bool(main()))
