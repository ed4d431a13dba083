"""Files past the page cache: odd sizes, places that are not aligned, and kernels that refuse or do half."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.errors import Unavailable
from spotweld.store import direct
from spotweld.store.direct import BLOCK, LARGE
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "store")


def aligned(size: int, seed: int = 0) -> memoryview:
    """Random bytes at the start of a page."""
    arena = memoryview(mmap.mmap(-1, max(1, size)))[:size]
    arena[:] = random.Random(seed).randbytes(size)
    return arena


MIXES: dict[str, list[Callable[[], Any]]] = {
    "aligned": [lambda: aligned(LARGE), lambda: aligned(BLOCK, 1)],
    "an odd tail": [lambda: aligned(LARGE), lambda: aligned(BLOCK + 1, 1)],
    "an odd piece first": [lambda: aligned(13), lambda: aligned(LARGE, 1), lambda: aligned(LARGE, 2)],
    "odd pieces that make up a block": [lambda: aligned(LARGE), lambda: b"x" * 4095, lambda: b"y", lambda: b"z" * 9],
    "bytes": [lambda: random.Random(1).randbytes(LARGE + 77)],
    "more than one bounce": [lambda: random.Random(2).randbytes(9 * LARGE + 3), lambda: aligned(LARGE)],
    "read-only": [lambda: aligned(LARGE).toreadonly(), lambda: aligned(BLOCK)],
    "at an odd address": [lambda: aligned(LARGE + BLOCK)[1 : LARGE + 1]],
    "many": [(lambda seed=seed: aligned(4 * BLOCK, seed)) for seed in range(130)],  # type: ignore[misc]
    "empty ones between": [lambda: b"", lambda: aligned(LARGE), lambda: b"", lambda: b"end"],
}


@pytest.mark.parametrize("mix", MIXES)
def test_pieces_of_every_sort_are_written_as_they_are(objects: LocalObjects, mix: str) -> None:
    pieces = [make() for make in MIXES[mix]]
    wanted = b"".join(pieces)
    objects.create("k", pieces)
    assert objects.get("k") == wanted
    into = bytearray(len(wanted))
    assert objects.read_into("k", 0, memoryview(into)) == len(wanted)
    assert into == wanted


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(
    ("start", "length"),
    [(0, LARGE), (BLOCK, 5 * LARGE), (1, LARGE), (0, LARGE + 1), (6 * LARGE, LARGE), (0, 8 * LARGE)],
)
def test_parts_are_read_wherever_they_begin_and_end(objects: LocalObjects, start: int, length: int, shift: int) -> None:
    data = random.Random(3).randbytes(6 * LARGE + 100)
    objects.create("k", data)
    for path in objects.root.rglob("k"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    into = aligned(length + BLOCK)[shift : shift + length]
    count = objects.read_into("k", start, into)
    assert count == len(data[start : start + length])
    assert into[:count] == data[start : start + length]


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """A file system that does not know O_DIRECT; how often it was asked."""
    real, asked = fcntl.fcntl, list[int]()

    def told(handle: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            asked.append(flags)
            raise OSError(number, "no")
        return real(handle, command, flags)

    monkeypatch.setattr("spotweld.store.direct.fcntl.fcntl", told)
    return asked


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_it_gets_the_usual_writes(
    objects: LocalObjects, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked = refuse(monkeypatch, number)
    data = random.Random(4).randbytes(2 * LARGE)
    objects.create("k", [data, b"tail"])
    into = aligned(LARGE, 9)
    monkeypatch.setattr("spotweld.store.direct.os.RWF_NOWAIT", 1 << 20)  # nothing is in the page cache
    assert objects.read_into("k", LARGE, into) == LARGE
    assert into == data[LARGE:]
    assert objects.get("k") == data + b"tail"
    assert len(asked) == 2


def test_a_refusal_in_the_middle_starts_over(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk with larger blocks, or after a write that ended within one."""
    real, calls = os.pwritev, list[int]()

    def half(handle: int, views: Any, at: int) -> int:  # noqa: ANN401
        calls.append(at)
        if at % BLOCK:
            raise OSError(errno.EINVAL, "not aligned")
        return real(handle, [views[0][: BLOCK + 1]], at) if len(calls) == 2 else real(handle, views, at)

    monkeypatch.setattr("spotweld.store.direct.os.pwritev", half)
    monkeypatch.setattr(direct, "_AT_ONCE", 1)
    monkeypatch.setattr("spotweld.store.direct.fcntl.fcntl", lambda *_: 0)
    pieces = [aligned(LARGE, seed) for seed in range(3)]
    objects.create("k", pieces)
    assert objects.get("k") == b"".join(pieces)
    assert len(calls) == 3


def test_writes_and_reads_that_do_a_part_are_continued(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwritev, os.preadv
    pieces = [aligned(LARGE, 1), aligned(2 * BLOCK, 2), b"tail"]
    monkeypatch.setattr(
        "spotweld.store.direct.os.pwritev",
        lambda handle, views, at: write(handle, [views[0][: max(BLOCK, views[0].nbytes // 2 // BLOCK * BLOCK)]], at),
    )
    objects.create("k", pieces)
    monkeypatch.undo()
    assert objects.get("k") == b"".join(pieces)

    def some(handle: int, views: Any, at: int, flags: int = 0) -> int:  # noqa: ANN401
        if flags:
            raise OSError(errno.EAGAIN, "not in the page cache")
        return read(handle, [views[0][: 3 * BLOCK]], at)

    monkeypatch.setattr("spotweld.store.direct.os.preadv", some)
    into = aligned(LARGE + 4 * BLOCK, 5)
    assert objects.read_into("k", 0, into) == LARGE + 2 * BLOCK + 4
    assert into[: LARGE + 2 * BLOCK + 4] == b"".join(pieces)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_in_the_middle_leaves_nothing(
    objects: LocalObjects, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real, calls = os.pwritev, list[int]()

    def full(handle: int, views: Any, at: int) -> int:  # noqa: ANN401
        calls.append(at)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        return real(handle, [views[0][:BLOCK]], at)

    monkeypatch.setattr("spotweld.store.direct.os.pwritev", full)
    with pytest.raises(Unavailable, match=errno.errorcode[number]):
        objects.create("a/k", aligned(LARGE))
    monkeypatch.undo()
    assert [path for path in objects.root.rglob("*") if path.is_file()] == []
    objects.create("a/k", aligned(LARGE))


def test_several_threads_each_have_a_buffer_of_their_own(objects: LocalObjects) -> None:
    from concurrent.futures import ThreadPoolExecutor

    data = [random.Random(seed).randbytes(LARGE + seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda at: objects.create(f"k{at}", data[at]), range(6)))
    assert [objects.get(f"k{at}") for at in range(6)] == data
