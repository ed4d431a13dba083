"""Lightning, killed anywhere and told to leave: weights, logs and decisions are those of an undisturbed fit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.checkpoint.adapters.conftest import PROGRAMS, QUIET

from spotweld.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Trial, Zygote


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "kills", "notice"),
    [
        ("plain", (3, 14), "signal"),  # shuffled by the global generator, noise, plateau scheduler, validation inside
        ("stateful", (3, 14), "file"),  # torchdata's loader with two workers, OneCycle by steps
        ("iterable", (3, 14), "file"),  # no length, a batch ahead, noise
        ("limited", (7, 12), "file"),  # no length, and none is needed
        ("several", (6, 14), "file"),  # of which one has come to its end long before the other
        ("accumulate", (3, 14), "signal"),
        ("growing", (10, 15), "signal"),  # from epoch to epoch more batches are accumulated
        ("thaw", (10, 15), "signal"),  # layers that are frozen in the first epoch
        (
            "averaging",
            (10, 20),
            "signal",
        ),  # of weights, by a scheduler of its own, and an epoch for the norms at the end
        ("manual", (3, 14), "signal"),
        ("stop", (3, 8), "file"),  # early stopping
        ("least", (10, 15), "file"),  # the same, and it asks for the end before as many epochs as there have to be
        ("reload", (20, 31), "signal"),  # other loaders from the third epoch on
    ],
)
def test_a_fit_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote], flavour: str, kills: tuple[int, int], notice: str
) -> None:
    trial(zygote("lit"))("lit", flavour, kills=kills, seed=len(flavour), notice=notice)


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["plain", "sharded"])
def test_a_fit_on_several_processes_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote], flavour: str
) -> None:
    trial(zygote("lit"))("lit", flavour, kills=(3, 9), seed=4, ranks=2)


@pytest.mark.slow
def test_processes_that_share_the_model_in_another_way_are_refused() -> None:
    from spotweld.checkpoint.adapters.lightning import SpotweldCallback

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace())
    with pytest.raises(UsageError, match="shares its model by SimpleNamespace"):
        SpotweldCallback().on_fit_start(trainer, cast("Any", None))


@pytest.mark.slow
def test_processes_that_lightning_starts_leave_with_their_first(tmp_path: Path) -> None:
    told = tmp_path / "events.jsonl"
    environ = {**os.environ, **QUIET, "SPOTWELD_STORE": f"file:{tmp_path}/store", "SPOTWELD_EVENTS_FILE": str(told)}

    def start(pause: float, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAMS / "spawning.py"), str(pause)]
        return subprocess.Popen(
            command, env=environ | more, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def end_of(process: subprocess.Popen[str]) -> str:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        return out.splitlines()[-1]

    calm = end_of(start(0.0, SPOTWELD_STORE=f"file:{tmp_path}/other"))
    told.unlink()
    process = start(0.2)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and not (told.exists() and '"saved"' in told.read_text()):
        time.sleep(0.05)
    process.terminate()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 75, out
    assert end_of(start(0.0)) == calm
