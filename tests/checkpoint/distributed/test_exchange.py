from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from spotweld.checkpoint.distributed import DistributedCheckpointer, SpotweldReader, SpotweldWriter, load
from spotweld.errors import NotFound, NoWholeCheckpoint, UnsupportedState, UsageError

if TYPE_CHECKING:
    from tests.checkpoint.conftest import HandClock, Watched
    from tests.checkpoint.distributed.conftest import Ranks

# One process is enough here, and PyTorch says that it is one.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def state(value: float, rate: float) -> dict[str, Any]:
    return {"model": {"w": torch.full((5,), value), "rate": rate}, "names": ["a", "b"]}


def train(ranks: Ranks, store: Watched, clock: HandClock, rank: int, total: int) -> dict[str, Any]:
    mine = state(0.0, 0.5)
    checkpointer = DistributedCheckpointer(
        mine, groups=lambda: ranks.groups(rank), store=store, run="r", clock=clock, notices=()
    )
    for _ in checkpointer.steps(total):
        mine["model"]["w"] += 1
    return mine


def test_what_a_group_saves_dcp_reads(new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched) -> None:
    ranks = new_ranks(2)
    ranks.run(lambda rank: train(ranks, store, new_clock(), rank, 3))
    found = state(-1.0, -1.0)
    assert load(found, SpotweldReader(store, "r")) == 3
    assert (found["model"]["w"].tolist(), found["model"]["rate"], found["names"]) == ([3.0] * 5, 0.5, ["a", "b"])


def test_what_dcp_saves_a_group_resumes(new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched) -> None:
    dcp.save(state(7.0, 0.5), checkpoint_id="4", storage_writer=SpotweldWriter(store, "r"))
    ranks = new_ranks(2)
    ends = ranks.run(lambda rank: train(ranks, store, new_clock(), rank, 6))
    assert [end["model"]["w"].tolist() for end in ends] == [[9.0] * 5] * 2


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_an_optimizer_that_dcp_saves_goes_on_in_a_group(
    new_ranks: type[Ranks], new_clock: type[HandClock], store: Watched, kind: type[torch.optim.Optimizer]
) -> None:
    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        return model, kind(model.parameters(), lr=0.1)  # type: ignore[call-arg]

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()

    def resume(rank: int) -> list[torch.Tensor]:
        model, optimizer = made()
        parts = {"model": model, "optimizer": optimizer}
        checkpointer = DistributedCheckpointer(
            parts, groups=lambda: ranks.groups(rank), store=store, run="r", clock=new_clock(), notices=()
        )
        for _ in checkpointer.steps(5):
            step(model, optimizer)
        return [one.detach() for one in model.parameters()]

    model, optimizer = made()
    for at in range(5):
        if at == 3:
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            dcp.save(states, checkpoint_id="3", storage_writer=SpotweldWriter(store, "r"))
        step(model, optimizer)
    ranks = new_ranks(1)
    (ends,) = ranks.run(resume)
    assert all(torch.equal(end, one) for end, one in zip(ends, model.parameters(), strict=True))


def test_a_step_can_be_asked_for(store: Watched) -> None:
    writer = SpotweldWriter(store, "r", keep_last=2)
    for step in (3, 5, 8):
        dcp.save(state(float(step), 0.0), checkpoint_id=str(step), storage_writer=writer)
    dcp.save(state(9.0, 0.0), storage_writer=writer)
    found = state(0.0, 0.0)
    dcp.load(found, checkpoint_id="8", storage_reader=SpotweldReader(store, "r"))
    assert found["model"]["w"][0] == 8
    assert load(found, SpotweldReader(store, "r")) == 9
    reader = SpotweldReader(store, "r")
    reader.reset("3")
    with pytest.raises(NotFound, match="no checkpoint of step 3"):
        reader.read_metadata()
    with pytest.raises(NotFound, match="no checkpoint"):
        load(found, SpotweldReader(store, "other"))
    with pytest.raises(UsageError, match="is no step"):
        reader.reset("out/final")


