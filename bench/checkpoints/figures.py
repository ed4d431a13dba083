"""From what the processes found to the rows of the result, each with its limit, and the tables to look at."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING, TypeVar

import msgspec
from harness import Figure, figure

from checkpoints.contenders import CHANGED, OURS, SMALL, TIGHT
from checkpoints.curve import Point
from checkpoints.flips import Flip
from checkpoints.limits import Limits
from checkpoints.work import APART, Remote, Restored, Saved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from checkpoints.loop import Save

COMMAND = "make bench-checkpoint"
CORES = os.cpu_count() or 1
BYTES = {"fp32": (0.83, 0.79), "bf16": (0.66, 0.57)}
"""The most of the raw bytes that a checkpoint may take alone, and as a difference."""
Taken = dict[str, list[float]]
T = TypeVar("T")


class Findings(msgspec.Struct):
    """Everything that was found, by kind of state and contender."""

    saved: dict[str, dict[str, list[Saved]]] = {}
    restored: dict[str, dict[str, list[Restored]]] = {}
    limits: dict[str, list[Limits]] = {}
    remote: dict[str, dict[str, Remote]] = {}
    curves: dict[str, dict[str, list[Point]]] = {}
    flips: dict[str, dict[str, Flip]] = {}
    missing: dict[str, str] = {}
    """By contender and task: why there is no answer."""


def all_figures(found: Findings) -> list[Figure]:
    """Every row that the findings are enough for."""
    rows: list[Figure] = []
    for kind, saved in _with_ours(found.saved):
        rows += _saving(kind, saved, found.limits.get(kind, []))
        rows += _partly(kind, saved) + _compressed(kind, saved)
    for kind, restored in _with_ours(found.restored):
        rows += _restoring(kind, restored)
    for kind, remote in _with_ours(found.remote):
        rows += _remote(kind, remote)
    for kind, curves in _with_ours(found.curves):
        rows += _curves(kind, curves, found.saved.get(kind, {}))
    for _, flips in _with_ours(found.flips):
        silent = {name: [100.0 * (flip.outcome == "silent")] for name, flip in flips.items()}
        rows.append(_row("one flipped bit: loaded silently", "%", silent, 0, "no damage is loaded as if it were none"))
    return rows


def _with_ours(by_kind: Mapping[str, dict[str, T]]) -> list[tuple[str, dict[str, T]]]:
    return [(kind, found) for kind, found in by_kind.items() if OURS in found]


def _row(measure: str, unit: str, taken: Mapping[str, Sequence[float]], limit: float | None, goal: str) -> Figure:
    return figure(measure, unit, taken, limit=limit, goal=goal, command=COMMAND)


def _of(saved: Mapping[str, list[Saved]], value: Callable[[Save], float]) -> Taken:
    return {name: [value(save) for one in runs for save in one.later] for name, runs in saved.items()}


def _least(taken: Mapping[str, Sequence[float]]) -> float | None:
    """The best peer's median."""
    found = [statistics.median(values) for name, values in taken.items() if name != OURS]
    return min(found) if found else None


