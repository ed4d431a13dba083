from hypothesis import given
from hypothesis import strategies as st

from spotweld.providers.local.fates import GRACE, LAST_MOMENT, sooner, stopped, taken
from spotweld.providers.provider import MachineEnd

MOMENTS = st.floats(0, 1e9)


@given(MOMENTS, MOMENTS, st.floats(0, 1e6))
def test_term_comes_before_kill_and_nothing_comes_before_now(at: float, now: float, lead: float) -> None:
    fate = taken(at, lead, now)
    assert fate.announced
    assert now <= fate.term <= fate.kill
    assert fate.kill == max(at, now)
    assert fate.kill - fate.term <= LAST_MOMENT + 1e-6


@given(MOMENTS, MOMENTS)
def test_without_notice_there_is_nothing_but_the_kill(at: float, now: float) -> None:
    fate = taken(at, None, now)
    assert (fate.announced, fate.term, fate.kill) == (False, None, max(at, now))


def test_a_stop_terminates_at_once_and_kills_after_a_grace() -> None:
    fate = stopped(10.0)
    assert (fate.end, fate.term, fate.kill) == (MachineEnd.STOPPED, 10.0, 10.0 + GRACE)


@given(MOMENTS, MOMENTS)
def test_the_sooner_kill_holds_and_of_equals_the_first(one: float, other: float) -> None:
    first, second = taken(one, None, 0), taken(other, 1.0, 0)
    assert sooner(None, first) is first
    assert sooner(first, second) is (second if other < one else first)
