"""Checkpoints of a state of a gigabyte, ours and everybody else's, in the same training loop: what each costs.

docs/benchmarks.md says what is measured, and how. Nothing but ``--small`` and ``--only`` makes it shorter.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from checkpoints.curve import Point
from checkpoints.figures import Findings, all_figures, tables
from checkpoints.flips import Flip
from checkpoints.launch import Missing, ask, scratch
from checkpoints.limits import Limits
from checkpoints.s3 import seaweed
from checkpoints.states import CACHE, KINDS, trained
from checkpoints.work import CHANGED, OURS, Remote, Restored, Saved, Task, peers
from harness import report

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

STATES = ("fp32", "bf16", "lora")
MEASURES = ("save", "restore", "remote", "curve", "flip")
BEST = ("DCP async cached staging", "DCP async, background staging")
"""The peers that are also measured over S3 and by cadence."""


class Bench:
    """One run of the benchmark."""

    def __init__(self, *, small: bool, only: set[str], turns: int) -> None:
        self._prefix = "small-" if small else ""
        self._states = [state for state in STATES if state in only] or list(STATES)
        self._measures = [measure for measure in MEASURES if measure in only] or list(MEASURES)
        names = [OURS, *peers()]
        self._names = [name for name in names if name in only] or names
        self._turns = turns
        self._began = time.monotonic()
        self.found = Findings()

    def run(self) -> Findings:
        """Measure everything that was asked for."""
        for state in self._states:
            trained(KINDS[self._prefix + state])
        for turn in range(self._turns):
            for state in self._states:
                self._turn(state, turn)
        for state in self._states[:1]:
            if "curve" in self._measures:
                for name in self._among(OURS, *BEST):
                    self._curve(self._prefix + state, name)
            if "remote" in self._measures:
                self._remote(self._prefix + state)
        if "flip" in self._measures:
            trained(KINDS["small-fp32"])
            for name in self._names:
                with scratch() as folder:
                    self._keep(self._ask(Task("flip", "small-fp32", name, folder), Flip), self.found.flips, name)
        return self.found

    def _turn(self, state: str, turn: int) -> None:
        if not {"save", "restore"} & set(self._measures):
            return
        kind = self._prefix + state
        with scratch() as folder:
            answer = self._ask(Task("limits", kind, "the machine", folder), Limits)
            if answer is not None:
                self.found.limits.setdefault(kind, []).append(answer)
        names = [*self._names, CHANGED] if state == "lora" and OURS in self._names else self._names
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            with scratch() as folder:
                task = Task("save", kind, name, folder)
                saved = self._ask(task, Saved)
                if saved is None:
                    continue
                self.found.saved.setdefault(kind, {}).setdefault(name, []).append(saved)
                if "restore" in self._measures and name != CHANGED:
                    again = msgspec.structs.replace(task, what="restore", expect=saved.digest)
                    restored = self._ask(again, Restored)
                    if restored is not None:
                        self.found.restored.setdefault(kind, {}).setdefault(name, []).append(restored)

    def _curve(self, kind: str, name: str) -> None:
        with scratch() as folder:
            self._keep(
                self._ask(Task("curve", kind, name, folder), list[Point]),
                self.found.curves.setdefault(kind, {}),
                name,
            )

    def _remote(self, kind: str) -> None:
        for turn in range(self._turns):
            for name in self._among(OURS, "torch.save", *BEST):
                with scratch() as folder, seaweed(Path(folder)) as environ:
                    own = Path(folder, f"turn-{turn}")
                    own.mkdir()
                    answer = self._ask(Task("remote", kind, name, str(own)), Remote, environ)
                    if answer is not None:
                        self.found.remote.setdefault(kind, {}).setdefault(name, []).append(answer)

    def _among(self, *names: str) -> list[str]:
        return [name for name in names if name in self._names]

    def _ask(self, task: Task, answer: type[T], environ: Mapping[str, str] | None = None) -> T | None:
        """The answer, or None and a note why; a contender that could not once is not asked for the same again."""
        what = f"{task.what} {task.kind} by {task.contender}"
        if what in self.found.missing:
            return None
        print(f"[{time.monotonic() - self._began:4.0f} s] {what}", file=sys.stderr, flush=True)
        try:
            return ask(task, answer, environ)
        except Missing as error:
            self.found.missing[what] = str(error)
            print(f"         left out: {error}", file=sys.stderr, flush=True)
            return None

    @staticmethod
    def _keep(answer: T | None, among: dict[str, T], name: str) -> None:
        if answer is not None:
            among[name] = answer


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="states of 0.1 GB and one turn, to try the benchmark itself"
    )
    parser.add_argument("--turns", type=int, help="how often everybody is measured; 3, with --small 1")
    choices = ", ".join((*STATES, *MEASURES))
    parser.add_argument("--only", default="", help=f"a list with commas in between: {choices}, names of contenders")
    given = parser.parse_args()
    only = {word.strip() for word in given.only.split(",") if word.strip()}
    began = time.monotonic()
    found = Bench(small=given.small, only=only, turns=given.turns or (1 if given.small else 3)).run()
    (CACHE / "checkpoint-found.json").write_bytes(msgspec.json.encode(found))
    print(tables(found))
    print(f"\n{time.monotonic() - began:.0f} s in all\n")
    report("checkpoint-part" if given.small or only else "checkpoint", all_figures(found))
    return bool(found.missing)


if __name__ == "__main__":
    sys.exit(main())
