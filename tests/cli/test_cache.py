"""The verbs about the caches of images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from tests.checkpoint.saved import save
from tests.images.builds.test_records import build as record_of
from tests.images.caches.test_caches import KEYS, built, contents_of, image_of
from tests.images.servers import docker_registry

from spotweld.cli.main import program
from spotweld.images.builds.naming import LATEST
from spotweld.images.builds.records import Kept, change_kept, write_build
from spotweld.images.registries.copying import Place, copy
from spotweld.images.registries.distribution_client import Client
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import digest_of
from spotweld.project.nouns import Lifetime
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """\
name: demo
images:
  base: {lifetime: persistent}
  trainer: {}
jobs: {train: {command: "true"}}
"""
OLD = 1_000_000_000.0


class Shelf:
    """A project with images, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "spotweld.yaml").write_text(PROJECT)
        (folder / "Dockerfile").write_text("FROM scratch\n")
        images = folder / ".spotweld/images"
        self.persistent, self.ephemeral = Layout(images / "persistent"), Layout(images / "ephemeral")

    def call(self, *words: str, **more: Any) -> Result:  # noqa: ANN401 - CliRunner's
        environ = {"NO_COLOR": "1", "TERM": "dumb", "XDG_CONFIG_HOME": str(self.folder / "home"), "PATH": "/nowhere"}
        result = CliRunner().invoke(program, ["-C", str(self.folder), "cache", *words], env=environ, **more)
        assert "Traceback" not in result.output
        return result

    def json(self, *words: str, status: int = 0) -> Any:  # noqa: ANN401
        result = self.call(*words, "--json")
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)

    def make_old(self) -> None:
        for layout in (self.persistent, self.ephemeral):
            for path in layout.folder.glob("blobs/*/*"):
                os.utime(path, (OLD, OLD))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf(tmp_path)
    built(made.persistent, "demo/base")
    built(made.ephemeral, "demo/trainer")
    return made


def test_with_no_image_there_is_nothing_to_say(tmp_path: Path) -> None:
    empty = Shelf(tmp_path)
    assert empty.json("status") == {"images": [], "unseen": [], "host": None}
    for words in (
        ("status",),
        ("status", "base"),
        ("inspect", "base"),
        ("bust", "base"),
        ("clear", "--older-than", "1d"),
    ):
        result = empty.call(*words)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr
    assert empty.json("verify") == {"read": 0, "faults": [], "unseen": []}
    assert not (tmp_path / ".spotweld/images").exists()


def test_an_unknown_image_is_refused_with_the_nearest(shelf: Shelf) -> None:
    for words in (("status",), ("inspect",), ("verify",), ("bust", "-y"), ("clear", "--older-than", "1d", "-y")):
        result = shelf.call(*words, "trainr")
        assert result.exit_code == 2
        assert "did you mean trainer?" in result.stderr


def test_images_are_listed_with_what_is_kept(shelf: Shelf) -> None:
    record = record_of(1, started=OLD, commit="c" * 40, dirty=True)
    shelf.persistent.tag("demo/base", KEYS[0], record.tag)
    write_build(open_store(f"file:{shelf.folder}/.spotweld/store"), record)
    found = shelf.json("status")
    assert found["unseen"] == []
    base, trainer = found["images"]
    assert (base["image"], base["lifetime"], trainer["image"], trainer["lifetime"]) == (
        "base",
        "persistent",
        "trainer",
        "ephemeral",
    )
    assert base["steps"] == 3
    assert base["size"] == trainer["size"] > 50_000
    assert [(one["tag"], one["latest"]) for one in base["builds"]] == [
        (record.tag, False),
        (KEYS[0], False),
        (KEYS[1], True),
    ]
    assert (base["builds"][0]["started"], base["builds"][0]["dirty"]) == (OLD, True)
    lines = shelf.call("status").stdout.splitlines()
    assert lines[0].split()[:6] == ["IMAGE", "LIFETIME", "BUILDS", "LATEST", "STEPS", "SIZE"]
    assert lines[1].split()[:3] == ["base", "persistent", "3"]
    result = shelf.call("status", "base")
    assert record.tag[:12] in result.stdout
    assert "c" * 12 + "+" in result.stdout
    assert "3 cached steps" in result.stderr
    assert "trainer" not in result.output


