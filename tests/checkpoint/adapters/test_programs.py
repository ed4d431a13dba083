"""Programs that own their loop, killed anywhere and told to leave: the end is that of an undisturbed run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Trial, Zygote


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "kills", "notice"),
    [
        (("accelerated", "plain"), (3, 20), "signal"),
        (("accelerated", "plain"), (20, 22), "signal"),  # 20 steps, and nothing is left of the epoch
        (("accelerated", "stateful"), (3, 20), "file"),
        (("accelerated", "stateful"), (20, 22), "file"),
        (("streamed",), (3, 20), "signal"),
        (("flaxed",), (3, 20), "file"),
    ],
)
def test_a_program_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial],
    zygote: Callable[..., Zygote],
    argv: tuple[str, ...],
    kills: tuple[int, int],
    notice: str,
) -> None:
    trial(zygote(*(("accelerated", "streamed") if argv[0] != "flaxed" else argv)))(
        *argv, kills=kills, seed=sum(map(len, argv)), notice=notice
    )


@pytest.mark.slow
def test_a_program_on_several_processes_resumes_bit_for_bit(
    trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote]
) -> None:
    trial(zygote("accelerated", "streamed"))("accelerated", "plain", kills=(3, 15), seed=4, ranks=2)


def test_numpy_alone_resumes_bit_for_bit(trial: Callable[[Zygote], Trial], zygote: Callable[..., Zygote]) -> None:
    trial(zygote("numpy"))("lean", kills=(3, 35), seed=1)
