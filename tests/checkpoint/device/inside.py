"""States on an accelerator that does things later; started by ``test_devices.py`` in a process of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.checkpoint.device.building import install
from tests.checkpoint.distributed.test_fetching import stored
from tests.checkpoint.saved import save

from spotweld import Checkpointer, open_checkpoint
from spotweld.checkpoint import restoring, snapshot
from spotweld.checkpoint.arrays import writable
from spotweld.checkpoint.devices import DeviceMemory, is_on_device, pinned, wait_for
from spotweld.checkpoint.distributed.fetching import Transfer, fetch
from spotweld.checkpoint.distributed.planning import Box
from spotweld.checkpoint.distributed.shards import Shard
from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.snapshot import Snapshot, capture
from spotweld.checkpoint.staging import Staging
from spotweld.store.opening import open_store
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

install(Path(os.environ["EMULATED_DEVICE"]))
DEVICE = torch.device("emulated", 0)
OTHER = torch.device("emulated", 1)
NAP = 0.3
"""Seconds that a stream is behind: long against everything that a test does meanwhile."""
LARGE = 3 * CHUNK // 4 + 5
"""Numbers of four bytes: a leaf of several chunks, the last of them odd."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file:{tmp_path}/store"


def nap(device: torch.device = DEVICE) -> None:
    torch.ops.emulated.nap(device.index, NAP)


def pageable() -> int:
    """Bytes that went over the bus from or to memory that is not pinned."""
    found: int = torch.ops.emulated.pageable()
    return found


def copied(state: dict[str, Any], memory: int | None = None) -> Snapshot:
    staging = Staging(memory)
    taken = capture(state, 1, staging, SystemClock())
    staging.reserve(taken.content.sizes)
    taken.copy()
    return taken


def bytes_of(taken: Snapshot) -> dict[int, bytes]:
    return {chunk.number: bytes(chunk.data or b"") for chunk in taken.chunks()}


def bits(value: torch.Tensor) -> torch.Tensor:
    return value.cpu().contiguous().reshape(-1).view(torch.uint8)


def test_its_generators_go_on_where_they_were(url: str) -> None:
    generators = torch.get_device_module(DEVICE).generators

    def draw() -> list[float]:
        return [float(torch.rand((), generator=one)) for one in generators]

    def drawn(steps: int) -> list[list[float]]:
        torch.manual_seed(1)
        found = [draw()]
        checkpointer = Checkpointer({"log": found}, store=url, every=1, notices=())
        found.extend(draw() for _ in checkpointer.steps(steps))
        return found

    drawn(2)
    interrupted = drawn(4)
    torch.manual_seed(1)
    assert interrupted == [draw() for _ in range(5)]


def test_the_device_is_behind_and_its_streams_do_not_wait_for_each_other() -> None:
    value = torch.zeros(4, device=DEVICE)
    nap()
    value.fill_(7)
    with torch.Stream(DEVICE):
        assert value.cpu().tolist() == [0, 0, 0, 0]
    assert value.cpu().tolist() == [7, 7, 7, 7]


def test_a_copy_to_pinned_memory_comes_back_before_it_is_done() -> None:
    value = torch.ones(4, device=DEVICE)
    into = torch.zeros(4, pin_memory=True)
    nap()
    into.copy_(value, non_blocking=True)
    assert into.tolist() == [0, 0, 0, 0]
    torch.accelerator.synchronize(DEVICE)
    assert into.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("device", [DEVICE, OTHER])
@pytest.mark.parametrize("on_stream", [False, True])
def test_what_a_device_was_asked_to_do_is_in_the_snapshot(device: torch.device, *, on_stream: bool) -> None:
    value = torch.zeros(LARGE, device=device)
    torch.accelerator.synchronize(device)
    if on_stream:  # and it is not the one that the program goes on with
        with torch.Stream(device):
            nap(device)
            value.fill_(7)
    else:
        nap(device)
        value.fill_(7)
    found = copied({"value": value})
    data = b"".join(chunk for _, chunk in sorted(bytes_of(found).items()))
    assert data[: value.nbytes] == bits(torch.full((LARGE,), 7.0)).numpy().tobytes()


