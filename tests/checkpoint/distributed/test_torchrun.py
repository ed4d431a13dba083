from __future__ import annotations

import signal
import time

import pytest
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from spotweld.checkpoint.distributed.torchrun import interrupted, main


@pytest.mark.parametrize(
    ("codes", "resumable"),
    [([75, 75], True), ([75, -15], True), ([75, 1], False), ([75, -9], False), ([-15], False), ([], False)],
)
def test_ranks_were_interrupted_if_they_say_so(codes: list[int], resumable: bool) -> None:
    assert interrupted(codes) is resumable


@pytest.mark.parametrize(("codes", "status"), [([75, 75], 75), ([75, 1], None)])
def test_status_75_is_handed_on(monkeypatch: pytest.MonkeyPatch, codes: list[int], status: int | None) -> None:
    failures = {rank: ProcessFailure(rank, 1, code, "/nowhere") for rank, code in enumerate(codes)}
    for failure in failures.values():
        failure.timestamp = int(time.time())

    def fail(arguments: list[str]) -> None:
        assert arguments == ["train.py"]
        raise ChildFailedError("train.py", failures)

    monkeypatch.setattr(run, "main", fail)
    with pytest.raises((SystemExit, ChildFailedError)) as raised:
        main(["train.py"])
    assert getattr(raised.value, "code", None) == status


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, SignalException)])
def test_a_term_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, kind: type[BaseException]
) -> None:
    def fail(_: list[str]) -> None:
        raise SignalException("told to go", number)

    monkeypatch.setattr(run, "main", fail)
    with pytest.raises(kind):
        main([])
