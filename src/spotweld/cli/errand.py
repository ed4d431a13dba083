"""What a rented machine runs to build images: ``python -m spotweld.cli.errand`` in the folder that the order is in.

It leaves with 0 when all is built, with 75 when the machine goes, and otherwise as ``spotweld build`` does.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spotweld.checkpoint import events
from spotweld.checkpoint.events import EventFile
from spotweld.cli.building import line_of
from spotweld.cli.output import say
from spotweld.errors import SpotweldError
from spotweld.images.builders.choosing import choose_builder
from spotweld.images.builds.building import build
from spotweld.images.builds.happenings import Printed
from spotweld.images.builds.travelling import unpack
from spotweld.runs.reports import EX_TEMPFAIL
from spotweld.store.opening import open_store
from spotweld.values import environment

if TYPE_CHECKING:
    from spotweld.images.builds.happenings import Happening


def main() -> None:
    """Build what the order in this folder says."""
    # Nothing has to be saved: what is finished is in the registries, and whatever is at work dies with this process.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(EX_TEMPFAIL))
    here = Path.cwd()
    _keep_to(here)
    order = unpack(here, here / "project")
    tell = EventFile(os.environ.get(environment.EVENTS_FILE))

    def watch(happening: Happening) -> None:
        if isinstance(happening, Printed):
            say(f"{happening.image}: {happening.line}")
        elif told := line_of(happening):
            say(f"{told[0]}: {told[1]}")
            tell.write(events.Remark(time.time(), f"{told[0]}: {told[1]}"))

    try:
        chosen = choose_builder(order.builder, order.project.state)
        objects = open_store(os.environ[environment.STORE], verify=False)
        at_once = order.at_once or os.cpu_count() or 1
        build(order.project, order.names, chosen, objects, watch, at_once=at_once, commit=order.commit)
    except SpotweldError as error:
        say(f"error {error.code}: {error}\n{error.todo}")
        tell.write(events.Remark(time.time(), f"error {error.code}: {error}"))
        sys.exit(error.exit_status)


def _keep_to(folder: Path) -> None:
    """Have builders leave nothing outside of this machine's disk, and find what registries ask for."""
    for name in ("tmp", "login"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    if auth := os.environ.pop(environment.REGISTRY_AUTH, ""):
        file = folder / "login" / "config.json"
        file.touch(0o600)
        file.write_text(auth)
        os.environ |= {"REGISTRY_AUTH_FILE": str(file), "DOCKER_CONFIG": str(file.parent)}


if __name__ == "__main__":
    main()