def test_each_step_is_told(shelf: Shelf) -> None:
    ((place),) = shelf.json("inspect", "base")
    assert {step["what"] for step in place["steps"]} == {"RUN one", "COPY x /", "RUN make it"}
    lines = shelf.call("inspect", "base").stdout.splitlines()
    assert lines[0].split() == ["STEP", "USED", "SIZE", "PART", "OF", "WHAT"]
    assert any("latest, 2 builds" in line and "RUN one" in line for line in lines)


def test_damage_is_found_and_the_way_out_told(shelf: Shelf) -> None:
    whole = shelf.call("verify")
    assert whole.exit_code == 0
    assert whole.stdout.startswith("2 images whole, ")
    path = shelf.ephemeral.folder / "blobs" / digest_of(b"new x").replace(":", "/")
    path.write_bytes(b"old x")
    result = shelf.call("verify")
    assert result.exit_code == 1
    assert result.stdout.startswith("trainer: ")
    assert "spotweld cache bust trainer; spotweld build trainer" in result.stdout
    assert shelf.call("verify", "base").exit_code == 0
    found = shelf.json("verify", "trainer", status=1)
    assert [fault["digest"] for fault in found["faults"]] == [digest_of(b"new x")]


def test_nothing_is_forgotten_without_a_yes(shelf: Shelf) -> None:
    for words in (("bust", "base"), ("clear", "--older-than", "1s")):
        shelf.make_old()
        result = shelf.call(*words)
        assert result.exit_code == 2
        assert "say yes beforehand with -y" in result.stderr
    assert contents_of(shelf.persistent).cache == ("c1", "c2", "c3")


def test_one_image_is_busted_and_no_other(shelf: Shelf) -> None:
    other = contents_of(shelf.ephemeral, "demo/trainer")
    result = shelf.call("bust", "base", "-y")
    assert result.exit_code == 0
    assert "base: 3 cached steps, and that its latest build is up to date" in result.stderr
    assert "next: spotweld cache status" in result.stderr
    assert contents_of(shelf.persistent).cache == ()
    assert shelf.persistent.tags("demo/base") == (KEYS[0], LATEST)
    assert contents_of(shelf.ephemeral, "demo/trainer") == other
    again = shelf.call("bust", "base", "-y")
    assert (again.exit_code, "nothing is cached of base" in again.stderr) == (0, True)


def test_old_steps_are_cleared_and_builds_stay(shelf: Shelf) -> None:
    young = shelf.call("clear", "--older-than", "1d", "-y")
    assert young.exit_code == 0
    assert "no step could go" in young.stderr
    shelf.make_old()
    result = shelf.call("clear", "trainer", "--older-than", "30d", "-y")
    assert result.exit_code == 0
    assert "2 older step(s) stay" in result.stderr
    assert contents_of(shelf.ephemeral, "demo/trainer").cache == ("c1", "c2")
    assert contents_of(shelf.persistent).cache == ("c1", "c2", "c3")
    assert shelf.call("clear", "--older-than", "30d", "-y").exit_code == 0
    assert contents_of(shelf.persistent).cache == ("c1", "c2")
    assert shelf.persistent.tags("demo/base") == (*KEYS, LATEST)
    for words in (("--older-than", "soon"), ()):
        wrong = shelf.call("clear", *words)
        assert wrong.exit_code == 2
        assert "--older-than" in wrong.stderr


