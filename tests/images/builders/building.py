"""A process that builds, to be killed: ``python -m tests.images.builders.building KIND FOLDER SOLVE``.

It prints ``begun TEXT``, ``hit TEXT`` and ``ran TEXT`` for the instructions, as the builder says it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
from tests.images.builders.rigs import Machine

from spotweld.images.builders import buildkit
from spotweld.images.builders.builder import Solve, Step

_BUILDAH = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)")
_BUILDKIT = re.compile(r'\s*"name": "\[.* \d+/\d+\] (.*)",')


def say(word: str, text: str) -> None:
    sys.stdout.write(f"{word} {text}\n")
    sys.stdout.flush()


def hear(line: str) -> None:
    found = _BUILDAH.fullmatch(line)
    if found:
        say("begun", found[1])


def tell(step: Step) -> None:
    say(step.outcome, step.text)


def listening(follow, name=[""]):  # noqa: ANN001, ANN201, B006  remembers the step that is being described
    """BuildKit tells nobody but its own reader when a step begins."""

    def follow_and_tell(argv, heard, **more):  # noqa: ANN001, ANN003, ANN202
        def listen(line: str) -> None:
            found = _BUILDKIT.fullmatch(line)
            name[0] = found[1] if found else name[0] if '"started"' in line else ""
            if name[0] and '"started"' in line:
                say("begun", name[0])
            heard(line)

        return follow(argv, listen, **more)

    return follow_and_tell


if __name__ == "__main__":
    kind, folder, solve = sys.argv[1:]
    buildkit.follow = listening(buildkit.follow)  # type: ignore[attr-defined]
    Machine(kind, Path(folder)).builder().solve(
        msgspec.json.decode(solve, type=Solve, dec_hook=lambda kind, value: kind(value)), tell, hear
    )
