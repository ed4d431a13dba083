"""Three runs with deadlines on the local provider, which replays a recorded market a thousand times as fast.

Each run is launched as a user would, in a market of three zones that is cut from the recordings at random, from
moments at which two interruptions are foretold at least, and at which that prediction does not hang on a second. What
its ledger says it cost is compared with what the simulator had foretold for the same market, job and policy. How long a
machine takes from its start until the program works, and to end, is measured before, in runs that nothing disturbs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import Figure, command_output, report

from spotweld.placement.market import Market, market_of
from spotweld.placement.policies import policy_of
from spotweld.placement.reading import read_recordings
from spotweld.placement.seeing import Task
from spotweld.placement.simulating import Outcomes, simulate, starts_of
from spotweld.runs.remaining import REACTION
from spotweld.values.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR = 3600.0
SPEED = 1000
STEP = 0.2
WORK = 24 * HOUR
DEADLINES = (28, 32, 36)
"""Hours."""
SAVES = 0.5
"""Seconds between two saves."""
CLEAR = 0.01
"""By what share a prediction may change when a start takes a fifth less or a quarter more, or a second is lost."""
ZONES = ("us-east-2a", "us-east-2b", "us-west-2a")
TRACES = Path(__file__).parents[2] / "shared" / "traces"
COMMAND = "make bench-deadlines"
PROGRAM = f"""
import os, time
import numpy as np
from spotweld import Checkpointer

done = np.zeros(1)
began = None
for step in Checkpointer({{"done": done}}).steps(int(os.environ["STEPS"])):
    first, began = (step, time.monotonic()) if began is None else (first, began)
    # Each step ends when it is due, so that a machine's hour is an hour of work.
    time.sleep(max(0.0, began + (step - first + 1) * {STEP} - time.monotonic()))
    done += 1
