from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from spotweld.checkpoint.distributed.checkpointer import DistributedCheckpointer
from spotweld.checkpoint.distributed.writing import SpotweldWriter
from spotweld.checkpoint.format import decode
from spotweld.checkpoint.layout import CHUNK
from spotweld.errors import UsageError
from spotweld.project.nouns import LEAST_STAGING, CheckpointPolicy, Tier
from spotweld.store.heads import read_head
from spotweld.values.environment import CHECKPOINT

if TYPE_CHECKING:
    from tests.checkpoint.conftest import HandClock, Watched
    from tests.checkpoint.distributed.conftest import Ranks


@pytest.fixture
def tiers_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = CheckpointPolicy(tiers=(Tier("file:/near"),))
    monkeypatch.setenv(CHECKPOINT, msgspec.json.encode(policy).decode())


@pytest.mark.usefixtures("tiers_in_the_environment")
def test_a_writer_for_dcp_refuses_tiers() -> None:
    with pytest.raises(UsageError, match="file:/near was asked for"):
        SpotweldWriter("memory:")


@pytest.mark.parametrize("options", [{"compress": "bytes"}, {"staging_memory": LEAST_STAGING}])
def test_what_concerns_a_share_is_heeded(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched, options: dict[str, Any]
) -> None:
    def train(ranks: Ranks, rank: int, total: int) -> np.ndarray:
        weights, own = np.zeros((5, CHUNK // 4), "f4"), np.zeros((3, CHUNK // 4), "f4")
        checkpointer = DistributedCheckpointer(
            {"weights": weights},
            per_rank={"own": own},
            groups=lambda: ranks.groups(rank),
            store=store,
            clock=new_clock(),
            notices=(),
            every=2,
            **options,
        )
        for step in checkpointer.steps(total):
            weights += np.arange(len(weights), dtype="f4")[:, None] * step
            own += rank + step
        return np.concatenate([weights, own])

    def run(total: int) -> list[Any]:
        ranks = new_ranks(2)
        return ranks.run(lambda rank: train(ranks, rank, total))

    run(3)
    first, second = run(5)
    assert (first[:5] == 10 * np.arange(5)[:, None]).all()
    assert (first[5:] == 10).all()
    assert (second[5:] == 15).all()
    head = read_head(store, "default")
    assert head is not None
    codecs = {chunk.codec for chunk in decode(store.get(head.kept[0].key), "default").chunks if chunk.raw == CHUNK}
    assert ("raw" in codecs) == ("compress" not in options)
