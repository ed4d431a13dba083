"""The context as one archive that BuildKit's daemon fetches from this machine.

A context that the client sends is, in BuildKit's graph, a source of that one client's session, and of the files that
this one document names. So is every step after it: two clients that build the same instruction have two different
steps, and whether the second one finds the result of the first is a race. A context behind a URL is the same source for
all clients, and the daemon runs a step that several of them want once.
"""

from __future__ import annotations

import http.server
import os
import re
import secrets
import shutil
import stat
import tarfile
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from spotweld.images.dockerfiles.patterns import WILD, clean, compiled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from spotweld.images.dockerfiles.dockerfile import Dockerfile, Instruction
    from spotweld.images.dockerfiles.ignore import Ignore

Reach = frozenset[str]
"""Paths and patterns in a context, with slashes: what of it is needed, each with all below it."""
EVERYTHING: Reach = frozenset([""])
NAME = "context.tar"
_OPEN = frozenset("$\\\"'")
"""Characters with which a path is only known when it is built."""
_REMOTE = re.compile(r"https?://|git@|git://|ssh://")


def reach(document: Dockerfile) -> Reach:
    """What a build of this document may read of its context, but for what triggers of its base images read."""
    every = [one for stage in document.stages for one in stage.instructions]
    if any(one.word == "ONBUILD" for one in every):
        return EVERYTHING
    found = frozenset(_known(source) for one in every for source in _sources(one))
    return EVERYTHING if any(not _fixed(one) for one in found) else found


def _sources(instruction: Instruction) -> Iterator[str]:
    if instruction.word in {"COPY", "ADD"} and not instruction.values("from"):
        for source in instruction.arguments[:-1]:
            if not source.startswith("<<") and not _REMOTE.match(source):
                yield source
    if instruction.word == "RUN":
        for mount in instruction.values("mount"):
            fields = {
                name.strip().lower(): value for name, _, value in (one.partition("=") for one in mount.split(","))
            }
            if fields.get("type", "bind") == "bind" and "from" not in fields:
                yield fields.get("source", fields.get("src", "."))


def _known(source: str) -> str:
    return "" if _OPEN & set(source) or clean(source) == "." else clean(source)


def _fixed(source: str) -> str:
    """The part of a path before its first pattern."""
    parts = source.split("/")
    wild = [at for at, part in enumerate(parts) if WILD & set(part)]
    return "/".join(parts[: wild[0]] if wild else parts)


def pack(context: Path, ignore: Ignore, wanted: Reach, to: Path) -> None:
    """Write the archive: tar, without owners, as a client would send the files.

    Args:
        context: the folder.
        ignore: what is left out of it.
        wanted: what is needed of it. If a link is among what one of these names, or on the way to it, everything is.
        to: the archive.

    Raises:
        OSError: something cannot be read or written.
    """
    base = os.fspath(context)
    follows = any(one and _meets_link(base, "", one.split("/")) for one in wanted)
    wanted = EVERYTHING if follows else frozenset(map(_fixed, wanted))
    with tarfile.open(to, "w", format=tarfile.GNU_FORMAT) as tar:
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(root)  # BuildKit looks at 1 KiB to see that it is an archive; a long name would need more
        for path in _found(base, ignore, wanted, ""):
            info = tar.gettarinfo(f"{base}/{path}", path)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.islnk():  # its other names may be out of reach
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", os.lstat(f"{base}/{path}").st_size
            if info.isreg():
                with open(f"{base}/{path}", "rb") as file:  # noqa: PTH123  names that are no UTF-8, as they are
                    tar.addfile(info, file)
            else:
                tar.addfile(info)


def _meets_link(base: str, folder: str, parts: list[str]) -> bool:
    """Whether ``parts`` below ``folder``, patterns among them, name a link or lead through one."""
    if not parts or not os.path.isdir(f"{base}/{folder}"):  # noqa: PTH112
        return False
    first, *rest = parts
    deep = "**" in first
    matcher = compiled(first) if WILD & set(first) and not deep else None
    names = os.listdir(f"{base}/{folder}") if deep or matcher else [first]  # noqa: PTH208
    for name in names:
        if matcher is None or matcher.fullmatch(name):
            path = f"{folder}/{name}" if folder else name
            if os.path.islink(f"{base}/{path}") or _meets_link(base, path, parts if deep else rest):  # noqa: PTH114
                return True
    return False


def _found(base: str, ignore: Ignore, wanted: Reach, folder: str) -> Iterator[str]:
    for name in sorted(os.listdir(f"{base}/{folder}")):  # noqa: PTH208
        path = f"{folder}/{name}" if folder else name
        if not any(not one or f"{path}/".startswith(f"{one}/") or one.startswith(f"{path}/") for one in wanted):
            continue
        mode = os.lstat(f"{base}/{path}").st_mode
        ignored = ignore.decides(path) is not None
        if stat.S_ISDIR(mode):
            inside = [] if ignored and not ignore.may_keep_below(path) else [*_found(base, ignore, wanted, path)]
            if inside or not ignored:
                yield path
            yield from inside
        elif not ignored and not stat.S_ISSOCK(mode):
            yield path


@contextmanager
def served(archive: Path) -> Iterator[str]:
    """Serve the file on 127.0.0.1 until the block ends; yields its URL, which nobody can guess."""
    secret = secrets.token_hex(16)
    path, tag = f"/{secret}/{NAME}", f'"{secret}"'

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):  # a build that fails meanwhile has no more use for it
                super().handle()

        def do_GET(self) -> None:
            if self.path != path:
                self.send_error(404)
                return
            known = self.headers.get("If-None-Match", "") == tag
            self.send_response(304 if known else 200)
            self.send_header("ETag", tag)
            if not known:
                self.send_header("Content-Length", str(archive.stat().st_size))
            self.end_headers()
            if self.command == "GET" and not known:
                with archive.open("rb") as file:
                    shutil.copyfileobj(file, self.wfile, 1 << 20)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="spotweld-context", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{path}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
