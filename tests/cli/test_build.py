from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from tests.images.servers import docker_registry
from tests.images.workshop import Shop

from spotweld.cli.main import program
from spotweld.images.builders import choosing
from spotweld.images.builds.records import builds

if TYPE_CHECKING:
    from pathlib import Path


class Bench(Shop):
    """A shop with the command line in it."""

    def call(self, *words: str, **more: Any) -> Result:  # noqa: ANN401 - CliRunner's
        env = {"XDG_CONFIG_HOME": str(self.folder / "home"), "NO_COLOR": "1", "TERM": "dumb"}
        result = CliRunner().invoke(program, ["-C", str(self.folder), *words], env=env, **more)
        assert "Traceback" not in result.output
        return result


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path)
    monkeypatch.setattr(choosing, "choose_builder", lambda *_: bench.builder)
    return bench


def test_build_says_what_it_did_and_then_that_there_is_nothing_to_do(bench: Bench) -> None:
    first = bench.call("build", "--progress", "plain")
    assert first.exit_code == 0
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["base", "tool", "stack", "trainer"]
    for words in ("base          begins: 2 of 2 instructions to run", "RAN        3.0 s  RUN install numpy",
                  "4 images built, 0 there", "next: spotweld explain trainer"):  # fmt: skip
        assert words in first.stderr
    second = bench.call("build")
    assert (second.exit_code, second.stdout) == (0, first.stdout)
    assert second.stderr == "nothing to do: all images are in their registries\n"

    bench.write("tool/tool", "other\n")
    bench.call("build", "tool")
    bench.write("tool/tool", "tool\n")
    assert "tool  publish:" in bench.call("build", "tool", "--dry-run").stdout.replace("image     ", "")
    assert "built before, and now latest again: tool" in bench.call("build", "tool").stderr

    bench.change("stack/Dockerfile", "torch", "jax")
    third = bench.call("build", "trainer")
    assert "2 images built, 1 there; 2 of 7 instructions were there (29 %); which saved 5.0 s" in third.stderr


def test_json(bench: Bench) -> None:
    result = bench.call("build", "tool", "--json", "--progress", "rawjson")
    (image,) = json.loads(result.stdout)["images"]
    assert set(image) == {
        "image", "key", "digest", "registry", "repository", "tag", "built", "seconds", "hits", "ran", "saved",
    }  # fmt: skip
    assert (image["image"], image["built"], image["ran"]) == ("tool", True, 2)
    kinds = [json.loads(line)["type"] for line in result.stderr.splitlines()]
    assert kinds == ["begun", "printed", "instruction", "printed", "instruction", "published"]


def test_a_dry_run_says_what_would_be_built_and_why(bench: Bench) -> None:
    never = bench.call("build", "--dry-run")
    assert never.exit_code == 2
    assert "never built; 2 of 2 instructions, 2 never timed" in never.stdout
    assert not (bench.folder / ".spotweld/images/persistent").exists()
    bench.call("build")
    fresh = bench.call("build", "--dry-run", "--json")
    assert fresh.exit_code == 0
    told = json.loads(fresh.stdout)
    assert told["would_change"] is False
    assert [one["does"] for one in told["images"]] == ["nothing"] * 4

    bench.write("trainer/train.py", "print(1)\nprint(3)\nprint(4)\nprint(5)\n")
    bench.change("stack/Dockerfile", "torch", "jax")
    plan = bench.call("build", "--dry-run")
    assert plan.exit_code == 2
    for words in ("base stack is rebuilt first", "file train.py changed", "1 of 3 instructions, about 3.0 s",
                  "builds    2 of 4 images", "nothing to do"):  # fmt: skip
        assert words in plan.stdout
    told = json.loads(bench.call("build", "trainer", "--dry-run", "--json").stdout)
    assert [(one["image"], one["does"]) for one in told["images"]] == [
        ("base", "nothing"), ("stack", "build"), ("trainer", "build"),
    ]  # fmt: skip
    assert told["images"][2]["waits"] == ["stack"]


def test_plan_shows_the_images_that_a_job_needs_first(bench: Bench) -> None:
    bench.change("spotweld.yaml", 'train: {command: "true"}', 'train: {command: "true", image: stack}')
    result = bench.call("plan")
    assert result.exit_code == 2
    assert "image     base   build" in result.stdout
    assert "trainer" not in result.stdout
    told = json.loads(bench.call("plan", "--json").stdout)
    assert (told["would_change"], [one["image"] for one in told["images"]]) == (True, ["base", "stack"])