def test_waiting_for_the_device_is_not_held_against_the_save() -> None:
    value = torch.zeros(4, device=DEVICE)
    nap()
    value.fill_(7)
    taken = capture({"value": value}, 1, Staging(), SystemClock())
    assert SystemClock().monotonic() - taken.began < NAP


def test_what_is_asked_for_after_the_snapshot_is_not_in_it() -> None:
    value = torch.ones(LARGE, device=DEVICE)
    found = copied({"value": value})
    value.fill_(7)
    torch.accelerator.synchronize(DEVICE)
    data = b"".join(chunk for _, chunk in sorted(bytes_of(found).items()))
    assert data[: value.nbytes] == bits(torch.ones(LARGE)).numpy().tobytes()


def parts() -> dict[str, Any]:
    """Tensors of every shape and kind of memory, on two devices and on the host."""
    torch.manual_seed(0)
    large = torch.randn(LARGE)
    return {
        "large": large.to(DEVICE),
        "there": torch.randn(300, 400).to(OTHER),
        "here": torch.randn(300, 400),
        "turned": torch.randn(700, 500).to(DEVICE).t(),
        "every_second": torch.arange(300_000).to(DEVICE)[::2],
        "bfloat16": torch.randn(1000).bfloat16().to(DEVICE),
        "complex": torch.randn(100, dtype=torch.complex64).to(DEVICE),
        "one": torch.tensor(3.5, device=DEVICE),
        "none": torch.empty(0, 3, device=DEVICE),
        "small": {str(number): torch.full((number,), float(number), device=DEVICE) for number in range(1, 40)},
        "tied": large.to(DEVICE),
    }


def state_of(made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "tied_too": made["tied"]}


def leaves(state: dict[str, Any]) -> Iterator[torch.Tensor]:
    for value in state.values():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield value


@pytest.mark.parametrize("memory", [None, 3 * CHUNK])
def test_all_kinds_of_tensors_come_back_where_they_were(url: str, memory: int | None) -> None:
    state = state_of(parts())
    then = [value.cpu().clone() for value in leaves(state)]
    run = Checkpointer(state, store=url, every=1, staging_memory=memory, notices=[])
    for _ in run.steps(1):
        pass
    for value in leaves(state):
        value.zero_()
    places = [(value.device, value.data_ptr()) for value in leaves(state)]
    assert list(Checkpointer(state, store=url, notices=[]).steps(1)) == []
    assert [(value.device, value.data_ptr()) for value in leaves(state)] == places
    for value, former in zip(leaves(state), then, strict=True):
        assert torch.equal(bits(value), bits(former))


def test_what_is_copied_goes_through_pinned_memory_only(url: str) -> None:
    value = torch.randn(LARGE).to(DEVICE)
    small = {str(at): value[at : at + 9].clone() for at in range(50)}
    into = torch.zeros(LARGE, device=DEVICE)
    before = pageable()
    save(open_store(url), {"value": value, "small": small})
    assert pageable() == before
    open_checkpoint(store=url).load_into({"value": into}, only="value")
    assert pageable() == before
    assert torch.equal(bits(into), bits(value))


def test_a_restore_into_device_memory_makes_no_copy_of_the_state(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.randn(LARGE).to(DEVICE)
    save(open_store(url), {"value": value})
    into = torch.zeros(LARGE, device=DEVICE)
    monkeypatch.setattr(restoring, "allocate", lambda size: pytest.fail(f"{size} bytes of the host's"))
    open_checkpoint(store=url).load_into({"value": into}, only="value")
    assert torch.equal(bits(into), bits(value))


def test_what_still_writes_to_a_tensor_is_waited_for_before_it_is_filled(url: str) -> None:
    value = torch.randn(LARGE).to(DEVICE)
    save(open_store(url), {"value": value})
    into = torch.empty(LARGE, device=DEVICE)
    with torch.Stream(DEVICE):
        nap()
        into.fill_(7)
    open_checkpoint(store=url).load_into({"value": into}, only="value")
    assert torch.equal(bits(into), bits(value))


class Training:
    """A network and its optimizer on the device, and data that follow from the step."""

    def __init__(self, url: str, every: int = 2) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1)).to(DEVICE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        state = {"model": self.model, "optimizer": self.optimizer}
        self.checkpointer = Checkpointer(state, store=url, every=every, notices=[])
        self.done: list[int] = []

    def run(self, steps: int, until: int | None = None) -> Training:
        for step in self.checkpointer.steps(steps):
            if step == until:
                raise KeyboardInterrupt
            inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(step)).to(DEVICE)
            self.optimizer.zero_grad()
            self.model(inputs).square().mean().backward()
            self.optimizer.step()
            self.done.append(step)
        return self

    def all_bits(self) -> list[torch.Tensor]:
        values = list(self.model.state_dict().values())
        for kept in self.optimizer.state_dict()["state"].values():
            values += kept.values()
        return [bits(value) for value in values]


