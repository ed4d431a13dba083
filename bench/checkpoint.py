"""Checkpoints of a state of a gigabyte, ours and everybody else's, in the same training loop: what each costs.

docs/benchmarks.md says what is measured, and how.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, TypeVar

import msgspec
from checkpoints import work
from checkpoints.contenders import BEST, CHANGED, OURS, PEERS, SAME, SMALL, TIGHT, TURNS, WHOLE
from checkpoints.curve import Point
from checkpoints.figures import Findings, all_figures, tables
from checkpoints.flips import Flip
from checkpoints.launch import Missing, ask, scratch, sweep
from checkpoints.limits import Limits, limits
from checkpoints.s3 import seaweed
from checkpoints.states import CACHE
from harness import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

STATES = ("fp32", "bf16", "lora")
MEASURES = ("save", "restore", "remote", "curve", "flip")
RUNS = 3
FLIPPED = "small-fp32"


class Bench:
    """One run of the benchmark."""

    def __init__(self, *, small: bool, only: set[str], runs: int) -> None:
        prefix = "small-" if small else ""
        self._kinds = [prefix + state for state in STATES if not only.intersection(STATES) or state in only]
        self._measures = only.intersection(MEASURES) or set(MEASURES)
        everybody = [OURS, SMALL, TIGHT, *PEERS]
        self._names = [name for name in everybody if name in only] or everybody
        self._runs = runs
        self._began = time.monotonic()
        self.found = Findings()

    def run(self) -> Findings:
        """Measure everything that was asked for."""
        main = self._kinds[0]
        for kind in (*self._kinds, FLIPPED):
            self._ask(f"training {kind}", type(None), work.train, kind)
        if self._measures & {"save", "restore"}:
            for turn in range(self._runs):
                self._turn(main, self._among(TURNS[turn:] + TURNS[:turn]), 1)
            self._turn(main, [name for name in self._names if name not in TURNS], self._runs)
            for kind in self._kinds[1:]:
                names = {OURS, CHANGED, *WHOLE} if kind.endswith("lora") else {*self._names} - {TIGHT}
                self._turn(kind, [name for name in (*self._names, CHANGED) if name in names], self._runs)
        if "curve" in self._measures:
            self._each(f"{main}: cadences", list[Point], work.cadences, main, (OURS, *BEST), self.found.curves)
        if "remote" in self._measures:
            self._remote(main)
        if "flip" in self._measures:
            self._each(f"{FLIPPED}: flip", Flip, work.flipped, FLIPPED, (OURS, *PEERS), self.found.flips)
        return self.found

    def _turn(self, kind: str, names: list[str], saves: int) -> None:
        if not names:
            return
        with scratch() as folder:
            found = self._ask(f"{kind}: limits", Limits, limits, kind, folder)
            if found is not None:
                self.found.limits.setdefault(kind, []).append(found)
        for name in names:
            with scratch() as folder:
                saved = self._ask(f"{kind}: save, {name}", work.Saved, work.save, kind, name, folder, saves)
                if saved is None:
                    continue
                self.found.saved.setdefault(kind, {}).setdefault(name, []).append(saved)
                if "restore" in self._measures and name not in {CHANGED, TIGHT, *SAME}:
                    arguments = (kind, name, folder, saved.digest, saves)
                    again = self._ask(f"{kind}: restore, {name}", list[work.Restored], work.restore, *arguments)
                    if again is not None:
                        self.found.restored.setdefault(kind, {}).setdefault(name, []).extend(again)

    def _remote(self, kind: str) -> None:
        with scratch() as server, seaweed(server) as environ:
            for number, name in enumerate(self._among((OURS, "torch.save", *BEST))):
                with scratch() as folder:
                    own = folder / f"s3-{number}"
                    own.mkdir()
                    arguments = (kind, name, own, self._runs)
                    found = self._ask(f"{kind}: S3, {name}", work.Remote, work.remote, *arguments, environ=environ)
                    if found is not None:
                        self.found.remote.setdefault(kind, {})[name] = found

    def _each(
        self,
        what: str,
        answer: type[T],
        function: Callable[..., object],
        kind: str,
        names: Iterable[str],
        among: dict[str, dict[str, T]],
    ) -> None:
        for name in self._among(names):
            with scratch() as folder:
                found = self._ask(f"{what}, {name}", answer, function, kind, name, folder)
                if found is not None:
                    among.setdefault(kind, {})[name] = found

    def _among(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self._names]

    def _ask(
        self,
        what: str,
        answer: type[T],
        function: Callable[..., object],
        *arguments: object,
        environ: dict[str, str] | None = None,
    ) -> T | None:
        """The answer, or None and a note why; a contender that could not once is not asked for the same again."""
        if what in self.found.missing:
            return None
        print(f"[{time.monotonic() - self._began:5.0f} s] {what}", file=sys.stderr, flush=True)
        try:
            return ask(function, answer, *arguments, environ=environ)
        except Missing as error:
            self.found.missing[what] = str(error)
            print(f"          left out: {error}", file=sys.stderr, flush=True)
            return None


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="states of 0.1 GB, to try the benchmark itself")
    choices = ", ".join((*STATES, *MEASURES))
    parser.add_argument("--only", default="", help=f"some of: {choices}, names of contenders; commas in between")
    parser.add_argument("--runs", type=int, help=f"how many saves and restores of each count; {RUNS}, with --small 1")
    given = parser.parse_args()
    only = {word.strip() for word in given.only.split(",") if word.strip()}
    unknown = only - {*STATES, *MEASURES, OURS, SMALL, TIGHT, *PEERS}
    if unknown:
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; there are {choices}, {', '.join([OURS, SMALL, TIGHT, *PEERS])}"
        )
    began = time.monotonic()
    sweep()
    runs = given.runs or (1 if given.small else RUNS)
    found = Bench(small=given.small, only=only, runs=runs).run()
    (CACHE / "checkpoint-found.json").write_bytes(msgspec.json.encode(found))
    print(tables(found))
    print(f"\n{time.monotonic() - began:.0f} s in all\n")
    report("checkpoint-part" if given.small or only or runs < RUNS else "checkpoint", all_figures(found))
    return bool(found.missing)


if __name__ == "__main__":
    sys.exit(main())
