from __future__ import annotations

import contextlib
import copy
import json
import random
import re
from collections import Counter, defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spotweld import Checkpointer
from spotweld.checkpoint.format import FORMAT, decode, encode, epoch_of, manifest_key, pack_key
from spotweld.checkpoint.tree import unflatten
from spotweld.errors import Corrupt, UnknownFormat
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from conftest import Watched

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"^```\w+ {name}\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


EXAMPLE = json.loads(block("manifest"))


def test_the_documented_example_is_a_manifest() -> None:
    manifest = decode(block("manifest").encode(), "example")
    assert manifest.step == 1200
    assert json.loads(encode(manifest)) == EXAMPLE


def test_the_documented_reader_reads_what_the_engine_writes(store: Watched) -> None:
    weights = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    plain = {"rate": 0.1, "big": -(2**80), "pair": (1, None), (1, "a"): [True, "text"], "empty": np.zeros(0)}
    others = {"counts": Counter("aab"), "seen": {3, (1, 2)}, "all": frozenset("x"), "latest": deque([1, "b"], 7)}
    others["curves"] = defaultdict(list, loss=[1])
    log = {"array": np.arange(3, dtype=">i4"), "raw": b"bytes", **plain, **others}
    for _ in Checkpointer({"weights": weights, "log": log}, store=store, run="a-run", notices=[]).steps(3):
        pass
    namespace: dict[str, Any] = {}
    exec(block("reader"), namespace)
    step, state = namespace["read_newest"](store.get, "a-run")
    assert step == 3
    assert state["weights"] == ("torch", "bfloat16", [2, 3], state["weights"][3])
    assert state["weights"][3][:12] == bytes(weights.view(torch.uint8).flatten().tolist())
    assert state["log"]["array"][:3] == ("numpy", ">i4", [3])
    assert state["log"]["array"][3][:12] == log["array"].tobytes()
    assert state["log"]["raw"][:3] == ("bytes", "", [5])
    assert state["log"]["raw"][3].startswith(b"bytes")
    assert state["log"]["empty"][:3] == ("numpy", "<f8", [0])
    assert {key: state["log"][key] for key in ("rate", "big")} == {"rate": 0.1, "big": -(2**80)}
    assert state["log"]["pair"] == (1, None)
    assert {key: state["log"][key] for key in others} == others | {"latest": [1, "b"]}


def test_a_newer_format_is_refused_whatever_else_it_says() -> None:
    for data in (b'{"format": 2}', b'{"format": 99, "packs": 5}'):
        with pytest.raises(UnknownFormat, match="has format"):
            decode(data, "example")


def changed(path: list[Any], value: Any) -> bytes:  # noqa: ANN401
    manifest = copy.deepcopy(EXAMPLE)
    place = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(manifest).encode()


CHUNK = ["chunks", 0]
CODED = ["chunks", 1]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], 0),
        (["format"], "1"),
        (["run"], "other"),
        (["step"], -1),
        (["step"], 1.5),
        (["packs", 0, "key"], "runs/other/packs/00000003-0000-00000012"),
        (["packs", 0, "key"], "runs/example/packs/../../other/head"),
        (["packs", 0, "key"], "/etc/passwd"),
        (["packs", 0, "key"], "runs/example/packs/"),
        (["packs", 0, "key"], "runs/example/packs/1\u00002"),
        (["packs", 0, "key"], "runs/example/packs/1\\2"),
        (["packs", 0, "key"], "runs/exampl./packs/12"),
        (["packs", 0, "size"], 2**26 + 1),
        (["packs", 0, "size"], 0),
        (["packs", 0, "size"], 4095),
        ([*CHUNK, "pack"], 2),
        ([*CHUNK, "pack"], -1),
        ([*CHUNK, "offset"], -1),
        ([*CHUNK, "offset"], 1),
        ([*CHUNK, "offset"], 2**70),
        ([*CHUNK, "raw"], 2048),
        ([*CHUNK, "raw"], 0),
        ([*CHUNK, "raw"], 2**22 + 1),
        ([*CHUNK, "stored"], 4095),
        ([*CHUNK, "stored"], 0),
        ([*CHUNK, "codec"], "zstd"),
        ([*CHUNK, "digest"], "xxh3:"),
        ([*CHUNK, "digest"], "sha256:00"),
        ([*CHUNK, "base"], EXAMPLE["chunks"][0]),
        ([*CODED, "check"], None),
        ([*CODED, "check"], "xxh3:1"),
        ([*CODED, "base"], {**EXAMPLE["chunks"][0], "pack": 7}),
        ([*CODED, "base"], {**EXAMPLE["chunks"][0], "raw": 2048, "stored": 2048}),
        ([*CODED, "base"], {**EXAMPLE["chunks"][1], "base": EXAMPLE["chunks"][0]}),
        (["leaves", 0, "chunk"], 2),
        (["leaves", 0, "chunk"], -1),
        (["leaves", 0, "offset"], -64),
        (["leaves", 0, "offset"], 8181),
        (["leaves", 0, "shape"], [2048, 3]),
        (["leaves", 0, "shape"], [-2, -3]),
        (["leaves", 0, "shape"], [2**62, 2**62]),
        (["leaves", 0, "dtype"], "object"),
        (["leaves", 0, "dtype"], "load"),
        (["leaves", 0, "kind"], "pickle"),
        (["chunks"], []),
        (["leaves"], {}),
        (["packs"], None),
    ],
)
def test_a_manifest_that_contradicts_itself_is_damage(path: list[Any], value: Any) -> None:  # noqa: ANN401
    with pytest.raises(Corrupt):
        decode(changed(path, value), "example")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}'])
def test_what_is_no_manifest_is_damage(data: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(data, "example")


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_a_manifest_with_flipped_bytes_is_read_or_refused(seed: int, flips: int) -> None:
    chance, data = random.Random(seed), bytearray(block("manifest").encode())
    for _ in range(flips):
        data[chance.randrange(len(data))] = chance.randrange(256)
    with contextlib.suppress(Corrupt, UnknownFormat):
        decode(data, "example")


@pytest.mark.parametrize("depth", [400, 5000, 100_000])
def test_a_tree_of_any_depth_is_read_or_refused(depth: int) -> None:
    node = b'{"list": [' * depth + b"1" + b"]}" * depth
    data = block("manifest").encode().replace(b'"epochs", 4', b'"epochs", ' + node)
    with contextlib.suppress(Corrupt):
        unflatten(decode(data, "example").state, [b"", b""])
        pytest.fail("it was read")


def test_names_carry_the_epoch() -> None:
    name = digest(b"x")
    assert epoch_of(manifest_key("r", 7, 30, name)) == 7
    assert epoch_of(pack_key("r", 123456789, 0, 2)) == 123456789
    assert epoch_of("runs/r/packs/unknown") is None
    assert epoch_of("runs/r/packs/-1-x") is None


def test_the_format_is_1() -> None:
    assert FORMAT == 1
    assert msgspec.json.decode(encode(decode(block("manifest").encode(), "example")))["format"] == 1
