"""What groups have saved, opened as if a single process had."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.torch import load_file
from tests.checkpoint.distributed.test_fetching import stored
from tests.checkpoint.saved import save

from spotweld import open_checkpoint
from spotweld.checkpoint.differing import Verdict, compare
from spotweld.checkpoint.distributed.checkpointer import DistributedCheckpointer
from spotweld.checkpoint.distributed.shards import state_node
from spotweld.checkpoint.exporting import export
from spotweld.checkpoint.importing import publish, read_file
from spotweld.checkpoint.opened import Checkpoint
from spotweld.checkpoint.restoring import read_leaves
from spotweld.checkpoint.rng import restore_rng
from spotweld.checkpoint.scrubbing import scrub
from spotweld.checkpoint.tree import flatten, unflatten
from spotweld.cli.main import program
from spotweld.errors import Corrupt
from spotweld.store.heads import Kept
from spotweld.store.opening import open_store
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from random import Random

    from tests.checkpoint.conftest import HandClock, Watched
    from tests.checkpoint.distributed.conftest import Processes, Ranks

    from spotweld.checkpoint.format import Manifest

KEPT = Kept(3, "runs/r/manifests/x.json", digest(b""), 1, 0.0)


def group_of(manifest: Manifest, table: dict[int, Any], own: list[Any], *, names: int = 1) -> Manifest:
    """The manifest as a group's, whose first leaves are the parts ``0``, ``1``, ..."""
    parts = {"dict": [[str(number), {"leaf": number}] for number in range(names)]}
    owns = [flatten(one, "own", []) for one in own]
    return replace(manifest, state=state_node(parts, flatten(table, "", []), owns), rng={"list": [None] * len(own)})


def cut(whole: torch.Tensor, lines: list[list[int]]) -> dict[tuple[int, ...], torch.Tensor]:
    """The blocks of a grid, by offsets."""
    found = {(): whole}
    for at, line in enumerate(lines):
        ends = [*line[1:], whole.shape[at]]
        found = {
            (*offsets, start): block.narrow(at, start, end - start)
            for offsets, block in found.items()
            for start, end in zip(line, ends, strict=True)
        }
    return found


lines = st.lists(st.integers(1, 6), max_size=3, unique=True).map(lambda line: [0, *sorted(line)])


@settings(max_examples=60)
@given(
    st.lists(lines, min_size=0, max_size=3),
    st.sampled_from([torch.float64, torch.bfloat16, torch.uint8, torch.bool]),
    st.randoms(use_true_random=False),
)
def test_blocks_of_any_grid_become_the_whole(
    new_store: Callable[[], Watched], grid: list[list[int]], dtype: torch.dtype, dice: Random
) -> None:
    store = new_store()
    shape = (7,) * len(grid)
    whole = torch.arange(7 ** len(grid)).reshape(shape).to(dtype)
    blocks = list(cut(whole, grid).items())
    dice.shuffle(blocks)
    manifest = stored(store, [block for _, block in blocks])
    table = {0: (shape, [(offsets, leaf) for leaf, (offsets, _) in enumerate(blocks)])}
    checkpoint = Checkpoint(store, KEPT, group_of(manifest, table, [{}]))
    assert torch.equal(checkpoint.load()["0"], whole)
    assert checkpoint.size == whole.nbytes
    into = torch.zeros_like(whole)
    checkpoint.load_into({"0": into})
    assert torch.equal(into, whole)


def test_shards_that_do_not_make_up_their_array_are_refused(store: Watched) -> None:
    manifest = stored(store, [torch.ones(3), torch.ones(3)])
    for places in ([((0,), 0)], [((0,), 0), ((4,), 1)], [((0,), 0), ((2,), 1)]):
        with pytest.raises(Corrupt, match="leaf"):
            Checkpoint(store, KEPT, group_of(manifest, {0: ((6,), places)}, [{}]))


def test_what_ranks_have_for_themselves_is_a_part(store: Watched) -> None:
    manifest = stored(store, [torch.arange(4.0)])
    alone = Checkpoint(store, KEPT, group_of(manifest, {}, [{}, {}]))
    assert list(alone.load()) == ["0"]
    checkpoint = Checkpoint(store, KEPT, group_of(manifest, {}, [{"log": [1, 2]}, {"log": [3]}]))
    assert checkpoint.load()["ranks"] == [{"log": [1, 2]}, {"log": [3]}]
    assert checkpoint.load("ranks[1]") == {"ranks": [None, {"log": [3]}]}
    state = checkpoint.manifest.state["tuple"][1]["dict"]
    state[0][1]["dict"].append(["ranks", 4])
    assert [*Checkpoint(store, KEPT, checkpoint.manifest).load()] == ["0", "ranks", "ranks#2"]


def test_damage_is_named_by_the_array_that_a_shard_is_of(store: Watched) -> None:
    manifest = stored(store, [torch.arange(8.0), torch.arange(8.0), torch.arange(24.0)])
    found = group_of(manifest, {0: ((16,), [((0,), 0), ((8,), 2 - 1)])}, [{}])
    key = found.packs[0].key
    data = bytearray(store.get(key))
    data[33] ^= 1
    store.inner.delete(key)
    store.inner.create(key, bytes(data))
    assert [one.leaf for one in scrub(store, found, {})] == ["0"]


