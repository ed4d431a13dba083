"""A build machine is killed in every instruction, and between each one's end and its last byte in the registry."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.images.builders.rigs import FILES, Counter, Gate, until_durable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.images.builders.rigs import Machine

    from spotweld.images.builders.builder import Solve

Fresh = "Callable[[], Machine]"
Project = "Callable[..., Solve]"

pytestmark = pytest.mark.slow

IN, UNSENT = "in it", "before it is sent"


@pytest.fixture
def gate(registry: str) -> Iterator[Gate]:
    with Gate(registry) as gate:
        yield gate


class Death:
    """One machine that is killed.

    Args:
        machine: it.
        solve: what it builds.
        victim: the text of the instruction, as the builder prints it.
        before: line and name of the instruction before it; 0: there is none.
        where: `IN` or `UNSENT`.
        counter: is called by every RUN.
        gate: is between it and the registry.
        put: the manifests that were sent by all machines so far.
    """

    def __init__(
        self,
        machine: Machine,
        solve: Solve,
        victim: str,
        before: tuple[int, str],
        where: str,
        counter: Counter,
        gate: Gate,
        put: set[str],
    ) -> None:
        self._machine, self._solve, self._victim, self._before, self._where = machine, solve, victim, before, where
        self._put = put
        self._once = threading.Lock()
        self._dead = threading.Event()
        self.ran: list[str] = []
        """Instructions that came to their end before the machine died, in order."""
        self._name = victim.partition("begin/")[2].partition(" ")[0]
        counter.hook = self._called
        gate.hook = self._sent
        self._building = machine.start(solve, subprocess.PIPE)

    def wait(self) -> None:
        with self._building as building:
            begun, told = set(), set()
            for line in building.stdout or ():
                word, _, text = line.rstrip("\n").partition(" ")
                (begun if word == "begun" else told).add(text)
                if word == "ran" and text.startswith("COPY"):
                    self.ran.append(text)
                # A COPY that needs another stage may begin before that stage.
                due = self._victim.startswith("COPY") and self._victim in begun
                due = due and any(self._before[1] in text for text in told)
                if due and self._where == IN:
                    self._strike()
            assert building.wait(60) != 0
        assert self._dead.wait(60)

    def _called(self, call: str) -> bool:
        kind, _, name = call.partition("/")
        if kind == "end":
            self.ran.append(name)
        elif name == self._name and self._where == IN:
            self._strike()
            return False
        elif self._victim in self.ran or self._name in self.ran:
            threading.Event().wait()  # the next one: it gets no answer, and dies with its machine
        return True

    def _sent(self, line: str) -> bool:
        if line.startswith("PUT ") and "/manifests/" in line and line not in self._put:
            if self._where == UNSENT:
                self._strike()
            else:
                self._put.add(line)
        return not self._dead.is_set()

    def _strike(self) -> None:
        with self._once:
            if self._dead.is_set():
                return
            if self._before[0] and self._where == IN:
                until_durable(self._machine.kind, self._solve, self._before[0])
            self._building.kill()
            self._machine.kill()
            self._dead.set()


def test_no_death_costs_a_finished_instruction(
    fresh: Fresh,
    project: Project,
    three_stages: str,
    counter: Counter,
    gate: Gate,
    registry: str,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    solve = project(three_stages, FILES)
    solve = msgspec.structs.replace(solve, cache=solve.cache.replace(registry, gate.host))
    numbered = [(line, text) for line, text in enumerate(three_stages.splitlines(), 1) if text[:4] in {"RUN ", "COPY"}]
    assert len(numbered) == 12
    names = {text: text.partition("begin/")[2].partition(" ")[0] or text for _, text in numbered}
    order = list(names.values())
    ended, lost, deaths = (dict.fromkeys(order, 0) for _ in range(3))

    before = (0, "")
    put: set[str] = set()
    for line, text in numbered:
        for where in (IN, UNSENT):
            death = Death(fresh(), solve, text, before, where, counter, gate, put)
            death.wait()
            deaths[names[text]] += 1
            for name in death.ran:
                ended[name] += 1
                # What had ended by then, and was not in the registry yet, is lost with the machine.
                lost[name] += order.index(name) >= order.index(names[text])
        before = (line, names[text] if text.startswith("COPY") else f"begin/{names[text]} ")
    counter.hook = lambda call: call.startswith("begin/") or ended.update({call[4:]: ended[call[4:]] + 1}) is None
    gate.hook = lambda _: True
    for step in fresh().builder().solve(solve).ran():
        if step.text.startswith("COPY"):
            ended[step.text] += 1

    again = {name: ended[name] - lost[name] - 1 for name in order}
    rows = [("instruction", "machines killed", "came to its end", "not sent then", "run again for nothing")]
    rows += [(name, *(str(of[name]) for of in (deaths, ended, lost, again))) for name in order]
    rows += [("all", *(str(sum(of.values())) for of in (deaths, ended, lost, again)))]
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}: each instruction killed {IN}, and {UNSENT}\n")
        for row in rows:
            sys.stdout.write("  ".join(cell.ljust(24) for cell in row).rstrip() + "\n")
    assert again == dict.fromkeys(order, 0)
