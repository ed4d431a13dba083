"""What the tests of this room share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld.preemption.metadata_server import MetadataServer

if TYPE_CHECKING:
    from collections.abc import Iterator


class HandClock:
    """Time that passes only when told to; the two clocks can be moved apart."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 500.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def server(clock: HandClock) -> Iterator[MetadataServer]:
    with MetadataServer(clock=clock) as server:
        yield server
