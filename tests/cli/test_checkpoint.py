"""The verbs about what is stored, over a store in a folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file
from tests.checkpoint.saved import save

from spotweld import open_checkpoint
from spotweld.cli.main import program
from spotweld.cli.stores import progress
from spotweld.store.heads import read_head, take_over
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.store.objects import Objects

LARGE = 2**19


class Shelf:
    """A store, and the command line that looks at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"file:{folder / 'store'}"
        self.objects: Objects = open_store(self.url)

    def call(self, *words: str) -> Result:
        result = CliRunner().invoke(program, ["checkpoint", *words], env={"NO_COLOR": "1", "TERM": "dumb"})
        assert "Traceback" not in result.output
        return result

    def json(self, *words: str, status: int = 0) -> Any:  # noqa: ANN401
        result = self.call(*words, "--json")
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)


def filled(folder: Path) -> Shelf:
    """One run with two checkpoints."""
    found = Shelf(folder)
    for step in (10, 20):
        state = {"model": {"w": torch.ones(LARGE), "b": torch.full((3,), step / 10)}, "log": {"n": step}}
        save(found.objects, state, step)
    return found


@pytest.fixture
def shelf(tmp_path: Path, here: None) -> Shelf:  # noqa: ARG001 - sets the environment
    return filled(tmp_path)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """For reading."""
    return filled(tmp_path_factory.mktemp("still"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SPOTWELD_STORE", f"file:{tmp_path / 'store'}")


def damage(shelf: Shelf, prefix: str, part: int = 0) -> None:
    """Flip a bit of one object."""
    key = sorted(meta.key for meta in shelf.objects.list(prefix))[part]
    data = bytearray(shelf.objects.get(key))
    data[0] ^= 1
    shelf.objects.put(key, data)


def test_runs_are_listed_with_what_they_take(shelf: Shelf) -> None:
    save(shelf.objects, {"x": {"n": 1}}, 3, "other")
    rows = shelf.json("ls")
    assert {row["run"]: row["steps"] for row in rows} == {"default": [20, 10], "other": [3]}
    assert {row["run"]: row["newest"] for row in rows} == {"default": 20, "other": 3}
    assert all(row["stored"] > 0 and row["saved"] > 0 and row["damage"] is None for row in rows)
    lines = shelf.call("ls").stdout.splitlines()
    assert lines[0].split() == ["RUN", "STEPS", "NEWEST", "STORED", "AGE"]
    assert {line.split()[0] for line in lines[1:]} == {"default", "other"}


def test_a_store_with_nothing_in_it_is_no_error(shelf: Shelf) -> None:
    result = shelf.call("ls", "--store", f"file:{shelf.folder / 'none'}")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "there are no runs" in result.stderr
    assert not (shelf.folder / "none").exists()


def test_checkpoints_are_listed_with_what_they_share(shelf: Shelf) -> None:
    newest, older = shelf.json("ls", "default")
    assert (newest["step"], older["step"]) == (20, 10)
    for row in (newest, older):
        assert row["size"] > 4 * LARGE
        assert row["alone"] + row["shared"] == sum(row["codecs"].values())
        assert row["damage"] is None
    lines = shelf.call("ls", "default").stdout.splitlines()
    assert lines[0].split()[:5] == ["STEP", "AGE", "SIZE", "ALONE", "SHARED"]
    assert [line.split()[0] for line in lines[1:]] == ["20", "10"]


def test_what_only_one_needs_and_what_others_need_too(shelf: Shelf) -> None:
    program_ = {"model": {"w": torch.ones(LARGE)}, "log": {"n": 0}}
    from spotweld import Checkpointer

    checkpointer = Checkpointer(program_, store=shelf.url, run="frozen", notices=[], every=1)
    for step in checkpointer.steps(3):
        program_["log"]["n"] = step
        assert checkpointer._session is not None
        checkpointer._session._saves.wait(10)
    rows = shelf.json("ls", "frozen")
    assert all(row["shared"] == 4 * LARGE and 0 < row["alone"] < LARGE for row in rows)


def test_damage_is_listed_and_stops_nothing(shelf: Shelf) -> None:
    damage(shelf, "runs/default/manifests/", 0)
    rows = shelf.json("ls", "default")
    assert [row["damage"] is None for row in rows] == [True, False]
    assert "damaged" in shelf.call("ls", "default").stdout
    shelf.objects.put("runs/default/head", b"rubbish")
    (row,) = shelf.json("ls")
    assert "damaged" in row["damage"]
    assert "damaged" in shelf.call("ls").stderr
    assert shelf.call("ls", "default").exit_code == 1


def test_verify_reads_all_and_says_whole(shelf: Shelf) -> None:
    (row,) = shelf.json("verify", "default")
    assert row["step"] == 20
    assert row["whole"] is True
    assert row["read"] > 4 * LARGE
    assert [row["step"] for row in shelf.json("verify", "default", "--all")] == [20, 10]
    assert shelf.json("verify", "default@10") == shelf.json("verify", "default", "--step", "10")
    assert "whole" in shelf.call("verify", "default").stdout


def test_verify_names_the_leaf_that_is_damaged(shelf: Shelf) -> None:
    checkpoint = open_checkpoint(shelf.objects)
    record = checkpoint.manifest.leaves[0]
    pack = checkpoint.manifest.packs[checkpoint.manifest.chunks[record.chunk].pack].key
    data = bytearray(shelf.objects.get(pack))
    data[checkpoint.manifest.chunks[record.chunk].offset + 5] ^= 1
    shelf.objects.put(pack, data)
    (row,) = shelf.json("verify", "default", status=1)
    assert [one["leaf"] for one in row["damage"]] == ["model.w"]
    result = shelf.call("verify", "default", "--all")
    assert result.exit_code == 1
    assert "DAMAGED: 1 leaf" in result.stdout
    assert "model.w: " in result.stderr
    shelf.objects.delete(pack)
    (row,) = shelf.json("verify", "default", status=1)
    assert "There is no object" in row["damage"][0]["why"]
    damage(shelf, "runs/default/manifests/", 1)
    (row,) = shelf.json("verify", "default", status=1)
    assert row["damage"][0]["leaf"] == "(manifest)"


def test_a_checkpoint_that_is_dropped_meanwhile_is_not_damaged(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    from spotweld.cli import inspecting

    scrub = inspecting.scrub

    def late(*words: Any) -> Any:  # noqa: ANN401
        monkeypatch.setattr(inspecting, "scrub", scrub)
        save(shelf.objects, {"x": {"n": 1}}, 30, keep_last=1)
        return scrub(*words)

    monkeypatch.setattr(inspecting, "scrub", late)
    (row,) = shelf.json("verify", "default")
    assert (row["whole"], row["dropped"]) == (False, True)


def test_a_checkpoint_that_is_dropped_meanwhile_is_not_listed_as_damaged(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spotweld.cli import checkpoint

    read = checkpoint.read_manifest

    def late(*words: Any) -> Any:  # noqa: ANN401
        monkeypatch.setattr(checkpoint, "read_manifest", read)
        found = read(*words)
        save(shelf.objects, {"x": {"n": 1}}, 30, keep_last=2)
        return found

    monkeypatch.setattr(checkpoint, "read_manifest", late)
    assert [(row["step"], row["damage"]) for row in shelf.json("ls", "default")] == [(20, None)]


def test_diff_says_what_and_by_how_much(shelf: Shelf) -> None:
    found = shelf.json("diff", "default", "10", "20", status=1)
    leaves = {leaf["path"]: leaf for leaf in found["leaves"]}
    assert found["equal"] is False
    assert leaves["model.w"]["verdict"] == "equal"
    assert {name: leaves["model.b"][name] for name in ("verdict", "elements", "of", "largest")} == {
        "verdict": "differs",
        "elements": 3,
        "of": 3,
        "largest": 1.0,
    }
    assert leaves["log.n"]["forms"] == ["10", "20"]
    result = shelf.call("diff", "default@10", "default@20")
    assert result.exit_code == 1
    assert "3 of 3 elements, by at most 1" in result.stdout
    assert "10 -> 20" in result.stdout
    result = shelf.call("diff", "default@20", "default")
    assert result.exit_code == 0
    assert "equal in every bit" in result.stderr


@pytest.mark.parametrize(
    "words",
    [("diff", "default", "²", "³"), ("diff", "default", "10", "9" * 5000), ("verify", f"default@{'9' * 5000}")],
    ids=lambda words: words[0] + words[-1][:8],
)
def test_what_is_no_step_names_no_checkpoint(still: Shelf, words: tuple[str, ...]) -> None:
    result = still.call(*words, "--store", still.url)
    assert result.exit_code == 2
    assert "names no checkpoint" in result.stderr
    assert "write RUN@STEP" in result.stderr


def test_diff_reads_only_what_has_another_digest(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    from spotweld.checkpoint.opened import Checkpoint

    read: list[int] = []
    real = Checkpoint.fetch
    monkeypatch.setattr(Checkpoint, "fetch", lambda opened, memory: (read.extend(memory), real(opened, memory)))
    shelf.json("diff", "default", "10", "20", status=1)
    names = open_checkpoint(shelf.objects).names()
    assert "w" not in {names[number].removeprefix("model.") for number in read if number < len(names)}


def test_diff_knows_forms_kinds_and_what_only_one_has(shelf: Shelf) -> None:
    base = {
        "bf": torch.ones(4, dtype=torch.bfloat16),
        "f8": torch.ones(4).to(torch.float8_e5m2),
        "i": torch.ones(4).int(),
        "c": torch.ones(2, dtype=torch.complex64),
        "np": np.ones(3),
        "raw": b"abc",
        "nan": torch.ones(2),
        "shape": torch.ones(2),
        "kind": torch.ones(2),
        "text": "a",
        "gone": 1,
        "zero": torch.zeros(2),
    }
    then = {
        "bf": base["bf"] * 3,
        "f8": (torch.ones(4) * 2).to(torch.float8_e5m2),
        "i": torch.zeros(4).int(),
        "c": base["c"] * (1 + 1j),
        "np": np.array([1.0, 1.5, 1.0]),
        "raw": b"abd",
        "nan": torch.tensor([float("nan"), 1]),
        "shape": torch.ones(3),
        "kind": 5,
        "text": "b",
        "new": 1,
        "zero": -torch.zeros(2),
    }
    save(shelf.objects, {"p": base}, 1, "one")
    save(shelf.objects, {"p": then}, 1, "two")
    leaves = {leaf["path"]: leaf for leaf in shelf.json("diff", "one", "two", status=1)["leaves"]}
    figures = {name: (leaves[f"p.{name}"]["elements"], leaves[f"p.{name}"]["largest"]) for name in base}
    assert figures == {
        "bf": (4, 2.0),
        "f8": (4, 1.0),
        "i": (4, None),
        "c": (2, 1.0),
        "np": (1, 0.5),
        "raw": (1, None),
        "nan": (1, None),
        "zero": (2, 0.0),
        **dict.fromkeys(("shape", "kind", "text", "gone"), (None, None)),
    }
    assert leaves["p.shape"]["forms"] == ["float32 [2]", "float32 [3]"]
    assert leaves["p.kind"]["forms"] == ["float32 [2]", "5"]
    assert (leaves["p.gone"]["verdict"], leaves["p.new"]["verdict"]) == ("first", "second")
    text = shelf.call("diff", "one", "two").stdout
    assert "NaN among them" in text
    assert "only in the second" in text


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("verify", "defalt"), "did you mean default?"),
        (("verify", "../x"), "cannot be a run's name"),
        (("verify", "default", "--step", "11"), "it has 20, 10"),
        (("verify", "default", "--step", "10", "--all"), "leave one of them out"),
        (("verify", "default@x"), "write RUN@STEP"),
        (("verify", "default@10", "--step", "20"), "write RUN@STEP"),
        (("diff", "default"), "write RUN STEP STEP"),
        (("diff", "default", "10", "11"), "no checkpoint of step 11"),
        (("diff", "default", "other@1"), "no run"),
        (("ls", "nothing-like-it"), "spotweld checkpoint ls"),
        (("export", "default"), "Missing option"),
        (("export", "default", "-o", "x", "--only", "modl"), "Did you mean model?"),
        (("export", "default", "-o", "x", "--to", "pickle"), "pickle"),
        (("import", "none", "--run", "new"), "cannot be read"),
        (("lss",), "No such command"),
        (("ls", "--store", "rubbish"), "store is a URL"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_makes_no_sense_is_refused_with_a_way_out(still: Shelf, words: tuple[str, ...], what: str) -> None:
    result = still.call(*words, *(() if "--store" in words else ("--store", still.url)))
    if words[0] == "lss":
        result = still.call(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert what in result.stderr
    assert len(result.stderr.splitlines()) <= 4


def test_export_writes_a_file_that_others_read(shelf: Shelf) -> None:
    result = shelf.call("export", "default", "--step", "10", "-o", "out.safetensors", "--only", "model")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "not in the file: the states of the random number generators" in result.stderr
    found = load_file("out.safetensors")
    assert found["b"].tolist() == [1, 1, 1]
    assert found["w"].shape == (LARGE,)
    again = shelf.call("export", "default", "-o", "out.safetensors")
    assert again.exit_code == 2
    assert "--force" in again.stderr
    done = shelf.json("export", "default", "-o", "out.safetensors", "--force")
    assert (done["step"], done["tensors"], done["values"]) == (20, 2, 1)
    assert sorted(path.name for path in shelf.folder.iterdir()) == ["out.safetensors", "store"]


def test_export_tells_what_it_could_not_carry_as_it_is(shelf: Shelf) -> None:
    state = {"p": {"c": torch.ones(2, dtype=torch.complex128), "a": {"b": torch.ones(1)}, "a.b": torch.ones(2)}}
    save(shelf.objects, state, 1, "odd")
    told = shelf.call("export", "odd", "-o", "x").stderr
    assert "there as bytes: p.c" in told
    assert "got a number: p.a.b#2" in told


def test_import_makes_a_run_and_never_touches_one(shelf: Shelf) -> None:
    save_file({"w": torch.ones(5)}, "in.safetensors")
    result = shelf.call("import", "in.safetensors", "--run", "new", "--part", "encoder", "--step", "7")
    assert result.exit_code == 0, result.output
    assert "1 tensor in encoder at step 7, verified" in result.stderr
    assert open_checkpoint(shelf.objects, "new").load()["encoder"]["w"].tolist() == [1] * 5
    before = read_head(shelf.objects, "default")
    assert shelf.call("import", "in.safetensors", "--run", "default").exit_code == 2
    assert read_head(shelf.objects, "default") == before


def test_out_and_in_again_differs_in_nothing_but_the_generators(shelf: Shelf) -> None:
    shelf.call("export", "default", "-o", "out")
    told = shelf.json("import", "out", "--run", "copy")
    assert told == {"run": "copy", "step": 20, "size": 4 * LARGE + 12, "tensors": 2, "parts": ["model", "log"]}
    found = shelf.json("diff", "default", "copy", status=1)["leaves"]
    assert {leaf["part"] for leaf in found if leaf["verdict"] != "equal"} == {"(rng)"}


def test_a_run_without_a_checkpoint_is_said_to_have_none(shelf: Shelf) -> None:
    take_over(shelf.objects, "begun", 0)
    assert shelf.call("verify", "begun").exit_code == 2
    rows = {row["run"]: row for row in shelf.json("ls")}
    assert rows["begun"]["newest"] is None
    assert "begun" in shelf.call("ls").stdout


def test_the_project_says_which_store(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPOTWELD_STORE")
    assert shelf.json("ls") == []
    (shelf.folder / "spotweld.yaml").write_text(f"name: x\nstore: {shelf.url}\njobs: {{train: {{command: 'true'}}}}\n")
    assert len(shelf.json("ls")) == 1
    assert shelf.json("ls", "--store", "file:elsewhere") == []


def test_alone_it_is_a_call_for_help_and_runs_are_completed(shelf: Shelf) -> None:
    result = shelf.call()
    assert result.exit_code == 0
    assert {"ls", "verify", "diff", "export", "import"} <= {
        line.split()[0] for line in result.stdout.splitlines() if line
    }
    from spotweld.cli.stores import complete_run

    with program.make_context("spotweld", ["checkpoint"]) as context:
        context.obj = None
        assert complete_run(context, context.command.params[0], "de") == ["default"]
        assert complete_run(context, context.command.params[0], "x") == []


@pytest.mark.parametrize(("mode", "shown"), [("plain", True), ("rawjson", True), ("quiet", False)])
def test_progress_off_a_terminal_is_lines(
    here: None, mode: str, shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here is None
    monkeypatch.setattr("spotweld.cli.stores._EVERY", 0.0)
    monkeypatch.setenv("SPOTWELD_PROGRESS", mode)
    with program.make_context("spotweld", ["checkpoint"]), progress("work") as told:
        told(1000, 2000)
    line = capsys.readouterr().err
    assert ("work" in line) == shown
    if mode == "rawjson":
        assert json.loads(line) == {"work": "work", "done": 1000, "total": 2000}


@pytest.mark.usefixtures("here")
def test_progress_on_a_terminal_is_a_bar_that_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPOTWELD_PROGRESS", "tty")
    with program.make_context("spotweld", ["checkpoint"]), progress("work") as told:
        told(1000, 2000)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
