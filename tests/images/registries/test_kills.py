"""SIGKILL in the middle of a copy: the old tag stays, and the next copy moves nothing that has arrived."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.images.samples import add_image, add_index, at, noise

from spotweld.images.registries.copying import Phase, Progress, copy, verify
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import Manifest, blobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.images.registries.registry import Registry

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from spotweld.images.registries import copying
from spotweld.images.registries import distribution
from spotweld.images.registries.opening import open_registry
distribution.CHUNK = 30_000
distribution._PIECE = 20_000
from spotweld.images.registries import layouts
layouts._PIECE = 20_000
source, target, repository, kill_at = sys.argv[1:]
count = 0
def hear(progress):
    global count
    count += 1
    print(json.dumps([progress.phase, progress.digest]), flush=True)
    if count == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
place = copying.Place(open_registry(source, {}), "a", "new")
copying.copy(place, copying.Place(open_registry(target, {}), repository, "latest"), hear)
"""
KILLED = -9


def copying(source: Registry, target: Registry, repository: str, kill_at: int, *wrapper: str) -> tuple[int, list[str]]:
    """Copy ``a:new`` in a process that kills itself at an event; its status, and which digests it had finished."""
    command = [*wrapper, sys.executable, "-c", PROGRAM, source.url, target.url, repository, str(kill_at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, KILLED}, done.stderr
    heard = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, [digest for phase, digest in heard if phase == Phase.MOVED]


def prepared(tmp_path: Path) -> tuple[Layout, Manifest]:
    """A layout with an image for two platforms, tagged ``a:new``; three of its five layers are several pieces long."""
    source = Layout(tmp_path / "source")
    one = add_image(source, "a", None, [noise("base", 70_000), b"small", noise("one", 50_000)])
    two = add_image(source, "a", None, [noise("base", 70_000), noise("two", 90_000)])
    return source, add_index(source, "a", "new", [("amd64", one), ("arm64", two)])


@pytest.mark.parametrize(
    ("target", "kill_at"),
    [("layout", 2), ("layout", 9), ("distribution", 5), ("distribution", 11)],
)
def test_a_kill_in_a_copy_leaves_the_old_image(
    target: str, kill_at: int, tmp_path: Path, opened: Callable[[str], Registry], repository: str
) -> None:
    assert killed_and_copied_again(target, kill_at, tmp_path, opened, repository)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["layout", "distribution"])
def test_a_kill_at_any_event_leaves_the_old_image(
    target: str, tmp_path: Path, opened: Callable[[str], Registry], repository: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at, killed = 1, 0
    while killed_and_copied_again(target, kill_at, tmp_path / str(kill_at), opened, f"{repository}-{kill_at}"):
        killed += 1
        kill_at += 1 if target == "layout" else 2
    with capsys.disabled():
        sys.stdout.write(f"\ncopy to a {target}: killed {killed} times, the old tag stayed each time\n")
    assert kill_at > 20


def killed_and_copied_again(
    kind: str, kill_at: int, tmp_path: Path, opened: Callable[[str], Registry], repository: str
) -> bool:
    """Whether the copy was killed."""
    source, image = prepared(tmp_path)
    target = opened(kind)
    # Blobs of its own, because the server shares them among its repositories in its own ways.
    old = add_image(target, repository, "latest", [noise((repository, "old"), 1000)])
    status, arrived = copying(source, target, repository, kill_at)
    if status == 0:
        assert target.resolve(repository, "latest") == image.digest
        return False
    last = arrived[-1:] == [image.digest]
    assert target.resolve(repository, "latest") == (image.digest if last else old.digest)
    assert verify(at(target, repository, "latest")) == ()
    heard: list[Progress] = []
    done = copy(at(source, "a", "new"), at(target, repository), heard.append)
    assert not [one for one in heard if one.phase in {Phase.MOVING, Phase.MOVED} and one.digest in arrived]
    assert target.resolve(repository, "latest") == image.digest == done.digest
    assert verify(at(target, repository, "latest")) == ()
    manifests = [source.manifest("a", one) for one in (image.digest, *(c["digest"] for c in _children(image)))]
    parts = {part.digest: part.size for manifest in manifests for part in blobs(manifest)}
    assert done.moved + done.there == sum(parts.values())
    assert done.there >= sum(size for digest, size in parts.items() if digest in arrived)
    return True


def _children(image: Manifest) -> list[dict[str, str]]:
    return list(json.loads(image.data)["manifests"])


@pytest.mark.slow
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "flock"])
def test_a_kill_at_any_system_call_leaves_the_old_image(call: str, tmp_path: Path) -> None:
    source, image = prepared(tmp_path)
    number, killed = 1, 0
    while True:
        target = Layout(tmp_path / f"target-{number}")
        old = add_image(target, "b", "latest", [b"old"])
        inject = f"inject={call}:signal=KILL:when={number}"
        seen = ["strace", "-f", "-o", "/dev/null"]
        status, _ = copying(source, target, "b", 0, *seen, "-e", f"trace={call}", "-e", inject)
        reached = Layout(target.folder)
        assert reached.resolve("b", "latest") in {old.digest, image.digest}
        assert verify(at(reached, "b", "latest")) == ()
        copy(at(source, "a", "new"), at(reached, "b"))
        assert reached.resolve("b", "latest") == image.digest
        assert verify(at(reached, "b", "latest")) == ()
        assert not list((target.folder / "blobs").rglob(".~*"))
        if status == 0:
            break
        killed += 1
        number += 1 if call != "write" else 3
    assert killed >= 1
