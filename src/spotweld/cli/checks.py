"""What ``spotweld doctor`` looks at.

The rooms above the project are imported inside the checks, by name: a part that cannot even be imported is one of the
things that doctor has to be able to tell.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spotweld.errors import SpotweldError
from spotweld.project.nouns import Lifetime
from spotweld.project.reading import seek_project
from spotweld.project.settings import settings
from spotweld.project.urls import store_folder
from spotweld.values.durations import format_duration
from spotweld.values.sizes import format_size
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spotweld.project.nouns import Project

_LITTLE_SPACE = 1_000_000_000
"""Bytes. Less free space than this is worth a word: three checkpoints of a small model fill it."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    required: bool
    what: str
    todo: str = ""
    """What to do about it; empty if it is as it should be."""


def everything(start: Path, flags: Mapping[str, str | None]) -> list[Check]:
    """All checks, for the project that is found from ``start`` upwards, if there is one."""
    checks = [_python(), _spotweld(), _git(), _package("torch")]
    try:
        file = seek_project(start)
        project, found = settings(file, flags)
    except SpotweldError as error:
        return [*checks, Check("project", ok=False, required=True, what=str(error), todo=error.todo)]
    if project is None:
        todo = "write one with: spotweld init"
        checks.append(Check("project", ok=False, required=False, what="no spotweld.yaml here or above", todo=todo))
    else:
        jobs = ", ".join(project.jobs)
        checks.append(Check("project", ok=True, required=True, what=f"{project.file} (jobs: {jobs})"))
    if project is not None or found["store"].origin != "default":
        checks += _store(found["store"].value)
    if project is not None:
        checks += _provider(project)
        checks.append(_containers(project))
    if project is not None and project.images:
        checks.append(_builder(project))
        checks += [_registry(lifetime, project) for lifetime in Lifetime]
    return checks


def _python() -> Check:
    what = f"{platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}"
    return Check("python", ok=True, required=True, what=what)


def _spotweld() -> Check:
    return Check("spotweld", ok=True, required=True, what=VERSION)


def _git() -> Check:
    git = shutil.which("git")
    if git is None:
        todo = "install git; runs are labelled with the commit they come from"
        return Check("git", ok=False, required=False, what="not found", todo=todo)
    told = subprocess.run([git, "--version"], capture_output=True, text=True, timeout=20, check=False)
    return Check("git", ok=told.returncode == 0, required=False, what=told.stdout.strip() or told.stderr.strip())


def _package(name: str) -> Check:
    try:
        return Check(name, ok=True, required=False, what=version(name))
    except PackageNotFoundError:
        todo = f"if your program uses {name}: pip install 'spotweld[{name}]'"
        return Check(name, ok=False, required=False, what="not installed", todo=todo)


def _store(url: str) -> Iterator[Check]:
    try:
        objects = import_module("spotweld.store.opening").open_store(url)
    except SpotweldError as error:
        yield Check("store", ok=False, required=True, what=str(error), todo=error.todo or f"explain: {error.code}")
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what doctor was asked to find
        yield Check("store", ok=False, required=True, what=f"{url} cannot be opened: {error!r}")
        return
    yield Check("store", ok=True, required=True, what=f"{objects.url} honours conditional writes")
    folder = store_folder(url)
    if folder is not None and folder.is_dir():
        yield _space(folder)
        yield _fsync(folder)


def _space(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    few = free < _LITTLE_SPACE
    todo = "make room, or name another store" if few else ""
    return Check("disk", ok=not few, required=False, what=f"{format_size(free)} free at the store", todo=todo)


def _fsync(folder: Path) -> Check:
    """Write 64 KiB three times and wait until the disk has them; a network disk may take seconds, or refuse."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            began = time.monotonic()
            for _ in range(3):
                file.write(bytes(65_536))
                file.flush()
                os.fsync(file.fileno())
            seconds = (time.monotonic() - began) / 3
    except OSError as error:
        what = f"the store's disk does not keep what it is given: {error.strerror}"
        return Check("fsync", ok=False, required=True, what=what, todo="name a store on another disk")
    return Check("fsync", ok=True, required=True, what=f"{format_duration(seconds)} for 64 kB at the store")


def _containers(project: Project) -> Check:
    """Jobs with an image run on this machine where the provider is the local one."""
    jobs = ", ".join(job.name for job in project.jobs.values() if job.image)
    try:
        import_module("spotweld.images.containers.preparing").check_here()
    except SpotweldError as error:
        return Check("containers", ok=False, required=bool(jobs), what=str(error), todo=error.todo)
    what = f"jobs can run in images{f' ({jobs})' if jobs else ''}"
    return Check("containers", ok=True, required=bool(jobs), what=what)


def _builder(project: Project) -> Check:
    try:
        builder = import_module("spotweld.images.builders.choosing").choose_builder("auto", project.state)
        what = f"{builder.name} {builder.version()}"
    except SpotweldError as error:
        return Check("builder", ok=False, required=False, what=str(error), todo=error.todo)
    return Check("builder", ok=True, required=False, what=what)


def _registry(lifetime: Lifetime, project: Project) -> Check:
    """Whether a registry answers. A folder that is not there yet is not made; `setup` does that."""
    name, url = f"{lifetime}", project.registries.of(lifetime)
    if url.startswith("oci:") and not Path(url.removeprefix("oci:")).exists():
        what = f"{url} is not there yet; it is made by: spotweld setup"
        return Check(name, ok=True, required=False, what=what)
    try:
        registry = import_module("spotweld.images.registries.opening").open_registry(url)
        registry.prepare(())
    except SpotweldError as error:
        return Check(name, ok=False, required=True, what=str(error), todo=error.todo or f"explain: {error.code}")
    return Check(name, ok=True, required=True, what=f"{registry.url} answers")


def _provider(project: Project) -> Iterator[Check]:
    try:
        provider = import_module("spotweld.providers.opening").open_provider(project.state, project.local)
        findings = list(provider.health())
    except Exception as error:  # noqa: BLE001 - as above
        yield Check("provider", ok=False, required=True, what=f"cannot be used: {error!r}")
        return
    for finding in findings:
        yield Check("provider", ok=finding.ok, required=True, what=finding.what, todo=finding.todo)
