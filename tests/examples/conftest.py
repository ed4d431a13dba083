"""Training scripts in processes of their own, killed and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from spotweld.project.nouns import CheckpointPolicy, EverySteps

if TYPE_CHECKING:
    from collections.abc import Callable

DRIVER = Path(__file__).with_name("driver.py")


class Trained(msgspec.Struct, frozen=True):
    """What one training came to."""

    digest: str
    printed: str
    losses: dict[int, float]
    """The last loss told for each step, over all processes."""
    resumed: tuple[int, ...]
    """The steps from which processes resumed."""


def train(script: Path, folder: Path, *, save_every: int, kills: tuple[int, ...] = (), **variables: str) -> Trained:
    """Train in ``folder``, with a process killed after each of ``kills`` steps of its own."""
    folder.mkdir()
    events = folder / "events.jsonl"
    events.touch()
    ours = {
        "SPOTWELD_CHECKPOINT": msgspec.json.encode(CheckpointPolicy(EverySteps(save_every))).decode(),
        "SPOTWELD_EVENTS_FILE": str(events),
    }
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SPOTWELD_")}
    for kill in (*kills, None):
        argv = [sys.executable, str(DRIVER), str(script), *([] if kill is None else [str(kill)])]
        done = subprocess.run(
            argv, cwd=folder, env=environ | ours | variables, capture_output=True, text=True, timeout=240, check=False
        )
        expected = 0 if kill is None else -signal.SIGKILL
        assert done.returncode == expected, done.stdout + done.stderr
    told = [json.loads(line) for line in events.read_text().splitlines()]
    printed, _, digest = done.stdout.strip().rpartition("\n")
    return Trained(
        digest=digest,
        printed=printed,
        losses={event["step"]: event["values"]["loss"] for event in told if "loss" in event.get("values", ())},
        resumed=tuple(event["step"] for event in told if event["kind"] == "restored"),
    )


@pytest.fixture
def in_peace_and_killed(tmp_path: Path) -> Callable[..., Trained]:
    """Trains a script in peace and with kills, insists that nothing differs, and gives the result of the second."""

    def both(script: Path, *, save_every: int, kills: tuple[int, ...], **variables: str) -> Trained:
        peace = train(script, tmp_path / "peace", save_every=save_every, **variables)
        killed = train(script, tmp_path / "killed", save_every=save_every, kills=kills, **variables)
        assert peace.resumed == ()
        assert len(killed.resumed) == len(kills)
        assert killed == msgspec.structs.replace(peace, resumed=killed.resumed)
        return killed

    return both
