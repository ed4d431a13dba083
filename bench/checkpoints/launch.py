"""Runs each task in a process of its own, and takes its answer or the reason why there is none.

The processes are forked by a server that has loaded PyTorch and used nothing of it yet, which saves seconds each time.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from checkpoints.contender import LeftOut
from checkpoints.states import CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that a task may take."""
# A thread that waits for the others sleeps: else two threads that are held up by a third, such as one that writes a
# checkpoint, burn both cores while they wait for each other, and what is measured is that.
WAITING = "OMP_WAIT_POLICY"


class Missing(Exception):
    """A task without an answer, and why."""


class Answer(msgspec.Struct, frozen=True):
    """What goes back from a task's process."""

    found: msgspec.Raw
    left_out: str


def ask(
    work: Callable[..., object], answer: type[T], *arguments: object, environ: Mapping[str, str] | None = None
) -> T:
    """Call a function of ``checkpoints.work`` in a process of its own.

    Raises:
        Missing: the contender is left out, or failed.
    """
    os.environ.setdefault(WAITING, "PASSIVE")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["checkpoints.work"])
    here, there = context.Pipe()
    with tempfile.NamedTemporaryFile() as said:
        process = context.Process(target=_serve, args=(work, arguments, dict(environ or {}), said.name, there))
        process.start()
        there.close()
        try:
            if not here.poll(PATIENCE):
                raise Missing(f"no answer after {PATIENCE:.0f} s")
            found = msgspec.json.decode(here.recv_bytes(), type=Answer)
        except EOFError:
            process.join(10)
            lines = Path(said.name).read_text(errors="replace").splitlines()
            raise Missing(f"it died with {process.exitcode}: {(lines or ['it said nothing'])[-1][:300]}") from None
        finally:
            process.kill()
            process.join()
    if found.left_out:
        raise Missing(found.left_out)
    return msgspec.json.decode(found.found, type=answer)


def _serve(
    work: Callable[..., object], arguments: tuple[object, ...], environ: dict[str, str], said: str, there: Connection
) -> None:
    """In the process: do it, answer, and be gone with whatever still runs."""
    with Path(said).open("wb") as into:
        os.dup2(into.fileno(), 1)
        os.dup2(into.fileno(), 2)
    os.environ.update(environ)
    try:
        answer = Answer(msgspec.Raw(msgspec.json.encode(work(*arguments))), "")
    except LeftOut as error:
        answer = Answer(msgspec.Raw(b"null"), str(error))
    except Exception as error:  # noqa: BLE001  told, never hidden
        where = traceback.extract_tb(error.__traceback__)[-1]
        answer = Answer(msgspec.Raw(b"null"), f"{type(error).__name__}: {error} ({where.name}, {where.lineno})"[:500])
    there.send_bytes(msgspec.json.encode(answer))
    os._exit(0)


def sweep() -> None:
    """Remove what a run that was stopped has left."""
    for folder in CACHE.glob("run-*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk of this checkout, removed in the end."""
    CACHE.mkdir(exist_ok=True)
    folder = tempfile.mkdtemp(prefix="run-", dir=CACHE)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
