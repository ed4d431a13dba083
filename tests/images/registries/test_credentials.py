from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import RegistryRefused
from spotweld.images.registries.credentials import Credentials, all_credentials, find_credentials

if TYPE_CHECKING:
    from pathlib import Path

ME = Credentials("me", "a:b")
ENTRY = {"auth": base64.b64encode(b"me:a:b").decode()}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def helper(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread host\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_nobody_has_logged_in(tmp_path: Path) -> None:
    assert find_credentials("a.b", {"HOME": str(tmp_path)}) is None
    write(tmp_path / ".docker/config.json", {"auths": {"other": ENTRY, "a.b": {}}, "credHelpers": {}})
    assert find_credentials("a.b", {"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("place", "variable"),
    [
        (".docker/config.json", "HOME"),
        (".config/containers/auth.json", "HOME"),
        ("config.json", "DOCKER_CONFIG"),
        ("containers/auth.json", "XDG_RUNTIME_DIR"),
    ],
)
def test_every_place_is_looked_at(tmp_path: Path, place: str, variable: str) -> None:
    write(tmp_path / place, {"auths": {"a.b:5000": ENTRY}})
    assert find_credentials("a.b:5000", {variable: str(tmp_path)}) == ME
    assert find_credentials("a.b", {variable: str(tmp_path)}) is None
    write(tmp_path / "mine", {"auths": {}})
    assert find_credentials("a.b:5000", {variable: str(tmp_path), "REGISTRY_AUTH_FILE": str(tmp_path / "mine")}) is None


@pytest.mark.parametrize(
    ("key", "host"),
    [("https://a.b/v1/", "a.b"), ("https://index.docker.io/v1/", "docker.io"), ("docker.io", "docker.io")],
)
def test_older_forms_of_the_key_are_known(tmp_path: Path, key: str, host: str) -> None:
    write(tmp_path / "config.json", {"auths": {key: ENTRY}})
    assert find_credentials(host, {"DOCKER_CONFIG": str(tmp_path)}) == ME


def test_a_repository_takes_the_longest_key_that_names_it(tmp_path: Path) -> None:
    def entry(user: str) -> dict[str, str]:
        return {"auth": base64.b64encode(f"{user}:p".encode()).decode()}

    where = {"DOCKER_CONFIG": str(tmp_path)}
    keys = {"a.b": "all", "a.b/team": "team", "a.b/team/one": "one", "https://c.d/v1/": "old"}
    write(tmp_path / "config.json", {"auths": {key: entry(user) for key, user in keys.items()}})
    users = {"": "all", "other": "all", "team": "team", "teams": "all", "team/two": "team", "team/one/x": "one"}
    for repository, user in users.items():
        assert find_credentials("a.b", where, repository) == Credentials(user, "p")
    assert find_credentials("c.d", where, "team/one") == Credentials("old", "p")
    assert all_credentials("a.b", where) == {key: Credentials(user, "p") for key, user in list(keys.items())[:3]}
    assert set(all_credentials("c.d", where)) == {"c.d"}
    assert all_credentials("e.f", where) == {}


def test_user_and_password_may_stand_unpacked(tmp_path: Path) -> None:
    """As Docker takes them, and as secrets of Kubernetes are often written."""
    plain = {"username": "me", "password": "a:b"}
    write(tmp_path / "config.json", {"auths": {"a.b": plain, "c.d": {**plain, **ENTRY, "password": "old"}}})
    assert find_credentials("a.b", {"DOCKER_CONFIG": str(tmp_path)}) == ME
    assert find_credentials("c.d", {"DOCKER_CONFIG": str(tmp_path)}) == ME
    write(tmp_path / "config.json", {"auths": {"a.b": {"username": "me"}, "c.d": {"password": "a:b"}}})
    assert find_credentials("a.b", {"DOCKER_CONFIG": str(tmp_path)}) is None
    assert find_credentials("c.d", {"DOCKER_CONFIG": str(tmp_path)}) is None


def test_a_token_goes_before_a_password(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"auths": {"a.b": {**ENTRY, "identitytoken": "t"}}})
    assert find_credentials("a.b", {"DOCKER_CONFIG": str(tmp_path)}) == Credentials(token="t")


def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, "mine", """echo '{"Username": "'$host'", "Secret": "s"}'""", monkeypatch)
    helper(tmp_path, "tokens", """echo '{"Username": "<token>", "Secret": "t"}'""", monkeypatch)
    helper(tmp_path, "empty", "echo credentials not found in native keychain; exit 1", monkeypatch)
    where = {"DOCKER_CONFIG": str(tmp_path)}
    write(tmp_path / "config.json", {"credHelpers": {"a.b": "mine"}, "credsStore": "tokens", "auths": {"c.d": ENTRY}})
    assert find_credentials("a.b", where) == Credentials("a.b", "s")
    assert find_credentials("c.d", where) == Credentials(token="t")
    write(tmp_path / "config.json", {"credsStore": "empty", "auths": {"c.d": ENTRY}})
    assert find_credentials("c.d", where) == ME
    assert find_credentials("e.f", where) is None


@pytest.mark.parametrize(
    "script", ["echo locked >&2; exit 1", "echo hello", "echo '{}'", "echo '[]'", "printf '\\344'", None]
)
def test_a_helper_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    if script:
        helper(tmp_path, "mine", script, monkeypatch)
    write(tmp_path / "config.json", {"credsStore": "mine"})
    with pytest.raises(RegistryRefused, match="docker-credential-mine"):
        find_credentials("a.b", {"DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"a.b": {"auth": "%%"}}}', '{"auths": {"a.b": {"auth": 1}}}'])
def test_a_file_that_makes_no_sense_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RegistryRefused, match="Cannot read the credentials in"):
        find_credentials("a.b", {"DOCKER_CONFIG": str(tmp_path)})


def test_no_secret_is_shown() -> None:
    assert "secret" not in repr(Credentials("me", "secret", "secret"))


@pytest.mark.parametrize("text", ['{"auths": []}', '{"auths": {"h:1": 7}, "credHelpers": "x"}', '{"auths": null}'])
def test_tables_of_another_shape_hold_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert find_credentials("h:1", {"DOCKER_CONFIG": str(tmp_path), "HOME": "/nowhere"}) is None


def test_a_password_that_is_no_base64_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"h:1": {"auth": "\u00e4"}}}')
    with pytest.raises(RegistryRefused, match="no base64"):
        find_credentials("h:1", {"DOCKER_CONFIG": str(tmp_path), "HOME": "/nowhere"})


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(RegistryRefused, match="Cannot read the credentials"):
        find_credentials("h:1", {"DOCKER_CONFIG": str(tmp_path), "HOME": "/nowhere"})
