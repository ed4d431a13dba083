"""Where the loop's events go, and that it leaves no thread behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("SPOTWELD_EVENTS_FILE", str(path))
    monkeypatch.setenv("SPOTWELD_HAZARD", "0.3125")  # once in 3.2 h, at every age
    monkeypatch.setenv("SPOTWELD_MACHINE_STARTED", "1700000000")
    return path


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("spotweld")]
    assert left == []
