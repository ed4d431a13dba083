"""What checkpoints and safetensors files have in common, and the notes that carry the rest."""

from __future__ import annotations

from typing import Any

import msgspec

from spotweld.checkpoint.arrays import Kind, itemsize

NOTES = "spotweld"
"""The name in a file's metadata under which stands what the format has no words for."""
NOTES_FORMAT = 1

_WHOLE = {f"{sign}int{bits}": f"{code}{bits}" for sign, code in (("", "I"), ("u", "U")) for bits in (8, 16, 32, 64)}
_TORCH = _WHOLE | {
    "bool": "BOOL",
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
}
_NUMPY = {"|b1": "BOOL", "|u1": "U8", "|i1": "I8", "<c8": "C64"}
_NUMPY |= {f"<{kind}{size}": f"{kind.upper()}{8 * size}" for kind in "iuf" for size in (2, 4, 8)}
FROM_FILE = {code: name for name, code in _TORCH.items()}
"""PyTorch's dtype for each of the format's."""


class Note(msgspec.Struct, frozen=True):
    """A leaf of the state, and the tensor that has its bytes."""

    tensor: str
    kind: Kind
    dtype: str
    shape: tuple[int, ...]


class Notes(msgspec.Struct, frozen=True):
    """What makes a state of a file's tensors again."""

    format: int
    spotweld: str
    """The version that wrote it."""
    run: str
    step: int
    created: float
    state: Any
    """A tree (``checkpoint.tree``) whose leaves are indices into ``leaves``."""
    leaves: tuple[Note, ...]


def in_file(kind: Kind, dtype: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The dtype and the shape of the tensor that carries such a leaf.

    What the format has no dtype for (long complex numbers, texts, dates, the other byte order) is carried as bytes,
    those of an element along one more dimension.

    Raises:
        ValueError: a dtype that no leaf has.
    """
    width = itemsize(kind, dtype)
    if kind is Kind.BYTES:
        return "U8", shape
    code = (_TORCH if kind is Kind.TORCH else _NUMPY).get(dtype)
    return (code, shape) if code else ("U8", (*shape, width))
