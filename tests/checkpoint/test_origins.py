"""Why a state came from where it came from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from spotweld.checkpoint.origins import why_there
from spotweld.project.nouns import Tier
from spotweld.store.heads import Kept
from spotweld.values.digests import digest

A, B = "file:/a", "file:/b"


def kept(*steps: int) -> tuple[Kept, ...]:
    return tuple(Kept(step, f"k{step}", digest(b""), 1, 0.0) for step in steps)


def opened(url: str, *steps: int) -> Any:  # noqa: ANN401 - has what is looked at of an opened tier
    return SimpleNamespace(rules=Tier(url), writer=SimpleNamespace(head=SimpleNamespace(kept=kept(*steps))))


@pytest.mark.parametrize(
    ("tier", "step", "tiers", "published", "damaged", "why"),
    [
        ("", 7, [], (7,), [], ""),
        (A, 7, [opened(A, 7)], (), [], "the store had none yet"),
        (A, 7, [opened(A, 7)], (5,), [], "the store had step 5"),
        (A, 7, [opened(A, 7)], (7, 5), [], "the same is in the store"),
        (A, 7, [opened(A, 7)], (9, 5), ["k9"], "the store had step 9"),
        ("", 7, [opened(A)], (7,), [], "file:/a was empty"),
        ("", 7, [opened(A, 8)], (7,), ["k8"], "file:/a was damaged"),
        ("", 7, [opened(A, 5)], (7,), [], "file:/a had only step 5"),
        ("", 7, [opened(A, 9)], (7,), [], "file:/a had step 9 of an attempt that others have overtaken"),
        (B, 7, [opened(A), opened(B, 7)], (7,), [], "file:/a was empty; the same is in the store"),
        ("", 7, [opened(A), opened(B, 5)], (7,), [], "file:/a was empty; file:/b had only step 5"),
    ],
)
def test_every_place_has_its_reason(
    tier: str, step: int, tiers: list[Any], published: tuple[int, ...], damaged: list[str], why: str
) -> None:
    rules = [one.rules for one in tiers]
    assert why_there(tier, kept(step)[0], rules, tiers, kept(*published), damaged) == why


def test_a_tier_that_could_not_be_opened_is_named() -> None:
    assert why_there("", kept(7)[0], [Tier(A)], [], kept(7), []) == "file:/a could not be used"
