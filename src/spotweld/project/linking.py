"""What the project file says in one place has to fit what it says in another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from spotweld.project.checking import MOVE, OUTSIDE
from spotweld.project.graph import find_cycle
from spotweld.project.imagekeys import BARE
from spotweld.project.nouns import SpotUse
from spotweld.project.words import listed, nearest, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spotweld.project.checking import Sheet
    from spotweld.project.nouns import Budget, Image, Job, Pool


def linked_images(images: Mapping[str, Image], sheet: Sheet) -> dict[str, Image]:
    """The images with the paths of context and Dockerfile made absolute.

    Raises:
        ProjectError: a Dockerfile is missing or outside, a base is no image of the file, or images need each other.
    """
    found = {name: _with_files(image, sheet) for name, image in images.items()}
    for name, image in found.items():
        for base, meant in image.bases.items():
            if meant not in found:
                what = f"images.{name}.bases: there is no image {quoted(meant)}"
                why = "a base is another image of this file"
                sheet.refuse(sheet.node("images", name, "bases", base), what, why, _instead(meant, found))
    ring = find_cycle(found)
    if ring:
        upper, lower = ring[:2]
        base = next(base for base, meant in found[upper].bases.items() if meant == lower)
        at = sheet.node("images", upper, "bases", base)
        what = f"images need each other: {' -> '.join(ring)}"
        sheet.refuse(at, what, "an image cannot be built before its base", "remove one of these bases")
    return found


def check_job_image(job: Job, images: Mapping[str, Image], sheet: Sheet) -> None:
    """Refuse an image that nobody could find, or that could be either of two.

    Raises:
        ProjectError: the job names such an image.
    """
    if not job.image or job.image in images:
        return
    at = sheet.node("jobs", job.name, "image")
    shown = quoted(job.image, 120)
    if re.fullmatch(BARE, job.image):
        hub = f"or write docker.io/library/{job.image}:latest for Docker Hub's"
        why = "a name without a slash, a tag and a digest is one of this file's images"
        sheet.refuse(
            at, f"jobs.{job.name}.image: there is no image {shown}", why, f"{_instead(job.image, images)}; {hub}"
        )
    repository = re.split("[:@]", job.image)[0]
    if repository in images and "/" not in job.image:
        what = f"jobs.{job.name}.image: {shown} could be two images"
        why = f"this file has an image {repository}, and Docker Hub may have one"
        sheet.refuse(at, what, why, f"write {repository}, or docker.io/library/{job.image}")


def check_pool(pool: Pool, jobs: Mapping[str, Job], sheet: Sheet) -> None:
    """Refuse a pool for no job of the file, or of another kind of capacity than the job may use.

    Raises:
        ProjectError: the pool is such a one.
    """
    at = f"pools.{pool.name}"
    job = jobs.get(pool.job)
    if job is None:
        near = nearest(pool.job, jobs)
        todo = f"did you mean {near}?" if near else f"the jobs are {listed(jobs)}"
        what = f"{at}.job: there is no job {quoted(pool.job)}"
        sheet.refuse(sheet.node("pools", pool.name, "job"), what, "a pool is for one job of this file", todo)
    if SpotUse.AUTO not in {pool.spot_policy, job.spot_policy} and pool.spot_policy is not job.spot_policy:
        what = f"{at}.spot_policy does not fit the job {job.name}"
        why = f"the job may use {job.spot_policy} only, so its runs would take no machine of the pool"
        sheet.refuse(sheet.node("pools", pool.name, "spot_policy"), what, why, f"write {job.spot_policy}, or remove it")


def check_budget(budget: Budget, jobs: Mapping[str, Job], sheet: Sheet) -> None:
    """Refuse a budget for jobs that the file does not have.

    Raises:
        ProjectError: the budget is such a one.
    """
    for name in budget.jobs:
        if name not in jobs:
            near = nearest(name, jobs)
            todo = f"did you mean {near}?" if near else f"the jobs are {listed(jobs)}"
            what = f"budgets.{budget.name}.jobs: there is no job {quoted(name)}"
            why = "a budget without one of its jobs would count too little"
            sheet.refuse(sheet.node("budgets", budget.name, "jobs"), what, why, todo)


def _with_files(image: Image, sheet: Sheet) -> Image:
    context = image.context if image.context.is_absolute() else sheet.folder
    at = f"images.{image.name}.dockerfile"
    node = sheet.node("images", image.name, "dockerfile")
    dockerfile = context / image.dockerfile
    try:
        there, inside = dockerfile.is_file(), sheet.holds(dockerfile)
    except (OSError, ValueError, RuntimeError):
        there, inside = False, True
    shown = quoted(str(image.dockerfile), 120)
    if not inside:
        sheet.refuse(node, f"{at}: {shown} is outside the project's folder", OUTSIDE, MOVE)
    if not there:
        todo = "write one, or give its path relative to the context with dockerfile"
        sheet.refuse(node, f"{at}: {shown} is not a file", f"{quoted(str(context), 120)} holds no such file", todo)
    return replace(image, context=context, dockerfile=dockerfile)


def _instead(name: str, images: Mapping[str, Image]) -> str:
    near = nearest(name, images)
    return f"did you mean {near}?" if near else f"the images are {listed(images)}" if images else "add it to images"
