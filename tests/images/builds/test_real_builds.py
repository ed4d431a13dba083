"""The whole way with a real builder: a chain in layouts, machines that are killed, registries that refuse."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from tests.images.builders.rigs import KINDS, Counter, Gate, eventually, machine
from tests.images.servers import docker_registry

from spotweld.cli.main import program
from spotweld.errors import RegistryFull, RegistryRefused, SpotweldError
from spotweld.images.builders.buildah import Buildah, mounts_below
from spotweld.images.builds.building import build
from spotweld.images.builds.freshness import standings
from spotweld.images.builds.records import builds
from spotweld.images.registries.opening import open_registry
from spotweld.project.reading import load_project
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.images.builds.happenings import Built
    from spotweld.project.nouns import Project

pytestmark = pytest.mark.slow

PROJECT = """\
name: real
store: file:store
images:
  base: {context: base, lifetime: persistent}
  stack: {context: stack, bases: {base: base}}
jobs: {train: {command: "true"}}
"""
BASE = 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'


class Real:
    """A project, and this machine to build it on."""

    def __init__(self, folder: Path, registry: str = "") -> None:
        self.folder = folder
        (folder / "base").mkdir()
        (folder / "stack").mkdir()
        shutil.copy(shutil.which("busybox") or "", folder / "base/busybox")
        self.write("base/Dockerfile", BASE)
        self.write("spotweld.yaml", PROJECT + (f"registries: {{ephemeral: '{registry}'}}\n" if registry else ""))

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    @property
    def project(self) -> Project:
        return load_project(self.folder / "spotweld.yaml")

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(program, ["-C", str(self.folder), *words], env={"NO_COLOR": "1", "TERM": "dumb"})

    def build(self) -> tuple[Built, ...]:
        project = self.project
        return build(project, None, Buildah(project.state / "buildah"), open_store(project.store))

    def start(self) -> subprocess.Popen[bytes]:
        code = "from spotweld.cli.main import main; main()"
        words = ["build", "--builder", "buildah", "--progress", "plain"]
        return subprocess.Popen([sys.executable, "-c", code, *words], cwd=self.folder)

    def lose_machine(self) -> None:
        """All that is on this machine alone goes; registries and the store stay."""
        for mount in reversed(mounts_below(self.folder / ".spotweld/buildah")):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder / ".spotweld/buildah")


@pytest.fixture
def counter() -> Iterator[Counter]:
    with Counter() as counter:
        yield counter


@pytest.mark.parametrize("ours", ["", "out\n"])
def test_no_other_ignore_file_than_that_of_the_key_counts(tmp_path: Path, ours: str) -> None:
    real = Real(tmp_path)
    real.write(
        "stack/Dockerfile", f"FROM base\nCOPY . /all\nRUN test -e /all/in -a ! -e /all/{'out' if ours else 'no'}\n"
    )
    for name, text in {"in": "", "out": "", ".containerignore": "in\n"}.items():
        real.write(f"stack/{name}", text)
    if ours:
        real.write("stack/.dockerignore", ours)
    assert all(one.built for one in real.build())


def test_what_the_key_does_not_see_is_not_copied(tmp_path: Path) -> None:
    real = Real(tmp_path)
    (tmp_path / "base/docs/in").mkdir(parents=True)
    for name in ("docs/a.md", "docs/in/b[1]*.md", "docs/in/ #! .md ", "docs/kept.md", "docs/c.txt"):
        real.write(f"base/{name}", "x")
    real.write("base/.dockerignore", "**/*.md\n**/*.md*\n!docs\n!docs/kept.md\n")
    real.write("base/Dockerfile", BASE + "COPY docs /docs\n")
    kept = "test $(find /docs -type f | sort | tr '\\n' ,) = /docs/c.txt,/docs/kept.md,"
    real.write("stack/Dockerfile", f"FROM base\nRUN {kept}\n")
    assert all(one.built for one in real.build())


def test_a_machine_is_killed_and_another_goes_on_where_it_was(tmp_path: Path, counter: Counter) -> None:
    real = Real(tmp_path)
    lines = ["FROM base", counter.run("one"), "ARG WHAT=this", counter.run("two"), counter.run("three"), "CMD sh"]
    real.write("stack/Dockerfile", "\n".join(lines) + "\n")
    process = real.start()

    def kill(name: str) -> bool:
        if name == "begin/three":
            os.kill(process.pid, signal.SIGKILL)
            return False
        return True

    counter.hook = kill
    assert process.wait(timeout=80) == -signal.SIGKILL
    counter.hook = lambda _: True
    eventually(lambda: not _children(process.pid))
    real.lose_machine()

    base, stack = standings(real.project)
    assert base.is_published
    assert stack.digest is None
    _, made = real.build()
    assert [counter.calls.count(f"end/{name}") for name in ("one", "two", "three")] == [1, 1, 1]
    assert (made.hits, made.ran) == (2, 2)
    (record,) = builds(open_store(f"file:{tmp_path}/store"), "stack")
    assert [one.outcome for one in record.attempts] == ["begun", "done"]
    assert all(one.is_published for one in standings(real.project))
    counter.calls.clear()
    assert not any(one.built for one in real.build())
    assert counter.calls == []


@pytest.mark.parametrize(
    ("tag", "number"), [("[0-9a-f]{40}", 1), ("[0-9a-f]{40}", 2), ("latest", 1)], ids=["push", "label", "latest"]
)
def test_a_machine_is_killed_while_it_publishes(tmp_path: Path, counter: Counter, tag: str, number: int) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "project").mkdir()
    with docker_registry(tmp_path / "server") as url, Gate(url.removeprefix("http://")) as gate:
        real = Real(tmp_path / "project", f"http://{gate.host}")
        real.write("stack/Dockerfile", "\n".join(["FROM base", counter.run("one"), counter.run("two"), ""]))
        process = real.start()
        seen: list[str] = []

        def strike(line: str) -> bool:
            if re.match(f"PUT /v2/real/stack/manifests/{tag} ", line):
                seen.append(line)
            if len(seen) == number:
                os.kill(process.pid, signal.SIGKILL)
            return len(seen) < number

        gate.hook = strike
        assert process.wait(timeout=80) == -signal.SIGKILL
        eventually(lambda: not _children(process.pid))
        gate.hook = lambda _: True
        (_, stack) = real.build()  # on the same machine, upon what buildah has left there
        assert stack.built == (number == 1 and tag != "latest")
        real.lose_machine()
        assert all(one.is_published for one in standings(real.project))
        (record,) = builds(open_store(f"file:{tmp_path}/project/store"), "stack")
        assert record.digest == stack.digest
    assert [counter.calls.count(f"end/{name}") for name in ("one", "two")] == [1, 1]


def test_what_is_busted_runs_again_here_once_and_on_no_other_machine(tmp_path: Path, counter: Counter) -> None:
    real = Real(tmp_path)
    real.write("stack/Dockerfile", "\n".join(["FROM base", counter.run("one"), "ARG A=1", counter.run("two"), ""]))
    names = ["begin/one", "end/one", "begin/two", "end/two"]
    real.build()
    assert counter.calls == names
    assert real.call("cache", "bust", "stack", "-y").exit_code == 0
    assert "2 of 2 instructions" in real.call("build", "--dry-run", "--builder", "buildah").stdout
    real.build()
    assert counter.calls == 2 * names
    # Everything is in the registry again, also what buildah does not find by itself.
    real.lose_machine()
    (_, stack) = standings(real.project)
    open_registry(stack.registry).delete(stack.repository, stack.tag)
    assert "0 of 2 instructions" in real.call("build", "--dry-run", "--builder", "buildah").stdout
    assert "cached steps of stack are on this machine" in real.call("cache", "warm", "stack").stderr
    (_, made) = real.build()
    assert (made.built, made.hits, made.ran) == (True, 2, 0)
    assert counter.calls == 2 * names


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_machines_run_what_has_changed_and_nothing_else(tmp_path: Path, counter: Counter, kind: str) -> None:
    real = Real(tmp_path)
    mounting = f"RUN --mount=source=data,target=/data {counter.run('two').removeprefix('RUN ')} && cat /data > /copy"
    real.write("stack/Dockerfile", "\n".join(["FROM base", counter.run("one"), "ARG A=1", mounting, "CMD sh", ""]))
    ran = []
    for number, data in enumerate(("1", "2", "2", "1")):
        real.write("stack/data", data)
        counter.calls.clear()
        with machine(kind, tmp_path / f"machine{number}") as here:
            project = real.project
            made = build(project, None, here.builder(), open_store(project.store))
        ran.append(([one.built for one in made], [name for name in counter.calls if name.startswith("begin")]))
    assert ran == [
        ([True, True], ["begin/one", "begin/two"]),
        ([False, True], ["begin/two"]),
        ([False, False], []),
        ([False, False], []),
    ]


def test_registries_that_refuse(tmp_path: Path) -> None:
    real = Real(tmp_path)
    real.write("stack/Dockerfile", "FROM base\nRUN head -c 3000000 /dev/urandom > /noise\n")
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "read-only")}}
    closed = {"storage": {**storage, "maintenance": {"readonly": {"enabled": True}}}}
    assert isinstance(_refused(real, tmp_path / "one", closed), RegistryRefused)

    (tmp_path / "htpasswd").write_text("me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n")
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}}}
    refused = _refused(real, tmp_path / "two", auth)
    assert isinstance(refused, RegistryRefused)
    assert "login" in refused.todo

    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:
        full = _refused(real, tmp_path / "three", {"storage": {"filesystem": {"rootdirectory": str(small)}}})
        assert isinstance(full, RegistryFull), full.why
        assert "Free some space" in full.todo
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def _refused(real: Real, folder: Path, more: dict[str, object]) -> SpotweldError:
    folder.mkdir()
    with docker_registry(folder, more=more) as url:
        real.write("spotweld.yaml", PROJECT + f"registries: {{ephemeral: '{url}'}}\n")
        with pytest.raises(SpotweldError) as caught:
            real.build()
        assert caught.value.todo
        assert url in str(caught.value)
        return caught.value


def _children(pid: int) -> list[str]:
    """Processes whose parent was ``pid``, and those of buildah."""
    return [path.name for path in Path("/proc").glob("[0-9]*") if _parent(path) == pid]


def _parent(path: Path) -> int:
    try:
        return int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
