"""What a layout has published would be there after a power cut."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.images.samples import add_image
from tests.store import traces

from spotweld.images.registries.layouts import Layout

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from spotweld.images.registries import copying
from spotweld.images.registries.copying import Place, copy
from spotweld.images.registries.layouts import Layout
copying._STREAMS = 1  # strace cuts the lines of calls that overlap
source, target = Layout(Path(sys.argv[1])), Layout(Path(sys.argv[2]))
copy(Place(source, "a", "v1"), Place(target, "b/c", "v1"))
"""


def test_a_copy_is_durable_in_the_right_order(tmp_path: Path) -> None:
    add_image(Layout(tmp_path / "source"), "a", "v1", [b"one", b"two"])
    seen = f"trace={','.join(traces.NAMES)}"
    traced = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(tmp_path / "log"), "-e", seen]
    command = [*traced, sys.executable, "-B", "-c", PROGRAM, str(tmp_path / "source"), str(tmp_path / "target")]
    subprocess.run(command, check=True, timeout=60)
    steps, target = [], str(tmp_path / "target")
    for line in (tmp_path / "log").read_text().splitlines():
        if found := traces._LINE.fullmatch(line):
            handle = traces._HANDLE.match(found["args"])
            steps.append(
                traces.Step(found["name"], (handle[1],) if handle else tuple(traces._QUOTED.findall(found["args"])))
            )
    ours = [step for step in steps if step.paths and (step.paths[0] == str(tmp_path) or target in step.paths[0])]
    assert {"write", "fsync", "rename", "mkdir"} <= {step.name for step in ours}
    assert sum(step.name == "rename" for step in ours) == 6  # oci-layout, config, two layers, manifest, index
    wrong = traces.undone_by_a_power_cut(ours)
    assert not wrong, "\n".join(wrong)
