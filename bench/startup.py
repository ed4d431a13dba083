"""How long it takes until Spotweld is there: importing it, and showing the command line's help."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import command_output, figure, in_turns, report

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 9
CLICK_APP = """
import click

@click.group()
def app() -> None:
    '''The smallest application with help.'''

@app.command()
def verb() -> None:
    '''One verb.'''

app()
"""


def import_ms(statement: str) -> Callable[[], float]:
    """Milliseconds that Python spends importing for ``statement``, beyond what every Python start imports."""

    def total(lines: list[str]) -> float:
        times = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
        return sum(int(own) for own, *_ in times if own.strip().isdigit()) / 1000

    def measure() -> float:
        with_it = command_output([sys.executable, "-X", "importtime", "-c", statement]).stderr.splitlines()
        without = command_output([sys.executable, "-X", "importtime", "-c", "pass"]).stderr.splitlines()
        return total(with_it) - total(without)

    return measure


def wall_ms(*argv: str) -> Callable[[], float]:
    """Milliseconds from starting a command to its end."""

    def measure() -> float:
        begun = time.perf_counter()
        command_output(argv)
        return (time.perf_counter() - begun) * 1000

    return measure


def main() -> int:
    """Measure, print, write."""
    spotweld = str(Path(sysconfig.get_path("scripts")) / "spotweld")
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app.py"
        app.write_text(CLICK_APP)
        imports = in_turns(
            {
                "spotweld": import_ms("import spotweld"),
                "from spotweld import Checkpointer": import_ms("from spotweld import Checkpointer"),
                "import click": import_ms("import click"),
                "import numpy": import_ms("import numpy"),
            },
            RUNS,
        )
        engine = {"spotweld": imports.pop("from spotweld import Checkpointer"), "import numpy": imports["import numpy"]}
        helps = in_turns(
            {
                "spotweld": wall_ms(spotweld, "--help"),
                "smallest click application --help": wall_ms(sys.executable, str(app), "--help"),
                "python -c pass": wall_ms(sys.executable, "-c", "pass"),
            },
            RUNS,
        )
    command = "make bench-startup"
    goal = "a training process does not notice that it imports Spotweld"
    figures = [
        figure("import spotweld", "ms", imports, limit=100.0, goal=goal, command=command),
        figure("from spotweld import Checkpointer", "ms", engine, limit=100.0, goal=goal, command=command),
        figure("spotweld --help", "ms", helps, limit=250.0, goal="help comes at once", command=command),
    ]
    return report("startup", figures)


if __name__ == "__main__":
    sys.exit(bool(main()))
