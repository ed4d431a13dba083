"""What no teardown takes, whatever is said: finished work and what it cost; with the command that does."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from spotweld.images.lifetimes.deciding import Staying
from spotweld.project.urls import store_folder
from spotweld.runs.drive import log_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects


def preserved(project: Project, objects: Objects) -> Iterator[Staying]:
    """The store and the event log, if anything is in them."""
    sizes = [meta.size for meta in objects.list("")]
    if sizes:
        what = f"store ({len(sizes)} objects: checkpoints, runs, records of builds)"
        yield Staying(what, objects.url, "finished work, and what protects images", sum(sizes), _removal(project.store))
    files = [path for path in log_path(project.state).parent.glob(f"{log_path(project.state).name}*") if path.is_file()]
    if files:
        command = f"rm {shlex.join(str(path) for path in sorted(files))}"
        size = sum(path.stat().st_size for path in files)
        yield Staying("event log", str(log_path(project.state)), "what runs did and cost", size, command)


def _removal(url: str) -> str:
    """The command that removes everything in a store."""
    folder = store_folder(url)
    if folder is not None:
        return f"rm -r {shlex.quote(str(folder))}"
    bare = url.partition("?")[0].rstrip("/")
    scheme, _, rest = bare.partition("://")
    container, _, prefix = rest.partition("/")
    pattern = shlex.quote(f"{prefix}/*" if prefix else "*")
    return {
        "s3": f"aws s3 rm --recursive {shlex.quote(bare)}/",
        "gs": f"gcloud storage rm --recursive {shlex.quote(bare)}/",
        "az": f"az storage blob delete-batch --source {container} --pattern {pattern}",
    }[scheme]
