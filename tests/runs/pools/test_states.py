"""What is known of a pool, folded from its events; and what waiting has cost."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.runs.samples import LOCAL, OFFER, ON_DEMAND_PRICE

from spotweld.costs.ledger import ledger
from spotweld.costs.totals import total
from spotweld.errors import IllegalTransition, StaleWriter, UsageError
from spotweld.project.nouns import Job, PlacementRules, Pool
from spotweld.runs.pools.events import (
    Down,
    DownWanted,
    MemberClosed,
    MemberEnd,
    MemberEnded,
    MemberOpened,
    MemberReady,
    MemberStarted,
    MemberTaken,
    PoolEntry,
    PoolEvent,
    Wanted,
    decode,
    encode,
)
from spotweld.runs.pools.log import PoolLog
from spotweld.runs.pools.members import recipe_of
from spotweld.runs.pools.states import PoolState, fold, usages
from spotweld.values.money import Money

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = recipe_of(Job("job", "true"), "memory:", "sources/0", None)
WANTED = Wanted("project", Pool("warm", "job", machines=2), RECIPE, LOCAL, PlacementRules(), {"team": "vision"})
OPENED = MemberOpened("t", OFFER, ON_DEMAND_PRICE, "cheapest", RECIPE)
STARTED = MemberStarted("t", "m", 100.0)
CLOSED = MemberClosed("t", MemberEnd.INTERRUPTED, "a notice")


def after(*events: PoolEvent) -> PoolState:
    return fold([PoolEntry("warm", seq, 90.0 + seq, event) for seq, event in enumerate((WANTED, *events), 1)])


def test_the_life_of_a_member() -> None:
    assert [member.live for member in after(OPENED).members] == [True]
    ready = after(OPENED, STARTED, MemberReady("t"))
    assert [member.token for member in ready.waiting] == ["t"]
    assert ready.phase == "filling"
    assert after(OPENED, STARTED, MemberReady("t"), CLOSED).waiting == ()
    assert after(OPENED, STARTED, CLOSED, MemberEnded("t", 130.0)).live == ()
    taken = after(OPENED, STARTED, MemberReady("t"), MemberTaken("t", "r", 1, 160.0))
    assert (taken.live, taken.members[0].taken) == ((), ("r", 1))


def test_down_and_up_again() -> None:
    assert after(DownWanted()).phase == "going down"
    assert after(DownWanted(), Down()).phase == "down"
    assert after(DownWanted(), WANTED).phase == "filling"
    assert after(DownWanted(), Down(), WANTED).phase == "filling"


@pytest.mark.parametrize(
    "events",
    [
        (Down(),),
        (OPENED, DownWanted(), Down()),
        (STARTED,),
        (OPENED, MemberReady("t")),
        (OPENED, STARTED, STARTED),
        (OPENED, MemberEnded("t", 1.0)),
        (OPENED, MemberTaken("t", "r", 1, 1.0)),
        (OPENED, STARTED, CLOSED, MemberTaken("t", "r", 1, 1.0)),
        (OPENED, STARTED, MemberTaken("t", "r", 1, 1.0), CLOSED),
        (DownWanted(), Down(), OPENED),
    ],
)
def test_what_cannot_follow(events: tuple[PoolEvent, ...]) -> None:
    with pytest.raises(IllegalTransition):
        after(*events)


def test_waiting_costs_until_a_run_takes_the_machine_or_it_ends() -> None:
    taken = after(OPENED, STARTED, MemberReady("t"), MemberTaken("t", "r", 1, 1900.0))
    (usage,) = usages(taken, 9999.0)
    assert (usage.run, usage.attempt, usage.machine) == ("pool warm", 1, "m")
    assert (usage.started, usage.ended, usage.closed) == (100.0, 1900.0, True)
    assert usage.labels == {"team": "vision", "pool": "warm"}
    assert total(ledger([usage]))[0].billed == Money(Decimal("0.45"))
    (open_,) = usages(after(OPENED, STARTED), 1900.0)
    assert (open_.ended, open_.closed) == (1900.0, False)
    assert usages(after(OPENED), 1900.0) == []
    backwards = after(OPENED, STARTED, CLOSED, MemberEnded("t", 50.0))
    assert usages(backwards, 0.0)[0].ended == 100.0, "a clock that was set back earns nothing"


def test_the_log_keeps_it(tmp_path: Path) -> None:
    assert decode(encode(WANTED)) == WANTED
    log = PoolLog(tmp_path / "pools.db")
    with pytest.raises(UsageError, match="there is no pool 'warm'"):
        log.state("warm")
    assert log.want(WANTED)
    assert not log.want(WANTED)
    first, second = log.take_over("warm"), log.take_over("warm")
    state = log.state("warm")
    with pytest.raises(StaleWriter):
        log.append("warm", first, state, OPENED)
    assert log.append("warm", second, state, OPENED) == log.state("warm")
    # What others say meanwhile is read before anything is added.
    assert log.request_down("warm")
    later = log.append("warm", second, state, STARTED) if log.state("warm").members else None
    assert later is not None
    assert later.going_down
    log.want(WANTED)
    with pytest.raises(IllegalTransition):
        log.append("warm", second, later, Down())
    assert log.pools() == ["warm"]
