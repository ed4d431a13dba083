"""`spotweld cost report` over a ledger of a million rows: how long the whole command takes, and how much memory.

The ledger is of two thousand runs on five machine types in four zones, of four teams, in a year; every report is a
process of its own, which looks at the logs of all runs first, as it always does.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from harness import Figure, figure, in_turns, report

from spotweld.costs.ledger import ledger
from spotweld.costs.ledgerfile import LedgerFile, Mark
from spotweld.costs.usage import Usage
from spotweld.project.nouns import Job, LocalProvider, LocalZone, PlacementRules
from spotweld.runs.drive import log_path
from spotweld.runs.events import Opened
from spotweld.runs.ledgers import ledger_path
from spotweld.runs.log import EventLog
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

RUNS, ROWS = 2000, 500
"""Runs, and rows of each."""
BEGIN, YEAR = 1_735_689_600.0, 365 * 86400.0
BY = ("month", "team", "run", "day,team", "day,zone,type")
COMMAND = "make bench-costs"
PROGRAM = "from spotweld.cli.main import main; main()"


def fill(folder: Path, runs: int) -> None:
    """A project whose runs have ended, and its ledger."""
    (folder / "spotweld.yaml").write_text("name: bench\njobs: {train: {command: 'true'}}\n")
    state = folder / ".spotweld"
    price = Money(Decimal("0.30"))
    opened = Opened(
        *("bench", Job("train", "true"), "memory:", "", LocalProvider((LocalZone("a", price, price),))),
        PlacementRules(),
    )
    log, file = EventLog(log_path(state)), LedgerFile(ledger_path(state))
    chance = random.Random(6)
    for number in range(runs):
        run = f"run-{number:04}"
        log.open_run(run, opened)
        (entry,) = log.entries(run)
        rows = ledger(usages(run, chance))[:ROWS]
        file.replace("bench", run, rows, Mark(entry.seq, entry.time, open=False))
        if number % 100 == 99:
            print(f"{number + 1} of {runs} runs are in the ledger", file=sys.stderr)
    log.close()
    file.close()


def usages(run: str, chance: random.Random) -> list[Usage]:
    """A run that lost its machine hundreds of times, in four zones; a tenth of each machine's time was lost."""
    start = BEGIN + chance.random() * (YEAR - ROWS * 3600)
    team, kind = chance.choice(("vision", "speech", "search", "ads")), chance.choice(("p4d", "g5", "c7i", "a3", "t4"))
    found = []
    for attempt in range(1, ROWS + 1):
        zone = chance.choice("abcd")
        hourly = Money(Decimal(1) + Decimal(ord(zone)) / 1000)
        offer = Offer("cloud", "us-east", f"us-east-{zone}", kind, CapacityType.SPOT, hourly, "bench")
        seconds = chance.uniform(60.0, 3000.0)
        machine = f"i-{chance.getrandbits(64):016x}"
        ended, lost = start + seconds, seconds / 10
        firm = Money(Decimal(4))
        found.append(
            Usage(
                "bench",
                run,
                attempt,
                machine,
                offer,
                firm,
                start,
                ended,
                closed=True,
                lost_seconds=lost,
                labels={"team": team},
            )
        )
        start += 3600.0
    return found


def run_report(folder: Path, by: str) -> tuple[float, float]:
    """Seconds and MB (10⁶ bytes) that one report takes."""
    words = (sys.executable, "-c", PROGRAM, "-C", str(folder), "cost", "report", "--by", by, "--json")
    begun = time.perf_counter()
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    # Popen's own wait does not say what the child has used.
    _, status, used = os.wait4(child.pid, 0)
    taken = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"cost report --by {by} failed")
    return taken, used.ru_maxrss * 1024 / 1e6


def main() -> int:
    """Measure, and say how many figures are over their limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a hundredth of the rows, to try it")
    runs = RUNS // 100 if parser.parse_args().small else RUNS
    figures: list[Figure] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), runs)

        def seconds(by: str) -> float:
            taken, used = run_report(Path(name), by)
            memory.append(used)
            return taken

        goal = f"a report over {runs * ROWS:,} rows in under two seconds, from the command to its end"
        for by in BY:
            taken = in_turns({"spotweld": lambda by=by: seconds(by)}, 5)  # type: ignore[misc]
            figures.append(figure(f"cost report --by {by}", "s", taken, limit=2.0, goal=goal, command=COMMAND))
    goal = "and in less than 500 MB"
    figures.append(figure("memory of a report", "MB", {"spotweld": memory}, limit=500.0, goal=goal, command=COMMAND))
    return report("costs", figures)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
