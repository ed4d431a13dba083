"""What lies in the store and the registries is looked at, written down once, and so comes into the ledger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.images.homes import build, project_of
from tests.runs.samples import opened
from tests.runs.world import ManualClock

import spotweld.runs.weighing as tested
from spotweld.costs.holdings import Weighing
from spotweld.costs.ledgerfile import LedgerFile
from spotweld.errors import Unavailable
from spotweld.images.lifetimes.surveying import survey
from spotweld.project.nouns import Registries
from spotweld.project.reading import load_project
from spotweld.runs.ledgers import bring_up_to_date
from spotweld.runs.weighing import LOOK_EVERY, WeightLog, weigh
from spotweld.store.opening import open_store
from spotweld.values.money import Money
from spotweld.values.sizes import GIB

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects

PRICE = Money(Decimal("0.50"))
KILLED = """
import sys
from decimal import Decimal
from pathlib import Path
from spotweld.costs.holdings import Weighing
from spotweld.runs.weighing import WeightLog
from spotweld.values.money import Money
from tests.runs.dying import die_after
log, left = WeightLog(Path(sys.argv[1])), int(sys.argv[2])
die_after(log, left)
log.weigh("s3://b", [Weighing(1.0, "s3://b", "store", run, 5, Money(Decimal(1)), "own") for run in "xyz"])
"""


def weighing(time: float, owner: str, size: int) -> Weighing:
    return Weighing(time, "s3://b", "store", owner, size, PRICE, "own")


def told(log: WeightLog) -> list[tuple[float, str, int]]:
    return [(one.time, one.weighing.owner, one.weighing.size) for one in log.weighings()]


@pytest.fixture
def clock() -> ManualClock:
    made = ManualClock()
    made.offset = 1_700_000_000.0
    return made


@pytest.fixture
def log(tmp_path: Path, clock: ManualClock) -> WeightLog:
    return WeightLog(tmp_path / "events.db", clock)


def project(folder: Path, text: str) -> Project:
    file = folder / "spotweld.yaml"
    file.write_text(f"name: project\njobs: {{train: {{command: 'true'}}}}\n{text}")
    return load_project(file)


def test_what_is_new_is_written_and_what_is_not_found_is_gone(log: WeightLog, clock: ManualClock) -> None:
    log.weigh("s3://b", [weighing(5.0, "a", 10), weighing(6.0, "b", 20)])
    first = [(5.0, "a", 10), (6.0, "b", 20)]
    assert told(log) == first
    log.weigh("s3://b", [weighing(5.0, "a", 10), weighing(6.0, "b", 20)])
    assert told(log) == first
    log.weigh("s3://b", [weighing(5.0, "a", 12)])
    assert sorted(told(log)[2:]) == [(clock.now(), "a", 12), (clock.now(), "b", 0)]
    log.weigh("s3://b", [weighing(5.0, "a", 12)])
    assert len(told(log)) == 4


def test_another_place_is_left_as_it_is(log: WeightLog) -> None:
    log.weigh("s3://b", [weighing(5.0, "a", 10)])
    log.weigh("s3://other", [])
    assert told(log) == [(5.0, "a", 10)]


def test_another_price_holds_from_when_it_was_seen(log: WeightLog, clock: ManualClock) -> None:
    log.weigh("s3://b", [weighing(5.0, "a", 10)])
    log.weigh("s3://b", [replace(weighing(5.0, "a", 10), monthly=Money(Decimal(9)))])
    assert [(one.time, one.weighing.monthly.amount) for one in log.weighings()] == [
        (5.0, Decimal("0.50")),
        (clock.now(), Decimal(9)),
    ]


def test_a_look_is_due_once_an_hour_and_whenever_the_clock_went_back(log: WeightLog, clock: ManualClock) -> None:
    assert log.due("s3://b")
    log.weigh("s3://b", [])
    assert not log.due("s3://b")
    assert log.due("s3://other")
    clock.sleep(LOOK_EVERY - 1)
    assert not log.due("s3://b")
    clock.sleep(1)
    assert log.due("s3://b")
    clock.offset -= 1_000_000
    assert log.due("s3://b")


def test_a_kill_at_any_statement_leaves_a_whole_look_or_none(tmp_path: Path) -> None:
    found = set()
    for left in range(40):
        path = tmp_path / f"{left}.db"
        WeightLog(path).close()
        done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(left)], env=os.environ, check=False)
        log = WeightLog(path)
        assert (len(told(log)), log.due("s3://b")) in {(0, True), (3, False)}
        found.add((done.returncode, len(told(log))))
        log.close()
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert {(-signal.SIGKILL, 0), (0, 3)} <= found


def test_runs_are_weighed_and_become_rows(tmp_path: Path, clock: ManualClock) -> None:
    mine = project(tmp_path, "store_price: 0.50 USD\n")
    objects = open_store(mine.store)
    objects.put("runs/r1/packs/one", b"x" * 1000)
    objects.put("runs/r1/head", b"y" * 24)
    objects.put("runs/somebody-elses/packs/one", b"x" * 1000)
    objects.put("sources/1", b"x")
    shared = WeightLog(mine.state / "events.db", clock)
    shared.open_run("r1", opened(labels={"team": "vision"}))
    clock.offset = objects_time = max(meta.modified for meta in objects.list("runs/"))
    assert weigh(mine, clock) == []
    assert [(owner, size) for _, owner, size in told(shared)] == [("r1", 1024)]
    file = LedgerFile(mine.state / "ledger.db")
    assert bring_up_to_date(file, mine.state, objects_time + 3600) == []
    rows = list(file.rows(file.kinds(), None, None))
    assert {(row.run, row.resource_type, row.tags["team"]) for row in rows} == {("r1", "Store", "vision")}
    assert sum(row.consumed_quantity for row in rows) > 0
    assert rows[-1].estimated
    file.close()


def test_months_that_are_over_stay_as_they_are(tmp_path: Path, clock: ManualClock) -> None:
    november, december = 1_698_796_800.0, 1_701_388_800.0
    log = WeightLog(tmp_path / "events.db", clock)
    log.weigh("s3://b", [weighing(november, "a", 30 * GIB)])
    file = LedgerFile(tmp_path / "ledger.db")
    bring_up_to_date(file, tmp_path, december + 86400)
    first = file.marks()
    assert [run for _, run in first] == ["what lay in stores, 2023-11", "what lay in stores, 2023-12"]
    assert [mark.open for mark in first.values()] == [False, True]
    assert sum(row.billed_cost for row in file.rows(file.kinds(), november, december)) == 15
    clock.offset = december + 86400
    log.weigh("s3://b", [])
    bring_up_to_date(file, tmp_path, december + 2 * 86400)
    assert file.marks()["own", "what lay in stores, 2023-11"] == first["own", "what lay in stores, 2023-11"]
    rows = list(file.rows(file.kinds(), december, None))
    assert len(rows) == 1
    file.close()


def test_without_a_price_nothing_is_looked_at(tmp_path: Path, clock: ManualClock) -> None:
    mine = project(tmp_path, "")
    assert weigh(mine, clock) == []
    assert not mine.state.exists()


def test_images_are_weighed_in_their_registries(tmp_path: Path, clock: ManualClock) -> None:
    places = Registries(f"oci:{tmp_path}/keeps", f"oci:{tmp_path}/goes", PRICE)
    mine = project_of(tmp_path, places)
    objects = open_store(mine.store)
    build(mine, objects, "trainer", 1, 1.0)
    assert weigh(mine, clock) == []
    log = WeightLog(mine.state / "events.db", clock)
    (found,) = [one.weighing for one in log.weighings()]
    assert (found.owner, found.place, found.labels) == ("image trainer", places.ephemeral, {"image": "trainer"})
    assert found.size == sum(one.size or 0 for one in survey(mine, objects).contents) > 0
    assert not log.due(places.ephemeral)
    assert not log.due(places.persistent)


def test_a_store_that_does_not_answer_keeps_its_weight_and_is_told(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(url: str, *, verify: bool) -> Objects:
        raise Unavailable(f"{url} does not answer {verify}", "", "")

    monkeypatch.setattr(tested, "open_store", silent)
    mine = project(tmp_path, "store: s3://bucket/x\nstore_price: 1 USD\n")
    log = WeightLog(mine.state / "events.db", clock)
    log.weigh("s3://bucket/x", [weighing(5.0, "a", 10)])
    clock.sleep(LOOK_EVERY)
    found = weigh(mine, clock)
    assert len(found) == 1
    assert "its weight stays as it was" in found[0]
    assert told(log) == [(5.0, "a", 10)]
