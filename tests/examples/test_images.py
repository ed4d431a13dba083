"""The chain of images, as a user goes through it: from packages and wheels to a training in the last image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SPOTWELD = (sys.executable, "-c", "from spotweld.cli.main import main; main()")
MADE = (".spotweld", "__pycache__", "*.egg-info", "rootfs*.tar", "wheels*", "ml-stack/spotweld*")
STEPS = "STEPS=500"


class Checkout:
    """A copy of what the example needs, without anything that was made in it."""

    def __init__(self, root: Path) -> None:
        for name in ("src", "examples"):
            shutil.copytree(ROOT / name, root / name, ignore=_made)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, root)
        self.folder = root / "examples"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        ours = {"XDG_CONFIG_HOME": str(root / "home"), "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
        others = {name: value for name, value in os.environ.items() if not name.startswith("SPOTWELD_")}
        self._environ = others | ours | {"PATH": path, "SPOTWELD_PROGRESS": "plain"}

    def call(self, *words: str, status: int = 0) -> str:
        """What the verb prints on both streams."""
        return self._run([*SPOTWELD, *words], status, subprocess.STDOUT)

    def read(self, *words: str) -> Any:  # noqa: ANN401 - JSON
        """What the verb gives with --json."""
        return json.loads(self._run([*SPOTWELD, *words, "--json"], 0, None))

    def prepare(self) -> str:
        """What ``prepare`` prints."""
        return self._run(["images/prepare"], 0, subprocess.STDOUT, PYTHON=sys.executable)

    def _run(self, argv: list[str], status: int, errors: int | None, **more: str) -> str:
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self._environ | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout


def _made(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if any(Path(folder, name).match(pattern) for pattern in MADE)}


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path)
    yield made
    for run in made.read("status"):
        if run["ended"] is None:
            made.call("cancel", run["run"], "-y")
    shutil.rmtree(tmp_path)  # 5 GB, which pytest would keep


def test_the_image_has_the_pytorch_of_the_set_up() -> None:
    pins = (ROOT / "examples/images/ml-stack/requirements.txt").read_text().split()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert pins == extras["examples"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_chain_is_built_once_and_trains_the_same_bits_as_without_an_image(checkout: Checkout) -> None:
    assert checkout.prepare().count("is there") < 3
    again = checkout.prepare()
    assert again.count("is there") == 3, again

    # Built by launch; its machine is taken without notice once it has something to go on from.
    checkout.call("launch", "train", "--name", "imaged", "--spot-policy", "on-demand", "--env", STEPS, "--detach", "-y")
    # A run is listed before its first checkpoint is.
    while not any(run["newest"] for run in checkout.read("checkpoint", "ls")):
        assert checkout.read("status", "imaged")["ended"] is None, checkout.call("logs", "imaged")
        time.sleep(0.2)
    checkout.call("preempt", "imaged", "--notice", "none")
    told = checkout.call("watch", "imaged")
    assert re.search(r"in the image trainer after .*: this host had it", told)
    assert re.search(r"resumed from step [1-9]", told)
    assert checkout.read("status", "imaged")["interruptions"] == 1

    checkout.call("launch", "bare", "--name", "bare", "--spot-policy", "on-demand", "--env", STEPS, "-y")
    undisturbed = checkout.read("report", "imaged", "--against", "bare")["story"]["undisturbed"]
    assert (undisturbed["weights_identical"], undisturbed["curves_identical"]) == (True, True), undisturbed

    assert "trainer is there as images/trainer:" in checkout.call("explain", "trainer")
    assert "nothing to do: all images are in their registries" in checkout.call("build")

    program = checkout.folder / "digits/train.py"
    program.write_text(program.read_text().replace("BATCH = 64", "BATCH = 32"))
    why = {layer["text"]: layer["why"] for layer in checkout.read("explain", "trainer")["layers"] if not layer["hit"]}
    assert why == {
        "COPY train.py .": "file train.py changed: +1 -1",
        "CMD exec python3 /opt/trainer/train.py": "parent missed",
    }
    built = {image["image"]: (image["built"], image["ran"]) for image in checkout.read("build")["images"]}
    assert built == {"base": (False, 0), "ml-stack": (False, 0), "trainer": (True, 2)}
