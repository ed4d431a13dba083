"""The same run over a real S3 server: nothing of it rests on the store being a folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests import servers
from tests.runs.killing import RUN, Field, check, finish, prepare

from spotweld.providers.provider import MachineState
from spotweld.runs.drive import ensure_driven

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "s3").mkdir()
    with servers.seaweed(tmp_path / "s3") as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield "s3://spotweld"


@pytest.mark.slow
def test_a_run_whose_machines_are_killed_ends_with_the_same_bits(bucket: str, tmp_path: Path) -> None:
    reference = prepare(tmp_path / "undisturbed")
    finish(reference)
    field = prepare(tmp_path / "run", store=f"{bucket}/project")
    ensure_driven(field.state, RUN)
    taken = 0
    for _ in range(600):
        state = field.log().state(RUN)
        if state.outcome is not None:
            break
        if taken < 3 and _has_published(field) > taken:
            for machine in field.cloud().machines({"run": RUN}):
                if machine.state is not MachineState.ENDED:
                    field.cloud().interrupt(machine.id, notice=None)
                    taken += 1
        time.sleep(0.05)
    assert taken >= 1
    check(field, reference)


def _has_published(field: Field) -> int:
    return sum(1 for _ in field.objects().list(f"runs/{RUN}/manifests/"))
