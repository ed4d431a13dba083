"""What holds for every kind of registry."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.images.samples import add_blob, add_image, add_index, at, noise

from spotweld.errors import ImageDamaged, ImageNotFound, TagMoved
from spotweld.images.registries.copying import Copied, Phase, Progress, copy, verify
from spotweld.images.registries.manifests import OCI_CONFIG, OCI_MANIFEST, blobs, digest_of, manifest_of
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from spotweld.images.registries.registry import Registry

NOWHERE = Digest("sha256:" + "0" * 64)


def test_an_empty_registry_has_nothing(registry: Registry, repository: str) -> None:
    assert registry.resolve(repository, "latest") is None
    assert registry.resolve(repository, NOWHERE) is None
    assert registry.tags(repository) == ()
    assert repository not in registry.repositories()
    assert registry.blob_size(repository, NOWHERE) is None
    registry.delete(repository, "latest")
    for name in ("latest", NOWHERE):
        with pytest.raises(ImageNotFound, match="no image"):
            registry.manifest(repository, name)
    with pytest.raises(ImageNotFound, match="no blob"):
        list(registry.blob(repository, NOWHERE))


def test_a_blob_comes_back(registry: Registry, repository: str) -> None:
    for size in (0, 1, 3 * 2**20 + 17):
        data = noise(size, size)
        digest = digest_of(data)
        registry.write_blob(repository, digest, size, [data[:5], data[5:]])
        assert registry.blob_size(repository, digest) == size
        assert b"".join(registry.blob(repository, digest, size)) == data


def test_a_blob_of_several_chunks_comes_back(
    registry: Registry, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spotweld.images.registries.distribution.CHUNK", 1000)
    for size in (1000, 1001, 5432):
        data = noise(size, size)
        registry.write_blob(repository, digest_of(data), size, [data])
        assert b"".join(registry.blob(repository, digest_of(data))) == data


@pytest.mark.parametrize(("data", "size"), [(b"other", 5), (b"short", 6), (b"too long", 4)])
def test_a_blob_that_is_not_what_it_says_is_refused(
    registry: Registry, repository: str, data: bytes, size: int
) -> None:
    digest = digest_of(noise(repository, size))
    with pytest.raises(ImageDamaged, match=digest):
        registry.write_blob(repository, digest, size, [data])
    assert registry.blob_size(repository, digest) is None


def test_an_image_comes_back_under_its_tag_and_its_digest(registry: Registry, repository: str) -> None:
    manifest = add_image(registry, repository, "v1", [b"layer"])
    assert registry.resolve(repository, "v1") == manifest.digest == registry.resolve(repository, manifest.digest)
    assert registry.manifest(repository, "v1") == manifest == registry.manifest(repository, manifest.digest)
    assert registry.tags(repository) == ("v1",)
    assert repository in registry.repositories()
    assert verify(at(registry, repository, "v1")) == ()


def test_a_tag_moves_and_the_old_image_stays(registry: Registry, repository: str) -> None:
    old = add_image(registry, repository, "latest", [b"old"])
    registry.tag(repository, "latest", "keep", expected="absent")
    new = add_image(registry, repository, "latest", [b"new"])
    assert registry.resolve(repository, "latest") == new.digest
    assert registry.resolve(repository, "keep") == old.digest
    registry.tag(repository, old.digest, "latest")
    assert registry.resolve(repository, "latest") == old.digest
    assert registry.tags(repository) == ("keep", "latest")


def test_a_tag_that_somebody_else_moved_is_left_alone(registry: Registry, repository: str) -> None:
    old = add_image(registry, repository, "latest", [b"old"])
    new = add_image(registry, repository, "other", [b"new"])
    for expected in (new.digest, "absent"):
        with pytest.raises(TagMoved, match="moved by somebody else"):
            registry.tag(repository, "other", "latest", expected=expected)  # type: ignore[arg-type]
    with pytest.raises(TagMoved, match="names nothing"):
        registry.tag(repository, "other", "fresh", expected=old.digest)
    assert registry.resolve(repository, "latest") == old.digest
    registry.tag(repository, "other", "latest", expected=old.digest)
    assert registry.resolve(repository, "latest") == new.digest


def test_a_manifest_whose_blobs_are_not_there_is_refused(registry: Registry, repository: str) -> None:
    config = add_blob(registry, repository, b"{}", OCI_CONFIG)
    layer = {**config, "digest": digest_of(noise(repository, 7)), "size": 7}
    manifest = manifest_of({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]})
    with pytest.raises(ImageDamaged, match="not there"):
        registry.put_manifest(repository, manifest, "broken")
    assert registry.tags(repository) == ()


@pytest.mark.parametrize("docker", [False, True])
def test_labels_are_added_and_the_blobs_stay(registry: Registry, repository: str, *, docker: bool) -> None:
    old = add_image(registry, repository, "latest", [b"layer"], docker=docker)
    registry.tag(repository, "latest", "before")
    first = registry.label(repository, "latest", {"com.example.key": "k1"})
    second = registry.label(repository, "latest", {"com.example.dirty": "false"})
    assert registry.labels(repository, "latest") == {"com.example.key": "k1", "com.example.dirty": "false"}
    assert len({old.digest, first, second}) == 3
    assert registry.label(repository, "latest", {"com.example.key": "k1"}) == second
    assert registry.manifest(repository, "before") == old
    before, after = blobs(old), blobs(registry.manifest(repository, "latest"))
    assert [part.digest for part in before] == [part.digest for part in after]


def test_deleting_a_tag_leaves_the_others(registry: Registry, repository: str) -> None:
    image = add_image(registry, repository, "one", [b"shared"])
    for tag in ("two", "three"):
        registry.tag(repository, "one", tag)
    other = add_image(registry, repository, "other", [b"shared", b"more"])
    for tag in ("one", "two", "one"):
        registry.delete(repository, tag)
    assert registry.tags(repository) == ("other", "three")
    assert registry.manifest(repository, "three") == image
    registry.delete(repository, "three")
    assert registry.tags(repository) == ("other",)
    assert registry.manifest(repository, "other") == other
    assert verify(at(registry, repository, "other")) == ()
    registry.delete(repository, "other")
    assert registry.tags(repository) == ()


def test_many_tags_are_all_listed(registry: Registry, repository: str) -> None:
    manifest = add_image(registry, repository, None, [b"layer"])
    wanted = {f"t{number:03}" for number in range(30)}
    for tag in wanted:
        registry.put_manifest(repository, manifest, tag)
    assert registry.tags(repository) == tuple(sorted(wanted))


def test_two_writers_lose_no_tag(registry: Registry, repository: str) -> None:
    # An image for each: servers that delete no tag by its name must not delete one that another writer is just giving.
    images = {name: add_image(registry, repository, None, [name.encode()]) for name in "abc"}

    def write(name: str) -> None:
        manifest = images[name]
        for number in range(20):
            registry.put_manifest(repository, manifest, f"{name}-{number}")
            if number % 2:
                registry.delete(repository, f"{name}-{number - 1}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"{name}-{number}" for name in "abc" for number in range(1, 20, 2)}
    assert registry.tags(repository) == tuple(sorted(wanted))


@pytest.mark.parametrize("target", ["layout", "distribution"])
def test_an_image_is_copied_to_any_registry_and_only_once(
    registry: Registry, repository: str, target: str, opened: Callable[[str], Registry]
) -> None:
    layers = [noise((repository, number), 50_000) for number in range(4)]
    image = add_image(registry, repository, "v1", layers)
    there, size = opened(target), sum(part.size for part in blobs(image))
    heard: list[Progress] = []
    place = at(there, f"{repository}-copy", "v1")
    done = copy(at(registry, repository, "v1"), place, heard.append)
    mounts = target == "distribution" and registry.url == there.url
    assert done == Copied(image.digest, 0 if mounts else size, size if mounts else 0)
    assert there.manifest(place.repository, "v1") == image
    assert verify(place) == ()
    assert {part.digest for part in heard if part.done == part.size} >= {part.digest for part in blobs(image)}
    heard.clear()
    assert copy(at(registry, repository, image.digest), place, heard.append) == Copied(image.digest, 0, size)
    assert {part.phase for part in heard} == {Phase.THERE}
    more = add_image(registry, repository, "v2", [*layers[:2], b"changed"])
    done = copy(at(registry, repository, "v2"), place)
    assert done.digest == there.resolve(place.repository, "v1") == more.digest
    if not mounts:
        assert done.moved == blobs(more)[0].size + len(b"changed")


@pytest.mark.parametrize("target", ["layout", "distribution"])
def test_an_index_is_copied_with_all_its_platforms(
    registry: Registry, repository: str, target: str, opened: Callable[[str], Registry]
) -> None:
    platforms = [(name, add_image(registry, repository, None, [b"base", name.encode()])) for name in ("amd64", "arm64")]
    index = add_index(registry, repository, "v1", platforms)
    place = at(opened(target), f"{repository}-copy", "v1")
    assert copy(at(registry, repository, "v1"), place).digest == index.digest
    for _, manifest in platforms:
        assert place.registry.manifest(place.repository, manifest.digest) == manifest
    assert verify(place) == ()


def test_a_copy_leaves_a_tag_that_somebody_else_moved(layout: Registry, registry: Registry, repository: str) -> None:
    add_image(layout, "a", "v1", [b"ours"])
    theirs = add_image(registry, repository, "v1", [b"theirs"])
    with pytest.raises(TagMoved):
        copy(at(layout, "a", "v1"), at(registry, repository, "v1"), expected=NOWHERE)
    assert registry.resolve(repository, "v1") == theirs.digest


def test_an_error_of_the_listener_moves_no_tag(layout: Registry, registry: Registry, repository: str) -> None:
    add_image(layout, "a", "v1", [noise(1, 9), noise(2, 9)])

    def fail(_: Progress) -> None:
        raise KeyError("listener")

    with pytest.raises(KeyError):
        copy(at(layout, "a", "v1"), at(registry, repository, "v1"), fail)
    assert registry.tags(repository) == ()
