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


def trained(folder: Path, output: str) -> Trained:
    told = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    printed, _, digest = output.strip().rpartition("\n")
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
        policy = msgspec.json.encode(CheckpointPolicy(EverySteps(save_every))).decode()
        peace, killed = tmp_path / "peace", tmp_path / "killed"
        runs = []
        for folder, kill in ((peace, None), *((killed, kill) for kill in (*kills, None))):
            folder.mkdir(exist_ok=True)
            events = folder / "events.jsonl"
            events.touch()
            ours = {"SPOTWELD_CHECKPOINT": policy, "SPOTWELD_EVENTS_FILE": str(events)}
            runs.append({"folder": str(folder), "env": ours | variables, "kill": kill})
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SPOTWELD_")}
        done = subprocess.run(
            [sys.executable, str(DRIVER), str(script)],
            input=json.dumps(runs),
            env=environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        told = json.loads(done.stdout)
        assert [status for status, _ in told] == [0, *(-signal.SIGKILL for _ in kills), 0], told
        first, second = trained(peace, told[0][1]), trained(killed, told[-1][1])
        assert first.resumed == ()
        assert len(second.resumed) == len(kills)
        assert second == msgspec.structs.replace(first, resumed=second.resumed)
        return second

    return both
