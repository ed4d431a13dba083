import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotweld.errors import Unavailable
from spotweld.runs.reports import segment_key
from spotweld.runs.shipping import Reader, Shipper
from spotweld.store.opening import open_store
from spotweld.testing.stores import FaultyObjects
from spotweld.values.digests import Data


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(pieces=st.lists(st.binary(max_size=40), max_size=12))
def test_what_is_read_is_what_was_written(pieces: list[bytes], tmp_path: Path) -> None:
    objects = open_store("memory:")
    path = tmp_path / "file"
    path.unlink(missing_ok=True)
    shipper, reader, read = Shipper(path, objects, "r", 1, "log"), Reader(objects, "r", 1, "log"), b""
    for piece in pieces:
        with path.open("ab") as file:
            file.write(piece)
        shipper.ship()
        read += b"".join(reader.pieces())
    assert read == b"".join(pieces)


def test_lines_are_not_cut(tmp_path: Path) -> None:
    objects = open_store("memory:")
    path = tmp_path / "events"
    shipper, reader = Shipper(path, objects, "r", 1, "events", whole_lines=True), Reader(objects, "r", 1, "events")
    path.write_bytes(b'{"a":1}\n{"b"')
    shipper.ship_all()
    assert b"".join(reader.pieces()) == b'{"a":1}\n'
    path.write_bytes(b'{"a":1}\n{"b":2}\n')
    shipper.ship_all()
    assert b"".join(reader.pieces()) == b'{"b":2}\n'


def test_a_lost_answer_neither_doubles_nor_loses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = open_store("memory:")
    path = tmp_path / "file"
    path.write_bytes(b"first ")
    shipper = Shipper(path, objects, "r", 1, "log")
    create = objects.create

    def lose_the_answer(key: str, data: Data) -> None:
        create(key, data)
        raise Unavailable("the answer was lost")

    with monkeypatch.context() as patched:
        patched.setattr(objects, "create", lose_the_answer)
        with pytest.raises(Unavailable):
            shipper.ship()
    path.write_bytes(b"first second")
    shipper.ship_all()
    assert b"".join(Reader(objects, "r", 1, "log").pieces()) == b"first second"


class Far(FaultyObjects):
    """A store where each request takes a round trip."""

    def __init__(self, segments: int) -> None:
        super().__init__(open_store("memory:"), lambda _: None)
        self.url = "s3://bucket"
        self.down: set[str] = set()
        self.met = threading.Barrier(8)
        for number in range(1, segments + 1):
            self._inner.create(segment_key("r", 1, "log", number), b"%d " % number)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        if key in self.down:
            raise Unavailable("it does not answer")
        data = super().get(key, start=start, length=length)
        if 8 <= int(data) < 16:
            self.met.wait(10.0)
        return data


def test_what_has_long_been_there_is_asked_for_ahead() -> None:
    objects = Far(100)
    reader = Reader(objects, "r", 1, "log")
    assert b"".join(reader.pieces()).split() == [b"%d" % number for number in range(1, 101)]
    objects.calls.clear()
    assert list(reader.pieces()) == []
    assert [call.key for call in objects.calls] == [segment_key("r", 1, "log", 101)]


def test_a_segment_that_is_not_had_holds_back_those_after_it() -> None:
    objects = Far(40)
    reader, read = Reader(objects, "r", 1, "log"), []
    objects.down = {segment_key("r", 1, "log", 20)}
    with pytest.raises(Unavailable):
        read.extend(reader.pieces())
    objects.down = set()
    missing = segment_key("r", 1, "log", 30)
    objects.delete(missing)
    read.extend(reader.pieces())
    objects.create(missing, b"30 ")
    read.extend(reader.pieces())
    assert b"".join(read).split() == [b"%d" % number for number in range(1, 41)]


def test_a_machine_that_gives_no_threads_reads_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reader = Reader(Far(7), "r", 1, "log")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert b"".join(reader.pieces()).split() == [b"%d" % number for number in range(1, 8)]
