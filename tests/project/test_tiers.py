"""What the project file says of a job's tiers, its compression and its memory, on the way to the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.layout import CHUNK
from spotweld.checkpoint.settings import settings
from spotweld.checkpoint.staging import FEWEST
from spotweld.errors import ProjectError
from spotweld.project.nouns import LEAST_STAGING, CheckpointPolicy, Compress, Tier
from spotweld.project.reading import load_project
from spotweld.values.sizes import SIZE, parse_size

if TYPE_CHECKING:
    from pathlib import Path


def policy(folder: Path, checkpoint: str) -> CheckpointPolicy:
    file = folder / "spotweld.yaml"
    file.write_text(f"name: x\njobs:\n  t:\n    command: a\n    checkpoint: {{{checkpoint}}}\n")
    return load_project(file).jobs["t"].checkpoint


def test_all_keys_together_and_as_the_engine_hears_them(tmp_path: Path) -> None:
    written = (
        "tiers: [file:/dev/shm/a, {store: file:/nvme/b c, keep_last: 2, every: 5m}, s3://near/p], store_every: 10m"
    )
    found = policy(tmp_path, written + ", compress: bytes, staging_memory: 2GB")
    assert found == CheckpointPolicy(
        tiers=(Tier("file:/dev/shm/a"), Tier("file:/nvme/b%20c", 2, 300.0), Tier("s3://near/p")),
        store_every=600.0,
        compress=Compress.BYTES,
        staging_memory=2_000_000_000,
    )
    assert settings({"SPOTWELD_CHECKPOINT": msgspec.json.encode(found).decode()}).policy == found


@pytest.mark.parametrize(
    ("written", "tiers"),
    [
        ("[]", ()),
        ("[file:///a]", (Tier("file:/a"),)),
        ("[{store: file:/a}]", (Tier("file:/a"),)),
        ("[{store: file:/a, every: 0s}]", (Tier("file:/a"),)),
        ('["file:/a?single-writer=true"]', (Tier("file:/a?single-writer=true"),)),
    ],
)
def test_a_tier_is_a_url_or_a_table(tmp_path: Path, written: str, tiers: tuple[Tier, ...]) -> None:
    assert policy(tmp_path, f"tiers: {written}").tiers == tiers


@pytest.mark.parametrize(
    ("checkpoint", "column", "said", "todo"),
    [
        ("tiers: [file:cache]", 26, 'tiers[0]: "file:cache" is not a tier', "tiers: [file:/dev/shm/spotweld]"),
        ("tiers: [file:/a, memory:]", 35, 'tiers[1]: "memory:" is not a tier', "file:/dev/shm"),
        ("tiers: ['file://host/a']", 26, "tiers[0]", "file:/dev/shm"),
        ("tiers: [3]", 26, "tiers[0]", "tiers: [file:/dev/shm/spotweld]"),
        ("tiers: [[file:/a]]", 26, "tiers[0] holds a list", ""),
        ("tiers: file:/a", 25, "not a list", "[..., ...]"),
        ("tiers: [{stroe: file:/a}]", 27, 'unknown key "stroe"', "did you mean store?"),
        ("tiers: [{keep_last: 1}]", 26, "tiers[0] has no store", "add store: file:/dev/shm/spotweld"),
        ("tiers: [{store: file:/a, keep_last: 0}]", 54, "tiers[0].keep_last: 0 is out of range", ""),
        ("tiers: [file:/a, 'file:///a']", 18, "tiers does not fit: two of them are the same place", "once"),
        ("teirs: [file:/a]", 18, 'unknown key "teirs"', "did you mean tiers?"),
        ("store_every: 1m", 18, "store_every does not fit", "add tiers"),
        ("tiers: [], store_every: 1m", 29, "store_every does not fit", "add tiers"),
        ("compress: byte", 28, '"byte" is not known', "did you mean bytes?"),
        ("staging_memory: 2", 34, '"2" is not a size', "2GB"),
        ("staging_memory: 11MiB", 34, "12 MiB at least", "2GB"),
        ("directory: o, tiers: [file:/a]", 32, "tiers does not fit: the files of a directory", "remove tiers"),
        ("directory: o, store_every: 1m", 32, "store_every does not fit", "remove store_every"),
        ("directory: o, compress: auto", 32, "compress does not fit", "remove compress"),
        ("directory: o, staging_memory: 1GB", 32, "staging_memory does not fit", "remove staging_memory"),
    ],
)
def test_one_clear_error_at_its_place(tmp_path: Path, checkpoint: str, column: int, said: str, todo: str) -> None:
    with pytest.raises(ProjectError) as caught:
        policy(tmp_path, checkpoint)
    assert (caught.value.line, caught.value.column) == (5, column)
    assert said in str(caught.value)
    assert todo in caught.value.todo


def test_the_least_staging_memory_is_what_the_engine_needs() -> None:
    assert LEAST_STAGING == FEWEST * CHUNK


@given(st.from_regex(SIZE, fullmatch=True))
def test_what_looks_like_a_size_is_one(text: str) -> None:
    assert parse_size(text) >= 0
