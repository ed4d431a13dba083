from __future__ import annotations

import json
import os
import pty
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from tests.cli.test_setup import add_images
from tests.images.homes import age, build, dies, key_of, standing

from spotweld.images.builds.naming import tag_of
from spotweld.images.builds.records import read_kept, write_kept
from spotweld.images.containers.hosting import hold
from spotweld.images.lifetimes.deciding import Plan
from spotweld.images.registries.opening import open_registry
from spotweld.project.reading import load_project
from spotweld.providers.opening import open_provider
from spotweld.providers.provider import Boot, Machine, MachineState
from spotweld.runs.events import Outcome
from spotweld.runs.teardown import Places, Scope, look, tear_down
from spotweld.store.local import LocalObjects
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Here

    from spotweld.project.nouns import Project
    from spotweld.providers.provider import Provider


def project_of(here: Here) -> Project:
    return load_project(here.folder / "spotweld.yaml")


def built(here: Here) -> None:
    """What `spotweld build` would do: nothing for an image that is in its registry under its key."""
    project, objects = project_of(here), LocalObjects(here.state / "store")
    for image in project.images.values():
        registry = open_registry(project.registries.of(image.lifetime))
        if registry.resolve(f"{project.name}/{image.name}", tag_of(key_of("one"))) is None:
            build(project, objects, image.name, "one")
            (here.folder / f"built-{image.name}-{len(list(here.folder.iterdir()))}").touch()


def builds_of(here: Here, image: str) -> int:
    return len(list(here.folder.glob(f"built-{image}-*")))


def tags(here: Here) -> dict[str, tuple[str, ...]]:
    return standing(project_of(here))


@pytest.fixture
def home(small: Here) -> Here:
    """A project that has built a persistent and an ephemeral image."""
    add_images(small)
    assert small.call("setup").exit_code == 0
    built(small)
    return small


def test_nothing_to_do(small: Here) -> None:
    result = small.call("teardown")
    assert (result.exit_code, result.stdout) == (0, "goes: nothing\nstays: nothing\n")
    assert result.stderr == "nothing to do\n"
    assert not small.state.exists()


