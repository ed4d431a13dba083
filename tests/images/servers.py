"""A real registry server (Debian's docker-registry) on 127.0.0.1."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.servers import free_ports, process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@contextmanager
def docker_registry(
    folder: Path, *, data: Path | None = None, more: Mapping[str, Any] | None = None, delete: bool = True
) -> Iterator[str]:
    """Run it until the block ends; yields its URL. ``folder/registry.log`` has its log.

    Args:
        folder: for its configuration and log.
        data: where it keeps its blobs; by default below ``folder``.
        more: top-level keys of its configuration.
        delete: whether it deletes.
    """
    (port,) = free_ports(1)
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(data or folder / "registry")},
            "delete": {"enabled": delete},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
        **(more or {}),
    }
    path = folder / f"registry-{port}.yml"
    path.write_text(json.dumps(config))
    url = f"http://127.0.0.1:{port}"
    with process(["docker-registry", "serve", str(path)], f"{url}/v2/", folder / "registry.log"):
        yield url


def bytes_received(folder: Path) -> list[str]:
    """The requests that brought the server something, as ``METHOD path``."""
    found = []
    for line in (folder / "registry.log").read_text(errors="replace").splitlines():
        _, _, request = line.partition('] "')
        method, _, rest = request.partition(" ")
        if method in {"PATCH", "PUT", "POST"}:
            found.append(f"{method} {rest.partition(' ')[0].partition('?')[0]}")
    return found
