"""The notice file: atomic to write, patient to read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from spotweld.preemption.files import FileSource, clear_notice, write_notice
from spotweld.preemption.notices import Kind, Notice, Withdrawal

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import HandClock

NOTICE = Notice("drill", Kind.TERMINATE, "aws", 1_800_000_030.0, 1_799_999_990.0)


def test_what_was_written_is_what_is_heard_but_for_the_time(tmp_path: Path, clock: HandClock) -> None:
    write_notice(tmp_path / "notice", NOTICE)
    heard = FileSource(tmp_path / "notice", interval=0, clock=clock).wait(0)
    assert heard == msgspec.structs.replace(NOTICE, received=clock.now())
    assert [path.name for path in tmp_path.iterdir()] == ["notice"]


def test_a_failed_write_leaves_nothing_behind_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "notice").mkdir()
    with pytest.raises(OSError, match="notice"):
        write_notice(tmp_path / "notice", NOTICE)
    assert [path.name for path in tmp_path.iterdir()] == ["notice"]


def test_clearing_nothing_is_fine(tmp_path: Path) -> None:
    clear_notice(tmp_path / "notice")


def test_half_a_file_or_garbage_changes_nothing(tmp_path: Path, clock: HandClock) -> None:
    path = tmp_path / "notice"
    source = FileSource(path, interval=0, clock=clock)
    whole = msgspec.json.encode(NOTICE)
    for garbage in (b"", whole[:-9], b'{"a":' * 12_000, b"\xff", b'{"id": "x"}', b"null"):
        path.write_bytes(garbage)
        assert source.wait(0) is None
    path.write_bytes(whole)
    assert isinstance(source.wait(0), Notice)
    path.write_bytes(whole[:7])
    assert source.wait(0) is None
    path.unlink()
    assert source.wait(0) == Withdrawal("drill", "aws")


def test_another_notice_replaces_the_first(tmp_path: Path, clock: HandClock) -> None:
    path = tmp_path / "notice"
    source = FileSource(path, interval=0, clock=clock)
    write_notice(path, NOTICE)
    source.wait(0)
    write_notice(path, msgspec.structs.replace(NOTICE, id="other"))
    heard = source.wait(0)
    assert isinstance(heard, Notice)
    assert heard.id == "other"
    assert source.wait(0) == Withdrawal("drill", "aws")


def test_a_risk_that_becomes_an_end_under_the_same_id_is_told(tmp_path: Path, clock: HandClock) -> None:
    path = tmp_path / "notice"
    source = FileSource(path, interval=0, clock=clock)
    write_notice(path, msgspec.structs.replace(NOTICE, kind=Kind.REBALANCE))
    source.wait(0)
    write_notice(path, NOTICE)
    heard = source.wait(0)
    assert isinstance(heard, Notice)
    assert heard.kind is Kind.TERMINATE


def test_a_path_that_cannot_hold_a_file_is_silence(tmp_path: Path, clock: HandClock) -> None:
    for path in (tmp_path / "no" / "folder", tmp_path, tmp_path / ("x" * 5000)):
        assert FileSource(path, interval=0, clock=clock).wait(0) is None


def test_a_reader_never_sees_half_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "notice"
    write_notice(path, NOTICE)
    done = threading.Event()

    def rewrite() -> None:
        for number in range(300):
            write_notice(path, msgspec.structs.replace(NOTICE, id="x" * number))
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    while not done.is_set():
        msgspec.json.decode(path.read_bytes(), type=Notice)
    writer.join()
