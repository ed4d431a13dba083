"""A served layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.images.registries.asking import Asking, asking

from spotweld.images.registries.layouts import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ask(layout: Layout) -> Iterator[Asking]:
    with asking(layout) as made:
        yield made


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    """One served layout for many examples."""
    with asking(Layout(tmp_path_factory.mktemp("still"))) as made:
        yield made
