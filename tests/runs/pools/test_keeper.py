"""The keeper with a provider that refuses, lies and loses machines, and killed between any two of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.runs.pools.hall import NAME, Hall
from tests.runs.samples import OFFERS

from spotweld.costs.ledger import cost
from spotweld.errors import StaleWriter
from spotweld.project.nouns import Pool, SpotUse
from spotweld.providers.provider import MachineEnd
from spotweld.runs.decisions import SILENCE
from spotweld.runs.events import Cause, Outcome
from spotweld.runs.pools.events import MemberEnd
from spotweld.runs.pools.members import Claim, claim
from spotweld.runs.pools.states import usages
from spotweld.testing.providers import Fail, Live, Refuse
from spotweld.testing.stores import Fault, FaultyObjects
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.runs.log import EventLog
    from spotweld.runs.pools.log import PoolLog
    from spotweld.runs.pools.states import PoolState


def kinds(state: PoolState) -> list[str]:
    return sorted(f"{member.offer.zone} {member.offer.capacity_type}" for member in state.waiting)


def test_a_pool_fills_with_spot_and_gives_on_demand_back(tmp_path: Path) -> None:
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=2, spare=1))
    keeper = hall.keeper()
    early = hall.keep(1.0, keeper)
    assert [member.spot for member in early.live] == [True, True, True, False, False]
    state = hall.keep(20.0, keeper)
    assert state.phase == "ready"
    assert kinds(state) == ["a spot", "a spot", "a spot"]
    assert len(hall.alive()) == 3
    assert {member.closed for member in state.members if not member.spot} == {MemberEnd.RETURNED}


def test_on_demand_fills_up_while_spot_is_refused_and_zones_are_left_alone(tmp_path: Path) -> None:
    hall = Hall(tmp_path, [Refuse()] * 3, Pool(NAME, "job", machines=1))
    state = hall.keep(0.9)
    refused = [member for member in state.members if member.closed is MemberEnd.REFUSED]
    assert [member.offer.zone for member in refused] == ["a", "b", "c"], "each zone is asked once within the back-off"
    assert [member.offer.capacity_type for member in state.live] == [CapacityType.ON_DEMAND]
    state = hall.keep(20.0)
    assert kinds(state) == ["a spot"]


def test_a_machine_with_a_notice_is_not_handed_out_and_is_replaced_at_once(tmp_path: Path) -> None:
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1))
    keeper = hall.keeper()
    (member,) = hall.keep(10.0, keeper).waiting
    assert member.machine is not None
    hall.hung.add(member.machine)
    hall.provider.interrupt(member.machine, notice=30.0)
    state = hall.keep(0.5, keeper)
    found = hall.claim_of(member.token)
    assert found is not None
    assert not found.run, "it is closed although its own agent hangs"
    assert len([one for one in state.live if one.closed is None]) == 2, "one on spot, and on-demand until that is ready"
    assert hall.drive("r").attempts[0].drawn is None
    state = hall.keep(10.0, keeper)
    assert len(hall.alive()) == len(state.waiting) == 1
    assert state.members[-1].closed is not MemberEnd.INTERRUPTED
    assert next(one for one in state.members if one.token == member.token).closed is MemberEnd.INTERRUPTED


@pytest.mark.parametrize("cloud", ["aws", "local"])
def test_a_machine_with_a_notice_in_its_first_hour_at_aws_is_left_to_aws(tmp_path: Path, cloud: str) -> None:
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1))
    hall.provider._offers = tuple(msgspec.structs.replace(offer, provider=cloud) for offer in OFFERS)
    keeper = hall.keeper()
    (member,) = hall.keep(10.0, keeper).waiting
    # An agent that ended the machine itself would have to pay for it.
    hall.hung.add(str(member.machine))
    hall.provider.interrupt(str(member.machine), notice=30.0)
    state = hall.keep(60.0, keeper)
    gone = next(one for one in state.members if one.token == member.token)
    assert gone.end is (MachineEnd.INTERRUPTED if cloud == "aws" else MachineEnd.STOPPED)
    first = next(usage for usage in usages(state, 0.0) if usage.machine == member.machine)
    assert first.settled
    assert bool(cost(first).amount) == (cloud == "local")
    assert len(hall.alive()) == len(state.waiting) == 1


@pytest.mark.parametrize("end", [MachineEnd.INTERRUPTED, MachineEnd.LOST])
def test_a_machine_that_is_lost_while_it_waits_is_replaced(tmp_path: Path, end: MachineEnd) -> None:
    hall = Hall(tmp_path)
    keeper = hall.keeper()
    first = hall.keep(10.0, keeper).waiting[0]
    hall.provider.end(str(first.machine), end)
    state = hall.keep(10.0, keeper)
    assert len(state.waiting) == len(hall.alive()) == 2
    gone = next(member for member in state.members if member.token == first.token)
    assert gone.closed is MemberEnd.INTERRUPTED
    assert gone.ended is not None


def test_a_silent_member_is_given_up(tmp_path: Path) -> None:
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1))
    keeper = hall.keeper()
    (member,) = hall.keep(10.0, keeper).waiting
    hall.hung.add(str(member.machine))
    state = hall.keep(130.0, keeper)
    assert [one.token for one in state.waiting] != [member.token]
    assert len(state.waiting) == len(hall.alive()) == 1


def test_a_machine_that_is_not_listed_is_not_ended_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1))
    keeper = hall.keeper()
    (member,) = hall.keep(10.0, keeper).waiting
    hall.hung.add(str(member.machine))
    with monkeypatch.context() as patched:
        patched.setattr(hall.provider, "machines", lambda _: [])
        hall.log.request_down(NAME)
        assert hall.keep(120.0, keeper).down
    stops = [call for call in hall.provider.calls if call.startswith("stop")]
    assert 1 <= len(stops) < 5 * 40, "the list may lag for half a minute"


def test_a_store_that_is_down_for_long_makes_no_member_silent(tmp_path: Path) -> None:
    """Nobody hears the signs of life of a machine that cannot give any: its store is down for it as well."""
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1))
    keeper = hall.keeper()
    (member,) = hall.keep(10.0, keeper).waiting
    hall.hung.add(str(member.machine))
    hall.keep(1.0, keeper)
    back = hall.clock.elapsed + 3 * SILENCE
    keeper._objects = FaultyObjects(hall.objects, lambda _: Fault.NO_ANSWER if hall.clock.elapsed < back else None)
    # The keeper's next try may well come before the machine's.
    hall.keep(3 * SILENCE + 3.0, keeper)
    hall.hung.clear()
    state = hall.keep(10.0, keeper)
    assert [one.token for one in state.waiting] == [member.token]


def test_preparing_that_fails_is_tried_ever_more_slowly_and_says_why(tmp_path: Path) -> None:
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1, spot_policy=SpotUse.SPOT))
    hall.failing = True
    state = hall.keep(100.0)
    assert 3 <= len(state.members) <= 5
    assert {member.closed_why for member in state.members if member.closed} == {"exit status 4"}
    assert state.phase == "filling"


@pytest.mark.parametrize(("seconds", "end"), [(0.9, MemberEnd.REFUSED), (4.0, MemberEnd.FAILED)])
def test_a_clock_that_was_set_back_makes_no_pause_longer(tmp_path: Path, seconds: float, end: MemberEnd) -> None:
    script = [Refuse()] * 3 if end is MemberEnd.REFUSED else []
    hall = Hall(tmp_path, script, Pool(NAME, "job", machines=1, spot_policy=SpotUse.SPOT))
    hall.failing = end is MemberEnd.FAILED
    keeper = hall.keeper()
    assert {member.closed for member in hall.keep(seconds, keeper).members} == {end}
    hall.failing = False
    hall.clock.offset -= 3600.0
    state = hall.keep(20.0, keeper)
    assert state.phase == "ready"


def test_new_files_replace_the_machines_and_the_old_ones_are_not_handed_out(tmp_path: Path) -> None:
    hall = Hall(tmp_path, setup="make")
    keeper = hall.keeper()
    old = {member.token for member in hall.keep(10.0, keeper).waiting}
    hall.opened = msgspec.structs.replace(hall.opened, source="sources/11.json")
    assert hall.drive("r").attempts[0].drawn is None, "machines prepared with other files are not taken"
    assert hall.want()
    assert not hall.want()
    state = hall.keep(15.0, keeper)
    assert len(state.waiting) == 2
    assert not old & {member.token for member in state.waiting}
    assert hall.drive("s").attempts[0].drawn is not None


def test_a_run_takes_a_machine_pays_from_then_on_and_the_pool_fills_up_again(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    keeper = hall.keeper()
    before = hall.keep(10.0, keeper).waiting
    run = hall.drive("r")
    (attempt,) = run.attempts
    assert run.outcome is Outcome.DONE
    assert attempt.drawn is not None
    assert attempt.drawn.machine in {member.machine for member in before}
    state = hall.keep(10.0, keeper)
    taken = next(member for member in state.members if member.machine == attempt.machine)
    assert taken.taken == ("r", 1)
    assert taken.ended == attempt.started, "no second is paid twice, and none is forgotten"
    assert len(state.waiting) == len(hall.alive()) == 2
    ended = next(m for m in hall.provider.machines({"pool": NAME}) if m.id == attempt.machine)
    assert ended.end is MachineEnd.STOPPED, "the run has ended its machine: nothing of it is used again"


def test_going_down_ends_what_waits_and_leaves_what_a_run_has(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    hall.keep(10.0)
    hall.works = 60.0
    controller = hall.controller("r")
    hall.clock.passing = _once(hall, lambda: len(hall.runs.state("r").attempts) == 1 and _running(hall), hall.log)
    assert controller.drive().outcome is Outcome.DONE
    assert hall.keep(10.0).down
    assert hall.alive() == []
    (attempt,) = hall.runs.state("r").attempts
    assert attempt.cause is Cause.DONE


def _running(hall: Hall) -> bool:
    return hall.runs.state("r").attempts[0].running is not None


def _once(hall: Hall, when: Callable[[], bool], log: PoolLog) -> Callable[[], None]:
    """Time passes; at that moment the pool goes down, under another keeper."""
    before, done = hall._pass, []

    def passing() -> None:
        before()
        if not done and when():
            done.append(1)
            log.request_down(NAME)
            hall.keep(3.0)

    return passing


def test_down_is_idempotent_and_up_again_works(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    hall.keep(10.0)
    assert hall.log.request_down(NAME)
    assert not hall.log.request_down(NAME)
    assert hall.keep(10.0).down
    assert not hall.log.request_down(NAME)
    assert hall.want()
    assert hall.keep(10.0).phase == "ready"
    assert len(hall.alive()) == 2


def test_a_keeper_that_was_replaced_changes_nothing(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    old = hall.keeper()
    hall.keep(10.0)
    hall.log.request_down(NAME)
    with pytest.raises(StaleWriter):
        hall.keep(10.0, old)


@pytest.mark.parametrize("answer", [Live(answer_lost=True), Live(answer_lost=True, hidden=20.0), Fail()])
def test_a_lost_answer_rents_nothing_twice(tmp_path: Path, answer: Live | Fail) -> None:
    hall = Hall(tmp_path, [answer], Pool(NAME, "job", machines=1))
    state = hall.keep(40.0)
    assert len(state.waiting) == len(hall.alive()) == 1
    hall.log.request_down(NAME)
    assert hall.keep(60.0).down
    assert hall.alive() == []


class Crash(BaseException):
    """The process is gone."""


class Crashing:
    """Counts the effects of whoever is wrapped, and ends it before or after the one with this number."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left, self.after, self.armed = at, after, True

    def wrap(self, owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        inner = getattr(owner, name)

        def effect(*args: object, **kwargs: object) -> object:
            if not self.armed:
                return inner(*args, **kwargs)
            self.left -= 1
            hit = self.left == 0
            if hit and not self.after:
                self.armed = False
                raise Crash
            # What is done counts, even if the answer is an error.
            try:
                return inner(*args, **kwargs)
            finally:
                if hit:
                    self.armed = False
                    raise Crash

        monkeypatch.setattr(owner, name, effect)


def crash(
    hall: Hall,
    at: int,
    *,
    after: bool,
    monkeypatch: pytest.MonkeyPatch,
    log: PoolLog | EventLog,
    act: Callable[[], object],
) -> bool:
    """``act``, whose process is killed around its ``at``-th effect; whether it lived so long."""
    crashing = Crashing(at, after=after)
    with monkeypatch.context() as patch:
        crashing.wrap(log, "append", patch)
        for name in ("create", "put", "delete"):
            crashing.wrap(hall.objects, name, patch)
        for name in ("start", "stop"):
            crashing.wrap(hall.provider, name, patch)
        passing, hall.clock.passing = hall.clock.passing, lambda: None

        def others() -> None:
            # The machines live their own lives: what they write is no effect of the one that is killed.
            armed, crashing.armed = crashing.armed, False
            passing()
            crashing.armed = armed

        hall.clock.passing = others
        try:
            act()
        except Crash:
            return True
        finally:
            hall.clock.passing = passing
    return False


def check(hall: Hall) -> None:
    """Nothing is forgotten, nothing doubled, nobody shares."""
    state = hall.state
    machines = hall.provider.machines({"pool": NAME})
    known = [member.machine for member in state.members if member.machine]
    assert len(known) == len(set(known))
    assert {machine.id for machine in machines} == set(known), "every machine is in the log, and each once"
    taken = [member.taken for member in state.members if member.taken]
    assert len(taken) == len(set(taken))
    for member in state.members:
        found = hall.claim_of(member.token)
        assert (found is not None and bool(found.run)) == (member.taken is not None)


@pytest.mark.parametrize("after", [False, True])
def test_a_keeper_killed_at_any_effect_forgets_no_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Through filling up, refusals, a loss, a run's taking, and going down."""
    killed = 0
    for at in range(1, 90):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        hall = Hall(folder, [Live(), Refuse(), Live(seconds=6.0, notice=2.0), Live(answer_lost=True)])

        def story(hall: Hall = hall) -> None:
            hall.keep(12.0)
            hall.log.request_down(NAME)
            hall.keep(30.0)

        hit = crash(hall, at, after=after, monkeypatch=monkeypatch, log=hall.log, act=story)
        killed += hit
        hall.drive("r")
        hall.want()
        state = hall.keep(30.0)
        assert len(state.waiting) == 2
        hall.log.request_down(NAME)
        assert hall.keep(60.0).down
        assert hall.alive() == []
        check(hall)
        if not hit:
            break
    assert killed > 30
    assert not hit, "the whole story was gone through"


@pytest.mark.parametrize("after", [False, True])
def test_a_controller_killed_at_any_effect_takes_one_machine_and_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    killed = 0
    for at in range(1, 40):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        hall = Hall(folder)
        hall.keep(10.0)
        hit = crash(
            hall, at, after=after, monkeypatch=monkeypatch, log=hall.runs, act=lambda hall=hall: hall.drive("r")
        )
        killed += hit
        hall.keep(1.0)
        run = hall.drive("r")
        assert run.outcome is Outcome.DONE
        assert len(run.attempts) == 1, "the restarted controller has found its machine again"
        assert run.attempts[0].drawn is not None
        hall.log.request_down(NAME)
        assert hall.keep(60.0).down
        assert hall.alive() == []
        check(hall)
        if not hit:
            break
    assert killed >= 8
    assert not hit


def test_a_run_that_is_cancelled_after_it_has_taken_a_machine_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its controller dies between the claim and the log's word of it."""
    seen = 0
    for at in range(1, 6):
        folder = tmp_path / f"{at}"
        folder.mkdir()
        hall = Hall(folder)
        hall.keep(10.0)
        crash(hall, at, after=True, monkeypatch=monkeypatch, log=hall.runs, act=lambda hall=hall: hall.drive("r"))
        before = hall.runs.state("r")
        claims = [hall.claim_of(member.token) for member in hall.state.members]
        seen += any(found and found.run for found in claims) and before.attempts[0].machine is None
        hall.runs.request_cancel("r")
        assert hall.drive("r").outcome is Outcome.CANCELLED
        hall.log.request_down(NAME)
        assert hall.keep(60.0).down
        assert hall.alive() == []
        check(hall)
    assert seen == 1


def test_two_runs_want_the_last_machine(tmp_path: Path) -> None:
    """One of them sees it, and before it takes it the other one has."""
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1))
    hall.keep(10.0)
    (member,) = hall.state.waiting
    slow = hall.controller("slow")
    original = slow._objects.put

    def late(key: str, data: bytes) -> None:
        original(key, data)
        hall.objects.put = original
        assert hall.drive("quick").attempts[0].drawn is not None

    hall.objects.put = late
    run = slow.drive()
    first, second = run.attempts
    assert (first.cause, first.machine, first.started) == (Cause.PASSED, None, None)
    assert "quick" in first.detail
    assert second.drawn is None
    assert run.outcome is Outcome.DONE
    found = hall.claim_of(member.token)
    assert found is not None
    assert found.run == "quick"


def test_a_machine_interrupted_right_at_the_assignment(tmp_path: Path) -> None:
    """The member closes itself first: the run goes elsewhere. The run is first: it is interrupted, and goes on."""
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=1))
    hall.keep(10.0)
    (member,) = hall.state.waiting
    controller = hall.controller("r")
    original = hall.objects.put

    def late(key: str, data: bytes) -> None:
        original(key, data)
        hall.objects.put = original
        claim(hall.objects, hall.at(member.token), Claim(why="told that it will be taken"))

    hall.objects.put = late
    run = controller.drive()
    assert [attempt.cause for attempt in run.attempts] == [Cause.PASSED, Cause.DONE]
    assert run.attempts[0].detail == "told that it will be taken"
    hall.keep(15.0)
    (other,) = hall.state.waiting
    again = hall.controller("s")

    def lost(key: str, data: bytes) -> None:
        original(key, data)
        hall.objects.put = original
        hall.provider.interrupt(str(other.machine), notice=0.2)
        hall.hung.add(str(other.machine))

    hall.objects.put = lost
    run = again.drive()
    assert [attempt.cause for attempt in run.attempts] == [Cause.PREEMPTED, Cause.DONE]
    assert run.attempts[0].drawn is not None
