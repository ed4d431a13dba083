"""What every provider promises, the scripted fake among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spotweld.errors import NoCapacity, ProviderError
from spotweld.providers.provider import MachineEnd, MachineState
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from conftest import Rig


def test_sells_something_at_a_price(rig: Rig) -> None:
    offers = rig.provider.offers()
    assert rig.offer in offers
    assert all(offer.hourly.amount > 0 and offer.price_source for offer in offers)
    assert any(offer.capacity_type is CapacityType.SPOT for offer in offers)


def test_a_machine_starts_runs_and_is_stopped(rig: Rig) -> None:
    machine = rig.start(labels={"run": "one"})
    assert machine.offer == rig.offer
    assert machine.labels == {"run": "one"}
    assert machine.state in {MachineState.STARTING, MachineState.RUNNING}
    rig.wait_for(lambda: rig.the(machine.id).state is MachineState.RUNNING)
    rig.provider.stop(machine.id)
    ended = rig.the(machine.id)
    assert (ended.state, ended.end, ended.noticed) == (MachineState.ENDED, MachineEnd.STOPPED, None)
    assert ended.ended is not None
    assert ended.ended >= ended.started == machine.started


def test_one_token_starts_one_machine(rig: Rig) -> None:
    first = rig.start("a")
    assert rig.start("a").id == first.id
    assert rig.start("b").id != first.id
    assert len(rig.provider.machines({})) == 2


def test_the_token_of_a_machine_that_has_ended_starts_nothing_new(rig: Rig) -> None:
    first = rig.start("a")
    rig.provider.stop(first.id)
    again = rig.start("a")
    assert (again.id, again.state) == (first.id, MachineState.ENDED)


def test_stopping_twice_or_something_unknown_does_nothing(rig: Rig) -> None:
    machine = rig.start()
    rig.provider.stop(machine.id)
    before = rig.the(machine.id)
    rig.provider.stop(machine.id)
    rig.provider.stop("m-0123456789abcdef")
    rig.provider.stop("../../etc")
    assert rig.provider.machines({}) == [before]


def test_lists_by_labels(rig: Rig) -> None:
    one = rig.start("1", {"project": "p", "run": "one"})
    two = rig.start("2", {"project": "p", "run": "two"})
    rig.provider.stop(one.id)
    ids = lambda labels: {machine.id for machine in rig.provider.machines(labels)}  # noqa: E731
    assert ids({}) == ids({"project": "p"}) == {one.id, two.id}
    assert ids({"run": "two"}) == {two.id}
    assert ids({"run": "two", "project": "q"}) == ids({"nothing": ""}) == set()


def test_refuses_what_it_has_not_and_leaves_no_machine(rig: Rig) -> None:
    with pytest.raises(NoCapacity):
        rig.start_refused("t")
    assert rig.provider.machines({}) == []
    assert rig.start("t").state is not MachineState.ENDED


def test_tells_how_many_more_could_be_had_or_nothing(rig: Rig) -> None:
    before = rig.provider.room(rig.offer)
    machine = rig.start()
    if before is not None:
        assert rig.provider.room(rig.offer) == before - 1
        rig.provider.stop(machine.id)
        assert rig.provider.room(rig.offer) == before
    firm = [one for one in rig.provider.offers() if one.capacity_type is CapacityType.ON_DEMAND]
    assert {rig.provider.room(one) for one in firm} <= {None}


def test_a_machine_that_shuts_itself_down_has_exited(rig: Rig) -> None:
    machine = rig.start_briefly("t")
    ended = rig.ended(machine.id)
    assert (ended.end, ended.noticed) == (MachineEnd.EXITED, None)


def test_an_interruption_with_notice(rig: Rig) -> None:
    machine = rig.start()
    rig.provider.interrupt(machine.id, notice=0.5)
    ended = rig.ended(machine.id)
    assert ended.end is MachineEnd.INTERRUPTED
    assert ended.noticed is not None
    assert ended.ended is not None
    assert ended.started <= ended.noticed <= ended.ended


def test_an_interruption_without_notice(rig: Rig) -> None:
    machine = rig.start()
    rig.provider.interrupt(machine.id, notice=None)
    ended = rig.ended(machine.id)
    assert (ended.end, ended.noticed) == (MachineEnd.INTERRUPTED, None)


def test_the_sooner_of_two_interruptions_holds(rig: Rig) -> None:
    machine = rig.start()
    rig.provider.interrupt(machine.id, notice=10_000.0)
    rig.wait_for(lambda: rig.the(machine.id).noticed is not None)
    rig.provider.interrupt(machine.id, notice=0.1)
    rig.ended(machine.id)


def test_a_stop_does_not_wait_for_an_announced_interruption(rig: Rig) -> None:
    machine = rig.start()
    rig.provider.interrupt(machine.id, notice=10_000.0)
    rig.provider.stop(machine.id)
    assert rig.the(machine.id).end is MachineEnd.STOPPED


def test_what_does_not_run_cannot_be_taken(rig: Rig) -> None:
    machine = rig.start()
    rig.provider.stop(machine.id)
    for gone in (machine.id, "m-0123456789abcdef"):
        with pytest.raises(ProviderError):
            rig.provider.interrupt(gone, notice=None)


def test_a_machine_can_be_lost(rig: Rig) -> None:
    machine = rig.start()
    rig.lose(machine.id)
    ended = rig.ended(machine.id)
    assert ended.end is MachineEnd.LOST
    rig.provider.stop(machine.id)
    assert rig.the(machine.id) == ended


def test_says_how_it_is(rig: Rig) -> None:
    findings = rig.provider.health()
    assert findings
    assert all(finding.ok and finding.what for finding in findings)
