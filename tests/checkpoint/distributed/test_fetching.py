from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.distributed import fetching
from spotweld.checkpoint.distributed.fetching import Transfer, fetch
from spotweld.checkpoint.distributed.planning import Box
from spotweld.checkpoint.distributed.restoring import fit
from spotweld.checkpoint.distributed.shards import Shard, Stored
from spotweld.checkpoint.format import Chunk, LeafRecord, Manifest, Pack
from spotweld.checkpoint.state import fill
from spotweld.errors import Corrupt, StateMismatch
from spotweld.values.digests import checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.checkpoint.conftest import Watched
    from torch.distributed.device_mesh import DeviceMesh

CHUNK = 64
"""Bytes: small, so that arrays go over many."""


def stored(store: Watched, arrays: list[torch.Tensor]) -> Manifest:
    """A manifest with these leaves, one after another in one pack."""
    leaves, chunks, data = [], [], bytearray()
    for array in arrays:
        raw = array.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        leaves.append(LeafRecord(Kind.TORCH, str(array.dtype)[6:], tuple(array.shape), len(chunks), 0))
        for start in range(0, len(raw), CHUNK):
            piece = raw[start : start + CHUNK]
            chunks.append(Chunk(0, len(data), len(piece), len(piece), checksum(piece)))
            data += piece
    key = "runs/r/packs/00000001-0000-00000000"
    store.create(key, bytes(data))
    packs = (Pack(key, len(data)),)
    return Manifest(1, "0", "r", 1, 0, 3, 1, 0.0, None, None, tuple(leaves), tuple(chunks), packs)


def box_of(*parts: slice) -> Box:
    return Box(tuple(part.start for part in parts), tuple(part.stop - part.start for part in parts))


spans = st.tuples(st.integers(0, 11), st.integers(0, 11)).map(lambda pair: slice(min(pair), max(pair) + 1))


@settings(max_examples=60)
@given(
    spans, spans, spans, spans, st.sampled_from([torch.float64, torch.bfloat16, torch.uint8, torch.bool]), st.booleans()
)
def test_any_part_of_any_shard_is_what_slicing_gives(
    new_store: Callable[[], Watched],
    rows: slice,
    columns: slice,
    some_rows: slice,
    some_columns: slice,
    dtype: torch.dtype,
    flip: bool,
) -> None:
    store = new_store()
    whole = torch.arange(144).reshape(12, 12).to(dtype)
    manifest = stored(store, [whole[:0], whole[rows, columns]])
    box, part = box_of(rows, columns), box_of(some_rows, some_columns)
    start = [max(a, b) for a, b in zip(box.offsets, part.offsets, strict=True)]
    end = [min(a + n, b + m) for a, n, b, m in zip(box.offsets, box.shape, part.offsets, part.shape, strict=True)]
    if any(first >= last for first, last in zip(start, end, strict=True)):
        return
    common = box_of(*(slice(first, last) for first, last in zip(start, end, strict=True)))
    into = torch.zeros(common.shape, dtype=dtype)
    if flip:
        into = torch.zeros(common.shape[::-1], dtype=dtype).T
    fetch(store, manifest, [Transfer(Shard(box, 1), common, into)])
    assert torch.equal(into, whole[start[0] : end[0], start[1] : end[1]])


def test_only_the_chunks_that_are_needed_are_read(store: Watched) -> None:
    whole = torch.arange(1024, dtype=torch.float64)
    manifest = stored(store, [whole])
    store.calls.clear()
    into = torch.zeros(8, dtype=torch.float64)
    fetch(store, manifest, [Transfer(Shard(Box((0,), (1024,)), 0), Box((512,), (8,)), into)])
    assert torch.equal(into, whole[512:520])
    assert len([call for call in store.calls if call[0] == "get"]) == 1


def test_a_scalar_and_a_tied_tensor_are_filled(store: Watched) -> None:
    manifest = stored(store, [torch.tensor(7.5), torch.arange(40.0)])
    scalar, tied = torch.zeros(()), torch.zeros(40)
    tie = Transfer(Shard(Box((0,), (40,)), 1), Box((0,), (40,)), tied)
    fetch(store, manifest, [Transfer(Shard(Box((), ()), 0), Box((), ()), scalar), tie, tie])
    assert scalar == 7.5
    assert torch.equal(tied, torch.arange(40.0))


@pytest.mark.parametrize("part", [slice(0, 3), slice(20, 30), slice(37, 40)])
@pytest.mark.parametrize("part_first", [True, False])
def test_a_tensor_of_which_a_part_is_saved_by_itself_is_filled(
    store: Watched, part: slice, *, part_first: bool
) -> None:
    content, live = torch.arange(40.0), torch.zeros(40)
    saved, into = [content[part], content], [live[part], live]
    if not part_first:
        saved, into = saved[::-1], into[::-1]
    manifest = stored(store, saved)
    boxes = [Box((0,), tuple(one.shape)) for one in saved]
    fetch(store, manifest, [Transfer(Shard(box, at), box, into[at]) for at, box in enumerate(boxes)])
    assert torch.equal(live, content)


