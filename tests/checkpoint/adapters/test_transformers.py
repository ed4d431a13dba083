"""Hugging Face's Trainer, killed anywhere and told to leave: weights and logs are those of an undisturbed training."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Run, Trial, Zygote


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "kills"),
    [("plain", (3, 16)), ("accumulate", (3, 8)), ("stop", (3, 10)), ("stream", (3, 16)), ("workers", (3, 12))],
)
def test_a_training_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote], flavour: str, kills: tuple[int, int]
) -> None:
    trial(zygote("hf"))(
        "hf", flavour, kills=kills, seed=len(flavour), notice="file" if flavour == "plain" else "signal"
    )


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["plain", "sharded", "fsdp"])
def test_a_training_on_several_processes_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote], flavour: str
) -> None:
    trial(zygote("hf"))("hf", flavour, kills=(3, 9), seed=4, ranks=2)


@pytest.mark.slow
def test_another_number_of_processes_is_refused(new_run: Callable[..., Run], zygote: Callable[..., Zygote]) -> None:
    run = new_run(zygote("hf"), "hf", "plain", ranks=2)
    run.start(KILL_AT=6)
    assert run.wait() == -signal.SIGKILL, run.err
    run.ranks = 3
    run.start()
    assert run.wait() == 1
    assert "training: The number of processes has changed: 2 of them saved the checkpoint, and 3 restore it" in run.err


@pytest.mark.slow
def test_other_callbacks_than_were_saved_are_refused(
    new_run: Callable[..., Run], zygote: Callable[..., Zygote]
) -> None:
    run = new_run(zygote("hf"), "hf", "plain")
    run.start(KILL_AT=6)
    assert run.wait() == -signal.SIGKILL, run.err
    run.argv = ["hf", "stop"]
    run.start()
    assert run.wait() == 1
    assert (
        "The Trainer has other callbacks than at that time: 0 of them had a state then, and 1 have one now" in run.err
    )


@pytest.mark.slow
def test_processes_that_share_the_model_in_another_way_are_refused() -> None:
    from spotweld.checkpoint.adapters.transformers import SpotweldCallback

    trainer: Any = SimpleNamespace(
        _inner_training_loop=None,
        _init_training_state=None,
        _prepare_for_training=None,
        args=SimpleNamespace(world_size=2),
        accelerator=SimpleNamespace(distributed_type="FSDP", is_fsdp2=False),
    )
    with pytest.raises(UsageError, match="shares its model as fsdp does"):
        SpotweldCallback(trainer)
