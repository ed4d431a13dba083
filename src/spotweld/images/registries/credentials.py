"""Whom a registry takes us for: what ``docker login``, ``buildah login`` and ``skopeo login`` have left.

The files and their order are those of containers-auth.json(5) and of Docker's config.json
(https://docs.docker.com/reference/cli/docker/login/): a helper of the host first, then the one of all hosts, then the
entry itself. An entry may be of some repositories only (``HOST/some``); the longest name that fits is taken.
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.errors import RegistryRefused
from spotweld.images.registries.references import HUB

if TYPE_CHECKING:
    from collections.abc import Mapping

_HUB_KEY = "https://index.docker.io/v1/"
_PATIENCE = 30.0
"""Seconds that a helper may take."""


class Credentials(msgspec.Struct, frozen=True):
    """What to show a registry."""

    user: str = ""
    password: str = ""
    token: str = ""
    """An identity token in place of user and password (OAuth 2 refresh token)."""

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(host: str, environment: Mapping[str, str], repository: str = "") -> Credentials | None:
    """Those for ``host``; None: nobody has logged in there.

    Args:
        host: with its port.
        environment: says where the files are.
        repository: what they are for; empty: no repository.

    Raises:
        RegistryRefused: a file cannot be read, or a helper fails.
    """
    for path in _files(environment):
        config = _read(path)
        names = (host, _HUB_KEY) if host == HUB else (host,)
        for name in names:
            helper = _table(config, "credHelpers").get(name) or config.get("credsStore")
            if helper and (found := _ask(str(helper), name)):
                return found
        entries = _table(config, "auths")
        parts = f"{host}/{repository}".split("/") if repository else [host]
        for length in range(len(parts), 1, -1):
            if found := _entry(entries.get("/".join(parts[:length])), path):
                return found
        for key, entry in entries.items():
            if (key in names or _host_of(key) in names) and (found := _entry(entry, path)):
                return found
    return None


def all_credentials(host: str, environment: Mapping[str, str]) -> dict[str, Credentials]:
    """Those for ``host`` and for each part of it that has its own, by their keys in such a file.

    Raises:
        RegistryRefused: a file cannot be read, or a helper fails.
    """
    within = f"{host}/"
    keys = {key for path in _files(environment) for key in _table(_read(path), "auths") if key.startswith(within)}
    found = {key: find_credentials(host, environment, key[len(within) :]) for key in (host, *sorted(keys))}
    return {key: one for key, one in found.items() if one}


def _files(environment: Mapping[str, str]) -> list[Path]:
    if named := environment.get("REGISTRY_AUTH_FILE"):
        return [Path(named)]
    home = Path(environment.get("HOME", "/"))
    runtime = environment.get("XDG_RUNTIME_DIR")
    docker = environment.get("DOCKER_CONFIG")
    return [
        *([Path(docker) / "config.json"] if docker else []),
        *([Path(runtime) / "containers/auth.json"] if runtime else []),
        home / ".config/containers/auth.json",
        home / ".docker/config.json",
    ]


def _read(path: Path) -> dict[str, Any]:
    """What a file says; nothing where there is none."""
    try:
        config = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise RegistryRefused(f"Cannot read the credentials in {path}", str(error), "Log in again.") from error
    if not isinstance(config, dict):
        raise RegistryRefused(f"Cannot read the credentials in {path}", "it is no JSON object", "Log in again.")
    return config


def _table(config: dict[str, Any], key: str) -> dict[str, Any]:
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _host_of(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key


def _entry(entry: Any, path: Path) -> Credentials | None:  # noqa: ANN401  anything may stand in the file
    if not isinstance(entry, dict):
        return None
    if token := entry.get("identitytoken"):
        return Credentials(token=str(token))
    if not (packed := entry.get("auth")):
        user, password = entry.get("username"), entry.get("password")
        return Credentials(str(user), str(password)) if user and password else None
    try:
        user, _, password = base64.b64decode(packed, validate=True).decode().partition(":")
    except (ValueError, TypeError) as error:
        raise RegistryRefused(
            f"Cannot read the credentials in {path}", "'auth' is no base64", "Log in again."
        ) from error
    return Credentials(user, password.rstrip("\0"))


def _ask(helper: str, name: str) -> Credentials | None:
    """What a credential helper says (https://github.com/docker/docker-credential-helpers)."""
    program = f"docker-credential-{helper}"
    todo = f"Try it by hand: echo {name} | {program} get"
    try:
        done = subprocess.run(
            [program, "get"],
            input=name,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryRefused(f"Cannot get credentials for {name} from {program}", str(error), todo) from error
    if done.returncode != 0:
        if "not found" in done.stdout + done.stderr:
            return None
        why = (done.stdout + done.stderr).strip()[:200]
        raise RegistryRefused(f"Cannot get credentials for {name} from {program}", why, todo)
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryRefused(f"Cannot understand what {program} says of {name}", repr(error), todo) from error
    return Credentials(token=secret) if user == "<token>" else Credentials(user, secret)