"""


def project(folder: Path, market: Market, steps: int, job: Mapping[str, object], changeover: float) -> None:
    """Everything that a run needs, in an empty folder."""
    folder.mkdir()
    (folder / "work.py").write_text(PROGRAM)
    zones = {}
    for place, zone in enumerate(market.zones):
        trace = folder / f"{zone}.json"
        data, paid = market.capacity[:, place].tolist(), market.spot[:, place].tolist()
        trace.write_text(json.dumps({"metadata": {"gap_seconds": market.gap}, "data": data, "prices": paid}))
        prices = {"spot": f"{market.spot[0, place]} USD", "on_demand": f"{market.on_demand[place]} USD"}
        zones[zone] = prices | {"trace": trace.name}
    command = {"command": "python work.py", "env": {"STEPS": str(steps)}, "checkpoint": {"every": f"{SAVES}s"}}
    # JSON is YAML.
    file = {
        "name": "deadlines",
        "jobs": {"train": {**command, **job}},
        "placement": {"changeover": f"{changeover:.3f}s", "back_off": "500ms"},
        "providers": {"local": {"speed": SPEED, "notices": ["none"], "zones": zones}},
    }
    (folder / "spotweld.yaml").write_text(json.dumps(file))


def launch(folder: Path) -> dict[str, Any]:
    """Run it to its end; what ``status`` says of it."""
    argv = [str(Path(sys.executable).with_name("spotweld"))]
    environ = os.environ | {"NO_COLOR": "1"}
    # It may be late: that is one of the figures.
    command_output([*argv, "launch", "--yes", "--name", "r", "--detach"], cwd=folder, env=environ)
    subprocess.run([*argv, "watch", "r", "--progress", "quiet"], cwd=folder, env=environ, check=False)
    done: dict[str, Any] = json.loads(command_output([*argv, "status", "r", "--json"], cwd=folder, env=environ).stdout)
    return done


def overhead(folder: Path, market: Market) -> float:
    """Seconds for which a machine is paid besides the work: until the program works, and to end."""
    taken = []
    for number in range(3):
        project(folder / f"calm-{number}", market, 25, {"spot_policy": "on-demand"}, 1.0)
        (only,) = launch(folder / f"calm-{number}")["placements"]
        taken.append(only["ended"] - only["started"] - 25 * STEP)
    return float(np.median(taken))


def eventful(whole: Market, task: Task, draw: np.random.Generator) -> tuple[Market, Outcomes]:
    """A part of the market, and what the simulator foretells of a run at its beginning: at least two interruptions.

    It is a prediction that holds: in other parts of the market a second, which is a quarter of an hour there, makes
    another zone of a decision, and then the simulator itself foretells a tenth more or less.
    """
    while True:
        first = int(draw.integers(starts_of(whole, task).stop))
        market = whole.between(first, first + math.ceil(task.deadline / whole.gap) + 1)
        expected = foretell(market, task)
        if expected.preemptions[0] >= 2 and all(
            abs(foretell(market, other).cost[0] / expected.cost[0] - 1) <= CLEAR for other in neighbours(task)
        ):
            return market, expected


def foretell(market: Market, task: Task) -> Outcomes:
    """Of a run that begins with the market."""
    return simulate(market, np.array([0]), task, policy_of("ours"))


def neighbours(task: Task) -> list[Task]:
    """The same with starts that take a little less or more, and with a controller that loses time."""
    starts = [replace(task, changeover=task.changeover * share) for share in (0.8, 1.25)]
    return starts + [replace(task, deadline=task.deadline - late * SPEED) for late in (0.5, 1.5)]


def main() -> int:
    """Measure, print the table and write the file; how many figures are over their limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=Path, default=TRACES, help="the folder with the recordings")
    parser.add_argument("--seed", type=int, default=1, help="draws where the markets are cut out")
    options = parser.parse_args()
    if not options.traces.is_dir():
        sys.exit(f"there is no folder {options.traces}: give one with --traces")
    whole = market_of(read_recordings([options.traces / "aws-v100-2023" / f"{zone}.json" for zone in ZONES]))
    foretold, paid, taken = [], [], []
    with tempfile.TemporaryDirectory(prefix="spotweld-deadlines-") as scratch:
        beyond = overhead(Path(scratch), whole)
        print(
            f"a machine is paid {beyond:.2f} s beyond its work: {format_duration(beyond * SPEED)} of the market's time"
        )
        draw = np.random.default_rng(options.seed)
        for hours in DEADLINES:
            task = Task(WORK, hours * HOUR - REACTION * SPEED, beyond * SPEED, cadence=SAVES * SPEED)
            market, expected = eventful(whole, task, draw)
            job = {"work": f"{WORK / SPEED:.3f}s", "deadline": f"{hours * HOUR / SPEED:.3f}s"}
            project(Path(scratch) / f"{hours}", market, round(WORK / SPEED / STEP), job, beyond)
            run = launch(Path(scratch) / f"{hours}")
            foretold.append(float(expected.cost[0]) / SPEED)
            paid.append(float(run["cost"]["amount"]))
            taken.append(run["ended"] - run["opened"])
            print(
                f"{hours} h: {run['state']}, {run['attempts']} attempts, {run['interruptions']} interruptions, "
                f"after {taken[-1]:.1f} s of {hours * HOUR / SPEED:.1f} s; {paid[-1]:.5f} USD, foretold "
                f"{foretold[-1]:.5f} ({paid[-1] / foretold[-1] - 1:+.1%}) with {expected.preemptions[0]} interruptions",
                flush=True,
            )
    apart = [100 * abs(ours / theirs - 1) for ours, theirs in zip(paid, foretold, strict=True)]
    total = 100 * abs(sum(paid) / sum(foretold) - 1)
    late = [max(0.0, took - hours * HOUR / SPEED) for took, hours in zip(taken, DEADLINES, strict=True)]
    figures = [
        Figure(
            "three runs with deadlines: the ledger against the simulator", "%", total, {}, 2.0,
            "what is foretold is what is paid", COMMAND, {"spotweld": (min(apart), max(apart))},
        ),
        Figure("the latest end after its deadline", "s", max(late), {}, 0.0, "no deadline is missed", COMMAND),
    ]  # fmt: skip
    return report("deadlines", figures, "all three")


if __name__ == "__main__":
    sys.exit(main())
