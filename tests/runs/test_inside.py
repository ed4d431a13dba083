"""What the agent does about a job's image: it waits, tells, and keeps credentials and the machine's paths to itself."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spotweld.checkpoint.events import ImageFetching, ImageReady, parse_event
from spotweld.checkpoint.hazard import STEADY
from spotweld.errors import ImageNotFound, RegistryUnavailable
from spotweld.images.containers.pinning import Pinned
from spotweld.images.containers.preparing import Prepared
from spotweld.images.containers.rooting import Container
from spotweld.images.registries.copying import Phase, Progress
from spotweld.project.nouns import CheckpointPolicy, Tier
from spotweld.runs import inside
from spotweld.runs.agent import Agent
from spotweld.runs.inside import enter, seen_inside
from spotweld.runs.reports import Spec
from spotweld.store.opening import open_store
from spotweld.values import environment
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

DIGEST = Digest("sha256:" + "0" * 64)
IMAGE = Pinned("box", "https://h.example", "x/box", DIGEST)
CONTAINER = Container(Path("/root-of-it"), {"PATH": "/bin", "HOME": "/root"}, ("chroot", "/root-of-it", "sh", "-c"))


def spec(**more: Any) -> Spec:  # noqa: ANN401 - fields of it
    policy = CheckpointPolicy(tiers=(Tier("file:/fast/tier"), Tier("s3://bucket")))
    return Spec("r", 1, "sources/0", "true", "", {"MINE": "1"}, policy, STEADY, **more)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls of ``prepare``; it does nothing but ask what ``hook`` says."""
    calls: list[dict[str, Any]] = []

    def prepare(*given: Any) -> Prepared:  # noqa: ANN401
        names = ("pinned", "host", "disk", "work", "shared", "environment", "tell")
        calls.append(dict(zip(names, given, strict=True)))
        HOOK[0](calls[-1])
        return Prepared(CONTAINER, 7, here=False)

    monkeypatch.setattr(inside, "prepare", prepare)
    monkeypatch.setattr(inside, "check_here", lambda: None)
    monkeypatch.setattr(inside, "_AGAIN", 0.0)
    monkeypatch.setattr(inside, "_TELL", 0.0)
    HOOK[0] = lambda _: None
    return calls


HOOK: list[Callable[[dict[str, Any]], None]] = [lambda _: None]


def test_a_registry_that_is_down_is_waited_for(prepared: list[dict[str, Any]], tmp_path: Path) -> None:
    def hook(_: dict[str, Any]) -> None:
        if len(prepared) < 3:
            raise RegistryUnavailable("down")

    HOOK[0] = hook
    environ = {environment.STORE: f"file:{tmp_path}/my%20store", environment.HOST_CACHE: "/shared"}
    assert enter(IMAGE, spec(), tmp_path, environ, tmp_path / "events.jsonl") == CONTAINER
    assert len(prepared) == 3
    assert prepared[0]["shared"] == [tmp_path, tmp_path / "my store", Path("/fast/tier")]
    assert prepared[0]["host"] == Path("/shared/images")


def test_what_waiting_does_not_help_with_is_raised_at_once(prepared: list[dict[str, Any]], tmp_path: Path) -> None:
    def hook(_: dict[str, Any]) -> None:
        raise ImageNotFound("gone")

    HOOK[0] = hook
    with pytest.raises(ImageNotFound):
        enter(IMAGE, spec(), tmp_path, {environment.STORE: "s3://b"}, tmp_path / "events.jsonl")
    assert len(prepared) == 1


def test_credentials_lie_on_the_disk_only_while_the_image_is_fetched(
    prepared: list[dict[str, Any]], tmp_path: Path
) -> None:
    def hook(call: dict[str, Any]) -> None:
        file = Path(call["environment"]["REGISTRY_AUTH_FILE"])
        assert file.read_text() == "secret"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    HOOK[0] = hook
    environ = {environment.STORE: "s3://b", environment.REGISTRY_AUTH: "secret"}
    enter(IMAGE, spec(), tmp_path, environ, tmp_path / "events.jsonl")
    assert len(prepared) == 1
    assert not any("secret" in path.read_text() for path in tmp_path.iterdir())


def test_it_tells_how_far_a_fetch_is_and_when_it_is_done(prepared: list[dict[str, Any]], tmp_path: Path) -> None:
    def hook(call: dict[str, Any]) -> None:
        for phase, digest, done in ((Phase.THERE, "a", 50), (Phase.MOVING, "b", 20), (Phase.MOVED, "c", 30)):
            call["tell"](Progress(phase, Digest(digest), done, 100))

    HOOK[0] = hook
    enter(IMAGE, spec(), tmp_path, {environment.STORE: "s3://b"}, tmp_path / "events.jsonl")
    told = [parse_event(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event.done for event in told if isinstance(event, ImageFetching)] == [20, 50]
    assert isinstance(told[-1], ImageReady)
    assert (told[-1].image, told[-1].digest, told[-1].moved, told[-1].here) == ("box", DIGEST, 7, False)
    assert len(prepared) == 1


def test_the_machines_paths_mean_nothing_in_an_image() -> None:
    machine = {"PATH": "/usr/bin", "PYTHONPATH": "/here", "HOME": "/disk", "LD_LIBRARY_PATH": "/lib", "TMPDIR": "/t"}
    kept = {"SPOTWELD_STORE": "s3://b", "AWS_REGION": "x", "https_proxy": "p", "CUDA_VISIBLE_DEVICES": "0"}
    assert seen_inside(CONTAINER, machine | kept) == {"PATH": "/bin", "HOME": "/root"} | kept


@pytest.mark.parametrize("hosts", [(), ("h.example",)])
def test_only_a_program_of_our_own_gets_credentials(hosts: tuple[str, ...], tmp_path: Path) -> None:
    environ = {environment.REGISTRY_AUTH: "secret", environment.HOST_CACHE: "/c", environment.METADATA: "http://m"}
    found = Agent(spec(hosts=hosts), open_store("memory:"), tmp_path, environ)._process_environment()
    assert (environment.REGISTRY_AUTH in found) == bool(hosts)
    assert environment.HOST_CACHE not in found
    assert environment.METADATA not in found
    assert found["MINE"] == "1"
