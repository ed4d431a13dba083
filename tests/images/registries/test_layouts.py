from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.images.samples import add_blob, add_image, add_index, at, noise

from spotweld.errors import ImageDamaged, RegistryFull, RegistryRefused, RegistryUnavailable
from spotweld.images.registries import layouts
from spotweld.images.registries.copying import Progress, copy, verify
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import blobs, digest_of
from spotweld.images.registries.opening import open_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.values.digests import Digest


def path_of(layout: Layout, digest: Digest) -> Path:
    return layout.folder / "blobs" / digest.replace(":", "/")


def names(layout: Layout) -> list[str]:
    """The tags as they stand in the index."""
    index = json.loads((layout.folder / "index.json").read_bytes())
    return [entry["annotations"][layouts.REF_NAME] for entry in index["manifests"]]


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def test_nothing_is_made_by_reading(layout: Layout) -> None:
    assert layout.repositories() == ()
    assert layout.collect(0) == 0
    layout.delete("a", "b")
    assert not layout.folder.exists()


def test_its_url_opens_it_again(layout: Layout) -> None:
    image = add_image(layout, "a/b", "v1", [b"layer"])
    assert open_registry(layout.url).manifest("a/b", "v1") == image


def test_other_tools_read_it_and_we_read_theirs(layout: Layout, tmp_path: Path) -> None:
    image = add_image(layout, "team/trainer", "v1", [b"a layer"])
    copied = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
    subprocess.run([*copied, f"{layout.url}:team/trainer:v1", f"oci:{tmp_path}/other:plain"], check=True, timeout=60)
    other = Layout(tmp_path / "other")
    assert other.repositories() == ("",)
    assert other.tags("") == ("plain",)
    assert other.resolve("", "plain") == image.digest
    subprocess.run([*copied, f"{other.url}:plain", f"{layout.url}:team/trainer:v2"], check=True, timeout=60)
    assert layout.tags("team/trainer") == ("v1", "v2")
    add_image(layout, "team/trainer", "v1", [b"another layer"])
    assert layout.resolve("team/trainer", "v2") == image.digest
    assert copy(at(other, "", "plain"), at(other, "", "again")).digest == image.digest


def test_what_other_tools_wrote_into_the_index_stays(layout: Layout) -> None:
    image = add_image(layout, "a", "v1", [b"layer"])
    path = layout.folder / "index.json"
    index = json.loads(path.read_bytes())
    index["annotations"] = {"some": "thing"}
    index["manifests"].append({**index["manifests"][0], "annotations": {"unnamed": "yes"}, "strange": [1]})
    path.write_text(json.dumps(index))
    layout.tag("a", "v1", "v2")
    layout.delete("a", "v1")
    after = json.loads(path.read_bytes())
    assert after["annotations"] == {"some": "thing"}
    assert after["manifests"][0]["strange"] == [1]
    assert layout.tags("a") == ("v2",)
    assert layout.resolve("a", "v2") == image.digest


def test_an_empty_layout_of_another_tool_is_one(layout: Layout) -> None:
    """Go writes a list without entries as null, and desktops leave files of their own everywhere."""
    (layout.folder / "blobs").mkdir(parents=True)
    (layout.folder / "blobs/.DS_Store").write_text("")
    (layout.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout.folder / "index.json").write_text('{"schemaVersion": 2, "manifests": null}')
    assert layout.repositories() == ()
    layout.prepare(["a"])
    image = add_image(layout, "a", "v1", [b"layer"])
    assert layout.resolve("a", "v1") == image.digest


