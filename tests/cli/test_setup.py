from __future__ import annotations

import json
from typing import TYPE_CHECKING

from spotweld.images.builds.records import read_kept
from spotweld.store.local import LocalObjects

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Here

IMAGES = """
images:
  base: {context: images/base, lifetime: persistent}
  trainer: {context: images/trainer, bases: {base: base}}
"""


def add_images(here: Here) -> None:
    """Give the project a persistent and an ephemeral image."""
    for name, text in (("base", "FROM scratch\n"), ("trainer", "FROM base\n")):
        (here.folder / "images" / name).mkdir(parents=True)
        (here.folder / "images" / name / "Dockerfile").write_text(text)
    file = here.folder / "spotweld.yaml"
    file.write_text(file.read_text() + IMAGES)


def test_it_says_what_it_made_and_then_that_there_is_nothing_to_do(small: Here) -> None:
    add_images(small)
    first = small.call("setup")
    assert first.exit_code == 0
    lines = first.stdout.splitlines()
    assert [line[:2] for line in lines] == ["ok", "++", "++", "++", "++"]
    assert lines[1] == f"++  persistent:     oci:{small.state}/images/persistent is made"
    assert first.stderr.splitlines()[-1] == "next: spotweld build"
    kept = read_kept(LocalObjects(small.state / "store"), "base")
    assert kept is not None
    assert (kept.project, kept.protected) == ("small", True)
    again = small.call("setup")
    assert (again.exit_code, again.stderr) == (0, "nothing to do: all is set up\n")
    assert all(line.startswith("ok") for line in again.stdout.splitlines())


def test_json(small: Here) -> None:
    add_images(small)
    told = json.loads(small.call("setup", "--json").stdout)
    assert (told["changed"], told["ok"]) == (True, True)
    assert [step["name"] for step in told["steps"]] == ["store", "persistent", "ephemeral", "base", "trainer"]
    told = json.loads(small.call("setup", "--json").stdout)
    assert (told["changed"], told["ok"]) == (False, True)


def test_what_cannot_be_made_ends_with_1(small: Here) -> None:
    (small.state / "images").mkdir(parents=True)
    (small.state / "images" / "persistent").write_text("a file")
    result = small.call("setup")
    assert result.exit_code == 1
    assert any(line.startswith("--  persistent:") for line in result.stdout.splitlines())


def test_a_store_that_does_not_do_is_an_error(small: Here, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    result = small.call("setup", "--store", f"file:{tmp_path}/store")
    assert result.exit_code != 0
    assert "error SW" in result.stderr


def test_two_at_once(small: Here) -> None:
    add_images(small)
    both = [small.start("setup") for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    for one in both:
        one.communicate()
    assert small.call("setup").stderr == "nothing to do: all is set up\n"