def test_explain_an_image(bench: Bench) -> None:
    never = bench.call("explain", "tool")
    assert never.exit_code == 0
    assert "tool has to be built: 2 of 2 instructions would run" in never.stdout
    bench.call("build")
    fresh = bench.call("explain", "trainer").stdout
    assert "trainer is there as" in fresh
    assert "0 hits, 4 ran" in fresh

    bench.write("trainer/train.py", "print(1)\nprint(3)\nprint(4)\nprint(5)\n")
    stale = bench.call("explain", "trainer").stdout
    assert "file train.py changed: +2 -1" in stale
    assert "line 4  COPY train.py /" in stale
    assert "parent missed" in stale
    bench.call("build")
    assert "the last 2 builds: 2 attempts (2 done); " in bench.call("explain", "trainer").stdout
    built = json.loads(bench.call("explain", "trainer", "--json").stdout)
    assert built["rates"]["done"] == 2
    assert built["fresh"] is True
    layers = {layer["text"]: layer for layer in built["layers"]}
    assert layers["RUN prepare"]["hit"]
    assert layers["RUN prepare"]["source"] == built["against"]
    assert layers["COPY train.py /"]["why"] == "file train.py changed: +2 -1"
    assert layers["RUN check"]["why"] == "parent missed"


def test_a_plan_has_a_price(bench: Bench) -> None:
    zones = "providers: {local: {zones: {a: {spot: 3.60 USD, on_demand: 9 USD, machines: 9}}, up: 9000d}}\n"
    bench.write("spotweld.yaml", (bench.folder / "spotweld.yaml").read_text() + zones)
    at = "on a rented machine: local/a spot at 3.60 USD/h (price: spotweld.yaml)"
    never = bench.call("build", "tool", "--dry-run").stdout.splitlines()[-2:]
    assert never == ["price     nothing on this machine", f"          unknown (2 never timed) {at}"]
    here, there = json.loads(bench.call("build", "tool", "--dry-run", "--json").stdout)["prices"]
    assert here == {
        "on": "this machine", "costs": "nothing", "why": "", "offer": None, "likely": None, "low": None, "high": None,
    }  # fmt: skip
    assert (there["on"], there["costs"], there["likely"]) == ("a rented machine", "unknown", None)

    bench.call("build", "tool")
    bench.change("tool/Dockerfile", "RUN one", "RUN two")
    rent = bench.call("build", "tool", "--rent", "--dry-run")
    assert rent.exit_code == 2
    # 3 s, seen once: a third to three times as long.
    amount = "about 0.003000 USD (0.0009000 USD to 0.009000 USD)"
    assert rent.stdout.splitlines()[-2:] == [f"price     {amount} {at}", "          nothing on this machine"]
    assert not (bench.folder / ".spotweld/cloud").exists()
    there, here = json.loads(bench.call("build", "tool", "--rent", "--dry-run", "--json").stdout)["prices"]
    assert Decimal(there["likely"]["amount"]) == Decimal("0.003")
    assert (there["offer"]["zone"], here["costs"]) == ("local/a", "nothing")
    bench.change("spotweld.yaml", 'train: {command: "true"}', 'train: {command: "true", image: tool}')
    assert f"          {amount} {at}" in bench.call("plan").stdout
    assert json.loads(bench.call("plan", "--json").stdout)["prices"] == [here, there]
    bench.call("build", "tool")
    fresh = bench.call("build", "tool", "--dry-run")
    assert (fresh.exit_code, "price" in fresh.stdout) == (0, False)
    assert json.loads(bench.call("build", "tool", "--dry-run", "--json").stdout)["prices"] == []


@pytest.mark.parametrize("server", [False, True])
def test_after_a_bust_all_verbs_say_that_everything_runs_and_it_does(
    bench: Bench, tmp_path: Path, *, server: bool
) -> None:
    with ExitStack() as stack:
        if server:
            (tmp_path / "server").mkdir()
            url = stack.enter_context(docker_registry(tmp_path / "server"))
            text = (bench.folder / "spotweld.yaml").read_text()
            bench.write("spotweld.yaml", f"{text}registries: {{persistent: '{url}', ephemeral: '{url}'}}\n")
        bench.change("spotweld.yaml", 'train: {command: "true"}', 'train: {command: "true", image: stack}')
        bench.call("build")
        assert bench.call("cache", "bust", "stack", "-y").exit_code == 0
        bench.builder.ran.clear()
        for words in (("build", "--dry-run"), ("plan",), ("explain", "stack")):
            told = bench.call(*words).stdout
            assert "3 of 3 instructions" in told, words
            assert told.count("it was built before, and its result is not in the cache") >= 3
        assert "stack         begins: 3 of 3 instructions" in bench.call("build", "--progress", "plain").stderr
        assert bench.builder.ran == ["RUN install numpy", "ENV A=1", "RUN install torch"]
        assert "nothing to do" in bench.call("build").stderr


