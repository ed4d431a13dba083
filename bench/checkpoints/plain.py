"""Peers that write files themselves: torch.save, safetensors, ZipNN, zstd, and a forked child."""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from checkpoints.contender import Peer, Pending, optional
from checkpoints.states import empty, flat, nested

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoints.states import Training


def torch_save() -> Peer:
    """What most programs do."""

    def write(parts: dict[str, Any], folder: Path) -> None:
        torch.save(parts, folder / "state.pt")

    def read(training: Training, folder: Path) -> None:
        training.put(torch.load(folder / "state.pt"))

    return Peer(write, read)


def safetensors() -> Peer:
    """One safetensors file, and the rest of the optimizer as JSON."""
    library = optional("safetensors.torch")

    def write(parts: dict[str, Any], folder: Path) -> None:
        tensors, rest = flat(parts)
        library.save_file(tensors, folder / "state.safetensors")
        (folder / "rest.json").write_text(json.dumps(rest))

    def read(training: Training, folder: Path) -> None:
        tensors = library.load_file(folder / "state.safetensors")
        training.put(nested(tensors, json.loads((folder / "rest.json").read_text())))

    return Peer(write, read)


def zipnn() -> Peer:
    """Each tensor as a ZipNN byte string, on all cores; tensors below 4 KiB as they are."""
    library = optional("zipnn")

    def coder(dtype: torch.dtype) -> Any:  # noqa: ANN401  the library has no types
        name = str(dtype).removeprefix("torch.")
        return library.ZipNN(bytearray_dtype=name, input_format="byte", threads=os.cpu_count())

    def write(parts: dict[str, Any], folder: Path) -> None:
        tensors, rest = flat(parts)
        index = []
        with (folder / "state.zipnn").open("wb") as file:
            for name, value in tensors.items():
                raw = data(value)
                coded = coder(value.dtype).compress(bytearray(raw)) if len(raw) >= 4096 else raw
                index.append((name, str(value.dtype), list(value.shape), file.write(coded)))
        (folder / "index.json").write_text(json.dumps([index, rest]))

    def read(training: Training, folder: Path) -> None:
        index, rest = json.loads((folder / "index.json").read_text())
        tensors = {}
        with (folder / "state.zipnn").open("rb") as file:
            for name, dtype, shape, length in index:
                kind = getattr(torch, dtype.removeprefix("torch."))
                coded = file.read(length)
                raw = coder(kind).decompress(coded) if length != _size(kind, shape) or length >= 4096 else coded
                tensors[name] = torch.frombuffer(bytearray(raw), dtype=kind).view(shape)
        training.put(nested(tensors, rest))

    return Peer(write, read)


def zstd() -> Peer:
    """torch.save through zstd at level 3, on all cores."""
    library = optional("zstandard")

    def write(parts: dict[str, Any], folder: Path) -> None:
        coder = library.ZstdCompressor(level=3, threads=os.cpu_count())
        with (folder / "state.pt.zst").open("wb") as file, coder.stream_writer(file) as stream:
            torch.save(parts, stream)

    def read(training: Training, folder: Path) -> None:
        import io  # noqa: PLC0415

        with (folder / "state.pt.zst").open("rb") as file:
            whole = library.ZstdDecompressor().stream_reader(file).readall()
        training.put(torch.load(io.BytesIO(whole)))

    return Peer(write, read)


def fork() -> Peer:
    """A forked child writes what the kernel keeps for it of the moment of the fork, syncs the file and ends."""

    def write(parts: dict[str, Any], folder: Path) -> Pending:
        tensors, rest = flat(parts)
        pieces = [memoryview(data(value)) for value in tensors.values()]
        index = [(name, str(value.dtype), list(value.shape)) for name, value in tensors.items()]
        (folder / "index.json").write_text(json.dumps([index, rest]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # there are threads; the child only writes and ends
            child = os.fork()
        if child == 0:
            status = 1
            try:
                file = os.open(folder / "state.raw", os.O_WRONLY | os.O_CREAT, 0o666)
                for piece in pieces:
                    written = 0
                    while written < len(piece):
                        written += os.write(file, piece[written:])
                os.fsync(file)
                status = 0
            finally:
                os._exit(status)

        def stored() -> None:
            _, status = os.waitpid(child, 0)
            if status:
                raise RuntimeError(f"the child ended with status {status}")

        return Pending(stored)

    def read(training: Training, folder: Path) -> None:
        index, rest = json.loads((folder / "index.json").read_text())
        into = flat(empty(training))[0]
        with (folder / "state.raw").open("rb", buffering=0) as file:
            for name, _, _ in index:
                piece = memoryview(data(into[name]))
                read = 0
                while read < len(piece):
                    read += file.readinto(piece[read:])
        training.put(nested(into, rest))

    return Peer(write, read)


def data(value: Tensor) -> Any:  # noqa: ANN401  a NumPy array of uint8
    """A tensor's bytes, without a copy."""
    return value.detach().reshape(-1).view(torch.uint8).numpy()


def _size(dtype: torch.dtype, shape: list[int]) -> int:
    return torch.empty(shape, dtype=dtype, device="meta").nbytes