def test_a_training_on_the_device_that_is_interrupted_ends_with_the_same_bits(url: str, tmp_path: Path) -> None:
    undisturbed = Training(f"file:{tmp_path}/calm").run(9)
    for step in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            Training(url).run(9, until=step)
    last = Training(url).run(9)
    assert last.done[0] >= 4
    for ours, theirs in zip(last.all_bits(), undisturbed.all_bits(), strict=True):
        assert torch.equal(ours, theirs)
    assert all(is_on_device(value) for value in last.model.state_dict().values())


def test_a_checkpoint_moves_between_the_device_and_the_host(url: str) -> None:
    save(open_store(url), {"model": torch.nn.Linear(900, 900).to(DEVICE)})
    found = open_checkpoint(store=url).load(device=str(OTHER))["model"]["weight"]
    assert found.device == OTHER
    here = torch.nn.Linear(900, 900)
    open_checkpoint(store=url).load_into({"model": here})
    assert torch.equal(bits(here.weight.detach()), bits(found))


def test_pinned_memory_that_cannot_be_had_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.frombuffer(pinned(4096), dtype=torch.uint8).is_pinned()

    def none(*_args: object, **_more: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    value = torch.arange(LARGE, dtype=torch.float32).to(DEVICE)
    monkeypatch.setattr(torch, "empty", none)
    assert pinned(4096) is None
    data = b"".join(chunk for _, chunk in sorted(bytes_of(copied({"value": value})).items()))
    monkeypatch.undo()
    assert data[: value.nbytes] == bits(value).numpy().tobytes()


def test_parts_of_stored_arrays_come_to_the_device_in_another_dtype_and_another_order(url: str) -> None:
    whole = torch.arange(144.0).reshape(12, 12)
    objects = open_store(url)
    manifest = stored(objects, [whole])  # type: ignore[arg-type]
    shard = Shard(Box((0, 0), (12, 12)), 0)
    rows, column = torch.zeros(3, 12, device=DEVICE), torch.zeros(12, 1, device=OTHER, dtype=torch.bfloat16)
    fetch(
        objects,
        manifest,
        [Transfer(shard, Box((4, 0), (3, 12)), rows), Transfer(shard, Box((0, 5), (12, 1)), column)],
    )
    assert torch.equal(rows.cpu(), whole[4:7])
    assert torch.equal(column.cpu(), whole[:, 5:6].bfloat16())


def test_a_copy_that_fails_leaves_nothing_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    copy, asked = snapshot.copy_part, list[int]()

    def failing(row: torch.Tensor, start: int, into: memoryview) -> None:
        if asked:
            raise OSError("enough")
        asked.append(start)
        nap()
        copy(row, start, into)

    monkeypatch.setattr(snapshot, "copy_part", failing)
    state = {"small": {str(at): torch.full((9,), float(at)).to(DEVICE) for at in range(3)}}
    with pytest.raises(OSError, match="enough"):
        bytes_of(copied(state))
    assert asked
    assert torch.accelerator.current_stream(DEVICE).query()


def test_parts_of_a_tensor_on_a_device_are_filled_apart() -> None:
    value = torch.zeros(8, dtype=torch.int16, device=DEVICE)
    memory = writable(value)
    assert isinstance(memory, DeviceMemory)
    assert (memory.nbytes, len(memory), len(memory[4:4])) == (16, 16, 0)
    memory[2:6][:] = memoryview(bytearray(b"\1\2\3\4"))
    wait_for([value])
    assert bits(value).tolist() == [0, 0, 1, 2, 3, 4] + [0] * 10
