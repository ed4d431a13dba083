"""Lives are learned: the prior where nothing was seen, what was seen where there is much of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.placement.lives import DOWN_PRIOR, HOUR, UP_PRIOR, learn

GAP = 600.0


@pytest.mark.parametrize("ticks", [0, 1])
def test_without_a_past_the_prior_speaks(ticks: int) -> None:
    lives = learn(np.ones((ticks, 2), dtype=np.bool_), GAP, GAP)
    for found, (shape, scale) in ((lives.up, UP_PRIOR), (lives.down, DOWN_PRIOR)):
        expected = 1 - np.exp(-shape / (lives.edges + scale) * GAP)
        np.testing.assert_allclose(found, np.tile(expected, (2, 1)))


def test_what_was_seen_often_is_believed() -> None:
    """Up for three ticks and down for one, a thousand times: nothing is lost at the first two ages."""
    up = np.tile([True, True, True, False], 1000)[:, None]
    lives = learn(up, GAP, GAP)
    np.testing.assert_allclose(lives.up[0, :3], [0, 0, 1], atol=0.02)
    assert lives.down[0, 0] == pytest.approx(1, abs=0.02)


def test_zones_are_told_apart_and_lend_each_other_what_they_know() -> None:
    steady = np.ones(2000, dtype=np.bool_)
    flapping = np.arange(2000) % 4 < 2
    unknown = np.zeros(2000, dtype=np.bool_)
    lives = learn(np.stack([steady, flapping, unknown], axis=1), GAP, GAP)
    assert lives.up[0, 1] < lives.up[2, 1] < lives.up[1, 1]
    assert lives.up[0, -1] < UP_PRIOR[0] / 36 / HOUR * GAP


@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), max_size=60), st.sampled_from([1, 3]))
def test_chances_are_chances(past: list[list[bool]], ticks: int) -> None:
    lives = learn(np.array(past, dtype=np.bool_).reshape(-1, 2), GAP, ticks * GAP)
    for chances in (lives.up, lives.down, lives.older):
        assert ((chances >= 0) & (chances <= 1)).all()
    assert (lives.up > 0).all()
    assert (np.diff(lives.edges) >= ticks * GAP).all()
    assert (lives.age(lives.edges) == np.arange(len(lives.edges))).all()