def test_what_is_cleared_is_no_hit_any_more(bench: Bench) -> None:
    bench.call("build", "tool")
    bench.change("tool/Dockerfile", "RUN one", "RUN two")
    assert "1 of 2 instructions" in bench.call("build", "tool", "--dry-run").stdout
    for path in (bench.folder / ".spotweld/images/ephemeral").glob("blobs/*/*"):
        os.utime(path, (1e9, 1e9))
    (record,) = builds(bench.objects, "tool")
    old = msgspec.json.encode(replace(record, started=1e9, attempts=()))
    bench.objects.put(f"images/tool/builds/{record.tag}.json", old)
    assert "1 cached step of tool gone" in bench.call("cache", "clear", "--older-than", "30d", "-y").stderr
    assert "2 of 2 instructions" in bench.call("build", "tool", "--dry-run").stdout


def test_what_is_misspelt(bench: Bench) -> None:
    assert "did you mean trainer?" in bench.call("build", "trainr").stderr
    assert "did you mean trainer?" in bench.call("explain", "trainr").stderr
    assert "there is no error code" in bench.call("explain", "SW9999").stderr
    bench.write("spotweld.yaml", "name: none\njobs: {train: {command: 'true'}}\n")
    result = bench.call("build")
    assert (result.exit_code, "has no images" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("tool/Dockerfile", "FROM scratch\nCOPY mising /\n", "SW6012: tool/Dockerfile:2: there is no 'mising'"),
        ("tool/Dockerfile", "FROM scratch\n\nRUNN x\n", "SW6011: tool/Dockerfile:3: there is no instruction 'RUNN'"),
        ("tool/Dockerfile", "FROM scratch\nRUN fail\n", "SW6021: tool: Dockerfile:2: RUN fail: failed"),
        ("spotweld.yaml", None, "SW6002: Cannot reach the registry"),
    ],
)
def test_what_goes_wrong_is_one_clear_error(
    bench: Bench, file: str, text: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is None:
        from spotweld.images.registries.distribution_client import Client

        assert Client.__init__.__kwdefaults__ is not None
        monkeypatch.setitem(Client.__init__.__kwdefaults__, "sleep", lambda _: None)
        text = (bench.folder / file).read_text() + "registries: {ephemeral: 'http://127.0.0.1:9'}\n"
    bench.write(file, text)
    result = bench.call("build", "tool")
    assert result.exit_code == 1
    assert words in result.stderr
    lines = result.stderr[result.stderr.index("error SW") :].splitlines()
    assert len(lines) >= 2
    as_json = bench.call("build", "tool", "--json", "--progress", "quiet")
    assert json.loads(as_json.stderr)["error"]["code"] == words[:6]


def test_names_are_completed(bench: Bench) -> None:
    env = {**os.environ, "_SPOTWELD_COMPLETE": "bash_complete", "COMP_WORDS": "spotweld build tr", "COMP_CWORD": "2"}
    told = subprocess.run(
        [sys.executable, "-c", "from spotweld.cli.main import main; main()"],
        cwd=bench.folder, env=env, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert told.stdout.split() == ["plain,trainer"]


def test_a_fresh_chain_starts_no_builder_and_imports_none(bench: Bench) -> None:
    bench.call("build")
    code = (
        "import sys; from spotweld.cli.main import program\n"
        "try: program.main(['build'])\n"
        "except SystemExit as end: assert not end.code\n"
        "loaded = {'spotweld.images.builders.buildah', 'spotweld.images.builders.buildkit', 'rich', "
        "'spotweld.images.builds.building', 'spotweld.images.registries.distribution', "
        "'obstore', 'numpy', 'subprocess'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=bench.folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert told.returncode == 0, told.stderr


def test_launch_builds_what_its_job_needs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.change("spotweld.yaml", 'train: {command: "true"}', 'train: {command: "true", image: stack}')

    class Reached(Exception):
        pass

    def stop(*_: object) -> None:
        raise Reached

    monkeypatch.setattr("spotweld.cli.launch.plan_of", stop)
    asked = bench.call("launch", "train", "--detach")
    assert "nobody can be asked here" in asked.stderr
    assert bench.builder.solves == []
    result = bench.call("launch", "train", "-y", "--detach", "--progress", "plain")
    assert "image     stack  build (ephemeral)" in result.stderr
    assert "stack         built in" in result.stderr
    assert "Reached" in result.stderr
    assert [solve.context.name for solve in bench.builder.solves] == ["base", "stack"]
    again = bench.call("launch", "train", "-y", "--detach")
    assert "image " not in again.stderr
    assert len(bench.builder.solves) == 2
