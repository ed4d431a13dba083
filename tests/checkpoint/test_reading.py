"""What a manifest may say of a chunk, and what reading makes of it: damage is told, nothing else comes out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.arrays import Kind
from spotweld.checkpoint.format import Chunk, LeafRecord, Manifest, Pack, decode, encode
from spotweld.checkpoint.reading import read
from spotweld.errors import Corrupt, StoreError, UnknownFormat
from spotweld.store.opening import open_store
from spotweld.values.digests import checksum

KEY = "runs/r/packs/00000001-0000-00000000"
DATA = bytes(range(256)) * 64
RAW = Chunk(0, 0, 8192, 8192, checksum(DATA[:8192]))
LAST = Chunk(0, 8192, 8192, 8192, checksum(DATA[8192:]))


def manifest(*chunks: Chunk, leaf: LeafRecord | None = None) -> Manifest:
    leaves = (leaf or LeafRecord(Kind.BYTES, "", (10_000,), 0, 64),)
    return Manifest(1, "", "r", 1, 0, 1, 1, 0.0, {"leaf": 0}, None, leaves, chunks, (Pack(KEY, len(DATA)),))


def fetched(given: Manifest) -> bytes:
    objects = open_store("memory:", verify=False)
    objects.create(KEY, DATA)
    checked = decode(encode(given), "r")
    into = memoryview(bytearray(checked.leaves[0].size))
    read(objects, checked, {0: into})
    return bytes(into)


def test_a_leaf_that_begins_and_ends_within_chunks_is_read() -> None:
    assert fetched(manifest(RAW, LAST)) == DATA[64:10_064]


CODED = {"codec": "planes4", "check": checksum(DATA[:8192])}


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "delta4", "check": checksum(DATA[:8192])},
        {**CODED, "base": LAST},
        {**CODED, "check": None},
        CODED,
        {"codec": "zstd", "check": checksum(DATA[:8192])},
        {"codec": "delta4", "check": checksum(DATA[:8192]), "base": LAST},
        {"offset": 1},
        {"digest": checksum(b"other")},
    ],
)
def test_a_chunk_that_cannot_be_what_it_says_is_damage(change: dict[str, Any]) -> None:
    with pytest.raises(Corrupt):
        fetched(manifest(msgspec.structs.replace(RAW, **change), LAST))


@pytest.mark.parametrize("codec", ["brotli", "planes3", "", "zstd "])
def test_a_codec_of_a_later_spotweld_is_no_damage(codec: str) -> None:
    with pytest.raises(UnknownFormat, match="does not know it"):
        fetched(manifest(RAW, msgspec.structs.replace(LAST, codec=codec, check=RAW.digest)))


@pytest.mark.parametrize(("chunk", "offset"), [(0, 8192), (0, 8200), (0, 16_000), (1, 8192), (2, 0), (-1, 0), (0, -1)])
def test_a_leaf_that_begins_behind_its_chunk_is_damage(chunk: int, offset: int) -> None:
    with pytest.raises(Corrupt):
        fetched(manifest(RAW, LAST, leaf=LeafRecord(Kind.BYTES, "", (100,), chunk, offset)))


@given(st.integers(-1, 3), st.integers(-2, 20_000), st.integers(0, 20_000), st.integers(1, 9000), st.integers(0, 9000))
def test_whatever_a_leaf_says_it_is_read_or_refused(chunk: int, offset: int, size: int, raw: int, at: int) -> None:
    first = msgspec.structs.replace(RAW, offset=at, stored=raw, raw=raw, digest=checksum(DATA[at : at + raw]))
    try:
        found = fetched(manifest(first, LAST, leaf=LeafRecord(Kind.BYTES, "", (size,), chunk, offset)))
    except StoreError:
        return
    whole = (DATA[at : at + raw] if chunk == 0 else b"") + DATA[8192:]
    assert found == whole[offset : offset + size]
