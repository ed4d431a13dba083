"""How small codecs make the state of a really trained network, how fast, and how fast they give it back.

A byte-level GPT of 11 million parameters is trained with AdamW, once in float32 and once in bfloat16, parameters and
moments alike, and its state is kept after STEP, STEP + 1, STEP + 10 and STEP + 100 steps. The first time that takes
about half an hour; the states then lie in ``bench/.cache``. A thread each; time is that of the processor, for all
threads that a codec starts: ZipNN starts some whatever it is told. If ZipNN is not installed, it is left out.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import zstandard
from harness import Figure, figure, in_turns, report

from spotweld.checkpoint.codecs import decode, encode
from spotweld.checkpoint.scales import Matrix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Numbers = np.ndarray[Any, Any]
    State = dict[str, list[Numbers]]

RUNS = 5
STEP = 400
LATER = (0, 1, 10, 100)
CHUNK = 4 * 2**20
SMALL = 256 * 2**10
"""Bytes: smaller arrays share chunks."""
CACHE = Path(__file__).parent / ".cache"
EXAMPLE = Path(__file__).parent.parent / "examples" / "pygpt" / "train.py"
COMMAND = "make bench-compression"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GOALS = {"fp32": (0.83, 0.79), "bf16": (0.66, 0.57)}
"""Bytes over raw at most: alone, and as a difference from 10 steps earlier."""


def train(name: str) -> None:
    """Train, and keep the states."""
    found = importlib.util.spec_from_file_location("pygpt", EXAMPLE)
    assert found is not None
    assert found.loader is not None
    example: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(example)
    example.WIDTH, example.HEADS, example.LAYERS, example.STEPS = 384, 6, 6, 1000
    training = example.Training()
    parameters = list(training.model.to(DTYPES[name]).parameters())
    adam = training.optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    training.schedule = torch.optim.lr_scheduler.LambdaLR(adam, example.rate)
    CACHE.mkdir(exist_ok=True)
    for step in range(1, STEP + LATER[-1] + 1):
        loss = training.step()
        if step % 50 == 0:
            print(f"training {name}: step {step}, loss {loss:.3f}", file=sys.stderr)
        if step - STEP in LATER:
            parts = {
                "w": [parameter.detach().clone() for parameter in parameters],
                "m": [adam.state[parameter]["exp_avg"] for parameter in parameters],
                "v": [adam.state[parameter]["exp_avg_sq"] for parameter in parameters],
            }
            torch.save(parts, CACHE / f"{name}-{step - STEP}.pt")


def state(name: str, later: int) -> State:
    """Weights, first and second moments: arrays of unsigned integers with the numbers' bits, largest first."""
    path = CACHE / f"{name}-{later}.pt"
    if not path.exists():
        train(name)
    whole, bits = (torch.int32, "<u4") if name == "fp32" else (torch.int16, "<u2")
    parts = torch.load(path, weights_only=True).items()
    found = {
        part: [tensor.contiguous().view(whole).numpy().view(bits) for tensor in tensors] for part, tensors in parts
    }
    return {part: sorted(arrays, key=lambda array: -array.size) for part, arrays in found.items()}


def chunks(arrays: Iterable[Numbers]) -> list[memoryview]:
    """The bytes in pieces as a checkpoint has them: those of matrices one by one, small arrays together."""
    matrices, small = _by_size(arrays)
    raws = [memoryview(array.reshape(-1).view("u1")) for array in (*matrices, small)]  # type: ignore[arg-type]
    return [raw[start : start + CHUNK] for raw in raws for start in range(0, raw.nbytes, CHUNK)]


