"""What only the scripted provider does: refuse, fail and lie as it is told."""

from typing import TYPE_CHECKING

import pytest

from spotweld.errors import NoCapacity, ProviderError
from spotweld.providers.provider import Boot, Machine, MachineEnd, MachineState
from spotweld.testing.providers import Fail, Live, Refuse, ScriptedProvider
from spotweld.values.money import parse_money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from conftest import FakeClock

OFFER = Offer("scripted", "r", "z", "m", CapacityType.SPOT, parse_money("0.10 USD"), "script")
BOOT = Boot(("run",), {"A": "1"})


def start(provider: ScriptedProvider, token: str = "t") -> Machine:
    return provider.start(OFFER, BOOT, token=token, labels={})


def test_follows_its_script_line_by_line(fake_clock: "FakeClock") -> None:
    provider = ScriptedProvider([OFFER], [Refuse(), Fail("maintenance"), Live(seconds=5)], fake_clock)
    with pytest.raises(NoCapacity):
        start(provider)
    with pytest.raises(ProviderError, match="maintenance"):
        start(provider)
    first, second = start(provider), start(provider, "u")
    assert provider.boots == {first.id: BOOT, second.id: BOOT}
    assert provider.calls == ["start t z", "start t z", "start t z", "start u z"]
    fake_clock.sleep(1e9)
    assert [machine.end for machine in provider.machines({})] == [MachineEnd.INTERRUPTED, None]


def test_boots_warns_and_takes_at_the_moments_of_the_script(fake_clock: "FakeClock") -> None:
    provider = ScriptedProvider([OFFER], [Live(seconds=10, notice=3, boot=2)], fake_clock)
    began = start(provider).started
    seen = []
    for _ in range(11):
        (machine,) = provider.machines({})
        seen.append((machine.state.value[0], machine.noticed is not None))
        fake_clock.sleep(1.0)
    assert "".join(state for state, _ in seen) == "ssrrrrrrrre"
    assert [noticed for _, noticed in seen] == [False] * 7 + [True] * 4
    assert (machine.noticed, machine.ended) == (began + 7, began + 10)


def test_an_answer_that_is_lost_leaves_a_machine_that_the_token_finds(fake_clock: "FakeClock") -> None:
    provider = ScriptedProvider([OFFER], [Live(answer_lost=True)], fake_clock)
    with pytest.raises(ProviderError, match="nobody knows"):
        start(provider)
    assert [machine.id for machine in provider.machines({})] == [start(provider).id]


def test_lists_lie_for_a_while(fake_clock: "FakeClock") -> None:
    provider = ScriptedProvider([OFFER], [Live(seconds=10, hidden=3, stale=4)], fake_clock)
    start(provider)
    seen = []
    for _ in range(16):
        seen.append([machine.state for machine in provider.machines({})])
        fake_clock.sleep(1.0)
    assert seen == [[]] * 3 + [[MachineState.RUNNING]] * 11 + [[MachineState.ENDED]] * 2
    assert start(provider).ended is not None


def test_an_end_before_the_warning_takes_it_back(fake_clock: "FakeClock") -> None:
    provider = ScriptedProvider([OFFER], [Live(seconds=10, notice=3)], fake_clock)
    machine = start(provider)
    provider.stop(machine.id)
    fake_clock.sleep(20.0)
    (ended,) = provider.machines({})
    assert (ended.end, ended.ended, ended.noticed) == (MachineEnd.STOPPED, machine.started, None)
