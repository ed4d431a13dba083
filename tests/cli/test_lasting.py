"""What outlives what: set-up, builds, clean-up and teardown together."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from tests.images.workshop import Shop

from spotweld.cli.main import program
from spotweld.errors import RegistryRefused
from spotweld.images.builders import choosing
from spotweld.images.lifetimes import cleaning
from spotweld.images.registries.opening import open_registry
from spotweld.project.nouns import Job, LocalProvider, PlacementRules
from spotweld.runs.drive import log_path
from spotweld.runs.events import Opened
from spotweld.runs.log import EventLog

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.images.registries.registry import Registry


class Home(Shop):
    """A shop with the command line in it."""

    def call(self, *words: str, **more: Any) -> Result:  # noqa: ANN401 - CliRunner's
        env = {"XDG_CONFIG_HOME": str(self.folder / "home"), "NO_COLOR": "1", "TERM": "dumb"}
        result = CliRunner().invoke(program, ["-C", str(self.folder), *words], env=env, **more)
        assert "Traceback" not in result.output
        return result

    def done(self, *words: str) -> Result:
        result = self.call(*words)
        assert result.exit_code == 0, result.output
        return result

    def ephemeral(self) -> Registry:
        return open_registry(self.project.registries.ephemeral)

    def solved(self) -> list[str]:
        """The images that the builder was asked for since the last call."""
        asked = sorted(solve.image.rpartition("/")[2].partition(":")[0] for solve in self.builder.solves)
        self.builder.solves.clear()
        return asked

    def builds(self, image: str) -> int:
        """Builds of an ephemeral image that are in its registry."""
        return len(set(self.ephemeral().tags(f"{self.project.name}/{image}")) - {"latest"})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path)
    monkeypatch.setattr(choosing, "choose_builder", lambda *_: home.builder)
    return home


def test_a_persistent_image_outlives_teardown(home: Home) -> None:
    home.done("setup")
    home.done("build")
    assert home.solved() == ["base", "stack", "tool", "trainer"]
    home.done("teardown", "-y")
    assert home.done("setup").stderr == "nothing to do: all is set up\n"
    home.done("build")
    assert home.solved() == ["stack", "tool", "trainer"]
    home.done("build")
    assert home.solved() == []


def test_it_does_so_out_of_the_file_and_in_again(home: Home) -> None:
    home.done("build")
    home.solved()
    file = home.folder / "spotweld.yaml"
    text = file.read_text()
    file.write_text(text.replace("lifetime: persistent", "lifetime: ephemeral"))
    home.done("teardown", "-y")
    file.write_text(text)
    home.done("build", "base")
    assert home.solved() == []


def test_old_builds_go_after_a_build(home: Home) -> None:
    for number in range(6):
        home.write("tool/tool", f"tool {number}\n")
        said = home.done("build", "tool").stderr
    assert "tool: 1 old build(s) removed" in said
    assert home.builds("tool") == 3
    home.solved()
    home.done("build", "tool")
    assert home.solved() == []


def test_the_build_that_a_run_is_in_stays(home: Home) -> None:
    home.done("build", "tool")
    log = EventLog(log_path(home.project.state))
    log.open_run(
        "on", Opened(home.project.name, Job("a", "b", image="tool"), "", "", LocalProvider(), PlacementRules())
    )
    log.close()
    for number in range(6):
        home.write("tool/tool", f"tool {number}\n")
        home.done("build", "tool")
    assert home.builds("tool") == 7


def test_a_build_is_done_though_old_ones_cannot_be_removed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> object:
        raise RegistryRefused("Cannot delete", "it is not allowed")

    monkeypatch.setattr(cleaning, "clean_up", refused)
    result = home.done("build", "tool")
    assert "tool: old builds were not removed: Cannot delete: it is not allowed" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("buildah"), reason="needs buildah")
def test_a_persistent_image_outlives_teardown_with_a_real_builder(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name in ("base", "stack", "trainer", "tool"):
        known = {"base": "FROM scratch\nCOPY tree /\n", "tool": "FROM scratch\nCOPY tool /\n"}
        home.write(f"{name}/Dockerfile", known.get(name, f"FROM {'base' if name == 'stack' else 'stack'}\nENV A=1\n"))
    home.done("setup")
    home.done("build", "--builder", "buildah")
    home.done("teardown", "-y")
    home.done("setup")
    again = home.done("build", "--builder", "buildah")
    assert "base          begins" not in again.stderr
    assert "stack         begins" in again.stderr
    assert "looked again" in home.done("teardown", "-y").stderr