def _no_less(taken: Taken, least: Taken) -> Taken:
    """Medians, but none below the other's: on a busy machine noise can hide a stall that was there."""
    return {name: [max(statistics.median(taken[name]), statistics.median(least[name]))] for name in taken}


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def _saving(kind: str, everybody: Mapping[str, list[Saved]], limits: Sequence[Limits]) -> list[Figure]:
    saved = {name: runs for name, runs in everybody.items() if name not in {CHANGED, SMALL, TIGHT}}
    state = saved[OURS][0].state
    what = f"{kind}, {state / 1e9:.2f} GB"
    added, stall = _of(saved, lambda save: save.added), _of(saved, lambda save: save.stall)
    finished = _of(saved, lambda save: save.finished)
    first = {name: [run.first.added for run in runs] for name, runs in saved.items()}
    rows = [
        _row(
            f"{what}: added training time",
            "s",
            added,
            _times(0.25, _least(_no_less(added, stall))),
            "<= 0.25x of the best peer's",
        ),
        _row(f"{what}: of that, stall", "s", stall, None, ""),
        _row(f"{what}: of that, interference", "s", _of(saved, lambda save: save.added - save.stall), None, ""),
        _row(
            f"{what}: added by the first save",
            "s",
            first,
            1.5 * statistics.median(added[OURS]),
            "the first save is no slower than 1.5x the later ones",
        ),
        _row(f"{what}: durable on the local disk", "s", finished, None, "as each contender sees it"),
        _row(
            f"{what}: durable, with fsync for all",
            "s",
            _of(saved, lambda save: save.finished + save.synced),
            None,
            "what its files' fsync takes afterwards is added",
        ),
        _row(f"{what}: bytes of a save", "GB", _of(saved, lambda save: save.size / 1e9), None, ""),
        _row(
            f"{what}: extra memory",
            "GB",
            {name: [run.extra / 1e9 for run in runs] for name, runs in saved.items()},
            1.05 * state / 1e9,
            "<= 1.05x of the state",
        ),
    ]
    if TIGHT in everybody:
        tight = {OURS: [run.extra / 1e9 for run in everybody[TIGHT]]}
        rows.append(
            _row(f"{what}: extra memory, bounded", "GB", tight, 0.3 * state / 1e9, "<= 0.3x, with a budget set")
        )
    if limits:
        copy = [one.copy for one in limits]
        new, again = [one.write_new for one in limits], [one.write_again for one in limits]
        mine = {OURS: added[OURS], "one warm memcpy": copy}
        disk = {OURS: finished[OURS], "O_DIRECT, new file": new, "O_DIRECT, same file again": again}
        best = min(statistics.median(new), statistics.median(again))
        rows += [
            _row(
                f"{what}: added, and a memcpy", "s", mine, 1.5 * statistics.median(copy), "<= 1.5x of one warm memcpy"
            ),
            _row(f"{what}: durable, and the disk", "s", disk, 1.3 * best, "<= 1.3x of the disk limit"),
        ]
    return rows


def _partly(kind: str, saved: Mapping[str, list[Saved]]) -> list[Figure]:
    """Ours of the whole state, against ours of only what changed."""
    if CHANGED not in saved:
        return []
    both = {OURS: saved[OURS], CHANGED: saved[CHANGED]}
    rows = []
    for measure, unit, value in (
        ("bytes of a save", "GB", lambda save: save.size / 1e9),
        ("added training time", "s", lambda save: save.added),
        ("durable on the local disk", "s", lambda save: save.finished),
    ):
        taken = _of(both, value)
        goal = "<= 1.2x of the changed part alone"
        rows.append(_row(f"{kind}: {measure}, 95 % unchanged", unit, taken, _times(1.2, _least(taken)), goal))
    return rows


def _compressed(kind: str, saved: Mapping[str, list[Saved]]) -> list[Figure]:
    """Ours as small as can be: bytes against other compressors, and what they cost."""
    if SMALL not in saved:
        return []
    alone, later = BYTES["bf16" if kind.endswith("bf16") else "fp32"]
    others = [name for name in saved if name in {"ZipNN", "zstd-3 of the whole"}]

    def share(value: Callable[[Saved], int]) -> Taken:
        taken = {name: [value(run) / run.state for run in saved[name]] for name in others}
        return {OURS: [value(run) / run.state for run in saved[SMALL]], **taken}

    costs = {OURS: [save.added for run in saved[SMALL] for save in run.later]}
    work = {"processor time over cores": [save.cpu / CORES for run in saved[SMALL] for save in run.later]}
    return [
        _row(f"{kind}: bytes alone, compressed", "of raw", share(lambda run: run.first.size), alone, f"<= {alone}"),
        _row(f"{kind}: bytes {APART} steps later", "of raw", share(lambda run: run.difference), later, f"<= {later}"),
        _row(
            f"{kind}: added training time, compressed",
            "s",
            costs | work,
            statistics.median(*work.values()),
            "no more than its processor time over the cores",
        ),
    ]


