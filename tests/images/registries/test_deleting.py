"""Many tags go with few requests, and never one that was not named, whoever moves tags meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.images.fake import fake
from tests.images.samples import add_image, at
from tests.images.servers import docker_registry

from spotweld.errors import ImageNotFound, RegistryRefused, TagMoved
from spotweld.images.registries import distribution
from spotweld.images.registries.copying import verify
from spotweld.images.registries.distribution import Distribution
from spotweld.images.registries.opening import open_registry

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.images.registries.registry import Registry


def connected(url: str) -> Distribution:
    registry = open_registry(url, {})
    assert isinstance(registry, Distribution)
    return registry


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many requests of each kind were made."""
    count: Counter[str] = Counter()
    known = distribution.Client.ask

    def ask(self: distribution.Client, method: str, target: str, *rest: Any, **more: Any) -> object:  # noqa: ANN401
        kind = next((word for word in ("tags", "manifests", "blobs") if f"/{word}/" in target), "")
        count[f"{method} {kind}"] += 1
        return known(self, method, target, *rest, **more)

    monkeypatch.setattr(distribution.Client, "ask", ask)
    return count


def test_many_tags_at_once(registry: Registry, repository: str) -> None:
    stays = add_image(registry, repository, "stays", [b"shared"])
    registry.tag(repository, "stays", "goes")
    for number in range(20):
        add_image(registry, repository, f"v{number}", [b"base", b"%d" % (number // 2)])
    going = [tag for tag in registry.tags(repository) if tag != "stays"]
    registry.delete(repository, *going, "never-there", "v1")
    assert registry.tags(repository) == ("stays",)
    assert registry.manifest(repository, "stays") == stays
    assert verify(at(registry, repository, "stays")) == ()
    registry.delete(repository)
    assert registry.tags(repository) == ("stays",)


def test_a_server_that_deletes_no_tags_is_asked_twice_for_each(
    server: str, repository: str, asked: Counter[str]
) -> None:
    registry = connected(server)
    for number in range(40):
        add_image(registry, repository, f"v{number}", [b"%d" % number])
    going = registry.tags(repository)
    asked.clear()
    registry.delete(repository, *going)
    # Once it says that it cannot delete a tag by its name; then each is looked at once, and each image deleted.
    assert (asked["HEAD manifests"], asked["DELETE manifests"]) == (40, 41)
    assert asked["GET tags"] == 2 + 3  # before and after, and for each batch
    assert registry.tags(repository) == ()


def test_tags_that_stay_are_looked_at_once_for_each_batch(server: str, repository: str, asked: Counter[str]) -> None:
    registry = connected(server)
    for number in range(40):
        add_image(registry, repository, f"v{number}", [b"%d" % number])
    asked.clear()
    registry.delete(repository, *(f"v{number}" for number in range(20)))
    assert len(registry.tags(repository)) == 20
    assert asked["HEAD manifests"] == 20 + 2 * 20
    asked.clear()
    registry.delete(repository, *registry.tags(repository))
    assert asked["DELETE manifests"] == 20  # what the server cannot is known by now


def test_a_server_that_deletes_tags_is_asked_once_for_each(asked: Counter[str]) -> None:
    with fake() as server:
        registry = connected(server.url)
        image = add_image(registry, "a", "stays", [b"layer"])
        for number in range(10):
            registry.tag("a", "stays", f"v{number}")
        asked.clear()
        registry.delete("a", *(f"v{number}" for number in range(10)))
        assert registry.tags("a") == ("stays",)
        assert registry.manifest("a", "stays") == image
    assert (asked["DELETE manifests"], asked["HEAD manifests"]) == (10, 0)


def test_a_tag_that_comes_meanwhile_keeps_its_image(
    server: str, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build finds an image fresh and moves ``latest`` to it, while others are being deleted."""
    monkeypatch.setattr(distribution, "_BATCH", 1)
    registry, builder = connected(server), connected(server)
    images = {tag: add_image(registry, repository, tag, [tag.encode()]) for tag in ("v1", "v2", "latest")}
    known = Distribution._delete_image

    def deleting(self: Distribution, *rest: Any) -> None:  # noqa: ANN401
        known(self, *rest)
        builder.tag(repository, "v2", "latest")
        monkeypatch.undo()

    monkeypatch.setattr(Distribution, "_delete_image", deleting)
    registry.delete(repository, "v1", "v2")
    assert registry.tags(repository) == ("latest",)
    assert registry.manifest(repository, "latest") == images["v2"]


def test_a_tag_that_is_moved_while_it_is_put_aside_is_somebody_elses(
    server: str, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = connected(server)
    add_image(registry, repository, "stays", [b"ours"])
    for tag in ("v1", "v2"):
        registry.tag(repository, "stays", tag)
    theirs = add_image(registry, repository, "theirs", [b"theirs"])
    known = Distribution.put_manifest

    def putting(self: Distribution, *rest: Any, **more: Any) -> None:  # noqa: ANN401
        monkeypatch.undo()
        known(self, *rest, **more)
        registry.tag(repository, "theirs", "v2")

    monkeypatch.setattr(Distribution, "put_manifest", putting)
    with pytest.raises(TagMoved):
        registry.delete(repository, "v1", "v2")
    # What had been put aside before is gone, and no empty image is left.
    assert registry.tags(repository) == ("stays", "theirs", "v2")
    assert registry.resolve(repository, "v2") == theirs.digest


@pytest.mark.parametrize("go_on", [True, False])
def test_a_tag_that_was_put_aside_by_who_was_killed_then_is_no_image(
    server: str, repository: str, monkeypatch: pytest.MonkeyPatch, *, go_on: bool
) -> None:
    """Else the next build takes it for its own, and lets ``latest`` name nothing."""
    registry = connected(server)
    image = add_image(registry, repository, "latest", [b"layer"])
    registry.tag(repository, "latest", "key")

    def killed(*_: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    monkeypatch.setattr(Distribution, "_delete_image", killed)
    with pytest.raises(KeyboardInterrupt):
        registry.delete(repository, "key")
    monkeypatch.undo()
    assert registry.tags(repository) == ("key", "latest")
    assert registry.resolve(repository, "key") is None
    with pytest.raises(ImageNotFound):
        registry.manifest(repository, "key")
    if go_on:
        registry.delete(repository, "key")
        assert registry.tags(repository) == ("latest",)
    registry.tag(repository, "latest", "key", expected="absent")
    assert registry.manifest(repository, "key") == registry.manifest(repository, "latest") == image


@pytest.mark.parametrize("mode", ["deletes nothing", "is read-only"])
def test_where_nothing_is_deleted_no_tag_loses_its_image(tmp_path: Path, mode: str) -> None:
    with docker_registry(tmp_path) as url:
        image = add_image(connected(url), "a", "v1", [b"layer"])
        connected(url).tag("a", "v1", "latest")
    storage: dict[str, Any] = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    if mode == "is read-only":
        storage |= {"delete": {"enabled": True}, "maintenance": {"readonly": {"enabled": True}}}
    with docker_registry(tmp_path, more={"storage": storage}) as url:
        registry = connected(url)
        for tags in (["v1"], ["latest"], ["v1", "latest"]):
            with pytest.raises(RegistryRefused, match="does not delete"):
                registry.delete("a", *tags)
        assert {registry.resolve("a", tag) for tag in ("v1", "latest")} == {image.digest}
        assert registry.tags("a") == ("latest", "v1")
