"""The controller's process: when it may leave."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.runs.samples import opened

from spotweld.runs import drive
from spotweld.runs.events import Ended, Outcome
from spotweld.runs.log import EventLog
from spotweld.runs.outliving import try_lock

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RUN = "r"


def test_a_run_that_is_let_go_on_while_alerts_are_told_is_driven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver may take long to answer, and whoever raises a budget then finds a controller at work."""
    log = EventLog(drive.log_path(tmp_path))
    log.open_run(RUN, opened())
    log.append(RUN, log.take_over(RUN), Ended(Outcome.BUDGET, "1.01 USD are spent"))
    started = []

    def slowly(_: drive.Looker) -> None:
        if log.state(RUN).outcome is Outcome.BUDGET:
            assert log.reopen(RUN, log.entries(RUN)[-1].seq, None)
            started.append(drive.ensure_driven(tmp_path, RUN))
            log.request_cancel(RUN)

    monkeypatch.setattr(drive.Looker, "finish", slowly)
    monkeypatch.chdir(tmp_path)
    lock = os.open(drive.controller_log(tmp_path, RUN).with_name("lock"), os.O_RDWR | os.O_CREAT)
    try:
        assert try_lock(lock)
        drive.main(tmp_path, RUN, lock)
    finally:
        os.close(lock)
    assert started == [False]
    assert log.state(RUN).outcome is Outcome.CANCELLED
    assert not drive.is_driven(tmp_path, RUN)
