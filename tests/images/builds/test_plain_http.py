"""Registries without TLS that are not this machine by their names: what the project file says holds for everybody."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.images.busybox import add_busybox
from tests.images.samples import add_image
from tests.images.servers import docker_registry
from tests.images.workshop import Shop

from spotweld.errors import BuildFailed, CacheUnsaved, RegistryRefused
from spotweld.images.builders.saying import explained
from spotweld.images.builds.freshness import standings
from spotweld.images.containers.pinning import resolve_image
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.opening import Registries, in_full, open_registry
from spotweld.images.registries.references import is_loopback
from spotweld.project.nouns import Job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "registry.test"
"""No name of this machine, but for whom its hosts file says so."""
PROJECT = """\
name: demo
registries: {persistent: "http://HOST", ephemeral: "http://HOST"}
images:
  base: {context: base, lifetime: persistent}
  upon: {context: upon, bases: {below: base}}
  named: {context: named}
jobs: {say: {command: "true", image: "HOST/demo/base:latest"}}
"""
FILES = {
    "base/Dockerfile": "FROM HOST/box\nARG A=1\nRUN echo base > /made\n",
    "upon/Dockerfile": "FROM below\nRUN cat /made\n",
    "named/Dockerfile": "FROM HOST/box\nCOPY --from=HOST/box /bin/sh /again\n",
}


@pytest.fixture
def called(tmp_path: Path) -> Iterator[Any]:
    """A project with a registry of another name; and the command line, in a namespace that knows the name."""
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
    with docker_registry(tmp_path) as url:
        host = f"{HOST}:{url.rpartition(':')[2]}"
        add_busybox(open_registry(url, {}), "box", "latest")
        for name, text in {"spotweld.yaml": PROJECT, **FILES}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text.replace("HOST", host))

        def call(*words: str) -> subprocess.CompletedProcess[str]:
            inside = 'mount --bind "$0" /etc/hosts && exec "$@"'
            alone = ["unshare", "--mount", "sh", "-c", inside, str(tmp_path / "hosts")]
            program = [sys.executable, "-c", "from spotweld.cli.main import main; main()", "-C", str(tmp_path), *words]
            return subprocess.run([*alone, *program], capture_output=True, text=True, timeout=120, check=False)

        yield SimpleNamespace(call=call, url=url, host=host, folder=tmp_path)


@pytest.mark.slow
def test_the_whole_way_with_buildah(called: Any) -> None:  # noqa: ANN401
    done = called.call("setup")
    assert done.returncode == 0, done.stdout + done.stderr
    built = called.call("build", "--builder", "buildah")
    assert built.returncode == 0, built.stderr
    registry = open_registry(called.url, {})
    for name in ("base", "upon", "named"):
        assert "latest" in registry.tags(f"demo/{name}")
        assert registry.tags(f"demo/{name}/cache")
    assert called.call("build", "--dry-run").returncode == 0
    assert called.call("cache", "warm", "base").returncode == 0
    (called.folder / ".spotweld/buildah").rename(called.folder / "away")
    (called.folder / "upon/Dockerfile").write_text("FROM below\nRUN cat /made\nRUN echo more\n")
    again = called.call("build", "upon", "--builder", "buildah")
    assert "HIT" in again.stderr, again.stderr
    assert called.call("plan", "say").returncode in {0, 2}
    assert called.call("teardown", "-y").returncode == 0


def test_a_bare_name_is_spoken_to_as_the_project_file_does(server: str, tmp_path: Path) -> None:
    """With this machine under a name of its own, since no name is looked up to find whether it is this machine."""
    port = server.rpartition(":")[2]
    known = (f"http://LOCALHOST:{port}".lower(), f"https://{HOST}")
    assert in_full(f"localhost:{port}", known) == f"http://localhost:{port}"
    assert in_full(HOST, known) == HOST
    assert Registries(plain=[f"http://{HOST}:5000"])[f"{HOST}:5000"].url == f"http://{HOST}:5000"
    assert Registries()[f"{HOST}:5000"].url == f"https://{HOST}:5000"
    add_image(open_registry(server, {}), "some/tool", "v1", [b"layer"])
    pinned = resolve_image(
        Shop(tmp_path, server).project, Job("say", "true", image=f"{server.partition('://')[2]}/some/tool:v1")
    )
    assert pinned is not None
    assert pinned.registry == server


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:80", "127.9.9.9", "[::1]:5000", "[::1]"])
def test_this_machine_by_its_very_names(host: str) -> None:
    assert is_loopback(host)
    assert open_registry(host, {}).url == f"http://{host}"


@pytest.mark.parametrize(
    "host", ["localhost.example.org", "127.0.0.1.example.org", "10.0.0.1:5000", "[fe80::1]:80", "1270.0.0.1", "vm:5000"]
)
def test_other_names(host: str) -> None:
    assert not is_loopback(host)
    assert open_registry(host, {}).url == f"https://{host}"


def test_a_builder_that_cannot_be_told_says_what_would_do(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (standing,) = standings(shop.project, ["tool"])
    why = f'failed to do request: Head "https://{HOST}/v2/x": http: server gave HTTP response to HTTPS client'
    for kind, line in ((CacheUnsaved, 0), (BuildFailed, 1), (BuildFailed, 0)):
        error = explained(kind("it failed", why), standing, line, Layout(tmp_path / "layout"))
        assert type(error) is RegistryRefused
        assert "it speaks plain HTTP, and the builder wants TLS of it" in error.why
        assert "insecure-registries" in error.todo
        assert "buildah" in error.todo
