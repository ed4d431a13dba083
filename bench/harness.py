"""What every benchmark shares: runs taken in turns, medians with their spread, one table, one JSON file.

Lower is better in every figure. Contenders take turns (A B C, A B C, ...), so that a machine that slows down in the
middle slows all of them down alike.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RATIO = "x"
"""The unit of figures that are ratios already; they differ in the third digit."""
RESULTS = Path(__file__).parent / "results"


class Figure(msgspec.Struct, frozen=True):
    """One line of a benchmark's result. ``ours`` and ``peers`` are medians in ``unit``, or what ``goal`` says.

    Lower is better.
    """

    measure: str
    unit: str
    ours: float
    peers: dict[str, float]
    limit: float | None
    """The most that ``ours`` may be; None: no promise is made."""
    goal: str
    """What the figure is to show, in words."""
    command: str
    """How to get it again."""
    spread: dict[str, tuple[float, float]] = {}
    """Least and greatest of the runs, by contender; ours is ``spotweld``."""


def in_turns(contenders: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Measure every contender ``runs`` times, taking turns, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(runs + 1):
        for name, measure in contenders.items():
            value = measure()
            if turn:
                taken[name].append(value)
    return taken


def figure(
    measure: str, unit: str, taken: Mapping[str, Sequence[float]], *, limit: float | None, goal: str, command: str
) -> Figure:
    """The figure of runs of which the one called ``spotweld`` is ours and the others are peers."""
    medians = {name: statistics.median(values) for name, values in taken.items()}
    ours = medians.pop("spotweld")
    spread = {name: (min(values), max(values)) for name, values in taken.items()}
    return Figure(measure, unit, ours, medians, limit, goal, command, spread)


def report(name: str, figures: Sequence[Figure], middle: str = "median") -> int:
    """Print the table, write ``bench/results/NAME.json``, and say how many figures are over their limit.

    Args:
        name: of the file.
        figures: what is in it.
        middle: what the figures are of their runs.
    """
    rows = [("measure", "contender", middle, "least", "greatest", "to ours", "limit")]
    over = 0
    for found in figures:
        too_much = found.limit is not None and found.ours > found.limit
        over += too_much
        limit = "" if found.limit is None else f"{found.limit:g} {found.unit}" + (" EXCEEDED" if too_much else "")
        for who, value in {"spotweld": found.ours, **found.peers}.items():
            least, greatest = found.spread.get(who, (value, value))
            times = "" if found.unit == "%" or not found.ours else f"{value / found.ours:.3f}x"
            digits = 3 if found.unit == RATIO else 2
            numbers = (f"{value:.{digits}f} {found.unit}", f"{least:.{digits}f}", f"{greatest:.{digits}f}", times)
            first = (found.measure, limit) if who == "spotweld" else ("", "")
            rows.append((first[0], who, *numbers, first[1]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    print(f"\n{path.relative_to(RESULTS.parent.parent)}: {len(figures)} figures, {over} over the limit")
    return over


def command_output(argv: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its failure ends the benchmark with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done  # type: ignore[no-any-return]