def _restoring(kind: str, everybody: Mapping[str, list[Restored]]) -> list[Figure]:
    restored = {name: runs for name, runs in everybody.items() if name != SMALL}
    cold = {name: [run.cold for run in runs] for name, runs in restored.items()}
    warm = {name: [run.warm for run in runs] for name, runs in restored.items()}
    first = {name: [run.first_step for run in runs] for name, runs in restored.items()}
    middle = {name: statistics.median(values) for name, values in cold.items()}
    bounds = [_times(0.5, middle.get("torch.save")), middle.get("safetensors")]
    bound = min((value for value in bounds if value is not None), default=None)
    usual = statistics.median(warm["torch.save"]) if "torch.save" in warm else None
    return [
        _row(f"{kind}: restore, cold", "s", cold, bound, "<= safetensors', unverified, and <= 0.5x of torch.load"),
        _row(f"{kind}: restore, warm", "s", warm, _times(0.4, usual), "<= 0.4x of torch.load"),
        _row(f"{kind}: restore, warm, and the first step", "s", first, None, ""),
    ]


def _remote(kind: str, remote: Mapping[str, Remote]) -> list[Figure]:
    later = {name: run.later for name, run in remote.items()}
    rows = []
    for measure, value in (
        ("durable in S3", lambda save: save.finished),
        ("added training time, to S3", lambda save: save.added),
    ):
        rows.append(
            _row(f"{kind}: {measure}", "s", {name: [*map(value, saves)] for name, saves in later.items()}, None, "")
        )
    back = {name: [run.restore] for name, run in remote.items()}
    return [*rows, _row(f"{kind}: restore from S3", "s", back, None, "")]


def _curves(kind: str, curves: Mapping[str, list[Point]], saved: Mapping[str, list[Saved]]) -> list[Figure]:
    rows = []
    for every in sorted({point.every for points in curves.values() for point in points}):
        taken = {
            name: [1000 * point.added for point in points if point.every == every] for name, points in curves.items()
        }
        rows.append(_row(f"{kind}: added to each step, a save every {every}", "ms", taken, None, ""))
    alone = _of({name: saved[name] for name in curves if name in saved}, lambda save: 1000 * save.added / 100)
    if OURS in alone:
        rows.append(_row(f"{kind}: added to each step, a save every 100", "ms", alone, None, "a hundredth of one save"))
    return rows


def tables(found: Findings) -> str:
    """One table for each kind of state, a line for each contender, medians; for people."""
    lines = []
    for kind, saved in found.saved.items():
        state = next(iter(saved.values()))[0].state
        lines += ["", f"{kind}: {state / 1e9:.2f} GB; seconds, medians of the saves after the first"]
        head = ("", "added", "stall", "first", "done", "+fsync", "GB", "memory", "cold", "warm", "+step", "same")
        lines.append(head[0].ljust(30) + "".join(f"{name:>8}" for name in head[1:]))
        for name, runs in saved.items():
            lines.append(name.ljust(30) + "".join(f"{value:>8}" for value in _cells(runs, found, kind, name)))
        for one in found.limits.get(kind, [])[:1]:
            lines.append(
                f"limits: memcpy {one.copy:.2f}, O_DIRECT write {one.write_new:.2f} (same file again "
                f"{one.write_again:.2f}), read {one.read:.2f}, xxh3 by one thread {one.digest:.2f}"
            )
    lines += ["", *_flips(found)]
    lines += [f"left out: {what}: {why}" for what, why in found.missing.items()]
    return "\n".join(lines)


def _flips(found: Findings) -> list[str]:
    return [
        f"one flipped bit in the newest checkpoint: {name}: {flip.outcome} {flip.said}"
        for flips in found.flips.values()
        for name, flip in flips.items()
    ]


def _cells(runs: Sequence[Saved], found: Findings, kind: str, name: str) -> list[str]:
    later = [save for run in runs for save in run.later]

    def middle(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.2f}" if values else "-"

    restored = found.restored.get(kind, {}).get(name, [])
    return [
        middle([save.added for save in later]),
        middle([save.stall for save in later]),
        middle([run.first.added for run in runs]),
        middle([save.finished for save in later]),
        middle([save.finished + save.synced for save in later]),
        middle([save.size / 1e9 for save in later]),
        middle([run.extra / run.state for run in runs]) + "x",
        middle([run.cold for run in restored]),
        middle([run.warm for run in restored]),
        middle([run.first_step for run in restored]),
        ("yes" if all(run.same for run in restored) else "NO") if restored else "-",
    ]
