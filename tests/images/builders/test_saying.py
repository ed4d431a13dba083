"""What an instruction that failed looks like to the user."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from spotweld.errors import BuildFailed
from spotweld.images.builders.saying import explained

RUN = "RUN --mount=type=bind,source=wheels,target=/wheels : 0123456789abcdef; pip install"


def said(command: str, *printed: str) -> tuple[str, str, str]:
    """What, why and what to do of the error that buildah's words for a failed command become."""
    words = f'building at STEP "{command}": exit status 1'
    last = ["the build's last lines:", f"[2/2] STEP 4/5: {command}", *printed, f"Error: {words}"]
    standing: Any = SimpleNamespace(image=SimpleNamespace(name="stack", dockerfile=SimpleNamespace(name="Dockerfile")))
    error = explained(BuildFailed(f"{command}: failed", words, "\n".join(last)), standing, 6, registry=None)  # type: ignore[arg-type]
    assert isinstance(error, BuildFailed)
    return error.what, error.why, error.todo


def test_the_instruction_is_named_once_and_without_its_mounts() -> None:
    assert said(RUN, 'no wheel of "torch": none at all') == (
        "stack: Dockerfile:6: RUN pip install: failed",
        "exit status 1",
        'the build\'s last lines:\nno wheel of "torch": none at all',
    )


def test_a_command_that_printed_nothing_has_no_last_lines() -> None:
    assert said("RUN false")[2] == ""


def test_a_long_command_is_cut() -> None:
    what, why, _ = said('RUN test "a": "b" && ' + "x" * 500)
    assert (len(what) < 150, what.endswith("x...: failed"), why) == (True, True, "exit status 1")