def places(arrays: Iterable[Numbers]) -> list[Matrix | None]:
    """Where in a matrix each of the ``chunks`` lies."""
    matrices, small = _by_size(arrays)
    found: list[Matrix | None] = []
    for array in matrices:
        columns = array.size // len(array)
        found += [Matrix(columns, start // array.itemsize % columns) for start in range(0, array.nbytes, CHUNK)]
    return found + [None] * -(-small.nbytes // CHUNK)


def _by_size(arrays: Iterable[Numbers]) -> tuple[list[Numbers], Numbers]:
    every = list(arrays)
    large = [array for array in every if array.nbytes >= SMALL]
    return large, np.concatenate([array.reshape(-1) for array in every if array.nbytes < SMALL])


def bound(arrays: Sequence[Numbers]) -> float:
    """Bytes over raw that a code without memory needs for sign and exponent, with the mantissa as it is."""
    numbers = np.concatenate([array.reshape(-1) for array in arrays])
    size = 8 * numbers.itemsize
    mantissa = 23 if size == 32 else 7
    counts = np.bincount(numbers >> mantissa)
    shares = counts[counts > 0] / numbers.size
    return (mantissa - float((shares * np.log2(shares)).sum())) / size


class Contender:
    """One way to make chunks smaller: how to, and how to get them back."""

    def __init__(
        self, smaller: Callable[[int], bytes], back: Callable[[int, bytes], None], raw: list[memoryview]
    ) -> None:
        self.smaller, self.back, self.raw = smaller, back, raw
        self.total = sum(chunk.nbytes for chunk in raw)
        self.stored = [smaller(index) for index in range(len(raw))]

    def ratio(self) -> float:
        """Stored bytes over raw bytes."""
        return sum(map(len, self.stored)) / self.total

    def encoding(self) -> float:
        """Seconds of the processor for a gigabyte."""
        begun = time.process_time()
        for index in range(len(self.raw)):
            self.smaller(index)
        return (time.process_time() - begun) / self.total * 1e9

    def decoding(self) -> float:
        """Seconds of the processor for a gigabyte."""
        begun = time.process_time()
        for index, stored in enumerate(self.stored):
            self.back(index, stored)
        return (time.process_time() - begun) / self.total * 1e9


def spotweld(arrays: Sequence[Numbers], codec: str, bases: Sequence[Numbers] = ()) -> Contender:
    """Ours; where there is no matrix, ``planesN`` does what ``scaledN`` cannot."""
    raw, matrices = chunks(arrays), places(arrays)
    codecs = [codec if matrix else codec.replace("scaled", "planes") for matrix in matrices]
    base: Sequence[memoryview | None] = chunks(bases) if bases else [None] * len(raw)
    into = memoryview(bytearray(CHUNK))

    def back(index: int, stored: bytes) -> None:
        decode(memoryview(stored), codecs[index], into[: raw[index].nbytes], base[index])

    made = Contender(lambda index: encode(raw[index], codecs[index], base[index], matrices[index]), back, raw)
    for index, stored in enumerate(made.stored):
        back(index, stored)
        assert into[: raw[index].nbytes] == raw[index]
    return made


def zstd(raw: list[memoryview]) -> Contender:
    """Zstandard's level 3 of the whole."""
    pack, unpack = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    return Contender(lambda index: pack.compress(raw[index]), lambda _, stored: _drop(unpack.decompress(stored)), raw)


def zip_nn(raw: list[memoryview], name: str) -> Contender:
    """ZipNN by its interface for Python, a chunk at a time: that is faster than the whole at once."""
    import zipnn  # noqa: PLC0415 - it may be missing

    own = [bytearray(chunk) for chunk in raw]
    tool = zipnn.ZipNN(bytearray_dtype={"fp32": "float32", "bf16": "bfloat16"}[name], threads=1)
    return Contender(lambda index: tool.compress(own[index]), lambda _, stored: _drop(tool.decompress(stored)), raw)


def _drop(_: object) -> None:
    pass


def sizes(name: str, what: str, taken: dict[str, float], limit: float | None = None) -> Figure:
    """A figure of ratios, as percents."""
    percents = {who: [100 * value] for who, value in taken.items()}
    most = None if limit is None else 100 * limit
    return figure(f"{name}: {what}", "% of raw", percents, limit=most, goal="fewer bytes", command=COMMAND)


def measure(name: str, states: dict[int, State]) -> list[Figure]:
    """All figures of one dtype."""
    width = DTYPES[name].itemsize
    raw = {part: chunks(arrays) for part, arrays in states[10].items()}
    planes, scaled = (
        {part: spotweld(arrays, f"{codec}{width}") for part, arrays in states[10].items()}
        for codec in ("planes", "scaled")
    )
    alone = {
        "spotweld": {part: min(planes[part], scaled[part], key=Contender.ratio) for part in raw},
        "spotweld, planes": planes,
        "zstd -3": {part: zstd(pieces) for part, pieces in raw.items()},
    }
    if importlib.util.find_spec("zipnn"):
        alone["zipnn"] = {part: zip_nn(pieces, name) for part, pieces in raw.items()}
    bounds = {part: bound(arrays) for part, arrays in states[10].items()}
    ratios = {who: {part: made.ratio() for part, made in parts.items()} for who, parts in alone.items()}
    ratios["order-0 entropy"] = bounds
    mean = {who: statistics.mean(parts.values()) for who, parts in ratios.items()}
    figures = [sizes(name, "all, alone", mean, GOALS[name][0])]
    figures += [sizes(name, f"{part}, alone", {who: parts[part] for who, parts in ratios.items()}) for part in raw]
    deltas = {}
    for later in LATER[1:]:
        deltas[later] = {
            part: spotweld(arrays, f"delta{width}", states[0][part]) for part, arrays in states[later].items()
        }
        taken = {part: made.ratio() for part, made in deltas[later].items()}
        best = statistics.mean(min(taken[part], ratios["spotweld"][part]) for part in raw)
        goal = GOALS[name][1] if later == 10 else None
        figures.append(sizes(name, f"all, difference over {later}, or alone", {"spotweld": best}, goal))
        figures += [sizes(name, f"{part}, difference over {later}", {"spotweld": taken[part]}) for part in raw]
    contenders = {**alone, "spotweld, difference": deltas[10]}
    for verb, seconds in (("encode", Contender.encoding), ("decode", Contender.decoding)):
        taken_s = in_turns({who: partial(total, seconds, parts) for who, parts in contenders.items()}, RUNS)
        goal_text = "faster than what makes it larger"
        figures.append(figure(f"{name}: {verb}", "s/GB", taken_s, limit=None, goal=goal_text, command=COMMAND))
    return figures


def total(seconds: Callable[[Contender], float], parts: dict[str, Contender]) -> float:
    """Seconds for a gigabyte of the whole state: its parts have the same size."""
    return statistics.mean(map(seconds, parts.values()))


def main() -> int:
    """Measure, print, write."""
    torch.set_num_threads(1)
    figures = []
    for name in DTYPES:
        figures += measure(name, {later: state(name, later) for later in LATER})
    return report("compression", figures)


if __name__ == "__main__":
    sys.exit(bool(main()))
