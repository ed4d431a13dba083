"""Starts a process for each task, and takes its answer or the reason why there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from checkpoints.states import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checkpoints.work import Task

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that a task may take."""
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from checkpoints.work import main; main(sys.argv[2])"


class Missing(Exception):
    """A task without an answer, and why."""


def ask(task: Task, answer: type[T], environ: Mapping[str, str] | None = None) -> T:
    """Run one task in a process of its own.

    Raises:
        Missing: the contender is left out, or failed.
    """
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[1]), msgspec.json.encode(task).decode()]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=os.environ | dict(environ or {})
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"no answer after {PATIENCE:.0f} s") from None
    if done.returncode:
        raise Missing(
            f"exit status {done.returncode}: {([*done.stderr.splitlines()] or ['it said nothing'])[-1][:300]}"
        )
    line = done.stdout.splitlines()[-1]
    try:
        return msgspec.json.decode(line, type=answer)
    except msgspec.ValidationError:
        raise Missing(msgspec.json.decode(line, type=dict[str, str])["left_out"]) from None


@contextmanager
def scratch() -> Iterator[str]:
    """A folder on the disk of this checkout, removed in the end."""
    CACHE.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(prefix="run-", dir=CACHE)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
