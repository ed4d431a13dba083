from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import BuildFailed
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.steps.context import Context
from spotweld.images.steps.keys import step_keys
from spotweld.images.steps.mounts import unmounted, with_mounts

if TYPE_CHECKING:
    from pathlib import Path

SEAL = re.compile(r" : [0-9a-f]{16};")


def sealed(folder: Path, text: str) -> str:
    document = parse(text)
    return with_mounts(document, step_keys(document, Context(folder), {}, {}, "linux/amd64"))


@pytest.mark.parametrize(
    "run",
    [
        "RUN --mount=type=bind,source=data,target=/d cat /d",
        "run --mount=source=data,target=/d --network=none cat /d",
        "RUN --mount=source=data,target=/d \\\n    cat /d && \\\n    true",
        "RUN \\\n  --mount=source=data,target=/d \\\n cat /d",
        "RUN \\\r\n  --mount=source=data,target=/d \\\r\n cat /d",
        "RUN --mount=from=one,target=/d cat /d",
        "RUN --mount=source=data,target=/d \\\n  # why\n\n  --mount=type=cache,target=/c \\\n  # then\n cat /d",
    ],
)
def test_a_command_names_what_it_mounts(tmp_path: Path, run: str) -> None:
    (tmp_path / "data").write_text("1")
    (tmp_path / "other").write_text("1")
    before = f"FROM scratch AS one\nCOPY data /\nFROM scratch\n{run}\nRUN after\n"
    after = sealed(tmp_path, before)
    assert SEAL.sub("", after, count=1) == before
    assert after.count("\n") == before.count("\n")
    read = parse(after).stages[1].instructions[1]
    assert read.flags == parse(before).stages[1].instructions[1].flags
    command = read.arguments[0]
    assert re.match(r": [0-9a-f]{16};\s*cat /d", command.replace("\\\n", ""))
    (tmp_path / "other").write_text("2")
    assert sealed(tmp_path, before) == after
    (tmp_path / "data").write_text("2")
    assert sealed(tmp_path, before) != after


def test_what_mounts_no_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("1")
    runs = ["RUN --mount=type=cache,target=/c make", "COPY data /", "RUN plain", "RUN --mount=type=tmpfs,target=/t x"]
    text = "\n".join(["FROM scratch", *runs, ""])
    assert sealed(tmp_path, text) == text


@pytest.mark.parametrize(
    "run",
    [
        'RUN --mount=source=data,target=/d ["cat", "/d"]',
        "RUN --mount=source=data,target=/d <<EOF\ncat /d\nEOF",
        'RUN --mount="source=data,target=/d" cat /d',
        'RUN --mount=source=data,target=/d --mount="type=cache,target=/c" cat /d',
        'RUN --mount=source=data,target=/d cat /d\nSHELL ["python3", "-c"]',
    ],
)
def test_what_takes_no_addition_is_refused(tmp_path: Path, run: str) -> None:
    (tmp_path / "data").write_text("1")
    with pytest.raises(BuildFailed, match=r"Dockerfile:2: buildah does not see") as caught:
        sealed(tmp_path, f"FROM scratch\n{run}\n")
    assert "BuildKit" in caught.value.todo


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("RUN --mount=source=a,target=/a --mount=type=cache,target=/c : 0123456789abcdef; make", "RUN make"),
        ("run --mount=source=a,target=/a \\\n    make \\\n    all", "run make all"),
        ("RUN make --mount=x", "RUN make --mount=x"),
        ("COPY --mount=x /y", "COPY --mount=x /y"),
    ],
)
def test_an_instruction_is_shown_without_what_it_mounts(text: str, shown: str) -> None:
    assert unmounted(text) == shown
