"""How a run is shown: on a terminal, off one, to programs."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import struct
import sys
import termios
from fcntl import ioctl
from typing import TYPE_CHECKING

import pytest
from tests.runs.samples import attempt_opened, opened
from tests.runs.telling import saved, ship, training

from spotweld.checkpoint import events as told
from spotweld.cli import live
from spotweld.cli.live import follow, machine_line, work_line
from spotweld.cli.parts import Known
from spotweld.cli.telling import Teller
from spotweld.errors import RunError
from spotweld.project.reading import load_project
from spotweld.runs.drive import log_path
from spotweld.runs.events import AttemptEnded, Cause, Ended, Entry, MachineStarted, Outcome, Running
from spotweld.runs.following import Told
from spotweld.runs.log import EventLog
from spotweld.store.opening import open_store
from spotweld.testing.stores import Fault, FaultyObjects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NASTY = "[x] [/bold] 文字"


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Known:
    """A run that has ended, in a project that nobody drives."""
    (tmp_path / "spotweld.yaml").write_text("name: x\njobs: {t: {command: a}}\n")
    project = load_project(tmp_path / "spotweld.yaml")
    log = EventLog(log_path(project.state))
    store = open_store("memory:")
    log.open_run("r", opened(f"python train.py {NASTY}"))
    generation = log.take_over("r")
    for event in (attempt_opened(1), MachineStarted(1, "m-1", 1.0), Running(1)):
        log.append("r", generation, event)
    metrics = told.Metrics(3.5, 2, {NASTY: 0.5})
    ship(store, "r", 1, [*training(1.0, 0, 40), metrics, saved(50.0, 40, "emergency")])
    log.append("r", generation, AttemptEnded(1, Cause.DONE, "", 9.0, 0))
    log.append("r", generation, Ended(Outcome.DONE, ""))
    monkeypatch.setattr(live, "ensure_driven", lambda *_: False)
    monkeypatch.setattr(live, "_LOOK", 0.0)
    monkeypatch.setattr(live, "_AFTER_A_FAULT", 0.0)
    known = Known(project, log, log.state("r"))
    monkeypatch.setattr(Known, "objects", lambda _: store)
    return known


def test_plain_has_a_line_for_all_that_matters(known: Known, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(known, "plain", lambda: ["an aside"]) is Outcome.DONE
    out, err = capsys.readouterr()
    assert out == ""
    for part in (NASTY, "the machine is up", "(emergency)", "an aside", "run ended: done", "step 40 of 100"):
        assert part in err
    assert err.count("(cadence)") <= 4
    assert "\x1b" not in err


def test_quiet_says_nothing(known: Known, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(known, "quiet", lambda: ["an aside"]) is Outcome.DONE
    assert capsys.readouterr() == ("", "")


def test_rawjson_is_json_and_complete(known: Known, capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(known, "rawjson") is Outcome.DONE
    told_all = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sum("seq" in one for one in told_all) == 6
    assert sum(one["event"].get("kind") == "metrics" for one in told_all) == 41


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_shows_markup_as_it_is_and_is_not_overrun(
    known: Known, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = on_a_terminal(width, lambda: follow(known, "tty", lambda: ["an aside"]), monkeypatch)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert "[x] [/bold]" in " ".join(text.split())
    assert "an aside" in text
    assert all(len(line) <= width for line in text.replace("\r", "\n").splitlines())
    # The lines at the bottom are gone in the end, and the cursor is back.
    assert screen.rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in screen


def test_without_colour_a_terminal_gets_none(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = on_a_terminal(80, lambda: follow(known, "tty"), monkeypatch)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", screen)


def on_a_terminal(width: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> str:
    """What ``act`` writes to stderr when that is a terminal."""
    main, side = pty.openpty()
    ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    written = bytearray()
    with os.fdopen(side, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        os.set_blocking(main, False)

        def drain() -> None:
            with contextlib.suppress(BlockingIOError, OSError):
                while data := os.read(main, 65536):
                    written.extend(data)

        patch.setattr(live.time, "sleep", lambda _: drain())
        act()
        stream.flush()
        drain()
    os.close(main)
    return written.decode()


def test_a_store_that_fails_is_told_once_and_waited_for(
    known: Known, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    down = FaultyObjects(known.objects(), lambda call: Fault.NO_ANSWER if call.number < 6 else None)
    monkeypatch.setattr(Known, "objects", lambda _: down)
    assert follow(known, "plain") is Outcome.DONE
    err = capsys.readouterr().err
    assert err.count("trying again") == 1
    assert "(emergency)" in err


def test_a_controller_that_ends_as_soon_as_it_is_started_is_not_started_for_ever(
    known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(live, "ensure_driven", lambda *_: started.append(1) or True)
    monkeypatch.setattr(live, "_DRIVEN_EVERY", -1.0)
    known.log._db.execute("DELETE FROM events WHERE seq > 3")
    with pytest.raises(RunError, match="as soon as it is started") as caught:
        follow(known, "quiet")
    assert "controller.log" in caught.value.todo
    assert len(started) < 10


def test_the_lines_at_the_bottom() -> None:
    teller = Teller()
    assert machine_line(teller) == ""
    for seq, event in enumerate((opened(), attempt_opened(1), MachineStarted(1, "m", 1.0)), 1):
        teller.tell(Entry("r", seq, float(seq), event))
    teller.tell(Told(1, told.Metrics(2.0, 4, {"b": 2.0, "a": 1.0, "c": 3.0})))
    assert machine_line(teller).startswith("#1 a spot 0.9000 USD/h | ")
    assert work_line(teller) == "a 1 | b 2 | 0 interruptions, 0 saves, 0 steps redone"
