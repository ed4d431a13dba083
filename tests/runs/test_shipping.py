from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotweld.errors import Unavailable
from spotweld.runs.shipping import Reader, Shipper
from spotweld.store.opening import open_store
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
