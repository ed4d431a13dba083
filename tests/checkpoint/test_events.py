from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from spotweld.checkpoint import events
from spotweld.checkpoint.cadence import Plan, Rule
from spotweld.checkpoint.events import EventFile, parse_event
from spotweld.preemption.notices import Kind, Notice

if TYPE_CHECKING:
    from pathlib import Path

ALL = [
    events.Start(1.0, 100, 7),
    events.Restored(1.0, 5, "m", 0.1, (events.Damage(6, "short"),)),
    events.Fresh(1.0),
    events.Step(1.0, 3),
    events.Metrics(1.0, 3, {"loss": 0.5, "bad": None}),
    events.Saving(1.0, 3, "cadence"),
    events.Saved(1.0, 3, "cadence", 0.1, 0.2, 10, "m"),
    events.SaveFailed(1.0, 3, "full", 2),
    events.Cadence(
        1.0,
        Plan(42.0, None, Rule.LEAST_LOSS, 0.1, 0.02, True, 0.9, 0.3, 60.0, False, 300.0),
    ),
    events.Risk(1.0, "elevated", "why", 2.0, None),
    events.Noticed(1.0, Notice("i", Kind.TERMINATE, "aws", 2.0, 1.0)),
    events.Withdrawn(1.0, "i"),
    events.Emergency(1.0, "none", None, 1.0),
    events.Fenced(1.0, 2),
    events.Finished(1.0, 100),
    events.Leaving(1.0, 3, "why"),
]
KINDS = (
    "start restored fresh step metrics saving saved save_failed cadence risk notice withdrawn emergency fenced "
    "finished leaving"
)


def test_every_event_is_one_line_with_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "events"
    file = EventFile(str(path))
    for event in ALL:
        file.write(event)
    file.close()
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == KINDS.split()
    assert [parse_event(line) for line in lines] == ALL
    assert all(json.loads(line)["t"] == 1.0 for line in lines)


def test_events_are_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"before\n")
    file = EventFile(str(path))
    file.write(events.Fresh(1.0))
    file.close()
    assert path.read_bytes().startswith(b'before\n{"kind":"fresh"')


def test_what_is_told_after_the_end_is_recorded_as_well(tmp_path: Path) -> None:
    file = EventFile(str(tmp_path / "events"))
    for _ in range(2):
        file.write(events.Fresh(1.0))
        file.close()
    assert (tmp_path / "events").read_bytes().count(b"\n") == 2


def test_a_cut_line_is_an_error_of_its_own() -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_event(msgspec.json.encode(ALL[0])[:10])


def test_failures_are_told_once_and_then_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (str(tmp_path / "no" / "folder"), "/dev/full"):
        caplog.clear()
        file = EventFile(path)
        file.write(events.Fresh(1.0))
        file.write(events.Fresh(1.0))
        file.close()
        assert caplog.text.count("events are not recorded") == 1


def test_events_go_on_when_a_full_disk_has_space_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, space = tmp_path / "events", os.write, [1000, 10, 0, 0, 1000]

    def full(handle: int, data: bytes) -> int:
        left = space.pop(0)
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data[:left])

    monkeypatch.setattr(os, "write", full)
    file = EventFile(str(path))
    for at in range(5):
        file.write(events.Fresh(float(at)))
    file.close()
    first, cut, last = path.read_bytes().splitlines()
    assert [parse_event(line).t for line in (first, last)] == [0.0, 4.0]
    assert cut == first[:10]


def test_without_a_file_nothing_happens() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    EventFile(None).write(events.Fresh(1.0))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