@pytest.mark.parametrize("bit", [0, 7, 8 * 40_000])
def test_a_flipped_bit_in_a_layer_is_refused(layout: Layout, tmp_path: Path, bit: int) -> None:
    data = noise("bits", 50_000)
    image = add_image(layout, "a", "v1", [data, b"whole"])
    other = Layout(tmp_path / "other")
    before = add_image(other, "a", "v1", [b"before"])
    broken = bytearray(data)
    broken[bit // 8] ^= 1 << bit % 8
    path_of(layout, digest_of(data)).write_bytes(broken)
    with pytest.raises(ImageDamaged, match=f"{digest_of(data)} in .* is damaged: .* have the digest") as caught:
        copy(at(layout, "a", "v1"), at(other, "a", "v1"))
    assert "build it again" in caught.value.todo
    assert other.resolve("a", "v1") == before.digest
    assert not path_of(other, digest_of(data)).exists()
    assert [damage.digest for damage in verify(at(layout, "a", "v1"))] == [digest_of(data)]
    assert layout.manifest("a", "v1") == image


def test_a_flipped_bit_in_a_manifest_is_refused(layout: Layout, tmp_path: Path) -> None:
    image = add_image(layout, "a", "v1", [b"layer"])
    index = add_index(layout, "a", "all", [("amd64", image)])
    path_of(layout, image.digest).write_bytes(image.data.replace(b"2", b"3", 1))
    with pytest.raises(ImageDamaged, match=image.digest):
        layout.manifest("a", "v1")
    for name in ("v1", "all"):
        with pytest.raises(ImageDamaged, match=image.digest):
            copy(at(layout, "a", name), at(Layout(tmp_path / "other"), "a"))
    assert [damage.digest for damage in verify(at(layout, "a", "all"))] == [image.digest]
    assert [damage.digest for damage in verify(at(layout, "a", "v1"))] == [image.digest]
    # Whoever brings the right bytes mends it.
    layout.put_manifest("a", image)
    assert verify(at(layout, "a", "all")) == ()
    assert layout.manifest("a", "all") == index


@pytest.mark.parametrize("left", [b"", b"short"])
def test_a_truncated_layer_is_refused_and_mended_by_a_copy(layout: Layout, tmp_path: Path, left: bytes) -> None:
    image = add_image(layout, "a", "v1", [b"a layer"])
    other = Layout(tmp_path / "other")
    copy(at(layout, "a", "v1"), at(other, "a", "v1"))
    path_of(other, digest_of(b"a layer")).write_bytes(left)
    with pytest.raises(ImageDamaged, match=f"it has {len(left)} bytes instead of 7"):
        copy(at(other, "a", "v1"), at(Layout(tmp_path / "third"), "a"))
    with pytest.raises(ImageDamaged, match="cannot be kept"):
        other.put_manifest("a", image, "v2")
    assert copy(at(layout, "a", "v1"), at(other, "a", "v1")).moved == 7
    assert verify(at(other, "a", "v1")) == ()


def test_a_platform_that_is_gone_is_told(layout: Layout, tmp_path: Path) -> None:
    images = [(name, add_image(layout, "a", None, [name.encode()])) for name in ("amd64", "arm64")]
    add_index(layout, "a", "v1", images)
    path_of(layout, images[1][1].digest).unlink()
    with pytest.raises(ImageDamaged, match=r"it is of linux/arm64, and the index names it, but it is not there"):
        copy(at(layout, "a", "v1"), at(Layout(tmp_path / "other"), "a"))
    assert [one.digest for one in verify(at(layout, "a", "v1"))] == [images[1][1].digest]


def test_a_layer_that_is_gone_is_told(layout: Layout, tmp_path: Path) -> None:
    image = add_image(layout, "a", "v1", [b"a layer"])
    path_of(layout, digest_of(b"a layer")).unlink()
    with pytest.raises(ImageDamaged, match="not there, though the manifest names it"):
        copy(at(layout, "a", "v1"), at(Layout(tmp_path / "other"), "a"))
    path_of(layout, image.digest).unlink()
    with pytest.raises(ImageDamaged, match="is gone"):
        layout.manifest("a", "v1")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"manifests": 1}', '{"manifests": [{}]}', '{"manifests": [{"digest": "../x"}]}'),
        json.dumps({"manifests": [{"digest": digest_of(b""), "annotations": ["x"]}]}),
    ],
)
def test_a_damaged_index_is_told_and_never_replaced(layout: Layout, text: str) -> None:
    add_image(layout, "a", "v1", [b"layer"])
    path = layout.folder / "index.json"
    path.write_text(text)
    with pytest.raises(ImageDamaged, match=r"index\.json is damaged"):
        layout.tags("a")
    with pytest.raises(ImageDamaged, match=r"index\.json is damaged"):
        add_image(layout, "a", "v2", [b"layer"])
    with pytest.raises(ImageDamaged, match=r"index\.json is damaged"):
        layout.collect(0)
    assert path.read_text() == text


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    source = Layout(tmp_path / "source")
    add_image(source, "a", "v2", [noise(1, 300_000), noise(2, 900_000)])
    with small_disk("1m") as folder:
        layout = Layout(folder / "layout")
        old = add_image(layout, "a", "v1", [noise(0, 100_000)])
        for _ in range(2):
            with pytest.raises(RegistryFull, match="No space left on device") as caught:
                copy(at(source, "a", "v2"), at(layout, "a", "v1"))
            assert "Free some space" in caught.value.todo
            assert layout.resolve("a", "v1") == old.digest
            assert verify(at(layout, "a", "v1")) == ()
        assert not list(layout.folder.rglob(".~*"))
        # To the last block: the index can be read and the tag stays.
        with contextlib.suppress(OSError), (folder / "filler").open("wb") as filler:
            while True:
                filler.write(b"0" * 1000)
                filler.flush()
        with pytest.raises(RegistryFull):
            add_image(layout, "a", "v1", [b"tiny"])
        assert layout.resolve("a", "v1") == old.digest
        (folder / "filler").unlink()
        assert add_image(layout, "a", "v1", [b"tiny"]).digest == layout.resolve("a", "v1")


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    with small_disk("1m") as folder:
        layout = Layout(folder / "layout")
        image = add_image(layout, "a", "v1", [b"layer"])
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert verify(at(layout, "a", "v1")) == ()
        assert copy(at(layout, "a", "v1"), at(Layout(tmp_path / "other"), "a")).digest == image.digest
        with pytest.raises(RegistryRefused, match="Read-only file system"):
            layout.tag("a", "v1", "v2")
        with pytest.raises(RegistryRefused, match="Read-only file system"):
            layout.delete("a", "v1")
        assert layout.tags("a") == ("v1",)


