"""Which notice stands: a pure function of what was heard, in the order in which it was heard."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from spotweld.preemption.notices import Kind, Notice, Withdrawal


class Heard(msgspec.Struct, frozen=True):
    """A notice, and when the machine goes by the clock that never jumps."""

    notice: Notice
    ends: float | None
    """Monotonic seconds; None: unknown."""


Standing: TypeAlias = tuple[Heard, ...]
"""Every notice that holds, first heard first."""


def heard(notice: Notice, monotonic: float) -> Heard:
    """The notice as it arrives at ``monotonic``: from here on the wall clock does not matter any more."""
    return Heard(notice, None if notice.deadline is None else monotonic + notice.deadline - notice.received)


def standing(state: Standing, event: Heard | Withdrawal) -> Standing:
    """What holds after ``event``.

    A repetition changes nothing, unless it makes an end out of a risk. A withdrawal lifts the notice with its id; if
    that is heard again later, it holds again.
    """
    if isinstance(event, Withdrawal):
        return tuple(one for one in state if one.notice.id != event.id)
    known = next((one for one in state if one.notice.id == event.notice.id), None)
    if known is None:
        return (*state, event)
    if (known.notice.kind, event.notice.kind) == (Kind.REBALANCE, Kind.TERMINATE):
        return (*standing(state, Withdrawal(known.notice.id, known.notice.source)), event)
    return state


def _that_count(state: Standing) -> Standing:
    ending = tuple(one for one in state if one.notice.kind is Kind.TERMINATE)
    return ending or state


def foremost(state: Standing) -> Notice | None:
    """The one that stands: the first that says terminate, else the first of all."""
    return next((one.notice for one in _that_count(state)), None)


def end(state: Standing) -> float | None:
    """When to be gone, monotonic seconds: the earliest end that any notice of the foremost one's kind names.

    None if one of them names none: it may be at once. A TERM is such a one, and it often comes after a notice with a
    deadline, when somebody cannot wait for that.
    """
    ends = [one.ends for one in _that_count(state)]
    known = [one for one in ends if one is not None]
    return min(known) if known and len(known) == len(ends) else None
