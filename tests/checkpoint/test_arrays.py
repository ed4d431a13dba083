from __future__ import annotations

import ctypes
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spotweld.checkpoint.arrays import (
    _TORCH,
    ALIGNMENT,
    Kind,
    Leaf,
    allocate,
    build,
    copy_part,
    flat,
    in_place,
    itemsize,
    leaf_of,
    writable,
)
from spotweld.errors import UnsupportedState


def round_trip(value: Any) -> Any:  # noqa: ANN401
    leaf = leaf_of(value, "x")
    assert leaf is not None
    memory = allocate(leaf.size)
    if leaf.size:
        copy_part(flat(leaf), 0, memory)
    assert leaf.size == math.prod(leaf.shape) * itemsize(leaf.kind, leaf.dtype)
    return build(leaf.kind, leaf.dtype, leaf.shape, memory)


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().view(-1).view(torch.uint8).tolist() if tensor.numel() else []


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@given(st.sampled_from(sorted(_TORCH)), st.lists(st.integers(0, 4), max_size=3), st.data())
def test_tensors_of_every_dtype_keep_every_bit(name: str, shape: list[int], data: st.DataObject) -> None:
    dtype = getattr(torch, name)
    size = math.prod(shape) * _TORCH[name]
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if name == "bool":
        raw = bytes(byte & 1 for byte in raw)
    tensor = torch.empty(shape, dtype=dtype)
    if size:
        tensor = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(dtype).view(shape)
    if len(shape) > 1 and data.draw(st.booleans()):
        tensor = tensor.transpose(0, 1)
    back = round_trip(tensor)
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert bits(back) == bits(tensor)


dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.byte_string_dtypes(max_len=5),
    hnp.unicode_string_dtypes(endianness="?", max_len=5),
)


@given(dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0))), st.booleans())
def test_arrays_of_every_dtype_keep_every_bit(array: np.ndarray, fortran: bool) -> None:
    if fortran:
        array = np.asfortranarray(array)
    back = round_trip(array)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert back.flags.writeable


@pytest.mark.parametrize(
    "scalar", [np.float32(1.1), np.int64(-3), np.bool_(True), np.complex64(1j), np.datetime64(7, "D")]
)
def test_numpy_scalars_stay_scalars(scalar: np.generic) -> None:
    back = round_trip(scalar)
    assert type(back) is type(scalar)
    assert back == scalar


def test_views_are_stored_by_value() -> None:
    base = torch.arange(20.0)
    assert torch.equal(round_trip(base[::3]), base[::3])
    assert torch.equal(round_trip(base.view(4, 5).t()), base.view(4, 5).t())
    assert torch.equal(round_trip(base[:1].expand(7)), base[:1].expand(7))
    complexes = torch.tensor([1 + 2j, 3 - 4j])
    assert torch.equal(round_trip(complexes.conj()), complexes.conj())
    assert torch.equal(round_trip(complexes.conj().imag), complexes.conj().imag)
    array = np.arange(20)
    assert (round_trip(array[::-2]) == array[::-2]).all()


def test_parameters_lose_their_graph_and_keep_their_values() -> None:
    parameter = torch.nn.Parameter(torch.rand(3))
    back = round_trip(parameter)
    assert torch.equal(back, parameter.detach())
    assert not back.requires_grad
    assert torch.equal(round_trip(parameter * 2), parameter.detach() * 2)


def freed(tensor: torch.Tensor, left: int) -> torch.Tensor:
    """As offloading does it between two uses."""
    tensor.untyped_storage().resize_(left)
    return tensor


class Odd(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (torch.empty(2, device="meta"), "meta"),
        (torch.eye(2).to_sparse(), "sparse_coo"),
        (torch.rand(2).as_subclass(Odd), "class Odd"),
        (freed(torch.ones(9), 0), "freed"),
        (freed(torch.ones(9), 35), "freed"),
        (freed(torch.ones(9)[4:], 35), "freed"),
        (freed(torch.ones(3, 3).t(), 35), "freed"),
        (np.array([object()]), "dtype object"),
        (np.zeros(2, dtype=[("a", "i4"), ("b", "f4")]), "dtype"),
        (np.zeros(2, dtype=np.longdouble), "dtype"),
        (np.ma.zeros(2), "class MaskedArray"),
        (np.str_("a"), "NumPy scalar"),
        (np.void(b"ab"), "dtype"),
    ],
)
def test_arrays_that_raw_bytes_cannot_carry_are_refused(value: object, what: str) -> None:
    with pytest.raises(UnsupportedState, match=what) as caught:
        leaf_of(value, "model.w")
    assert str(caught.value).startswith("model.w cannot be saved")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantized_tensors_are_refused() -> None:
    with pytest.raises(UnsupportedState, match="qint8"):
        leaf_of(torch.quantize_per_tensor(torch.rand(2), 0.1, 0, torch.qint8), "x")


@pytest.mark.parametrize(
    "dtype", ["object", "|O", "<f3", "|V8", "float33", "", "<M8[ns", "<M8[foo]", "|S٣", "<f8 ", "[('a','<i4')]"]
)
@pytest.mark.parametrize("kind", list(Kind))
def test_unknown_dtypes_are_an_error(kind: Kind, dtype: str) -> None:
    if (kind, dtype) != (Kind.BYTES, ""):
        with pytest.raises(ValueError, match="no such dtype"):
            itemsize(kind, dtype)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 100_000, 2**21, 2**21 + 1])
def test_memory_is_aligned(size: int) -> None:
    memory = allocate(size)
    assert memory.nbytes == size
    if size:
        assert ctypes.addressof(ctypes.c_char.from_buffer(memory)) % ALIGNMENT == 0


@pytest.mark.parametrize("size", [9 * 2**20, 2**22 + 5])
@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_large_memory_is_in_huge_pages_where_the_kernel_has_them(
    library: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "numpy":
        monkeypatch.delitem(sys.modules, "torch")
    memory = allocate(size)
    memory[0] = memory[-1] = 1
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    flags = [_flags_of_area(at) for at in (first, first + size - 1)]
    assert all("hg" in found for found in flags) or not Path("/sys/kernel/mm/transparent_hugepage").exists()


def _flags_of_area(address: int) -> list[str]:
    """What the kernel knows of the area of memory that the address lies in (proc(5), smaps)."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError(hex(address))


def test_plain_values_are_no_leaves() -> None:
    assert leaf_of("text", "x") is None
    assert leaf_of(1.5, "x") is None
    assert leaf_of(b"ab", "x") == Leaf(Kind.BYTES, "", (2,), 2, b"ab", "x")


@pytest.mark.parametrize("array", [torch.arange(7, dtype=torch.int16), np.arange(7, dtype="i2")])
def test_a_single_element_may_have_any_stride(array: Any) -> None:  # noqa: ANN401
    one = array[3::5]
    leaf = leaf_of(one, "x")
    assert leaf is not None
    assert bytes(memoryview(in_place(flat(leaf)))) == b"\3\0"
    writable(one)[:] = b"\7\0"
    assert array.tolist() == [0, 1, 2, 7, 4, 5, 6]
