"""The registries that the suite runs over."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.images.servers import docker_registry

from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.opening import open_registry
from spotweld.images.registries.serving import reachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spotweld.images.registries.registry import Registry


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real registry server."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture(params=["layout", "distribution", "served"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Registry]]:
    """Opens a registry of a kind: a new layout, one that is served, or the one server."""
    with ExitStack() as stack:

        def opened(kind: str) -> Registry:
            if kind == "distribution":
                return open_registry(request.getfixturevalue("server"), {})
            layout = Layout(tmp_path / f"layout-{uuid.uuid4().hex[:6]}")
            return layout if kind == "layout" else open_registry(stack.enter_context(reachable(layout)), {})

        yield opened


@pytest.fixture
def registry(kind: str, opened: Callable[[str], Registry]) -> Registry:
    return opened(kind)


@pytest.fixture
def repository() -> str:
    """A repository that nobody has used."""
    return f"team/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")
