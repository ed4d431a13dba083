"""Lightning, killed anywhere and told to leave: weights, logs and decisions are those of an undisturbed fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from spotweld.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Trial, Zygote


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "kills", "notice"),
    [
        ("plain", (3, 14), "signal"),  # shuffled by the global generator, noise, plateau scheduler, validation inside
        ("stateful", (3, 14), "file"),  # torchdata's loader with two workers, OneCycle by steps
        ("iterable", (3, 14), "file"),  # no length, a batch ahead, noise
        ("accumulate", (3, 14), "signal"),
        ("manual", (3, 14), "signal"),
        ("stop", (3, 8), "file"),  # early stopping
    ],
)
def test_a_fit_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote], flavour: str, kills: tuple[int, int], notice: str
) -> None:
    trial(zygote("lit"))("lit", flavour, kills=kills, seed=len(flavour), notice=notice)


@pytest.mark.slow
def test_a_fit_on_several_processes_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote]
) -> None:
    trial(zygote("lit"))("lit", "plain", kills=(3, 9), seed=4, ranks=2)


@pytest.mark.slow
def test_processes_that_share_the_model_in_another_way_are_refused() -> None:
    from spotweld.checkpoint.adapters.lightning import SpotweldCallback

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace())
    with pytest.raises(UsageError, match="shares its model by SimpleNamespace"):
        SpotweldCallback().on_fit_start(trainer, cast("Any", None))
