"""Safetensors files out and in, against the format's own library, and against files that mean harm."""

from __future__ import annotations

import json
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.checkpoint.saved import model, save
from tests.checkpoint.test_tree import same, trees

from spotweld import Checkpointer, open_checkpoint
from spotweld.checkpoint import importing
from spotweld.checkpoint.exchange import NOTES
from spotweld.checkpoint.exporting import export
from spotweld.checkpoint.importing import publish, read_file
from spotweld.checkpoint.saving import Saver
from spotweld.checkpoint.tensorfile import HEADER_LIMIT, header, parse, place
from spotweld.errors import Corrupt, Unavailable, UsageError
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from conftest import Watched

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
]


def of(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    row = torch.arange(int(np.prod(shape)) * dtype.itemsize, dtype=torch.uint8)
    return (row % 2 if dtype is torch.bool else row).view(dtype).view(shape)


def bits(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tuple(tensor.shape), bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist())


def exported(store: Watched, tmp_path: Path, state: dict[str, Any], **how: Any) -> tuple[Path, Any]:  # noqa: ANN401
    save(store, state)
    file = tmp_path / "out.safetensors"
    return file, export(open_checkpoint(store), file, **how)


def test_every_dtype_is_what_the_formats_own_library_reads(store: Watched, tmp_path: Path) -> None:
    tensors = {str(dtype): of(dtype, 2, 3) for dtype in DTYPES}
    tensors |= {"none": torch.zeros(0, 5), "point": torch.tensor(2.5), "one": torch.ones(1, 1, 1, dtype=torch.float16)}
    file, done = exported(store, tmp_path, {"t": tensors}, only=["t"])
    found = load_file(file)
    assert {name: bits(value) for name, value in found.items()} == {n: bits(value) for n, value in tensors.items()}
    assert (done.as_bytes, done.renamed, done.tensors) == ((), (), len(tensors))
    assert done.size == file.stat().st_size


def test_a_part_alone_has_the_names_that_its_module_knows(store: Watched, tmp_path: Path) -> None:
    net = model(1)
    file, _ = exported(store, tmp_path, {"model": net, "log": {"n": 1}}, only=["model"])
    fresh = model(2)
    fresh.load_state_dict(load_file(file))
    assert torch.equal(fresh[0].weight, net[0].weight)
    assert safe_open(file, "pt").metadata()["format"] == "pt"


def test_plain_values_are_in_the_metadata(store: Watched, tmp_path: Path) -> None:
    log = {"lr": 0.1, "n": 3, "on": True, "none": None, "name": 'a "b"', "nan": float("nan"), "big": -(2**70), "e": []}
    file, done = exported(store, tmp_path, {"log": log, "x": np.ones(2)})
    notes = safe_open(file, "np").metadata()
    assert {name: notes[f"log.{name}"] for name in log} == {
        "lr": "0.1",
        "n": "3",
        "on": "true",
        "none": "null",
        "name": '"a \\"b\\""',
        "nan": '"nan"',
        "big": '"-0x400000000000000000"',
        "e": "[]",
    }
    assert done.values == len(log)
    assert notes["format"] == "np"
    assert json.loads(notes[NOTES])["step"] == 1


def test_what_the_format_cannot_say_is_carried_as_bytes_and_told(store: Watched, tmp_path: Path) -> None:
    state = {
        "c": torch.ones(2, dtype=torch.complex128),
        "be": np.arange(3, dtype=">i4"),
        "text": np.array(["ab", "c"]),
        "raw": b"bytes",
        "scalar": np.float32(1.5),
        "date": np.array("2024-01-01", dtype="M8[D]"),
    }
    file, done = exported(store, tmp_path, {"s": state})
    assert done.as_bytes == ("s.c", "s.be", "s.text", "s.date")
    found = load_file(file)
    assert found["s.c"].shape == (2, 16)
    assert bytes(found["s.raw"].tolist()) == b"bytes"
    assert found["s.scalar"].item() == 1.5


def test_names_that_collide_are_told_and_kept(store: Watched, tmp_path: Path) -> None:
    state = {"p": {"a": {"b": torch.ones(1)}, "a.b": torch.ones(2)}, "__metadata__": torch.ones(3)}
    file, done = exported(store, tmp_path, state)
    assert {name: len(value) for name, value in load_file(file).items()} == {
        "p.a.b": 1,
        "p.a.b#2": 2,
        "__metadata__#2": 3,
    }
    assert done.renamed == ("p.a.b#2", "__metadata__#2")


def test_a_file_that_is_there_is_replaced_only_by_force(store: Watched, tmp_path: Path) -> None:
    file = tmp_path / "out.safetensors"
    file.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        exported(store, tmp_path, {"x": torch.ones(2)})
    assert file.read_text() == "mine"
    export(open_checkpoint(store), file, force=True)
    assert load_file(file)["x"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]
    for wrong in (tmp_path, tmp_path / "none" / "x", Path("/dev/null/x")):
        with pytest.raises(UsageError, match=r"cannot be written|is there already"):
            export(open_checkpoint(store), wrong, force=True)


def test_an_export_that_fails_leaves_nothing_behind(store: Watched, tmp_path: Path) -> None:
    save(store, {"x": torch.ones(200)})
    (pack,) = store.keys("runs/default/packs/")
    store.put(pack, bytes(len(store.get(pack))))
    with pytest.raises(Corrupt):
        export(open_checkpoint(store), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told(store: Watched, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    exported(store, tmp_path, {"x": torch.ones(200)}, told=lambda done, total: told.append((done, total)))
    assert told == [(800, 800)]


def test_a_file_of_another_program_becomes_a_part(store: Watched, tmp_path: Path) -> None:
    net, file = model(1), tmp_path / "in"
    save_file(net.state_dict(), file, {"format": "pt"})
    found = read_file(file)
    assert (found.step, found.noted, len(found.leaves)) == (0, False, len(net.state_dict()))
    publish(store, "new", found, 7)
    fresh = model(2)
    checkpoint = open_checkpoint(store, "new")
    assert checkpoint.step == 7
    checkpoint.load_into({"model": fresh})
    assert torch.equal(fresh[0].weight, net[0].weight)
    publish(store, "other", read_file(file, "encoder"), 0)
    assert set(open_checkpoint(store, "other").load()) == {"encoder"}


def test_every_dtype_comes_back_in(store: Watched, tmp_path: Path) -> None:
    tensors = {str(dtype): of(dtype, 3, 2) for dtype in DTYPES} | {"none": torch.zeros(0), "point": torch.tensor(1.5)}
    save_file(tensors, tmp_path / "in")
    publish(store, "new", read_file(tmp_path / "in", "t"), 0)
    found = open_checkpoint(store, "new").load()["t"]
    assert {name: bits(value) for name, value in found.items()} == {n: bits(value) for n, value in tensors.items()}


def test_a_program_starts_from_an_import_with_its_own_seeds(store: Watched, tmp_path: Path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "in")
    publish(store, "new", read_file(tmp_path / "in", "p"), 4)
    torch.manual_seed(3)
    expected, weights = torch.rand(2), {"w": torch.zeros(3)}
    torch.manual_seed(3)
    steps = list(Checkpointer({"p": weights}, store=store, run="new", notices=[]).steps(6))
    assert steps == [4, 5]
    assert weights["w"].tolist() == [1, 1, 1]
    assert torch.equal(torch.rand(2), expected)


def test_a_run_that_exists_is_never_touched(store: Watched, tmp_path: Path) -> None:
    save(store, {"x": {"n": 1}})
    save_file({"w": torch.ones(3)}, tmp_path / "in")
    before = {key: store.get(key) for key in sorted(store.keys())}
    with pytest.raises(UsageError, match="already"):
        publish(store, "default", read_file(tmp_path / "in"), 0)
    for run, step in (("../x", 0), ("fine", -1), ("", 0)):
        with pytest.raises(UsageError):
            publish(store, run, read_file(tmp_path / "in"), step)
    assert {key: store.get(key) for key in sorted(store.keys())} == before


def test_an_import_that_fails_leaves_nothing_behind(store: Watched, tmp_path: Path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "in")

    def fail(verb: str, key: str) -> None:
        if verb == "create" and "/manifests/" in key:
            raise Unavailable("no")

    store.before = fail
    with pytest.raises(Unavailable):
        publish(store, "new", read_file(tmp_path / "in"), 0)
    assert store.keys() == set()
    store.before = lambda _verb, _key: None
    publish(store, "new", read_file(tmp_path / "in"), 0)


def test_an_import_that_is_interrupted_leaves_nothing_behind(
    store: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "in")
    begun, on = threading.Event(), threading.Event()
    savers: list[Saver] = []

    class Interrupted(Saver):
        def wait(self, timeout: float) -> bool:
            if not savers:
                savers.append(self)
                begun.wait(10)
                raise KeyboardInterrupt
            on.set()
            return super().wait(timeout)

    def hold(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            begun.set()
            on.wait(10)

    store.before = hold
    monkeypatch.setattr(importing, "Saver", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(store, "new", read_file(tmp_path / "in"), 0)
    savers[0].wait(10)
    assert store.keys() == set()


def test_a_run_that_somebody_else_began_meanwhile_is_left_to_them(store: Watched, tmp_path: Path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "in")

    def overtake(verb: str, key: str) -> None:
        if verb == "create" and "/manifests/" in key:
            store.before = lambda _verb, _key: None
            save(store, {"theirs": torch.ones(4)}, 3, "new")

    store.before = overtake
    with pytest.raises(Exception, match="taken over"):
        publish(store, "new", read_file(tmp_path / "in"), 0)
    assert open_checkpoint(store, "new").load()["theirs"].tolist() == [1] * 4


leaves = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st.lists(st.integers(0, 3), max_size=3).map(lambda shape: of(dtype, *shape))
)
arrays = st.sampled_from(["<f4", ">f8", "|b1", "<i2", "<c16", "<U3", "|S2", "<M8[s]"]).flatmap(
    lambda dtype: st.lists(st.integers(0, 3), max_size=2).map(lambda shape: np.zeros(shape, dtype))
)
names = st.sampled_from(["a", "a.b", "b", "weight", "format", "spotweld", "__metadata__", "ü", "x y"])


@settings(max_examples=30)
@given(st.dictionaries(names, st.dictionaries(names, trees | leaves | arrays, max_size=4) | leaves, max_size=3))
def test_out_and_in_again_is_the_same_state(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("x")
    store = open_store("memory:", verify=False)
    save(store, state, 5)
    export(open_checkpoint(store), folder / "file")
    with safe_open(folder / "file", "pt") as read:
        assert all(read.get_tensor(name) is not None for name in read.keys())  # noqa: SIM118
    found = read_file(folder / "file")
    assert found.step == 5
    publish(store, "again", found, found.step)
    one, other = (open_checkpoint(store, run).load() for run in ("default", "again"))
    assert same(comparable(one), comparable(other))


def comparable(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, torch.Tensor):
        return bits(value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, (list, tuple)):
        return type(value)(comparable(item) for item in value)
    if isinstance(value, dict):
        return type(value), {key: comparable(item) for key, item in value.items()}
    return value


def file_of(head: Any, data: bytes = b"", *, length: int | None = None) -> bytes:  # noqa: ANN401
    body = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(body) if length is None else length) + body + data


def one(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (b"\1\2", "2 bytes"),
        (file_of(b"", length=2**60), "header would have 1152921504606846976"),
        (file_of(b"", length=HEADER_LIMIT), "within its header"),
        (file_of(b"\xff{}"), "decode"),
        (file_of(b"[1]"), "array"),
        (file_of(b"{" * 100_000), "recursion|Expecting"),
        (file_of(b'{"a":' * 100_000), "recursion|Expecting"),
        (file_of({"w": 5}), "object"),
        (file_of({"__metadata__": {"a": 5}}), "str"),
        (file_of(one(more=1), bytes(8)), "more"),
        (file_of(b'{"w":1,"w":2}'), "twice"),
        (file_of(one(dtype="F4"), bytes(8)), "dtype"),
        (file_of(one(shape=[-2]), bytes(8)), "impossible shape"),
        (file_of(one(shape=[2**40, 2**40], data_offsets=[0, 0])), "impossible shape"),
        (file_of(one(shape=[0, 2**62], data_offsets=[0, 0])), "impossible shape"),
        (file_of(one(shape=[1] * 65), bytes(8)), "impossible shape"),
        (file_of(one(shape=[1.5]), bytes(8)), "int"),
        (file_of(one(shape=[3]), bytes(8)), "should have 12 bytes"),
        (file_of(one(data_offsets=[8, 0]), bytes(8)), "should have"),
        (file_of(one(data_offsets=[-8, 0]), bytes(8)), "should have"),
        (file_of(one(), bytes(7)), "cut off"),
        (file_of(one(), bytes(9)), "left over"),
        (file_of(one() | {"v": one()["w"]}, bytes(8)), "begins at 0"),
        (file_of(one(data_offsets=[4, 12]), bytes(12)), "begins at 4"),
        (file_of(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "surrogates"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "in").write_bytes(data)
    with pytest.raises(UsageError, match="no whole safetensors file") as caught:
        read_file(tmp_path / "in")
    assert any(word in caught.value.why for word in why.split("|"))


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_no_damage_of_a_header_does_more_than_refuse(noise: bytes, at: int, value: int) -> None:
    good = bytearray(file_of({"__metadata__": {"a": "b"}} | one(), bytes(8)))
    good[at % len(good)] = value
    for data in (bytes(good), bytes(good[: at % len(good)]), noise, struct.pack("<Q", len(noise)) + noise):
        try:
            found = parse(memoryview(data), "x")
        except UsageError:
            continue
        assert all(found.start + tensor.data_offsets[1] <= len(data) for tensor in found.tensors.values())


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("/dev/null")):
        with pytest.raises(UsageError):
            read_file(path)


def changed(file: Path, change: Any) -> None:  # noqa: ANN401
    """Rewrite a file's notes."""
    tensors = load_file(file)
    metadata = safe_open(file, "pt").metadata()
    notes = json.loads(metadata[NOTES])
    change(notes, tensors)
    save_file(tensors, file, metadata | {NOTES: json.dumps(notes)})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda _notes, tensors: tensors.update(w=tensors["x.w"] + 1), "only one of the two has"),
        (lambda _notes, tensors: tensors.pop("x.w"), "only one of the two has"),
        (lambda _notes, tensors: tensors.update({"x.w": tensors["x.w"].half()}), "is F16 [3] now"),
        (lambda notes, _tensors: notes.update(leaves=[]), "only one of the two has"),
        (lambda notes, _tensors: notes["leaves"].append(notes["leaves"][0]), "named twice"),
        (lambda notes, _tensors: notes.update(state={"dict": []}), "no place"),
        (lambda notes, _tensors: notes.update(state={"leaf": 0}), "no parts"),
        (lambda notes, _tensors: notes.update(state={"leaf": 9}), "tree is damaged"),
        (lambda notes, _tensors: notes.update(state={"dict": [[5, {"leaf": 0}]]}), "no parts"),
        (lambda notes, _tensors: notes["leaves"][0].update(shape=[-3]), "is F32"),
        (lambda notes, _tensors: notes["leaves"][0].update(dtype="nonsense"), "no such dtype"),
        (lambda notes, _tensors: notes["leaves"][0].update(kind="bytes", dtype="x"), "no such dtype"),
        (lambda notes, _tensors: notes["leaves"][0].update(kind="numpy", dtype="<M8[foo]"), "no such dtype"),
        (lambda notes, _tensors: notes.pop("step"), "step"),
        (lambda notes, _tensors: notes.update(format=2), "knows format 1"),
    ],
)
def test_notes_that_do_not_fit_are_refused_and_can_be_done_without(
    store: Watched,
    tmp_path: Path,
    change: Any,  # noqa: ANN401
    why: str,
) -> None:
    file, _ = exported(store, tmp_path, {"x": {"w": torch.ones(3)}})
    changed(file, change)
    with pytest.raises(UsageError) as caught:
        read_file(file)
    assert why in caught.value.why
    assert "--part" in caught.value.todo
    assert not read_file(file, "x").noted


def test_a_header_that_no_reader_takes_is_not_written() -> None:
    with pytest.raises(UsageError, match="header would have"):
        header({}, {"a": "b" * (HEADER_LIMIT + 1)})


def test_tensors_are_aligned_whatever_their_order() -> None:
    placed = place([("a", "U8", (3,)), ("b", "F64", (1,)), ("c", "F16", (1,)), ("d", "U8", (1,))])
    assert [(name, tensor.data_offsets) for name, tensor in placed.items()] == [
        ("b", (0, 8)),
        ("c", (8, 10)),
        ("a", (10, 13)),
        ("d", (13, 14)),
    ]
    assert len(header(placed, {"x": "y"})) % 8 == 0