def test_unneeded_blobs_are_collected_and_no_other(layout: Layout) -> None:
    kept = add_image(layout, "a", "kept", [b"shared", b"kept"])
    index = add_index(layout, "a", "all", [("amd64", kept), ("arm64", add_image(layout, "a", None, [b"arm"]))])
    gone = add_image(layout, "a", "gone", [b"shared", b"only here"])
    layout.delete("a", "gone")
    assert layout.collect(3600) == 0
    config = blobs(gone)[0]
    assert layout.collect(-1) == len(b"only here") + len(gone.data) + config.size
    assert layout.collect(-1) == 0
    assert verify(at(layout, "a", "all")) == verify(at(layout, "a", "kept")) == ()
    assert layout.manifest("a", "all") == index


def test_a_blob_that_a_copy_relies_on_is_young_again(layout: Layout) -> None:
    part = add_blob(layout, "a", b"old and unneeded")
    path = path_of(layout, part["digest"])  # type: ignore[arg-type]
    os.utime(path, (1, 1))
    assert layout.blob_size("a", part["digest"]) == 16  # type: ignore[arg-type]
    assert layout.collect(3600) == 0
    os.utime(path, (1, 1))
    assert layout.collect(3600) == 16


def test_a_manifest_that_a_copy_relies_on_is_young_again(layout: Layout, tmp_path: Path) -> None:
    source = Layout(tmp_path / "source")
    image = add_image(source, "a", "v1", [b"layer"])
    add_index(source, "a", "all", [("amd64", image)])
    copy(at(source, "a", "all"), at(layout, "a", "all"))
    layout.delete("a", "all")
    for path in layout.folder.glob("blobs/*/*"):
        os.utime(path, (1, 1))

    def clean(progress: Progress) -> None:
        if progress.digest == image.digest:
            layout.collect(3600)

    copy(at(source, "a", "all"), at(layout, "a", "all"), clean)
    assert verify(at(layout, "a", "all")) == ()
    os.utime(path_of(layout, image.digest), (1, 1))
    layout.put_manifest("a", image)  # as a builder does before it sends the index
    used = layout.used("a", image.digest)
    assert used is not None
    assert used > 1