def test_an_image_is_replicated(shelf: Shelf) -> None:
    with docker_registry(shelf.folder) as server:
        here = Layout(shelf.folder / "copy")
        result = shelf.call("replicate", "base", "--to", here.url, "--to", server)
        assert result.exit_code == 0, result.output
        assert f"{here.url}: 6 tags, " in result.stderr
        assert f"{server}: 6 tags, " in result.stderr
        assert contents_of(here).cache == ("c1", "c2", "c3")
        assert here.resolve("demo/base", LATEST) == shelf.persistent.resolve("demo/base", LATEST)
        again = shelf.call("replicate", "base", "--to", here.url)
        assert "0 B copied" in again.stderr
        same = shelf.call("replicate", "base", "--to", shelf.persistent.url)
        assert same.exit_code == 2
        assert "is in" in same.stderr


@pytest.mark.parametrize("arrived", [KEYS[:1], [*KEYS, LATEST]])
def test_a_copy_to_the_registry_that_the_file_names_now_goes_on(shelf: Shelf, arrived: list[str]) -> None:
    kept = Kept("demo", "base", shelf.persistent.url, "demo/base", Lifetime.PERSISTENT, protected=True)
    change_kept(open_store(f"file:{shelf.folder}/.spotweld/store"), "base", lambda _: kept)
    new = Layout(shelf.folder / "new")
    (shelf.folder / "spotweld.yaml").write_text(PROJECT + f"registries: {{persistent: '{new.url}'}}\n")
    for name in arrived:
        copy(Place(shelf.persistent, "demo/base", name), Place(new, "demo/base", name))
    done = shelf.call("replicate", "base", "--to", new.url)
    assert done.exit_code == 0, done.output
    assert contents_of(new) == replace(contents_of(shelf.persistent), registry=new.url)
    later = image_of(new, "demo/base", LATEST, [("RUN a later build", b"later")])
    refused = shelf.call("replicate", "base", "--to", new.url)
    assert refused.exit_code == 2
    assert "is in" in refused.stderr
    assert new.resolve("demo/base", LATEST) == later.digest


def test_a_registry_that_does_not_answer_is_told(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "sleep", lambda _: None)  # type: ignore[index]
    text = PROJECT + "registries: {ephemeral: 'http://127.0.0.1:1'}\n"
    (shelf.folder / "spotweld.yaml").write_text(text)
    found = shelf.json("status")
    assert [one["image"] for one in found["images"]] == ["base"]
    assert found["unseen"][0]["where"] == "http://127.0.0.1:1"
    assert "cannot look into http://127.0.0.1:1" in shelf.call("status").stderr
    assert shelf.call("verify").exit_code == 1
    for words in (("bust", "trainer", "-y"), ("replicate", "trainer", "--to", "oci:x")):
        result = shelf.call(*words)
        assert result.exit_code == 1
        assert "SW6002" in result.stderr
    shelf.make_old()
    result = shelf.call("clear", "--older-than", "1d", "-y")
    assert result.exit_code == 1
    assert contents_of(shelf.persistent).cache == ("c1", "c2")


def test_only_buildah_can_be_warmed(shelf: Shelf) -> None:
    result = shelf.call("warm", "base")
    assert result.exit_code == 1
    assert "BuildKit fetches cached steps only while it builds" in result.stderr


@pytest.mark.parametrize(
    ("words", "answer"), [("cache bust tr", "plain,trainer"), ("checkpoint verify ea", "plain,early")]
)
def test_images_and_runs_are_completed(shelf: Shelf, words: str, answer: str) -> None:
    save(open_store(f"file:{shelf.folder}/.spotweld/store"), {"x": {"n": 1}}, 1, "early")
    environ = {"_SPOTWELD_COMPLETE": "bash_complete", "COMP_CWORD": "3", "COMP_WORDS": f"spotweld {words}"}
    done = subprocess.run(
        [sys.executable, "-c", "from spotweld.cli.main import main; main()"],
        env=os.environ | environ,
        cwd=shelf.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == answer
