"""Hugging Face's Trainer, killed anywhere and told to leave: weights and logs are those of an undisturbed training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Trial, Zygote


@pytest.mark.slow
@pytest.mark.parametrize(("flavour", "kills"), [("plain", (3, 16)), ("accumulate", (3, 8)), ("stop", (3, 10))])
def test_a_training_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote], flavour: str, kills: tuple[int, int]
) -> None:
    trial(zygote("hf"))(
        "hf", flavour, kills=kills, seed=len(flavour), notice="file" if flavour == "plain" else "signal"
    )
