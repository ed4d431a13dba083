"""``spotweld doctor``: it finds what is wrong, and survives it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from spotweld.cli import checks
from spotweld.cli.main import program
from spotweld.errors import ContainerRefused, StoreRefused
from spotweld.providers.provider import Finding


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SPOTWELD_STORE", raising=False)
    (tmp_path / "spotweld.yaml").write_text("name: x\njobs: {t: {command: a}}\n")
    put(monkeypatch, "spotweld.store.opening", open_store=open_fake)
    put(monkeypatch, "spotweld.providers.opening", open_provider=provider_with(Finding(ok=True, what="three zones")))
    return tmp_path


def put(monkeypatch: pytest.MonkeyPatch, module: str, **names: object) -> None:
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**names))


def open_fake(url: str) -> SimpleNamespace:
    Path(url.removeprefix("file:")).mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(url=url)


def provider_with(*findings: Finding) -> object:
    return lambda *_: SimpleNamespace(health=lambda: findings)


def raising(error: Exception) -> Any:  # noqa: ANN401 - stands for any function
    def fail(*_: object) -> None:
        raise error

    return fail


def doctor(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(program, ["doctor", "--json", *words])
    return result.exit_code, {check["name"]: check for check in json.loads(result.stdout)}


def test_what_jobs_in_images_need_is_required_where_a_job_has_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = "spotweld.images.containers.preparing"
    put(monkeypatch, room, check_here=lambda: None)
    assert doctor()[1]["containers"]["what"] == "jobs can run in images"
    put(
        monkeypatch,
        room,
        check_here=raising(ContainerRefused("no", "buildah", "apt-get")),
    )
    status, found = doctor()
    assert (status, found["containers"]["ok"], found["containers"]["required"]) == (0, False, False)
    (here / "spotweld.yaml").write_text("name: x\njobs: {t: {command: a, image: 'debian:12'}}\n")
    status, found = doctor()
    assert (status, found["containers"]["required"], found["containers"]["todo"]) == (1, True, "apt-get")


def test_everything_is_here() -> None:
    status, found = doctor()
    assert status == 0, found
    for name in ("python", "spotweld", "project", "store", "disk", "fsync", "provider"):
        assert found[name]["ok"] or name == "disk", found[name]
    for name in ("git", "torch"):
        assert not found[name]["required"]


def test_people_get_lines(here: Path) -> None:
    lines = CliRunner().invoke(program, ["doctor"]).stdout.splitlines()
    assert any(line.startswith("ok  project:") and str(here) in line for line in lines)


def test_without_a_project_only_the_machine_is_looked_at(here: Path) -> None:
    (here / "spotweld.yaml").unlink()
    status, found = doctor()
    assert status == 0
    assert found["project"]["todo"] == "write one with: spotweld init"
    assert "store" not in found
    assert not list(here.iterdir())


def test_a_store_that_was_named_is_looked_at_without_a_project(here: Path) -> None:
    (here / "spotweld.yaml").unlink()
    status, found = doctor("--store", "file:s")
    assert status == 0
    assert found["store"]["ok"]


def test_a_wrong_project_file_is_found(here: Path) -> None:
    (here / "spotweld.yaml").write_text("name: x\njbos: {}\n")
    status, found = doctor()
    assert status == 1
    assert "spotweld.yaml:2:1" in found["project"]["what"]
    assert found["project"]["todo"] == "did you mean jobs?"


def test_a_store_that_lies_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = StoreRefused("it ignores conditions", "", "use another")
    put(monkeypatch, "spotweld.store.opening", open_store=raising(refusal))
    status, found = doctor()
    assert status == 1
    assert found["store"]["todo"] == "use another"


def test_parts_that_break_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, "spotweld.store.opening", open_store=raising(ImportError("no wheel for this machine")))
    put(monkeypatch, "spotweld.providers.opening", open_provider=raising(OSError("no pidfd")))
    status, found = doctor()
    assert status == 1
    assert "no wheel for this machine" in found["store"]["what"]
    assert "no pidfd" in found["provider"]["what"]


def test_what_a_provider_misses_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding(ok=False, what="no /proc", todo="mount it")
    put(monkeypatch, "spotweld.providers.opening", open_provider=provider_with(finding))
    result = CliRunner().invoke(program, ["doctor"])
    assert result.exit_code == 1
    assert "--  provider:       no /proc" in result.stdout
    assert "mount it" in result.stdout


def test_a_disk_that_loses_writes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.os, "fsync", raising(OSError(5, "Input/output error")))
    status, found = doctor()
    assert status == 1
    assert "Input/output error" in found["fsync"]["what"]


def test_little_space_is_worth_a_word_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    status, found = doctor()
    assert status == 0
    assert found["disk"] == {
        "name": "disk",
        "ok": False,
        "required": False,
        "what": "5.0 MB free at the store",
        "todo": "make room, or name another store",
    }


def test_missing_optional_parts_are_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "which", lambda _: None)
    monkeypatch.setattr(checks, "version", raising(checks.PackageNotFoundError("torch")))
    status, found = doctor()
    assert status == 0
    assert not found["git"]["ok"]
    assert "spotweld[torch]" in found["torch"]["todo"]


def with_images(here: Path, registries: str = "") -> None:
    (here / "Dockerfile").write_text("FROM scratch\n")
    text = f"name: x\njobs: {{t: {{command: a}}}}\nimages: {{base: {{lifetime: persistent}}}}\n{registries}"
    (here / "spotweld.yaml").write_text(text)


def test_without_images_nothing_is_said_of_registries() -> None:
    assert not {"builder", "persistent", "ephemeral"} & doctor()[1].keys()


def test_the_builder_and_both_registries_are_looked_at(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_images(here)
    builder = SimpleNamespace(name="buildah", version=lambda: "1.28")
    put(monkeypatch, "spotweld.images.builders.choosing", choose_builder=lambda *_: builder)
    status, found = doctor()
    assert status == 0
    assert found["builder"]["what"] == "buildah 1.28"
    assert "spotweld setup" in found["persistent"]["what"]
    assert not (here / ".spotweld" / "images").exists()
    (here / ".spotweld" / "images" / "persistent").mkdir(parents=True)
    assert doctor()[1]["persistent"]["what"].endswith("persistent answers")


def test_a_builder_and_a_registry_that_are_missing_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_images(here, "registries: {persistent: 'oci:keeps'}\n")
    (here / "keeps").mkdir()
    (here / "keeps" / "thesis.tex").touch()
    put(monkeypatch, "spotweld.images.builders.choosing", choose_builder=raising(StoreRefused("none", "", "apt-get")))
    status, found = doctor()
    assert status == 1
    assert (found["builder"]["ok"], found["builder"]["required"], found["builder"]["todo"]) == (False, False, "apt-get")
    assert "thesis.tex" in found["persistent"]["what"]
