"""Setting up and tearing down at registry servers that want a login, may only be read, or are full."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.test_setup import add_images
from tests.images.homes import build
from tests.images.registries.test_layouts import small_disk
from tests.images.samples import add_image, at, noise
from tests.images.servers import docker_registry, registry_with_login, registry_with_tokens

from spotweld.errors import RegistryFull
from spotweld.images.builds.records import read_kept
from spotweld.images.registries.copying import verify
from spotweld.images.registries.opening import open_registry
from spotweld.project.reading import load_project
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from tests.cli.conftest import Here


@pytest.fixture
def home(small: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """A project with a persistent and an ephemeral image; whoever logs in does so in a folder of the test's."""
    add_images(small)
    small.environ |= {"HOME": str(tmp_path / "nobody"), "DOCKER_CONFIG": str(tmp_path / "docker")}
    for name, value in small.environ.items():
        monkeypatch.setenv(name, value)
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "docker").mkdir()
    return small


def use(home: Here, persistent: str, ephemeral: str) -> None:
    file = home.folder / "spotweld.yaml"
    file.write_text(f"{file.read_text()}registries: {{persistent: '{persistent}', ephemeral: '{ephemeral}'}}\n")


def log_in(home: Here, url: str, login: str) -> None:
    entry = {"auth": base64.b64encode(login.encode()).decode()} if login else {}
    config = {"auths": {url.partition("://")[2]: entry}}
    Path(home.environ["DOCKER_CONFIG"], "config.json").write_text(json.dumps(config))


def built(home: Here) -> None:
    project, objects = load_project(home.folder / "spotweld.yaml"), LocalObjects(home.state / "store")
    for name in project.images:
        build(project, objects, name, "one", environ=os.environ)


def tags(url: str) -> dict[str, tuple[str, ...]]:
    registry = open_registry(url)
    names = {name: registry.tags(name) for name in registry.repositories()}
    return {name: found for name, found in names.items() if found}


def is_protected(home: Here) -> bool:
    kept = read_kept(LocalObjects(home.state / "store"), "base")
    return kept is not None and kept.protected


LOGINS = [("", "nobody has logged in to HOST", "Log in first"), ("me:wrong", "password of me is wrong", "Log in again")]


@pytest.mark.parametrize(("login", "why", "todo"), LOGINS)
def test_credentials_that_are_missing_or_wrong_are_told_once(
    home: Here, tmp_path: Path, login: str, why: str, todo: str
) -> None:
    with registry_with_login(tmp_path) as url:
        host = url.partition("://")[2]
        use(home, url, url)
        log_in(home, url, "me:secret")
        assert home.call("setup").exit_code == 0
        built(home)
        before = tags(url)
        log_in(home, url, login)
        result = home.call("setup")
        assert result.exit_code == 1
        assert [line[:2] for line in result.stdout.splitlines() if line[0] != " "] == ["ok", "--", "--", "ok", "ok"]
        assert result.stdout.count(why.replace("HOST", host)) == 1
        assert result.stdout.count(f"{todo}: docker login {host}") == 1
        assert "it is the same registry as the persistent one" in result.stdout
        result = home.call("teardown", "-y")
        assert result.exit_code == 6
        assert result.stderr.count(why.replace("HOST", host)) == 1
        assert f"{todo}: docker login {host}" in result.stderr
        log_in(home, url, "me:secret")
        assert tags(url) == before
        assert is_protected(home)
        result = home.call("teardown", "-y")
        assert (result.exit_code, list(tags(url))) == (0, ["small/base", "small/base/cache"]), result.output


def test_what_is_protected_is_on_record_before_anybody_has_logged_in(home: Here, tmp_path: Path) -> None:
    with registry_with_login(tmp_path) as url:
        use(home, url, f"oci:{tmp_path}/goes")
        result = home.call("setup")
        assert result.exit_code == 1
        # What can be done without a login is done.
        assert [line[:2] for line in result.stdout.splitlines() if line[0] != " "] == ["ok", "--", "++", "++", "++"]
        assert is_protected(home)
        log_in(home, url, "me:secret")
        assert home.call("setup").exit_code == 0
        assert tags(url) == {}


def test_an_account_that_may_only_read(home: Here, tmp_path: Path) -> None:
    with registry_with_tokens(tmp_path, {"owner": ["pull", "push", "delete"], "reader": ["pull"]}) as url:
        use(home, url, url)
        log_in(home, url, "owner:secret")
        assert home.call("setup").exit_code == 0
        built(home)
        before = tags(url)
        log_in(home, url, "reader:secret")
        for words, code in ((["setup"], 1), (["teardown", "-y"], 6)):
            result = home.call(*words)
            assert result.exit_code == code
            assert result.output.count("the account reader may not do that") == 1
            assert "Ask for the right, or log in as somebody else: docker login" in result.output
            assert tags(url) == before
        words = ["teardown", "--persistent", "--confirm", "base", "-y"]
        assert home.call(*words).exit_code == 6
        assert tags(url) == before
        assert is_protected(home)
        log_in(home, url, "owner:secret")
        assert home.call(*words).exit_code == 0
        assert tags(url) == {}


def test_a_registry_that_may_only_be_read(home: Here, tmp_path: Path) -> None:
    with docker_registry(tmp_path) as url:
        built_at = url
        use(home, url, url)
        built(home)
        before = tags(url)
    storage: dict[str, Any] = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}, "delete": {"enabled": True}}
    storage["maintenance"] = {"readonly": {"enabled": True}}
    port = int(built_at.rpartition(":")[2])
    with docker_registry(tmp_path, more={"storage": storage}, port=port) as url:
        for words, code in ((["setup"], 1), (["teardown", "--persistent", "--confirm", "base", "-y"], 6)):
            result = home.call(*words)
            assert result.exit_code == code
            assert "it is read-only, a mirror, or does not delete" in result.output
            assert "Use another registry, or have writing" in result.output
        assert tags(url) == before
        assert is_protected(home)


def test_a_registry_that_is_full(home: Here, tmp_path: Path) -> None:
    with small_disk("1m") as folder, docker_registry(tmp_path, data=folder / "data") as url:
        use(home, url, url)
        assert home.call("setup").exit_code == 0
        built(home)
        registry = open_registry(url)
        with pytest.raises(RegistryFull):
            add_image(registry, "small/trainer", "latest", [noise(1, 200_000), noise(2, 900_000)])
        assert verify(at(registry, "small/trainer", "latest")) == ()
        with pytest.raises(OSError, match="No space left"):
            (folder / "rest").write_bytes(bytes(2**20))
        result = home.call("setup")
        assert result.exit_code == 1
        assert result.stdout.count("the registry is full") == 1
        assert "Free some space there" in result.stdout
        # A teardown is a way to make room, so it needs none.
        result = home.call("teardown", "-y")
        assert result.exit_code == 0, result.output
        assert list(tags(url)) == ["small/base", "small/base/cache"]
