"""The project file: found, read, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from spotweld.errors import ProjectError
from spotweld.project.checking import Sheet, check
from spotweld.project.imagekeys import absolute_registry
from spotweld.project.keys import PROJECT
from spotweld.project.linking import check_budget, check_job_image, check_pool, linked_images
from spotweld.project.nodes import Pairs
from spotweld.project.nouns import LocalProvider, PlacementRules, Project, Registries
from spotweld.project.parsing import parse
from spotweld.project.urls import DEFAULT_STORE, absolute_store
from spotweld.project.words import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.project.shapes import Table

FILE_NAME = "spotweld.yaml"
LARGEST = 256 * 1024
"""Bytes. The parser takes time that grows with the square of some inputs; at this size the worst takes a second."""


def find_project(start: Path) -> Path:
    """The project file of ``start``: that file itself, or the first ``spotweld.yaml`` from that folder upwards.

    Raises:
        ProjectError: there is none.
    """
    found = seek_project(start)
    if found is None:
        what = f"there is no {FILE_NAME} in {start.absolute()} or above it"
        raise ProjectError(what, "a project file says what to run", "write one with: spotweld init")
    return found


def seek_project(start: Path) -> Path | None:
    """``find_project``, but None if there is none.

    Raises:
        ProjectError: ``start`` cannot be looked at, or is no UTF-8.
    """
    try:
        start = start.resolve()
        check_path(start)
        if not start.is_dir():
            return start
        return next((folder / FILE_NAME for folder in (start, *start.parents) if (folder / FILE_NAME).exists()), None)
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ProjectError(f"{quoted(str(start), 120)} cannot be looked at", why) from None


def check_path(path: Path) -> None:
    """Raise unless ``path`` is UTF-8: it goes into URLs, databases and the environment of programs.

    Raises:
        ProjectError: it is not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ProjectError(f"{quoted(str(path), 120)} is not UTF-8", "", "rename the folder, or use another") from None


def load_project(path: Path) -> Project:
    """What the project file at ``path`` says.

    Raises:
        ProjectError: it cannot be read, or something in it is wrong; with file, line and column.
    """
    return load_with_lines(path)[0]


def load_with_lines(path: Path) -> tuple[Project, dict[str, int]]:
    """``load_project``, and the line on which each key of the top level stands."""
    file = path.parent.resolve() / path.name
    values, lines, sheet = read_file(file, PROJECT)
    local = values.get("providers", {}).get("local", LocalProvider())
    currency = local.zones[0].spot.currency
    for money, at, node in sheet.money:
        if money.currency != currency:
            why = f"zone {local.zones[0].name} is priced in {currency}, and currencies do not add up"
            sheet.refuse(node, f"{at} is in {money.currency}", why, f"write all amounts in {currency}")
    jobs = {
        name: job if job.workdir.is_absolute() else replace(job, workdir=file.parent)
        for name, job in values["jobs"].items()
    }
    images = linked_images(values.get("images", {}), sheet)
    for job in jobs.values():
        check_job_image(job, images, sheet)
    pools = values.get("pools", {})
    for pool in pools.values():
        check_pool(pool, jobs, sheet)
    budgets = values.get("budgets", {})
    for budget in budgets.values():
        check_budget(budget, jobs, sheet)
    registries = values.get("registries", Registries())
    store = absolute_store(values.get("store", DEFAULT_STORE), file.parent)
    placement = values.get("placement", PlacementRules())
    project = Project(
        file=file,
        name=values["name"],
        store=store,
        local=local,
        jobs=jobs,
        placement=placement,
        images=images,
        registries=Registries(
            persistent=absolute_registry(registries.persistent, file.parent),
            ephemeral=absolute_registry(registries.ephemeral, file.parent),
            price=registries.price,
        ),
        store_price=values.get("store_price"),
        pools=pools,
        budgets=budgets,
    )
    return project, lines


def read_file(file: Path, shape: Table) -> tuple[dict[str, Any], dict[str, int], Sheet]:
    """The values of a file's keys, the line of each, and the sheet they were checked on.

    Raises:
        ProjectError: see ``load_project``.
    """
    label = str(file)
    node = parse(_text(file, label), label)
    sheet = Sheet(label, file.parent, node)
    if node is None:
        if not any(key.required for key in shape.keys.values()):
            return {}, {}, sheet
        todo = "remove it, and write a new one with: spotweld init"
        sheet.refuse(None, "the file is empty", f"{shape.noun} needs keys", todo)
    values = check(shape, node, "", sheet)
    lines = {name: key.line for name, (key, _) in node.pairs.items()} if isinstance(node, Pairs) else {}
    return values, lines, sheet


def _text(file: Path, label: str) -> str:
    name = quoted(label, 200)
    try:
        if file.exists() and not file.is_file():
            noun = "a folder" if file.is_dir() else "not a file"
            raise ProjectError(f"{name} is {noun}", "a project file is needed", "name the file itself", file=label)
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        what = f"there is no file {name}" if missing else f"{name} cannot be read"
        why = "" if missing else getattr(error, "strerror", None) or str(error)
        raise ProjectError(what, why, "write one with: spotweld init" if missing else "", file=label) from None
    if len(data) > LARGEST:
        raise ProjectError("the file is too large", f"at most {LARGEST // 1024} KiB are read", file=label, line=1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        why = f"byte 0x{data[error.start]:02x} does not belong to UTF-8"
        raise ProjectError(
            "the file is not UTF-8 text", why, "save it as UTF-8", file=label, line=line, column=column
        ) from None