@pytest.mark.parametrize(
    ("part", "dtype"),
    [(box_of(slice(0, 64), slice(3, 5)), torch.float32), (box_of(slice(0, 64), slice(0, 16)), torch.float64)],
)
def test_what_is_cut_otherwise_is_held_in_little_memory(
    store: Watched, monkeypatch: pytest.MonkeyPatch, part: Box, dtype: torch.dtype
) -> None:
    made: list[int] = []

    def allocate(size: int) -> memoryview:
        made.append(size)
        return memoryview(bytearray(size))

    monkeypatch.setattr(fetching, "_HELD", 300)
    monkeypatch.setattr(fetching, "allocate", allocate)
    whole = torch.arange(64 * 16, dtype=torch.float32).reshape(64, 16)
    into = torch.zeros(part.shape, dtype=dtype)
    shard = Shard(Box((0, 0), (64, 16)), 0)
    fetch(store, stored(store, [whole]), [Transfer(shard, part, into)])
    columns = slice(part.offsets[1], part.offsets[1] + part.shape[1])
    assert torch.equal(into, whole[:, columns].to(dtype))
    assert max(made) <= 300


def test_a_damaged_chunk_is_not_used(store: Watched) -> None:
    manifest = stored(store, [torch.arange(64.0)])
    key = manifest.packs[0].key
    data = bytearray(store.get(key))
    data[100] ^= 1
    store.inner.delete(key)
    store.inner.create(key, bytes(data))
    shard = Shard(Box((0,), (64,)), 0)
    unharmed = torch.zeros(16)
    fetch(store, manifest, [Transfer(shard, Box((0,), (16,)), unharmed)])
    assert torch.equal(unharmed, torch.arange(16.0))
    with pytest.raises(Corrupt):
        fetch(store, manifest, [Transfer(shard, Box((16,), (16,)), torch.zeros(16))])


def saved(shape: tuple[int, ...], leaf: int, *, sharded: bool = False, dtype: str = "float32") -> Stored:
    return Stored(shape, dtype, (Shard(Box((0,) * len(shape), shape), leaf),), sharded)


def restore(store: Watched, state: dict[str, Any], parts: dict[str, object], arrays: list[torch.Tensor]) -> None:
    live = {name: part.state_dict() if hasattr(part, "state_dict") else part for name, part in state.items()}
    fitted, transfers = fit(state, live, parts, {})
    fetch(store, stored(store, arrays), transfers)
    fill(state, fitted)


def test_a_fresh_optimizer_gets_the_moments_that_it_has_not_made_yet(store: Watched) -> None:
    model = torch.nn.Linear(3, 2, bias=False)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors = optimizer.state[model.weight]
    parts = optimizer.state_dict()
    arrays = [tensors["step"], tensors["exp_avg"], tensors["exp_avg_sq"]]
    parts["state"] = {
        0: {
            "step": saved((), 0),
            "exp_avg": saved((2, 3), 1, sharded=True),
            "exp_avg_sq": saved((2, 3), 2, sharded=True),
        }
    }
    fresh = torch.optim.Adam(model.parameters())
    restore(store, {"optimizer": fresh}, {"optimizer": parts}, [array.clone() for array in arrays])
    again = fresh.state[model.weight]
    assert all(torch.equal(again[name], tensors[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceMesh]:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("name", [0, "w"])
@pytest.mark.parametrize("sharded", [True, False])
def test_moments_are_sharded_like_their_parameters_whatever_these_were_called(
    store: Watched, mesh: DeviceMesh, name: int | str, *, sharded: bool
) -> None:
    weight = torch.nn.Parameter(distribute_tensor(torch.zeros(2, 3), mesh))
    optimizer = torch.optim.Adam([weight])
    parts = optimizer.state_dict()
    parts["param_groups"][0]["params"] = [name]
    moments = {"exp_avg": saved((2, 3), 1, sharded=sharded), "exp_avg_sq": saved((2, 3), 2, sharded=sharded)}
    parts["state"] = {name: {"step": saved((), 0), **moments}}
    arrays = [torch.tensor(4.0), torch.ones(2, 3), torch.full((2, 3), 2.0)]
    restore(store, {"optimizer": optimizer}, {"optimizer": parts}, arrays)
    found = optimizer.state[weight]
    assert (found["exp_avg"].full_tensor() == 1).all()
    assert (found["exp_avg_sq"].full_tensor() == 2).all()
    assert found["step"] == 4
    assert not isinstance(found["step"], DTensor)


def test_containers_and_tensors_keep_their_identity(store: Watched) -> None:
    weights, log = torch.zeros(3), [1.0]
    part = {"weights": weights, "log": log, "gone": 1}
    restore(store, {"part": part}, {"part": {"weights": saved((3,), 0), "log": [2.0, 3.0]}}, [torch.arange(3.0)])
    assert part["weights"] is weights
    assert part["log"] is log
    assert (weights.tolist(), log, len(part)) == ([0.0, 1.0, 2.0], [2.0, 3.0], 2)


@pytest.mark.parametrize(
    ("part", "then", "why"),
    [
        (torch.zeros(3), saved((4,), 0), r"it was float32 \[4\] and is float32 \[3\] now"),
        (torch.zeros(3), saved((3,), 0, dtype="float64"), "float64"),
        ({"x": torch.zeros(3)}, {"x": 5}, "it was a int and is an array now"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_read(part: object, then: object, why: str) -> None:
    with pytest.raises(StateMismatch, match=why):
        fit({"part": part}, {"part": part}, {"part": then}, {})


def test_other_parts_are_told() -> None:
    with pytest.raises(StateMismatch, match=r"\['b'\] then, \['a'\] now"):
        fit({"a": {}}, {"a": {}}, {"b": {}}, {})