def test_ephemeral_images_go_and_what_stays_is_told_with_its_command(home: Here) -> None:
    result = home.call("teardown", "-y")
    assert result.exit_code == 0
    assert list(tags(home)) == ["oci small/base", "oci small/base/cache"]
    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  image base (1 build"))
    assert [line.split() for line in lines[at + 1 : at + 3]] == [
        ["why", "persistent"],
        ["remove", "spotweld", "teardown", "base", "--persistent"],
    ]
    assert f"remove  rm -r {home.state}/store" in result.stdout
    assert result.stderr.splitlines()[-1] == "looked again: nothing of this project is left, but for what stays"
    again = home.call("teardown")
    assert (again.exit_code, again.stderr) == (0, "nothing to do\n")


def test_space_that_a_killed_teardown_has_left_is_given_back(home: Here) -> None:
    registry = open_registry(f"oci:{home.state}/images/ephemeral")
    for repository in registry.repositories():
        for tag in registry.tags(repository):
            registry.delete(repository, tag)
    age(home.state / "images/ephemeral")
    result = home.call("teardown")
    assert result.exit_code == 0
    assert "removed 0 machine(s) and 0 image(s)" in result.stderr
    assert not [path for path in (home.state / "images/ephemeral/blobs").rglob("*") if path.is_file()]


def test_a_dry_run_changes_nothing(home: Here) -> None:
    before = tags(home)
    result = home.call("teardown", "--dry-run")
    assert result.exit_code == 0
    assert "image trainer (2 tags, 1 cached steps" in result.stdout
    assert tags(home) == before
    told = json.loads(home.call("teardown", "--dry-run", "--json", "--persistent").stdout)
    assert [one["image"] for one in told["going"]["images"]] == ["trainer"]
    assert told["dry_run"] is True
    assert all(one["command"] and one["why"] for one in told["staying"])
    assert tags(home) == before


def test_images_can_be_skipped(home: Here) -> None:
    before = tags(home)
    assert home.call("teardown", "--skip-images", "-y").exit_code == 0
    assert tags(home) == before
    assert home.call("teardown", "--skip-images", "--persistent", "-y").exit_code == 2


def test_somebody_has_to_say_yes(home: Here) -> None:
    before = tags(home)
    assert home.call("teardown").exit_code == 2
    assert tags(home) == before


@pytest.mark.parametrize("words", [["-y", "--persistent"], ["-y", "--confirm", "base"]])
def test_yes_alone_never_takes_what_is_persistent(home: Here, words: list[str]) -> None:
    before = tags(home)
    result = home.call("teardown", *words)
    assert result.exit_code == 2
    assert "--confirm base" in result.stderr or "--persistent" in result.stderr
    assert tags(home) == before


def test_the_name_has_to_be_one(home: Here) -> None:
    result = home.call("teardown", "--persistent", "--confirm", "trainer", "-y")
    assert result.exit_code == 2
    assert "there are: base" in result.stderr
    result = home.call("teardown", "bse", "-y")
    assert result.exit_code == 2
    assert "did you mean base?" in result.stderr


def test_a_persistent_image_goes_when_its_name_is_said(home: Here) -> None:
    assert home.call("teardown", "base", "--persistent", "--confirm", "base", "-y").exit_code == 0
    assert list(tags(home)) == ["oci small/trainer", "oci small/trainer/cache"]


@pytest.mark.parametrize(("typed", "left"), [("base", False), ("bas", True), ("", True), ("y", True)])
def test_a_terminal_is_asked_for_the_name(home: Here, typed: str, left: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        running = home.start("teardown", "--persistent", stdin=theirs)
        os.write(ours, f"{typed}\ny\n".encode())
        _, errors = running.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert running.returncode == 0, errors
    assert "type its name" in errors
    assert any("/base" in name for name in tags(home)) == left
    assert not any("/trainer" in name for name in tags(home))


@pytest.mark.parametrize("edit", ["gone", "ephemeral"])
def test_the_file_cannot_unprotect(home: Here, edit: str) -> None:
    file = home.folder / "spotweld.yaml"
    text = file.read_text().replace(", bases: {base: base}", "")
    line = "  base: {context: images/base, lifetime: persistent}\n"
    file.write_text(text.replace(line, "" if edit == "gone" else line.replace("persistent", "ephemeral")))
    assert ("base" in project_of(home).images) == (edit == "ephemeral")
    assert home.call("setup").exit_code == 0
    result = home.call("teardown", "-y")
    assert result.exit_code == 0
    assert "protected when it was set up" in result.stdout
    registry = open_registry(f"oci:{home.state}/images/persistent")
    assert len(registry.tags("small/base")) == 2


def test_the_persistent_image_is_not_built_again(home: Here) -> None:
    """R5, with what stands in for the builder."""
    for _ in range(2):
        assert home.call("teardown", "-y").exit_code == 0
        assert home.call("setup").exit_code == 0
        built(home)
    assert builds_of(home, "base") == 1
    assert builds_of(home, "trainer") == 3


def start_machine(here: Here, run: str) -> Machine:
    """A machine that somebody left behind."""
    provider = open_provider(here.state, here.local)
    offer = provider.offers()[0]
    boot = Boot((sys.executable, "-c", "import time; time.sleep(300)"), here.environ)
    return provider.start(
        offer, boot, token=f"left-{run}", labels={"managed-by": "spotweld", "project": "small", "run": run}
    )


def alive(here: Here) -> list[str]:
    found = open_provider(here.state, here.local).machines({})
    return [machine.id for machine in found if machine.state is not MachineState.ENDED]


def test_machines_of_ended_runs_go(small: Here) -> None:
    assert small.call("launch", "say", "--name", "it", "-y", "--detach").exit_code == 0
    small.wait_for("it", lambda state: state.outcome is not None)
    machine = start_machine(small, "it")
    shown = small.call("teardown", "--dry-run")
    assert f"machine {machine.id} (" in shown.stdout
    assert "of the run it" in shown.stdout
    assert alive(small) == [machine.id]
    result = small.call("teardown", "--skip-images", "-y")
    assert result.exit_code == 0, result.output
    assert alive(small) == []
    assert small.run("it").outcome is Outcome.DONE


@pytest.mark.slow
def test_a_kill_anywhere_leaves_no_machine_to_the_next_one(small: Here) -> None:
    project = project_of(small)
    for at in range(1, 99):
        provider = open_provider(small.state, small.local)
        started = {start_machine(small, f"gone{number}-{at}").id for number in (1, 2)}

        def tearing(deadly: Callable[[object], Any], provider: Provider = provider) -> None:
            objects = LocalObjects(small.state / "store")
            places = Places(project, objects, deadly(provider), None)
            found = look(places, Scope(images=False), time.time())
            tear_down(places, Scope(images=False), found, Plan(), SystemClock())

        died = dies(at, tearing)
        assert set(alive(small)) <= started
        assert small.call("teardown", "--skip-images", "--cancel-runs", "-y").exit_code == 0
        assert alive(small) == []
        if not died:
            break
    assert 8 < at < 99


def test_active_runs_are_in_the_way_until_they_may_be_stopped(small: Here) -> None:
    assert small.call("launch", "sleepy", "--name", "it", "-y", "--detach").exit_code == 0
    small.wait_for("it", lambda state: state.phase == "running")
    result = small.call("teardown", "-y")
    assert result.exit_code == 2
    assert "SW6051" in result.stderr
    assert "the run it (running)" in result.stderr
    assert small.run("it").cancel_requested is False
    assert small.call("teardown", "--dry-run").exit_code == 0
    told = small.call("teardown", "--cancel-runs", "-y", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["left"] == []
    assert small.run("it").outcome is Outcome.CANCELLED
    assert alive(small) == []


def test_a_machine_of_an_unknown_run_may_be_needed(small: Here) -> None:
    machine = start_machine(small, "elsewhere")
    result = small.call("teardown", "-y")
    assert result.exit_code == 2
    assert "the run elsewhere, which is not in this project's log" in result.stderr
    assert alive(small) == [machine.id]
    assert small.call("teardown", "-y", "--cancel-runs").exit_code == 0
    assert alive(small) == []


def test_what_is_left_is_named_with_6(home: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody builds meanwhile."""
    from spotweld.runs import teardown

    known = teardown.remove

    def removing(*args: object, **more: object) -> object:
        done = known(*args, **more)  # type: ignore[arg-type]
        build(project_of(home), LocalObjects(home.state / "store"), "trainer", "two")
        return done

    monkeypatch.setattr(teardown, "remove", removing)
    result = home.call("teardown", "-y")
    assert result.exit_code == 6
    assert "SW6052" in result.stderr
    assert f"({'small/trainer'}): tags are left: latest, {tag_of(key_of('two'))}" in result.stderr
    monkeypatch.undo()
    assert home.call("teardown", "-y").exit_code == 0


def test_a_registry_that_cannot_be_looked_into_is_left_with_6(home: Here) -> None:
    (home.state / "images" / "ephemeral" / "index.json").write_text("{")
    for words in (["-y"], ["-y", "--json"]):
        result = home.call("teardown", *words)
        assert result.exit_code == 6
        assert "index.json" in result.stderr


def test_two_at_once(home: Here) -> None:
    both = [home.start("teardown", "-y") for _ in range(2)]
    ends = [one.communicate(timeout=60) for one in both]
    assert [one.returncode for one in both] == [0, 0], ends
    assert list(tags(home)) == ["oci small/base", "oci small/base/cache"]


def lose_registry(home: Here, url: str) -> None:
    """Have images been put into a registry that nobody reaches any more; the file names others now."""
    project = project_of(home)
    objects = LocalObjects(home.state / "store")
    for name in project.images:
        kept = read_kept(objects, name)
        assert kept is not None
        write_kept(objects, replace(kept, registry=url))


def test_a_registry_that_is_gone_for_good(home: Here, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    lose_registry(home, url)
    command = f"spotweld teardown --forget {url}"
    for _ in range(2):
        result = home.call("teardown", "-y")
        assert result.exit_code == 6
        assert f"If it is gone for good: {command}" in result.stderr
    # Nothing but the registry's own name does.
    for words in ([], ["-y"], ["--confirm", "base"], ["--confirm", "base", "-y"]):
        result = home.call(*command.split()[1:], *words)
        assert result.exit_code == 2
        assert f"--confirm {url}" in result.stderr
    assert home.call("teardown", "--forget", url, "--persistent").exit_code == 2
    told = json.loads(home.call("teardown", "--forget", url, "--dry-run", "--json").stdout)
    assert [(one["image"], one["protected"]) for one in told["images"]] == [("base", True), ("trainer", False)]
    assert home.call("teardown", "-y").exit_code == 6
    result = home.call("teardown", "--forget", url, "--confirm", url)
    assert result.exit_code == 0
    assert "image base (PERSISTENT, " in result.stdout
    assert result.stderr.splitlines()[-1] == "next: spotweld teardown --dry-run"
    result = home.call("teardown", "-y")
    assert result.exit_code == 0, result.output
    assert f"forgotten: {url} on " in result.stdout
    told = json.loads(home.call("teardown", "--dry-run", "--json").stdout)
    assert [one["registry"] for one in told["forgotten"]] == [url]
    assert home.call("teardown", "--forget", url, "--confirm", url).exit_code == 2


def test_only_a_registry_that_is_gone_is_forgotten(home: Here, tmp_path: Path) -> None:
    there = f"oci:{home.state}/images/ephemeral"
    result = home.call("teardown", "--forget", there, "--confirm", there)
    assert result.exit_code == 2
    assert "the project file names it" in result.stderr
    result = home.call("teardown", "--forget", "http://127.0.0.1:1", "--confirm", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert there in result.stderr
    lose_registry(home, f"oci:{tmp_path}/other")
    result = home.call("teardown", "--forget", f"oci:{tmp_path}/other", "--confirm", f"oci:{tmp_path}/other")
    assert result.exit_code == 2
    assert "it answers, so it is not gone" in result.stderr


@pytest.mark.parametrize("typed", ["URL", "y", ""])
def test_a_terminal_is_asked_for_the_registrys_name(home: Here, free_port: int, typed: str) -> None:
    url = f"http://127.0.0.1:{free_port}"
    lose_registry(home, url)
    ours, theirs = pty.openpty()
    try:
        running = home.start("teardown", "--forget", url, stdin=theirs)
        os.write(ours, f"{typed.replace('URL', url)}\n".encode())
        _, errors = running.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "type its URL" in errors
    assert running.returncode == (0 if typed == "URL" else 1)
    kept = read_kept(LocalObjects(home.state / "store"), "base")
    assert kept is not None
    assert kept.protected == (typed != "URL")


def fetched(here: Here) -> Path:
    """Leave what machines of this host would have fetched."""
    folder = here.state / "cloud/cache/images"
    (folder / "fetched-vfs").mkdir(parents=True)
    (folder / "fetched-vfs/a.json").write_text("{}")
    (folder / "blob").write_bytes(bytes([1]) * 200_000)
    return folder


def test_what_machines_have_fetched_goes_and_is_counted(home: Here) -> None:
    folder = fetched(home)
    shown = home.call("cache", "status")
    assert "fetched on this host: 1 image, 2" in shown.stderr
    assert json.loads(home.call("cache", "status", "--json").stdout)["host"]["folder"] == str(folder)
    told = json.loads(home.call("teardown", "--dry-run", "--json").stdout)["going"]["host"]
    assert (told["images"], told["in_use"]) == (1, False)
    assert home.call("teardown", "trainer", "-y").exit_code == 0
    assert home.call("teardown", "--skip-images", "-y").exit_code == 0
    assert folder.exists()
    result = home.call("teardown", "-y")
    assert result.exit_code == 0, result.output
    assert "  fetched on this host: 1 image, " in result.stdout
    assert not folder.exists()
    assert json.loads(home.call("cache", "status", "--json").stdout)["host"] is None
    assert home.call("teardown").stderr == "nothing to do\n"


def test_what_a_machine_uses_is_left_with_6(home: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spotweld.runs.teardown._LINGER", 0.0)
    folder = fetched(home)
    lock = hold(folder)
    try:
        result = home.call("teardown", "-y")
        assert result.exit_code == 6
        assert "a machine uses them" in result.stderr
        assert (folder / "blob").exists()
        assert "in use" in home.call("cache", "status").stderr
    finally:
        os.close(lock)
    assert home.call("teardown", "-y").exit_code == 0
    assert not folder.exists()
