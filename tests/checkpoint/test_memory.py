"""A state that is larger than the memory that its copy may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from spotweld import Checkpointer
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.staging import FEWEST

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("memory", "most"), [("12MiB", FEWEST), (4 * CHUNK, 4)])
def test_little_memory_is_enough(tmp_path: Path, memory: int | str, most: int) -> None:
    x = {"x": np.zeros(5 * CHUNK // 8 + 1)}
    first = Checkpointer({"x": x}, store=f"file:{tmp_path}/far", every=1, staging_memory=memory, notices=[])
    for step in first.steps(2):
        x["x"] += step
        buffers = first._session._saves._staging.at_once  # type: ignore[union-attr]
    assert buffers == most
    again = {"x": np.ones_like(x["x"])}
    assert list(Checkpointer({"x": again}, store=f"file:{tmp_path}/far", notices=[]).steps(2)) == []
    assert again["x"].tobytes() == x["x"].tobytes()