def train(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched, size: int, total: int
) -> tuple[list[Any], np.ndarray]:
    """A group of threads that shares weights."""
    ranks = new_ranks(size)
    shared = [np.zeros(1000) for _ in range(size)]

    def body(rank: int) -> object:
        log: list[float] = []
        checkpointer = DistributedCheckpointer(
            {"weights": shared[rank]},
            per_rank={"log": log},
            groups=lambda: ranks.groups(rank),
            store=store,
            clock=new_clock(),
            notices=(),
            every=1,
        )
        for step in checkpointer.steps(total):
            shared[rank] += step + 1
            log.append(rank + step)
        return log

    return ranks.run(body), shared[0]


def test_a_group_and_a_single_process_can_be_compared(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched, new_store: Callable[[], Watched]
) -> None:
    logs, weights = train(new_ranks, new_clock, store, 2, 3)
    group = open_checkpoint(store)
    assert (group.load("weights")["weights"] == weights).all()
    assert group.load("ranks")["ranks"] == [{"log": log} for log in logs]
    alone = new_store()
    save(alone, {"weights": weights, "ranks": [{"log": log} for log in logs]}, 3)
    verdicts = {one.path: one.verdict for one in compare(group, open_checkpoint(alone))}
    assert {verdict for path, verdict in verdicts.items() if not path.startswith("(rng)")} == {Verdict.EQUAL}
    assert any(path.startswith("(rng)[1].") for path in verdicts)
    weights[7] += 1
    save(alone, {"weights": weights, "ranks": [{"log": log} for log in logs]}, 4)
    (found,) = (one for one in compare(group, open_checkpoint(alone)) if one.path == "weights")
    assert (found.verdict, found.elements) == (Verdict.DIFFERS, 1)


def sum_of(model: Mapping[str, Any], optimizer: Mapping[str, Any], *others: object) -> str:
    """Of their states, as ``programs/sharded.py`` has it."""
    found = hashlib.sha256(repr(others).encode())
    for name, value in model.items():
        found.update(name.encode() + value.numpy().tobytes())
    for entries in optimizer["state"].values():
        for name, value in sorted(entries.items()):
            found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "ranks", "wide"), [("fsdp", 4, 33), ("tp", 2, 36), ("2d", 4, 36)])
def test_a_sharded_training_is_opened_bit_for_bit(
    processes: Processes, tmp_path: Path, kind: str, ranks: int, wide: int
) -> None:
    codes, digests = processes.run("sharded", ranks, 3, 2, kind, store=tmp_path / "s")
    assert codes == [0] * ranks, processes.errors
    checkpoint = open_checkpoint(f"file:{tmp_path}/s")
    model = torch.nn.Sequential(
        torch.nn.Linear(9, wide), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(wide, 7)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.load_into({"model": model, "optimizer": optimizer})
    rest = checkpoint.load(["schedule", "sampler", "ranks"])
    leaves = read_leaves(checkpoint.objects, checkpoint.manifest)
    values = [leaves[number] for number in range(len(leaves))]
    for rank, wanted in enumerate(digests):
        restore_rng(unflatten(checkpoint.manifest.rng["list"][rank], values))
        others = rest["schedule"], rest["sampler"], rest["ranks"][rank]["seen"], torch.get_rng_state().sum()
        assert sum_of(model.state_dict(), optimizer.state_dict(), *others) == wanted

    file = tmp_path / "weights.safetensors"
    export(checkpoint, file, only=["model"])
    weights = model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in load_file(file).items())
    store = open_store(f"file:{tmp_path}/again")
    export(checkpoint, tmp_path / "all.safetensors")
    publish(store, "new", read_file(tmp_path / "all.safetensors"), 3)
    again = compare(checkpoint, open_checkpoint(store, "new"))
    assert all(one.verdict is Verdict.EQUAL for one in again if not one.path.startswith("(rng)"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_pytorchs_own_way_has_saved_is_opened(processes: Processes, tmp_path: Path) -> None:
    codes, (saved, _) = processes.run("resharding", 2, "save", 2, "fsdp", store=tmp_path)
    assert codes == [0, 0], processes.errors
    state = open_checkpoint(f"file:{tmp_path}").load()
    assert sum_of(state["model"], state["optimizer"]) == saved
    assert state["extra"] == {"step": 2, "rate": 0.1, "names": ("a", "b"), "array": [1, 2], "raw": b"raw"}
    assert state["counter"].item() == 2
    assert "ranks" not in state


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_line_reads_what_a_group_has_saved(processes: Processes, tmp_path: Path) -> None:
    codes, _ = processes.run("sharded", 2, 4, 2, store=tmp_path / "s")
    assert codes == [0, 0], processes.errors

    def call(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(program, ["checkpoint", *words, "--store", f"file:{tmp_path}/s"])
        return found.exit_code, found.output

    file = str(tmp_path / "weights.safetensors")
    assert call("ls", "default")[0] == 0
    assert call("verify", "default", "--all")[0] == 0
    assert call("diff", "default", "4", "4")[0] == 0
    code, output = call("diff", "default", "2", "4")
    assert code == 1
    assert "model.0.weight" in output
    assert "ranks[0].seen.losses" in output
    assert call("export", "default", "-o", file, "--only", "model")[0] == 0
    assert sorted(load_file(file)) == ["0.bias", "0.weight", "3.bias", "3.weight"]
