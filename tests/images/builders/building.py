"""A process that builds, to be killed: ``python -m tests.images.builders.building KIND FOLDER SOLVE``."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from tests.images.builders.rigs import Machine

from spotweld.images.builder import Solve

if __name__ == "__main__":
    kind, folder, solve = sys.argv[1:]
    Machine(kind, Path(folder)).builder().solve(
        msgspec.json.decode(solve, type=Solve, dec_hook=lambda kind, value: kind(value))
    )
