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
    folder: Path,
    *,
    data: Path | None = None,
    more: Mapping[str, Any] | None = None,
    delete: bool = True,
    tls: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run it until the block ends; yields its URL. ``folder/registry.log`` has its log.

    Args:
        folder: for its configuration and log.
        data: where it keeps its blobs; by default below ``folder``.
        more: top-level keys of its configuration.
        delete: whether it deletes.
        tls: its ``certificate`` and ``key``, if it is to speak TLS.
    """
    (port,) = free_ports(1)
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(data or folder / "registry")},
            "delete": {"enabled": delete},
        },
        "http": {"addr": f"127.0.0.1:{port}", **({"tls": dict(tls)} if tls else {})},
        **(more or {}),
    }
    path = folder / f"registry-{port}.yml"
    path.write_text(json.dumps(config))
    where = f"127.0.0.1:{port}"
    # Plain HTTP to a server that speaks TLS is answered too, so this tells in both cases that it is up.
    with process(["docker-registry", "serve", str(path)], f"http://{where}/v2/", folder / "registry.log"):
        yield f"{'https' if tls else 'http'}://{where}"
