import os
from pathlib import Path

import msgspec
import pytest

from spotweld.errors import Corrupt, UsageError
from spotweld.runs.source import Source, SourceFile, freeze, lay_out, scan
from spotweld.store.opening import open_store
from spotweld.values.digests import digest, hex_of


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    (folder / "lib").mkdir(parents=True)
    (folder / "train.py").write_text("print('hello')\n")
    (folder / "lib" / "data.bin").write_bytes(bytes(range(256)) * 100)
    script = folder / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return folder


def test_what_is_laid_out_is_what_was_frozen(job: Path, tmp_path: Path) -> None:
    objects = open_store("memory:")
    source = scan(job)
    freeze(job, source, objects, lambda _: None)
    (job / "train.py").write_text("print('edited since')\n")
    out = tmp_path / "machine"
    lay_out(source.key, objects, out)
    assert (out / "train.py").read_text() == "print('hello')\n"
    assert (out / "lib" / "data.bin").read_bytes() == (job / "lib" / "data.bin").read_bytes()
    assert os.access(out / "run.sh", os.X_OK)
    assert not os.access(out / "train.py", os.X_OK)


def test_the_same_files_have_the_same_key_and_others_another(job: Path) -> None:
    key = scan(job).key
    os.utime(job / "train.py", (1, 1))
    assert scan(job).key == key
    (job / "train.py").write_text("print('other')\n")
    assert scan(job).key != key


def test_what_a_run_does_not_need_is_left_out(job: Path) -> None:
    for name in (".git", "__pycache__", ".spotweld", "big", ".mypy_cache"):
        (job / name).mkdir()
        (job / name / "x").write_text("x")
    (job / ".spotweldignore").write_text("# not needed there\nbig/\nlib/*.bin\n")
    assert {file.path for file in scan(job).files} == {"train.py", "run.sh", ".spotweldignore"}


def test_links_that_lead_out_are_refused(job: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (job / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match="leads out"):
        scan(job)


def test_a_link_to_a_folder_is_followed(job: Path, tmp_path: Path) -> None:
    (job / "also").symlink_to("lib")
    objects = open_store("memory:")
    source = scan(job)
    freeze(job, source, objects, lambda _: None)
    lay_out(source.key, objects, tmp_path / "machine")
    copy = tmp_path / "machine/also/data.bin"
    assert copy.read_bytes() == (job / "lib/data.bin").read_bytes()
    assert not copy.parent.is_symlink()


@pytest.mark.parametrize(("link", "target"), [("lib/up", ".."), ("lib/self", "."), ("here", ".")])
def test_links_in_a_circle_are_refused(job: Path, link: str, target: str) -> None:
    (job / link).symlink_to(target)
    with pytest.raises(UsageError, match="a folder that it is in"):
        scan(job)


def test_two_links_that_lead_to_each_other_are_refused(job: Path) -> None:
    (job / "a").mkdir()
    (job / "b").mkdir()
    (job / "a/x").symlink_to("../b")
    (job / "b/y").symlink_to("../a")
    with pytest.raises(UsageError):
        scan(job)


def test_folders_of_our_own_are_left_out_wherever_they_are(job: Path) -> None:
    names = {file.path for file in scan(job).files}
    (job / "checkpoints").mkdir()
    (job / "checkpoints/blob").write_bytes(b"x")
    assert {file.path for file in scan(job, [job / "checkpoints"]).files} == names


@pytest.mark.parametrize("name", [b"back\\slash", b"not-utf8-\xff"])
def test_names_that_no_machine_could_lay_out_are_refused(job: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(job) + b"/" + name)).write_text("x")
    with pytest.raises(UsageError, match="cannot be frozen"):
        scan(job)


def test_a_file_that_cannot_be_read_is_named(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match="cannot be read"):
        scan(job)


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        scan(tmp_path / "nowhere")


def test_a_file_that_changes_meanwhile_is_noticed(job: Path) -> None:
    source = scan(job)
    (job / "train.py").write_text("changed")
    with pytest.raises(UsageError, match="changed"):
        freeze(job, source, open_store("memory:"), lambda _: None)


def test_a_file_that_vanishes_meanwhile_is_no_fault_of_ours(job: Path) -> None:
    """As an editor's own file does while somebody reads the plan."""
    (job / ".train.py.swp").write_text("an edit")
    source = scan(job)
    (job / ".train.py.swp").unlink()
    with pytest.raises(UsageError, match=r"\.train\.py\.swp changed"):
        freeze(job, source, open_store("memory:"))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a\\b", "", "a\0b"])
def test_a_manifest_cannot_write_outside(path: str, tmp_path: Path) -> None:
    objects = open_store("memory:")
    data = b"evil"
    manifest = msgspec.json.encode(Source((SourceFile(path, 4, digest(data), executable=False),)))
    objects.create(f"blobs/{hex_of(digest(data))}", data)
    key = f"sources/{hex_of(digest(manifest))}.json"
    objects.create(key, manifest)
    with pytest.raises(Corrupt):
        lay_out(key, objects, tmp_path / "machine")


def test_a_flipped_bit_is_noticed(job: Path, tmp_path: Path) -> None:
    objects = open_store("memory:")
    source = scan(job)
    freeze(job, source, objects, lambda _: None)
    keys = [meta.key for prefix in ("sources/", "blobs/") for meta in objects.list(prefix)]
    assert len(keys) == 4
    for number, key in enumerate(keys):
        whole = objects.get(key)
        objects.put(key, bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(Corrupt):
            lay_out(source.key, objects, tmp_path / str(number))
        objects.put(key, whole)
    lay_out(source.key, objects, tmp_path / "whole")