def test_chunks_that_are_there_are_not_written_again(store: Watched) -> None:
    writer = SpotweldWriter(store, "r")
    for rate in (0.1, 0.2, 0.3):
        dcp.save({"w": torch.ones(2**20), "rate": rate}, storage_writer=writer)
    assert len(store.keys("runs/r/packs/")) == 1
    assert len(store.keys("runs/r/manifests/")) == 3


def test_another_dtype_is_converted(store: Watched) -> None:
    dcp.save({"w": torch.arange(9)}, storage_writer=SpotweldWriter(store, "r"))
    found = {"w": torch.zeros(9, dtype=torch.float16)}
    load(found, SpotweldReader(store, "r"))
    assert torch.equal(found["w"], torch.arange(9, dtype=torch.float16))


def test_only_whole_checkpoints_are_loaded(store: Watched, caplog: pytest.LogCaptureFixture) -> None:
    writer = SpotweldWriter(store, "r")
    packs = []
    for step in (1, 2):
        dcp.save(state(float(step), 0.0), checkpoint_id=str(step), storage_writer=writer)
        packs.append(store.keys("runs/r/packs/").difference(*packs))
    for damaged in reversed(packs):
        (key,) = damaged
        data = bytearray(store.get(key))
        data[0] ^= 1
        store.inner.delete(key)
        store.inner.create(key, bytes(data))
        found = state(0.0, 0.0)
        if damaged is packs[1]:
            assert load(found, SpotweldReader(store, "r")) == 1
            assert found["model"]["w"].tolist() == [1.0] * 5
            assert "the checkpoint of step 2 is damaged and passed over" in caplog.text
        else:
            with pytest.raises(NoWholeCheckpoint, match="All 2 checkpoints"):
                load(found, SpotweldReader(store, "r"))


@pytest.mark.parametrize("looks_at", ["runs/r/head", "runs/r/packs/"])
def test_what_a_busy_run_drops_is_not_called_damaged(
    store: Watched, caplog: pytest.LogCaptureFixture, looks_at: str
) -> None:
    writer = SpotweldWriter(store.inner, "r", keep_last=1)
    dcp.save(state(1.0, 0.0), checkpoint_id="1", storage_writer=writer)
    saved: list[str] = []

    def go_on(verb: str, key: str) -> None:
        if verb == "get" and key.startswith(looks_at) and not saved:
            saved.append("2")
            dcp.save(state(2.0, 0.0), checkpoint_id="2", storage_writer=writer)

    store.before = go_on if looks_at == "runs/r/packs/" else store.before
    store.after = go_on if looks_at == "runs/r/head" else store.after
    found = state(0.0, 0.0)
    assert load(found, SpotweldReader(store, "r")) == 2
    assert (saved, found["model"]["w"].tolist()) == (["2"], [2.0] * 5)
    assert "damaged" not in caplog.text


def test_what_has_no_safe_form_is_refused(store: Watched) -> None:
    with pytest.raises(dcp.api.CheckpointException) as raised:
        dcp.save({"bad": object()}, storage_writer=SpotweldWriter(store, "r"))
    assert isinstance(raised.value.failures[0][0], UnsupportedState)


def test_a_planner_that_hands_on_old_plans_is_refused_at_once(store: Watched) -> None:
    planner = dcp.DefaultSavePlanner(enable_plan_caching=True)
    with pytest.raises(dcp.api.CheckpointException, match="caches its plans"):
        dcp.save(state(1.0, 0.0), storage_writer=SpotweldWriter(store, "r"), planner=planner)
    assert not store.keys("runs/r/manifests/")


def test_a_newer_writer_fences_an_older_one(store: Watched) -> None:
    old = SpotweldWriter(store, "r")
    dcp.save(state(1.0, 0.0), storage_writer=old)
    dcp.save(state(2.0, 0.0), storage_writer=SpotweldWriter(store, "r"))
    with pytest.raises(dcp.api.CheckpointException, match="has been taken over"):
        dcp.save(state(3.0, 0.0), storage_writer=old)
