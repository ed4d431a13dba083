"""What the machine itself can do in the same run: copy, write, read and hash as many bytes as the state has."""

from __future__ import annotations

import mmap
import os
import statistics
import time
from typing import TYPE_CHECKING

import msgspec
import torch
from xxhash import xxh3_128_digest

from checkpoints.plain import data
from checkpoints.states import KINDS, Training, flat, size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIECE = 16 << 20
RUNS = 3


class Limits(msgspec.Struct, frozen=True):
    """Seconds, each the median of ``RUNS``."""

    state: int
    """Bytes; the disk's figures are of as many, rounded up to ``PIECE``."""
    copy: float
    """Every tensor into memory that has been written to before, by all threads."""
    write_new: float
    """O_DIRECT into a new file, one piece after another, and fsync."""
    write_again: float
    """The same into the file as it lies there."""
    read: float
    """O_DIRECT from that file."""
    digest: float
    """xxh3 of 128 bits over the state, by one thread."""


def limits(kind: str, folder: Path) -> Limits:
    """Measure the machine with one kind of state."""
    parts = Training(KINDS[kind]).parts()
    tensors = list(flat(parts)[0].values())
    copies = [torch.zeros_like(value) for value in tensors]

    def copy() -> None:
        for into, value in zip(copies, tensors, strict=True):
            into.copy_(value)

    def digest() -> None:
        for value in tensors:
            xxh3_128_digest(data(value))

    pieces = -(-size(parts) // PIECE)
    file = folder / "limit"
    with mmap.mmap(-1, PIECE) as piece:
        piece.write(os.urandom(PIECE))
        buffer = memoryview(piece)
        new = statistics.median(_write(folder / f"limit-{turn}", pieces, buffer) for turn in range(RUNS))
        _write(file, pieces, buffer)
        again = statistics.median(_write(file, pieces, buffer) for _ in range(RUNS))
        read = _median(lambda: _read(file, buffer))
        buffer.release()
    return Limits(size(parts), _median(copy), new, again, read, _median(digest))


def _median(work: Callable[[], None]) -> float:
    work()
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _write(path: Path, pieces: int, buffer: memoryview) -> float:
    began = time.perf_counter()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600)
    for number in range(pieces):
        os.pwrite(file, buffer, number * PIECE)
    os.fsync(file)
    took = time.perf_counter() - began
    os.close(file)
    return took


def _read(path: Path, buffer: memoryview) -> None:
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    while os.readv(file, [buffer]):
        pass
    os.close(file)
