"""The stores that the suite runs over."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest
from tests import servers

from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spotweld.store.objects import Objects

STORES = [
    "file",
    "memory",
    "gs",
    pytest.param("s3", marks=pytest.mark.slow),
    pytest.param("az", marks=pytest.mark.slow),
]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Starts the server of a scheme when it is first asked for; gives the URL of a bucket there."""
    kinds = {"gs": servers.gcs, "s3": servers.seaweed, "az": servers.azurite}
    running = {}
    before = dict(os.environ)

    def start(scheme: str) -> str:
        if scheme not in running:
            running[scheme] = kinds[scheme](tmp_path_factory.mktemp(scheme))
            os.environ.update(running[scheme].__enter__())
        return f"{scheme}://spotweld"

    yield start
    for server in running.values():
        server.__exit__(None, None, None)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest, started: Callable[[str], str], tmp_path: Path) -> str:
    """A URL under which nothing is stored yet."""
    if request.param == "file":
        return f"file:{tmp_path}/store"
    if request.param == "memory":
        return f"memory:{uuid.uuid4().hex}"
    return f"{started(request.param)}/{uuid.uuid4().hex}"


@pytest.fixture
def objects(url: str) -> Objects:
    """An empty store, one after the other of every kind."""
    return open_store(url, verify=False)


@pytest.fixture
def local(tmp_path: Path) -> Objects:
    """An empty store in a folder."""
    return open_store(f"file:{tmp_path}/store", verify=False)


@pytest.fixture
def memory() -> Objects:
    """An empty store in this process."""
    return open_store("memory:", verify=False)
