"""Leaves: the array-like values of a state, as raw bytes with a dtype and a shape.

Bytes are little-endian C order for ``torch``, and C order in the byte order that the dtype names for ``numpy``.
PyTorch and NumPy are used only if the program has imported them already, or if a checkpoint holds their values.
"""

from __future__ import annotations

import math
import mmap
import re
import sys
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.devices import DeviceMemory, Place, ask, is_accelerator, is_on_device
from spotweld.errors import UnsupportedState

if TYPE_CHECKING:
    import numpy as np
    import torch

ALIGNMENT = 64
"""Bytes: PyTorch's own allocator gives this much, and kernels may round differently on data aligned otherwise."""

_LARGE = 2 * 2**20
"""Bytes from which on memory begins with a page."""

_TORCH: dict[str, int] = {
    **dict.fromkeys(("bool", "uint8", "int8", "float8_e4m3fn", "float8_e4m3fnuz"), 1),
    **dict.fromkeys(("float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32", "complex32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
    "complex128": 16,
}
_NUMPY = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(?:8|16)|\|S[0-9]{1,9}|[<>]U[0-9]{1,9}"
    r"|[<>][mM]8(?:\[[0-9]{0,9}(?:[YMWDhms]|[munpfa]s)\])?"
)


class Kind(StrEnum):
    """What a leaf becomes when it is restored."""

    TORCH = "torch"
    NUMPY = "numpy"
    SCALAR = "scalar"
    """A NumPy scalar, such as ``np.float32(1.5)``."""
    BYTES = "bytes"


class Leaf(msgspec.Struct, frozen=True):
    """One array-like value of a live state."""

    kind: Kind
    dtype: str
    """``bfloat16`` for torch, ``<f4`` (the array interface's type string) for numpy, empty for bytes."""
    shape: tuple[int, ...]
    size: int
    """Bytes."""
    source: Any
    """The value itself; not yet copied."""
    path: str = ""
    """Where it stands in the state."""


def leaf_of(value: object, path: str) -> Leaf | None:
    """The leaf that ``value`` is; None if it is no array at all.

    Raises:
        UnsupportedState: it is an array of a sort that raw bytes cannot carry.
    """
    if type(value) is bytes:
        return Leaf(Kind.BYTES, "", (len(value),), len(value), value, path)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _torch_leaf(value, path)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _numpy_leaf(value, path)
    return None


def itemsize(kind: Kind, dtype: str) -> int:
    """Bytes of one element.

    Raises:
        ValueError: a dtype that this format does not know.
    """
    if kind is Kind.BYTES and not dtype:
        return 1
    if kind is Kind.TORCH and dtype in _TORCH:
        return _TORCH[dtype]
    if kind in {Kind.NUMPY, Kind.SCALAR} and _NUMPY.fullmatch(dtype):
        count = int(re.split(r"\[", dtype[2:])[0])
        return count * 4 if dtype[1] == "U" else count
    msg = f"no such dtype: {kind} {dtype[:40]!r}"
    raise ValueError(msg)


def flat(leaf: Leaf) -> object:
    """The leaf's elements in C order, as one row of bytes; copied only where they do not lie so already."""
    if leaf.kind is Kind.TORCH:
        tensor: torch.Tensor = leaf.source
        return _row(tensor.detach().resolve_conj().resolve_neg().contiguous())
    if leaf.kind is Kind.BYTES:
        return memoryview(leaf.source)
    import numpy as np  # noqa: PLC0415

    return np.ascontiguousarray(leaf.source).reshape(-1).view(np.uint8)


def is_plain(leaf: Leaf) -> bool:
    """Its elements lie in memory in C order, so that ``flat`` has nothing to do."""
    if leaf.kind is Kind.TORCH:
        return can_be_filled(leaf.source)
    return leaf.kind is Kind.NUMPY and bool(leaf.source.flags.c_contiguous)


def copy_part(row: Any, start: int, into: memoryview) -> None:  # noqa: ANN401
    """Copy the bytes from ``start`` on of a row from ``flat`` until ``into`` is full.

    From an accelerator's memory they are only asked for: ``devices.finish`` waits for them.
    """
    part = row[start : start + into.nbytes]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(row, torch.Tensor):
        if row.device.type == "cpu":
            _move(part.data_ptr(), part.nbytes, into)
        else:
            ask(part, into)
    elif isinstance(row, memoryview):
        into[:] = part
    else:
        _move(part.ctypes.data, part.nbytes, into)


def copy_whole(leaf: Leaf, into: memoryview) -> None:
    """Copy a leaf's elements in C order, quickly also where there are thousands of small ones; from no accelerator."""
    if leaf.kind is Kind.TORCH and can_be_filled(leaf.source):
        _move(leaf.source.data_ptr(), leaf.source.nbytes, into)
    else:
        copy_part(flat(leaf), 0, into)


def _move(address: int, size: int, into: memoryview) -> None:
    """Copy memory without Python's lock, and without threads of PyTorch's that would have to wait for each other."""
    import ctypes  # noqa: PLC0415 - not before it is needed

    if size != into.nbytes:
        msg = f"an array that is being saved has {size} bytes left, and not {into.nbytes}"
        raise ValueError(msg)
    if size:
        ctypes.memmove(ctypes.addressof(ctypes.c_char.from_buffer(into)), address, size)


def in_place(row: Any) -> memoryview | None:  # noqa: ANN401
    """The memory of a row from ``flat``; None if it is not in this machine's memory."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(row, torch.Tensor):
        return memoryview(row.numpy()) if row.device.type == "cpu" else None
    return memoryview(row)


def build(kind: Kind, dtype: str, shape: tuple[int, ...], data: memoryview) -> object:
    """The value with these bytes. A tensor or an array keeps ``data`` as its memory; nobody else may use it then."""
    if kind is Kind.BYTES:
        return bytes(data)
    if kind is Kind.TORCH:
        import torch  # noqa: PLC0415

        wanted: torch.dtype = getattr(torch, dtype)
        if not data.nbytes:
            return torch.empty(shape, dtype=wanted)
        return torch.frombuffer(data, dtype=torch.uint8).view(wanted).view(shape)
    import numpy as np  # noqa: PLC0415

    if not data.nbytes:
        return np.zeros(shape, dtype=dtype)
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return array[()] if kind is Kind.SCALAR else array


def writable(array: Any) -> Place:  # noqa: ANN401
    """The memory of an array that ``can_be_filled``, as bytes."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        row = _row(array.detach())
        if is_on_device(array):
            return DeviceMemory(row)
        array = row.numpy()
    return memoryview(array.reshape(-1).view("u1"))


def can_be_filled(array: Any) -> bool:  # noqa: ANN401
    """Bytes can be put straight into its memory: it lies there in C order, and may be written."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        plain = not (array.is_conj() or array.is_neg())
        return bool(plain and array.is_contiguous() and (array.device.type == "cpu" or is_accelerator(array.device)))
    return bool(array.flags.c_contiguous and array.flags.writeable)


def allocate(size: int) -> memoryview:
    """``size`` writable bytes with undefined content, aligned to ``ALIGNMENT``; large ones to pages, for the disk.

    Large ones are in huge pages where the kernel has them: a restore fills memory that nobody has touched, and spends
    more time on the faults of small pages than on copying.
    """
    import ctypes  # noqa: PLC0415 - not before it is needed

    torch = sys.modules.get("torch")
    if size >= _LARGE and torch is not None:
        # What the program's own tensors would get: memory that its allocator kept is used again, and costs no fault.
        row = torch.empty(size + mmap.PAGESIZE, dtype=torch.uint8)
        ahead = -row.data_ptr() % mmap.PAGESIZE
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # With the allocator's own bytes around it: so neighbours become one area. A refusal is no matter.
            start = row.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
            length = -(-(row.data_ptr() + row.nbytes - start) // mmap.PAGESIZE) * mmap.PAGESIZE
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
        return memoryview(row.numpy())[ahead : ahead + size]
    if size >= _LARGE:
        area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(AttributeError, OSError):
            area.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(area)
    raw = bytearray(size + ALIGNMENT)
    ahead = -ctypes.addressof(ctypes.c_char.from_buffer(raw)) % ALIGNMENT
    return memoryview(raw)[ahead : ahead + size]


def _row(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a contiguous tensor, in its own memory."""
    import torch  # noqa: PLC0415

    # A single element is contiguous whatever its stride says, and `view` looks at that.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


def _torch_leaf(tensor: torch.Tensor, path: str) -> Leaf:
    import torch  # noqa: PLC0415

    name = str(tensor.dtype).removeprefix("torch.")
    if type(tensor) not in {torch.Tensor, torch.nn.Parameter, torch.nn.Buffer}:
        raise _unsupported(path, f"a tensor of the class {type(tensor).__name__}")
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise _unsupported(path, f"a tensor with the layout {'nested' if tensor.is_nested else tensor.layout}")
    if tensor.is_meta:
        raise _unsupported(path, "a tensor on the device meta, which has no values")
    if tensor.is_quantized or name not in _TORCH:
        raise _unsupported(path, f"a tensor of the dtype {name}")
    shape, count = tuple(tensor.shape), tensor.numel()
    if count and (tensor.is_cpu or tensor.is_cuda):
        contiguous = tensor.is_contiguous()
        last = count - 1 if contiguous else sum((n - 1) * step for n, step in zip(shape, tensor.stride(), strict=True))
        if tensor.untyped_storage().nbytes() < (tensor.storage_offset() + last + 1) * _TORCH[name]:
            # To read it would end the process.
            raise _unsupported(path, "a tensor whose memory has been freed")
    return Leaf(Kind.TORCH, name, shape, count * _TORCH[name], tensor, path)


def _numpy_leaf(value: np.ndarray | np.generic, path: str) -> Leaf:
    import numpy as np  # noqa: PLC0415

    kind = Kind.SCALAR if isinstance(value, np.generic) else Kind.NUMPY
    if kind is Kind.NUMPY and type(value) is not np.ndarray:
        raise _unsupported(path, f"an array of the class {type(value).__name__}")
    dtype = value.dtype.str
    if value.dtype.hasobject or value.dtype.fields or not _NUMPY.fullmatch(dtype):
        raise _unsupported(path, f"an array of the dtype {value.dtype}")
    if kind is Kind.SCALAR and dtype[1] in "SU":
        raise _unsupported(path, f"a NumPy scalar of the dtype {value.dtype}")
    return Leaf(kind, dtype, tuple(value.shape), math.prod(value.shape) * value.dtype.itemsize, value, path)


def _unsupported(path: str, what: str) -> UnsupportedState:
    return UnsupportedState(f"{path} cannot be saved", f"it is {what}", "Turn it into a plain tensor, array or value.")