def test_nothing_is_collected_while_a_manifest_is_damaged(layout: Layout) -> None:
    image = add_image(layout, "a", "v1", [b"layer"])
    path_of(layout, image.digest).write_bytes(b"{}")
    with pytest.raises(ImageDamaged):
        layout.collect(-1)
    assert path_of(layout, digest_of(b"layer")).exists()


def test_a_lock_that_nobody_lets_go_of_is_told(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    add_image(layout, "a", "v1", [b"layer"])
    monkeypatch.setattr(layouts, "_PATIENCE", 0.05)
    with (layout.folder / "index.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RegistryUnavailable, match="Cannot lock"):
            layout.tag("a", "v1", "v2")
    layout.tag("a", "v1", "v2")


def test_what_a_killed_writer_left_goes_at_once_and_a_living_ones_stays(layout: Layout) -> None:
    add_image(layout, "a", "v1", [b"layer"])
    folder = layout.folder / "blobs/sha256"
    (folder / ".~killed").write_bytes(b"half")
    with (folder / ".~living").open("wb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        add_image(Layout(layout.folder), "a", "v2", [b"other"])
        assert [path.name for path in folder.glob(".~*")] == [".~living"]


WRITER = """
import sys
from pathlib import Path
from tests.images.samples import add_image
from spotweld.images.registries.layouts import Layout
layout = Layout(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    add_image(layout, "a", f"{sys.argv[2]}-{number}", [b"shared", str(number).encode(), sys.argv[2].encode()])
    print(number, flush=True)
"""


def writer(layout: Layout, name: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(layout.folder), name, str(count)], stdout=subprocess.PIPE
    )


def test_two_processes_at_once_lose_no_tag(layout: Layout) -> None:
    writers = [writer(layout, name, 15) for name in "ab"]
    for one in writers:
        one.communicate(timeout=60)
        assert one.returncode == 0
    assert set(layout.tags("a")) == {f"{name}-{number}" for name in "ab" for number in range(15)}
    assert len(names(layout)) == 30
    assert all(verify(at(layout, "a", tag)) == () for tag in layout.tags("a"))


def test_a_killed_writer_beside_a_living_one_loses_no_tag(layout: Layout) -> None:
    living = writer(layout, "living", 40)
    said = 0
    while living.poll() is None:
        victim = writer(layout, "victim", 1000)
        assert victim.stdout
        for _ in range(1 + said % 3):
            victim.stdout.readline()
        time.sleep(0.003 * (said % 5))
        victim.kill()
        done = victim.communicate()[0]
        said += 1 + len(done.splitlines())
    living.communicate()
    assert living.returncode == 0
    tags = layout.tags("a")
    assert {f"living-{number}" for number in range(40)} <= set(tags)
    assert "victim-0" in tags
    assert all(verify(at(layout, "a", tag)) == () for tag in tags)


def test_a_blob_that_arrives_meanwhile_is_no_matter_to_a_collection(layout: Layout) -> None:
    """Its scratch file was listed, and has become a blob before it was looked at."""
    add_image(layout, "a", "v1", [b"layer"])
    (layout.folder / "blobs/sha256/.~listed").symlink_to("gone")
    layout.write_blob("a", digest_of(b"unneeded"), 8, [b"unneeded"])
    assert layout.collect(-1) == 8
