"""What policies pay for the same jobs, over the least that was possible, on recorded markets.

Jobs of 48 hours of work begin at random in recordings that are not part of this repository (see docs/benchmarks.md):
``--traces`` names the folder. Nine zones are taken one by one and together; a second set has gangs of several machines.
The prior of our policy was fitted to the first twelve days of the first set, so its jobs begin later. One setting is
made up: prices that come and go with the day, which the recorded ones do not. Replicas are in ``replicas.py``;
``--only replicas`` measures them alone and leaves the other rows as they are.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import replicas
from harness import RATIO, RESULTS, Figure, report

from spotweld.placement.comparing import compare
from spotweld.placement.market import Market, market_of
from spotweld.placement.policies import POLICIES, policy_of
from spotweld.placement.reading import read_recordings
from spotweld.placement.seeing import Task
from spotweld.placement.simulating import starts_of

HOUR = 3600.0
WORK = 48 * HOUR
TRAINED = 12 * 24 * HOUR
"""Seconds of the first set that the prior was fitted to."""
TRACES = Path(__file__).parents[2] / "shared" / "traces"
NIGHTLY = "nightly"
"""In the place of a folder: a zone that is always up, and costs a third by night of what it does by day."""
COMMAND = "make bench-placement"
PEERS = [name for name in POLICIES if name != "ours"]
SINGLE = {(60, 0.2): 1.04, (60, 0.05): 1.015}
"""The most that ours may pay in one zone, by hours of deadline and of changeover."""
THREE = ("us-east-1c", "us-east-2a", "us-west-2a")
SIX = (*THREE, "us-east-1d", "us-east-2b", "us-west-2b")


@dataclass(frozen=True)
class Setting:
    """Jobs of one kind. ``folder`` has the recordings; ``zones`` of it are one market, or all if there are none."""

    measure: str
    folder: str
    zones: tuple[str, ...]
    deadline: float
    changeover: float
    gang: int
    jobs: int
    trained: float
    """Seconds at the beginning in which no job begins."""


def run(setting: Setting, traces: Path) -> dict[str, tuple[list[float], int]]:
    """By policy: each job's cost over its optimum, and how many missed their deadline."""
    market = nightly() if setting.folder == NIGHTLY else market_of(read_recordings([traces / setting.folder]))
    if setting.zones:
        market = market.only([market.zones.index(zone) for zone in setting.zones])
    task = Task(WORK, setting.deadline, setting.changeover, setting.gang)
    possible = np.array(starts_of(market, task))
    possible = possible[possible * market.gap >= setting.trained]
    drawn = np.random.default_rng(1).choice(possible, size=min(setting.jobs, len(possible)), replace=False)
    found = compare(market, task, [policy_of(name) for name in POLICIES], np.sort(drawn))
    return {name: (found.ratios(name).tolist(), int(found.outcomes[name].missed.sum())) for name in POLICIES}


def nightly(days: int = 14, ticks: int = 144) -> Market:
    """So many days, of so many ticks each."""
    price = 1 + 0.5 * np.cos(2 * np.pi * np.arange(days * ticks) / ticks)
    up = np.ones((days * ticks, 1), dtype=np.int64)
    return Market((NIGHTLY,), (NIGHTLY,), 24 * HOUR / ticks, up, price[:, None], np.array([3.0]))


