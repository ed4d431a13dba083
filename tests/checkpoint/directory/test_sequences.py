"""Whatever is done to a directory between saves, and wherever it is resumed: it comes back as it was last saved."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotweld.checkpoint import events
from spotweld.checkpoint.layout import CHUNK, SMALL
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from conftest import Job
    from spotweld.values.clocks import Clock

Action: TypeAlias = tuple[str, str, str, int, int]
"""What is done, to which path, with which other one, a number of bytes, and a seed."""
PATHS = ["a", "b", "c", "d/a", "d/b", "e/f/a"]
SIZES = [0, 1, 5000, SMALL - 5000, SMALL - 1, SMALL, SMALL + 1, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + SMALL - 1]
WORK = ["write", "write", "write", "edit", "edit", "edit", "truncate", "move", "link", "point", "remove", "close"]
ENDS = ["save", "save", "save", "resume", "lose"]


def work(path: Path, kind: str, other: Path, size: int, chance: random.Random) -> None:
    """Something that a program does to its files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    other.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "write":
            path.write_bytes(chance.choice([chance.randbytes(size), bytes(size)]))
        case "edit":
            with path.open("r+b") as file:
                file.seek(chance.randrange(max(1, path.stat().st_size)))
                file.write(chance.randbytes(chance.choice([1, 5000])))
        case "truncate":
            os.truncate(path, size)
        case "move":
            path.rename(other)
        case "link":
            other.hardlink_to(path)
        case "point":
            other.symlink_to(path.name)  # which leads out of the directory from nowhere in it
        case "remove":
            path.unlink()
        case "close":
            path.chmod(chance.choice([0o600, 0o644, 0o755]))


actions = st.tuples(
    st.sampled_from([*WORK, *ENDS]),
    st.sampled_from(PATHS),
    st.sampled_from(PATHS),
    st.sampled_from(SIZES),
    st.integers(0, 1000),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(actions, min_size=10, max_size=40))
def test_it_comes_back_as_it_was_last_saved(
    new_job: Callable[[Path, Clock], Job], tmp_path_factory: pytest.TempPathFactory, done: list[Action]
) -> None:
    folder = tmp_path_factory.mktemp("sequence")
    # The kernel stamps files by its own clock, so the pauses between a look and a copy have to be real.
    job = new_job(folder, SystemClock())
    session = job.session()
    saved = None
    try:
        for kind, path, other, size, seed in [*done, ("save", "", "", 0, 0), ("lose", "", "", 0, 0)]:
            if kind == "save":
                now = job.content()
                assert session.save("cadence", None), job.events(events.SaveFailed)
                saved = now
            elif kind in ENDS and saved is not None:
                if kind == "lose":
                    job.lose()
                session = job.session()
                assert job.content() == saved
            elif kind in WORK:
                with suppress(OSError):
                    work(job.out / path, kind, job.out / other, size, random.Random(seed))
    finally:
        shutil.rmtree(folder)
