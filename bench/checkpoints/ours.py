"""Spotweld's ``Checkpointer`` in the role of a contender: through its public face and its events alone."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING, Any, cast

from spotweld import Checkpointer
from spotweld.checkpoint.events import Restored, Saved, SaveFailed, Saving, parse_event
from spotweld.values import environment

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from checkpoints.states import Training

NEVER = sys.maxsize


class Ours:
    """Saves when it is asked to, and keeps one checkpoint, as the peers here do.

    Args:
        training: whose state.
        folder: where the store lies; ignored if there is a URL.
        url: of another store.
        whole: the state is model and optimizer; else only what steps change.
        keep: how many checkpoints are kept.
        options: further arguments of ``Checkpointer``.
    """

    def __init__(
        self,
        training: Training,
        folder: Path,
        *,
        url: str = "",
        whole: bool = True,
        keep: int = 1,
        **options: Any,  # noqa: ANN401  whatever the engine takes
    ) -> None:
        self._folder = folder
        self._told = folder / "events.jsonl"
        self._read = 0
        for name in [name for name in os.environ if name.startswith("SPOTWELD_")]:
            del os.environ[name]
        os.environ[environment.EVENTS_FILE] = str(self._told)
        state: dict[str, object] = {"model": training.model, "optimizer": training.optimizer}
        if not whole:
            learning = {name: value for name, value in training.model.named_parameters() if value.requires_grad}
            state["model"] = {name: value.data for name, value in learning.items()}
        self._checkpointer = Checkpointer(
            state, store=url or f"file:{folder}/store", every=NEVER, keep_last=keep, notices=[], **options
        )
        self._loop = cast("Generator[int]", self._checkpointer.steps(NEVER))
        self._latest: Saved | Saving | None = None
        self.restored: Restored | None = None
        """What it told when it restored."""
        next(self._loop)
        self._listen()

    def begin(self) -> None:
        self._checkpointer.save()
        next(self._loop)
        self._listen()

    def before_update(self) -> None:
        pass

    def after_step(self) -> None:
        next(self._loop)
        self._listen()

    def finished(self) -> float | None:
        return self._latest.seconds if isinstance(self._latest, Saved) else None

    def newest(self) -> Path:
        return self._folder / "store"

    def tidy(self) -> None:
        pass

    def close(self) -> None:
        self._loop.close()

    def _listen(self) -> None:
        with self._told.open("rb") as told:
            told.seek(self._read)
            lines = told.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        for event in map(parse_event, itertools.filterfalse(lambda line: not line, whole.splitlines())):
            match event:
                case Saving() | Saved():
                    self._latest = event
                case Restored():
                    self.restored = event
                case SaveFailed():
                    raise RuntimeError(event.why)
                case _:
                    pass