def settings(traces: Path, jobs: int) -> list[Setting]:
    """All that is measured; settings of one measure are pooled."""
    aws, gcp = "aws-v100-2023", "gcp-h100-2025"
    zones = tuple(market_of(read_recordings([traces / aws])).zones)
    found = []
    for hours, changeover in itertools.product((52, 60, 70), (0.2, 0.05)):
        measure = f"one zone, {hours} h, changeover {changeover * 60:.0f} min"
        each = math.ceil(jobs / len(zones))
        found += [Setting(measure, aws, (z,), hours * HOUR, changeover * HOUR, 1, each, TRAINED) for z in zones]
    sets = {3: THREE, 6: SIX, 9: zones}
    for count, hours in itertools.product(sets, (52, 60, 70)):
        measure = f"{count} zones, 52 to 70 h, changeover 12 min"
        found.append(Setting(measure, aws, sets[count], hours * HOUR, 0.2 * HOUR, 1, math.ceil(jobs / 3), TRAINED))
    for gang, hours in itertools.product((1, 8, 16), (52, 60, 70)):
        measure = f"13 zones of H100, gang of {gang}, 52 to 70 h, changeover 12 min"
        found.append(Setting(measure, gcp, (), hours * HOUR, 0.2 * HOUR, gang, math.ceil(jobs / 3), 0.0))
    measure = "one zone that is cheap by night (made up), 96 h, changeover 12 min"
    found.append(Setting(measure, NIGHTLY, (), 96 * HOUR, 0.2 * HOUR, 1, jobs, 48 * HOUR))
    return found


def limit_of(setting: Setting) -> float | None:
    """The goal, where there is one."""
    if len(setting.zones) == 1:
        return SINGLE.get((round(setting.deadline / HOUR), round(setting.changeover / HOUR, 2)))
    return {1: 1.03, 16: 1.10}.get(setting.gang) if setting.folder != NIGHTLY else None


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES, help="the folder of the recordings")
    parser.add_argument("--jobs", type=int, default=1000, help="in each setting")
    parser.add_argument("--only", choices=["replicas"], help="the other rows stay as they were measured last")
    options = parser.parse_args()
    if not options.traces.is_dir():
        sys.exit(f"There are no recordings in {options.traces}: name their folder with OPTIONS='--traces DIR'.")
    if options.only:
        before = msgspec.json.decode((RESULTS / "placement.json").read_bytes(), type=list[Figure])
        kept = [one for one in before if one.command == COMMAND]
    else:
        kept = jobs(options.traces, options.jobs)
    return report("placement", [*kept, *replicas.figures(options.traces)], "mean")


def jobs(traces: Path, count: int) -> list[Figure]:
    """All figures about jobs, of ``count`` of them in each setting."""
    todo = settings(traces, count)
    pooled: dict[str, dict[str, list[float]]] = {}
    missed: dict[str, int] = dict.fromkeys(POLICIES, 0)
    limits = {setting.measure: limit_of(setting) for setting in todo}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done, (setting, found) in enumerate(
            zip(todo, pool.map(run, todo, itertools.repeat(traces)), strict=True), 1
        ):
            print(f"{done} of {len(todo)}: {setting.measure}", file=sys.stderr, flush=True)
            for name, (ratios, late) in found.items():
                pooled.setdefault(setting.measure, {}).setdefault(name, []).extend(ratios)
                missed[name] += late
    figures = [_figure(measure, by_policy, limits[measure]) for measure, by_policy in pooled.items()]
    simulated = sum(len(by_policy["ours"]) for by_policy in pooled.values())
    peers = {name: float(missed[name]) for name in PEERS}
    goal = "every deadline is met"
    figures.append(Figure(f"deadlines missed, of {simulated}", "", float(missed["ours"]), peers, 0.0, goal, COMMAND))
    return figures


def _figure(measure: str, ratios: dict[str, list[float]], limit: float | None) -> Figure:
    """Means, with the least and the greatest; ours is never more than 1 % above Uniform Progress."""
    means = {name: float(np.mean(values)) for name, values in ratios.items()}
    spread = {"spotweld" if name == "ours" else name: (min(values), max(values)) for name, values in ratios.items()}
    bound = min(limit or math.inf, 1.01 * means["uniform-progress"])
    goal = "mean cost over the optimum's" + ("" if limit else ", at most 1 % above Uniform Progress")
    peers = {name: means[name] for name in PEERS}
    return Figure(f"{measure} ({len(ratios['ours'])} jobs)", RATIO, means["ours"], peers, bound, goal, COMMAND, spread)


if __name__ == "__main__":
    sys.exit(main())
