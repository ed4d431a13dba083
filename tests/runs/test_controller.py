"""The controller against a provider that refuses, lies and fails, in a time that nobody has to wait for."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.runs.samples import OFFERS, ON_DEMAND_PRICE, SPOT_PRICE, attempt_opened
from tests.runs.world import RUN, Life, World

from spotweld.costs.billing import TAKING
from spotweld.costs.ledger import cost, ledger
from spotweld.errors import StaleWriter, Unavailable
from spotweld.project.nouns import Retry, SpotUse
from spotweld.providers.provider import Boot, MachineEnd, MachineState
from spotweld.runs import decisions
from spotweld.runs.events import Cause, Outcome
from spotweld.runs.history import usages
from spotweld.runs.reports import Stage, over_key, status_key
from spotweld.testing.providers import Answer, Fail, Live, Refuse
from spotweld.testing.stores import Call, Fault, FaultyObjects
from spotweld.values import environment
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DONE = (Cause.DONE, Outcome.DONE)
NEVER = Life(ends=None)


def causes(world: World) -> list[Cause | None]:
    return [attempt.cause for attempt in world.attempts]


def check_nothing_is_left(world: World) -> None:
    """One machine for every attempt that got one, and all of them ended."""
    machines = world.provider.machines({})
    assert all(machine.state is MachineState.ENDED for machine in machines)
    assert sorted(m.token for m in machines) == sorted(a.token for a in world.attempts if a.machine is not None)


@pytest.mark.parametrize(
    ("live", "life", "cause"),
    [
        (Live(), Life(), Cause.DONE),
        (Live(), Life(code=1), Cause.FAILED),
        (Live(), Life(code=75), Cause.FAILED),
        (Live(), Life(code=2, stage=Stage.SETTING_UP), Cause.SETUP_FAILED),
        (Live(), Life(code=75, notice=5.0), Cause.PREEMPTED),
        (Live(), Life(code=143, stage=Stage.SETTING_UP, notice=5.0), Cause.PREEMPTED),
        (Live(seconds=8.0), NEVER, Cause.PREEMPTED_UNNOTICED),
        (Live(seconds=8.0, notice=3.0), NEVER, Cause.PREEMPTED),
        (Live(seconds=8.0), Life(ends=None, notice=5.0), Cause.PREEMPTED),
        (Live(seconds=8.0, end=MachineEnd.EXITED), NEVER, Cause.FAILED),
        (Live(seconds=8.0, end=MachineEnd.EXITED), Life(silent=0.0), Cause.SETUP_FAILED),
        (Live(seconds=8.0, end=MachineEnd.LOST), NEVER, Cause.PREEMPTED_UNNOTICED),
        (Live(), Life(ends=None, silent=5.0), Cause.PREEMPTED_UNNOTICED),
        (Live(), Life(silent=0.0), Cause.PREEMPTED_UNNOTICED),
        (Live(boot=300.0), Life(), Cause.DONE),
        (Refuse(), Life(), Cause.NO_CAPACITY),
    ],
)
def test_every_cause_of_an_end_and_the_next_attempt_is_done(
    live: Answer, life: Life, cause: Cause, tmp_path: Path
) -> None:
    world = World(tmp_path, [live], [life, Life()])
    state = world.drive()
    assert causes(world) == [cause] if cause is Cause.DONE else [cause, Cause.DONE]
    assert state.outcome is Outcome.DONE
    check_nothing_is_left(world)


def test_a_program_that_always_fails_is_given_up_with_growing_pauses(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(code=3)], retry=Retry(failures=2))
    state = world.drive()
    assert state.outcome is Outcome.FAILED
    assert state.outcome.exit_status == 1
    assert causes(world) == [Cause.FAILED] * 3
    first, second, third = world.attempts
    assert second.opened - (first.ended or 0) >= decisions.FAILURE_PAUSE
    assert third.opened - (second.ended or 0) >= 2 * decisions.FAILURE_PAUSE
    assert "exit status 3" in state.why
    check_nothing_is_left(world)


def test_interruptions_are_no_failures(tmp_path: Path) -> None:
    world = World(tmp_path, [Live(seconds=3.0)] * 20, [NEVER] * 20 + [Life()], retry=Retry(failures=0))
    assert world.drive().outcome is Outcome.DONE
    assert len(world.attempts) == 21
    check_nothing_is_left(world)


def test_an_interruption_storm_leads_to_on_demand_and_back(tmp_path: Path) -> None:
    world = World(tmp_path, [Live(seconds=3.0)] * 3, [NEVER] * 4 + [Life()])
    assert world.drive().outcome is Outcome.DONE
    kinds = [attempt.offer.capacity_type for attempt in world.attempts]
    assert kinds == [CapacityType.SPOT] * 3 + [CapacityType.ON_DEMAND, CapacityType.SPOT]
    assert world.attempts[3].cause is Cause.MOVED
    check_nothing_is_left(world)


def test_no_capacity_anywhere_is_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path, [Refuse()] * 30, spot_policy=SpotUse.SPOT)
    state = world.drive()
    assert state.outcome is Outcome.DONE
    assert causes(world) == [Cause.NO_CAPACITY] * 30 + [Cause.DONE]
    assert world.clock.elapsed > 100
    check_nothing_is_left(world)


@pytest.mark.parametrize("failures", [1, 5])
def test_a_provider_that_fails_is_asked_again_with_the_same_token(failures: int, tmp_path: Path) -> None:
    world = World(tmp_path, [Fail()] * failures)
    assert world.drive().outcome is Outcome.DONE
    assert len(world.attempts) == 1
    assert len(world.starts) == failures + 1
    assert len(set(world.starts)) == 1
    assert len(world.complaints) == 1
    assert "trying again" in world.complaints[0]
    check_nothing_is_left(world)


@pytest.mark.parametrize(
    "lie",
    [Live(answer_lost=True), Live(hidden=20.0), Live(seconds=5.0, stale=15.0), Live(answer_lost=True, hidden=5.0)],
)
def test_lies_do_not_start_a_second_machine_for_an_attempt(lie: Live, tmp_path: Path) -> None:
    lives = [Life(ends=30.0) if lie.seconds is None else NEVER, Life()]
    world = World(tmp_path, [lie], lives)
    assert world.drive().outcome is Outcome.DONE
    assert len(world.attempts) == (1 if lie.seconds is None else 2)
    check_nothing_is_left(world)


def test_a_machine_that_the_provider_forgets_and_that_is_silent_is_given_up(tmp_path: Path) -> None:
    world = World(tmp_path, [Live(hidden=1e6)], [Life(ends=None, silent=5.0), Life()])
    assert world.drive().outcome is Outcome.DONE
    assert causes(world) == [Cause.PREEMPTED_UNNOTICED, Cause.DONE]
    assert decisions.UNLISTED < (world.attempts[0].ended or 0) - world.attempts[0].opened < 2 * decisions.UNLISTED
    assert f"stop {world.attempts[0].machine}" in world.provider.calls


def test_a_provider_that_cannot_list_concludes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, [], [Life(ends=200.0)])
    machines = world.provider.machines

    def sometimes(labels: dict[str, str]) -> object:
        if 20 < world.clock.elapsed < 150:
            raise ConnectionError("the provider's network is down")
        return machines(labels)

    monkeypatch.setattr(world.provider, "machines", sometimes)
    assert world.drive().outcome is Outcome.DONE
    assert causes(world) == [Cause.DONE]
    assert len(world.complaints) == 1


@pytest.mark.parametrize("during", [(0.0, 70.0), (5.0, 65.0), (9.9, 70.0)])
def test_a_store_that_is_down_for_a_minute_costs_nothing_but_the_minute(
    during: tuple[float, float], tmp_path: Path
) -> None:
    world = World(tmp_path, [], [Life(ends=10.0)])

    def down(_: Call) -> Fault | None:
        return Fault.NO_ANSWER if during[0] <= world.clock.elapsed < during[1] else None

    world.objects = FaultyObjects(world.store, down)
    assert world.drive().outcome is Outcome.DONE
    assert causes(world) == [Cause.DONE]
    assert len(world.complaints) <= 2
    check_nothing_is_left(world)


def test_a_store_that_is_down_for_long_makes_no_machine_silent(tmp_path: Path) -> None:
    """Nobody hears the signs of life of a machine that cannot give any: its store is down for it as well."""
    begin, end = 5.0, 5.0 + 3 * decisions.SILENCE
    world = World(tmp_path, [], [Life(ends=end + 20.0)])
    lives = world.lives

    def down(_: Call) -> Fault | None:
        return Fault.NO_ANSWER if begin <= world.clock.elapsed < end else None

    world.objects = FaultyObjects(world.store, down)
    world.at.append((begin, lambda: setattr(world, "lives", [Life(ends=None, silent=0.0)])))
    # The controller's next try may well come before the agent's.
    world.at.append((end + 3.0, lambda: setattr(world, "lives", lives)))
    assert world.drive().outcome is Outcome.DONE
    assert causes(world) == [Cause.DONE]
    check_nothing_is_left(world)


@pytest.mark.parametrize(
    ("script", "lives", "moment"),
    [
        ([], [NEVER], 5.0),
        ([Live(boot=60.0)], [NEVER], 5.0),
        ([Fail()] * 10, [NEVER], 5.0),
        ([Live(answer_lost=True), *[Fail()] * 10], [NEVER], 0.3),
        ([Refuse()] * 50, [NEVER], 12.0),
        ([], [Life(code=1, ends=2.0)], 4.0),
    ],
    ids=["running", "booting", "asking", "answer lost", "waiting", "pausing"],
)
def test_a_request_to_cancel_is_heard_wherever_the_run_is(
    script: list[Answer], lives: list[Life], moment: float, tmp_path: Path
) -> None:
    world = World(tmp_path, script, lives, spot_policy=SpotUse.SPOT)
    world.at.append((moment, lambda: world.log.request_cancel(RUN)))
    state = world.drive()
    assert state.outcome is Outcome.CANCELLED
    assert state.outcome.exit_status == 130
    assert world.clock.elapsed < moment + 12
    check_nothing_is_left(world)


def test_a_machine_whose_start_nobody_knows_of_is_paid_for_and_ended(tmp_path: Path) -> None:
    world = World(tmp_path, [Live(answer_lost=True)], [NEVER])
    world.log.request_cancel(RUN)
    world.log.append(RUN, world.log.take_over(RUN), attempt_opened(1))
    with pytest.raises(Exception, match="nobody knows"):
        world.provider.start(
            world.attempts[0].offer,
            Boot(("agent",), {environment.ATTEMPT: "1"}),
            token=world.attempts[0].token,
            labels={"managed-by": "spotweld", "project": "project", "run": RUN},
        )
    world.clock.sleep(5.0)
    assert world.drive().outcome is Outcome.CANCELLED
    assert world.attempts[0].started is not None
    check_nothing_is_left(world)


def test_whoever_boots_too_late_finds_that_the_attempt_is_over(tmp_path: Path) -> None:
    world = World(tmp_path, [Live(seconds=3.0), Refuse()], [NEVER, Life()])
    world.drive()
    assert causes(world) == [Cause.PREEMPTED_UNNOTICED, Cause.NO_CAPACITY, Cause.DONE]
    for attempt in world.attempts:
        assert world.store.get(over_key(RUN, attempt.number)) == str(attempt.cause).encode()


@pytest.mark.parametrize(
    ("job", "outcome", "status"),
    [
        ({"budget": Money(Decimal("0.01"))}, Outcome.BUDGET, 3),
        ({"max_duration": 40.0}, Outcome.TIMED_OUT, 1),
    ],
)
@pytest.mark.parametrize("script", [[], [Live(seconds=7.0)] * 100], ids=["on one machine", "over many"])
def test_limits_hold(
    script: list[Answer], job: dict[str, object], outcome: Outcome, status: int, tmp_path: Path
) -> None:
    world = World(tmp_path, script, [NEVER], spot_policy=SpotUse.SPOT, **job)
    state = world.drive()
    assert state.outcome is outcome
    assert outcome.exit_status == status
    assert 30 < world.clock.elapsed < 60
    check_nothing_is_left(world)


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
@pytest.mark.parametrize("moment", [1.0, 6.0, 11.0, 16.0])
def test_a_wall_clock_that_jumps_delays_nothing(jump: float, moment: float, tmp_path: Path) -> None:
    world = World(tmp_path, [Refuse(), Live(), Refuse()], [Life(), Life(code=1, ends=5.0), Life(ends=5.0)])

    def set_clock() -> None:
        world.clock.offset += jump

    world.at.append((moment, set_clock))
    state = world.drive()
    assert state.outcome is Outcome.DONE
    assert world.clock.elapsed < 60
    assert all((a.ended or 0) >= (a.started or 0) for a in state.attempts)
    check_nothing_is_left(world)


@pytest.mark.parametrize("moment", [0.4, 2.6])
def test_a_wall_clock_that_was_set_back_does_not_prolong_a_refusal(moment: float, tmp_path: Path) -> None:
    world = World(tmp_path, [Refuse()] * 6, [Life()], spot_policy=SpotUse.SPOT)

    def set_clock() -> None:
        world.clock.offset -= 300.0

    world.at.append((moment, set_clock))
    assert world.drive().outcome is Outcome.DONE
    assert causes(world) == [Cause.NO_CAPACITY] * 6 + [Cause.DONE]
    # Pauses of one second and of two, of which one begins anew, and ten for the work.
    assert 13.0 <= world.clock.elapsed < 16.0


class Crash(BaseException):
    """The controller dies here."""


EFFECTS = (("log", "append"), ("provider", "start"), ("provider", "stop"), ("objects", "put"), ("provider", "machines"))


class Crashing:
    """Dies at the ``at``-th effect: before it is done, or after it and before anybody hears of its result."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0

    def around(self, act: Callable[..., object]) -> Callable[..., object]:
        def effect(*args: object, **named: object) -> object:
            self.count += 1
            if self.count == self.at and not self.after:
                raise Crash
            try:
                return act(*args, **named)
            finally:
                if self.count == self.at:
                    raise Crash

        return effect


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_effect_doubles_and_leaves_nothing(
    after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = [Live(seconds=1.5), Refuse(), Live()]
    lives = [NEVER, Life(ends=1.0), Life(code=1, ends=1.0), Life(ends=1.0)]
    calm = World(tmp_path / "calm", script, lives)
    calm.drive()
    at, crashed = 0, True
    while crashed:
        at += 1
        crashing = Crashing(at, after=after)
        world = World(tmp_path / f"{at}", script, lives)
        with monkeypatch.context() as patch:
            for owner, name in EFFECTS:
                act = getattr(getattr(world, owner), name)
                patch.setattr(getattr(world, owner), name, crashing.around(act))
            try:
                world.drive()
                crashed = False
            except Crash:
                crashed = True
        world.clock.sleep(1.0)
        assert world.drive().outcome is Outcome.DONE
        # A refusal that nobody heard of is asked for again, and may be granted then.
        assert len(world.attempts) <= len(calm.attempts), f"crash {at}"
        check_nothing_is_left(world)
        world.log.close()
    assert at > 60


def test_a_controller_that_was_replaced_does_nothing_more(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(ends=20.0)])
    older = world.controller()
    world.at.append((5.0, lambda: world.log.take_over(RUN)))
    with pytest.raises(StaleWriter):
        older.drive()
    assert world.drive().outcome is Outcome.DONE
    assert len(world.attempts) == 1
    check_nothing_is_left(world)


