"""Laws of the decision which notice stands, over every order in which things can be heard."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from spotweld.preemption.notices import Kind, Notice, Withdrawal
from spotweld.preemption.standing import Heard, Standing, end, foremost, heard, standing

IDS = st.sampled_from("abcdef")
NOTICES = st.builds(
    Notice,
    id=IDS,
    kind=st.sampled_from(Kind),
    source=st.sampled_from(["aws", "file"]),
    deadline=st.none() | st.floats(1000, 1300),
    received=st.floats(900, 1000),
)
HEARD = st.builds(heard, NOTICES, st.floats(0, 1000))
EVENTS = st.lists(HEARD | st.builds(Withdrawal, id=IDS, source=st.just("azure")), max_size=12)
DISTINCT = st.lists(HEARD, unique_by=lambda one: one.notice.id)


def after(events: list[Heard | Withdrawal], state: Standing = ()) -> Standing:
    return reduce(standing, events, state)


@given(EVENTS, HEARD)
def test_a_repetition_changes_nothing(events: list[Heard | Withdrawal], event: Heard) -> None:
    once = after([*events, event])
    assert standing(once, event) == once


@given(EVENTS, HEARD, st.floats(0, 1000))
def test_a_repetition_heard_later_does_not_move_the_end(
    events: list[Heard | Withdrawal], event: Heard, later: float
) -> None:
    once = after([*events, event])
    assert standing(once, heard(event.notice, later)) == once


@given(EVENTS)
def test_ids_are_unique(events: list[Heard | Withdrawal]) -> None:
    ids = [one.notice.id for one in after(events)]
    assert len(ids) == len(set(ids))


@given(EVENTS, HEARD)
def test_terminate_beats_rebalance(events: list[Heard | Withdrawal], event: Heard) -> None:
    stands = foremost(after([*events, event]))
    assert stands is not None
    if event.notice.kind is Kind.TERMINATE:
        assert stands.kind is Kind.TERMINATE


@given(EVENTS, DISTINCT)
def test_the_first_terminate_wins_until_it_is_withdrawn(events: list[Heard | Withdrawal], later: list[Heard]) -> None:
    state = after(events)
    first = foremost(state)
    if first is not None and first.kind is Kind.TERMINATE:
        assert foremost(after(later, state)) == first
        assert foremost(standing(state, Withdrawal(first.id, first.source))) != first


@given(st.data(), DISTINCT)
def test_what_kind_stands_and_when_it_ends_does_not_depend_on_the_order(
    data: st.DataObject, events: list[Heard]
) -> None:
    other = after(data.draw(st.permutations(events)))
    state = after(list(events))
    stands, differently = foremost(state), foremost(other)
    assert (stands and stands.kind) == (differently and differently.kind)
    assert end(state) == end(other)


@given(EVENTS)
def test_withdrawing_everything_leaves_nothing(events: list[Heard | Withdrawal]) -> None:
    state = after([*events, *(Withdrawal(name, "azure") for name in "abcdef")])
    assert state == ()
    assert foremost(state) is None
    assert end(state) is None


@given(EVENTS, st.text(min_size=2))
def test_withdrawing_what_was_never_heard_changes_nothing(events: list[Heard | Withdrawal], name: str) -> None:
    state = after(events)
    assert standing(state, Withdrawal(name, "azure")) == state


@given(EVENTS, HEARD)
def test_what_was_withdrawn_and_is_heard_again_holds_again(events: list[Heard | Withdrawal], event: Heard) -> None:
    state = after([*events, event, Withdrawal(event.notice.id, "azure"), event])
    assert event in state


@given(NOTICES, st.floats(0, 1e6))
def test_the_end_is_as_far_from_the_arrival_as_the_deadline_from_the_receipt(notice: Notice, at: float) -> None:
    ends = heard(notice, at).ends
    if notice.deadline is None:
        assert ends is None
    else:
        assert ends is not None
        assert abs((ends - at) - (notice.deadline - notice.received)) < 1e-6


def test_a_rebalance_that_becomes_an_end_under_the_same_id_is_an_end() -> None:
    risk = heard(Notice("a", Kind.REBALANCE, "file", None, 0.0), 0.0)
    taken = heard(Notice("a", Kind.TERMINATE, "file", 30.0, 0.0), 5.0)
    assert after([risk, taken]) == (taken,)
    assert after([taken, risk]) == (taken,)


def test_the_earliest_end_counts_and_before_all_of_them_one_that_is_not_known() -> None:
    unknown = heard(Notice("term", Kind.TERMINATE, "signal", None, 100.0), 0.0)
    late = heard(Notice("late", Kind.TERMINATE, "slurm", 190.0, 100.0), 0.0)
    soon = heard(Notice("soon", Kind.TERMINATE, "slurm", 130.0, 100.0), 1.0)
    risk = heard(Notice("risk", Kind.REBALANCE, "aws", 101.0, 100.0), 0.0)
    state = after([risk, late, soon])
    assert foremost(state) == late.notice
    assert end(state) == 31.0
    assert end(standing(state, unknown)) is None