def test_two_controllers_in_turns_do_not_double_a_machine(tmp_path: Path) -> None:
    """Each one that finds itself replaced takes over again at once: the worst that two can do to each other."""
    world = World(tmp_path, [Live(seconds=4.0), Live()], [NEVER, Life()])
    rounds = 0
    while world.log.state(RUN).outcome is None:
        rounds += 1
        here = world.controller()
        world.at.append((world.clock.elapsed + 0.7, lambda: world.log.take_over(RUN)))
        try:
            here.drive()
        except StaleWriter:
            continue
    assert rounds >= 3
    assert causes(world) == [Cause.PREEMPTED_UNNOTICED, Cause.DONE]
    check_nothing_is_left(world)


def test_a_disk_that_is_full_for_a_while_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    append = world.log.append

    def full(*args: object) -> object:
        if world.clock.elapsed < 30:
            raise Unavailable("the event log cannot be used now", "disk is full")
        return append(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(world.log, "append", full)
    assert world.drive().outcome is Outcome.DONE
    assert len(world.complaints) == 1


def test_the_store_alone_being_gone_for_ever_does_not_stop_the_clock(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.objects = FaultyObjects(world.store, lambda _: Fault.NO_ANSWER)

    def enough() -> None:
        raise Crash

    world.at.append((500.0, enough))
    with pytest.raises(Crash):
        world.drive()
    assert world.log.state(RUN).outcome is None
    assert world.provider.machines({}) == []


def test_an_answer_that_cannot_be_read_is_told_and_ignored(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(ends=10.0)])
    controller = world.controller()
    get = world.objects.get
    world.objects.get = lambda key, **more: b"{" if key == status_key(RUN, 1) else get(key, **more)  # type: ignore[method-assign]
    assert controller.drive().outcome is Outcome.DONE
    assert any("cannot be read" in complaint for complaint in world.complaints)


def test_the_ledger_follows_a_machine_s_price(tmp_path: Path) -> None:
    world = World(tmp_path, [], [Life(ends=200.0)], spot_policy=SpotUse.SPOT)
    dearer = tuple(
        replace(offer, hourly=offer.hourly * 2, price_source="market") if offer.zone == "a" else offer
        for offer in OFFERS
    )
    world.at.append((70.0, lambda: setattr(world.provider, "_offers", dearer)))
    state = world.drive()
    (price,) = state.attempts[0].prices
    begun = state.attempts[0].started or 0.0
    assert 70 < price.at - begun <= 70 + 60 + 1
    assert (price.hourly, price.on_demand_hourly, price.source) == (SPOT_PRICE * 2, ON_DEMAND_PRICE * 2, "market")
    first, second = ledger(usages(state, {}, 0.0))
    assert (first.contracted_unit_price, second.contracted_unit_price) == (Decimal("0.90"), Decimal("1.80"))
    assert second.price_source == "market"
    check_nothing_is_left(world)


def on_aws(world: World) -> World:
    world.provider._offers = tuple(replace(offer, provider="aws") for offer in OFFERS)
    return world


@pytest.mark.parametrize("cloud", ["aws", "local"])
def test_a_machine_of_aws_that_is_about_to_be_taken_in_its_first_hour_is_left_to_it(cloud: str, tmp_path: Path) -> None:
    # The agent has saved after 7 seconds; the machine goes after 15.
    lives = [Life(code=75, ends=7.0, notice=5.0, deadline=15.0), Life()]
    world = World(tmp_path, [Live(seconds=15.0, notice=10.0)], lives)
    state = (on_aws(world) if cloud == "aws" else world).drive()
    assert causes(world) == [Cause.PREEMPTED, Cause.DONE]
    first, second = usages(state, {}, 0.0)
    if cloud == "aws":
        assert first.ended - first.started == 15.0
        assert (first.taken, cost(first).amount) == (True, 0)
        assert cost(second).amount == pytest.approx(Decimal("0.90") / 60), "a minute at least"
    else:
        assert first.ended - first.started < 10.0
        assert not first.taken
        assert cost(first).amount > 0
    check_nothing_is_left(world)


def test_a_machine_of_aws_that_is_not_taken_after_all_is_ended_and_paid_for(tmp_path: Path) -> None:
    lives = [Life(code=75, ends=7.0, notice=5.0, deadline=15.0), Life()]
    world = on_aws(World(tmp_path, [], lives))
    state = world.drive()
    first = usages(state, {}, 0.0)[0]
    assert 15 + TAKING <= first.ended - first.started < 20 + TAKING
    assert not first.taken
    assert cost(first).amount > 0
    check_nothing_is_left(world)


def test_the_provider_s_word_on_a_machine_s_end_counts_once_it_is_told(tmp_path: Path) -> None:
    # For 40 seconds the machine that was taken is listed as if it ran; its silence is what ends the attempt.
    world = World(tmp_path, [Live(seconds=8.0, stale=decisions.SILENCE + 10)], [NEVER, Life(ends=60.0)])
    state = world.drive()
    first = state.attempts[0]
    assert (first.started, first.ended, first.end) == (1_000_000.0, 1_000_008.0, MachineEnd.INTERRUPTED)
    assert first.logged is not None
    assert first.logged[1] - 1_000_000.0 > decisions.SILENCE
    assert usages(state, {}, 0.0)[0].taken
