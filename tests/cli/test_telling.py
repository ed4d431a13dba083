"""What is said of everything that can happen."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.checkpoint.plans import PLAN
from tests.runs.samples import attempt_opened, opened
from tests.runs.telling import saved, training

from spotweld.checkpoint import events as told
from spotweld.cli.live import work_line
from spotweld.cli.telling import Teller
from spotweld.preemption.notices import Kind, Notice
from spotweld.runs.events import (
    AttemptEnded,
    CancelRequested,
    Cause,
    Ended,
    Entry,
    Event,
    MachineStarted,
    Noticed,
    Outcome,
    Running,
    Waiting,
)
from spotweld.runs.following import Told

GOES = Notice("n", Kind.TERMINATE, "aws", 130.0, 100.0)
LIFE: list[Event] = [
    opened(),
    attempt_opened(1),
    MachineStarted(1, "m-1", 1.5),
    Running(1),
    Noticed(1, "aws", 9.0),
    AttemptEnded(1, Cause.PREEMPTED, "taken", 8.0, 75),
    Waiting(12.0, "no capacity"),
    CancelRequested(),
    Ended(Outcome.CANCELLED, "by hand"),
]
SAID: list[tuple[told.Event, str | None]] = [
    (told.Start(100.0, 50, 1), None),
    (told.Fresh(100.0), "from the beginning"),
    (told.Remark(100.0, "line 3 is done"), "line 3 is done"),
    (told.ImageFetching(100.0, "box", 3_000_000), "fetching the image box: 3.0 MB"),
    (told.ImageReady(100.0, "box", "sha256:0", 2.0, 3_000_000, here=False), "box after 2.0 s: 3.0 MB came over"),
    (told.ImageReady(100.0, "box", "sha256:0", 2.0, 0, here=False), "box after 2.0 s: unpacked"),
    (told.ImageReady(100.0, "box", "sha256:0", 2.0, 0, here=True), "box after 2.0 s: this host had it"),
    (told.Restored(100.0, 7, "m", 0.1), "resumed from step 7 in 100 ms: nothing lost"),
    (told.Restored(100.0, 7, "m", 0.1, (told.Damage(9, "a bit"),)), "passed over step 9: a bit"),
    (told.Step(100.0, 3), None),
    (told.Metrics(100.0, 3, {"loss": None}), None),
    (told.Saving(100.0, 3, "cadence"), None),
    (saved(100.0, 8), "step 8 is durable (cadence): 1.0 kB in 100 ms, stall 10 ms"),
    (replace(saved(100.0, 8), tier="file:/t"), "step 8 is saved in file:/t (cadence): 1.0 kB in 100 ms"),
    (told.Carried(100.0, 8, "file:/far", 3.0, "m", published=True), "step 8 is durable: in file:/far after 3.0 s"),
    (told.Carried(100.0, 8, "file:/middle", 3.0, "m"), None),
    (
        told.Restored(100.0, 7, "m", 0.1, (), "file:/t", 5, "the store had step 5"),
        "resumed from step 7 from file:/t (the store had step 5) in 100 ms: nothing lost",
    ),
    (
        told.Restored(100.0, 7, "m", 0.1, (), "", 7, "file:/t was empty"),
        "resumed from step 7 from the store (file:/t was empty) in 100 ms",
    ),
    (told.SaveFailed(100.0, 3, "no space", 1), "no space"),
    (told.Noticed(100.0, GOES), "notice from aws: this machine goes in 30.0 s"),
    (told.Noticed(100.0, Notice("n", Kind.REBALANCE, "aws", None, 1.0)), "at risk"),
    (told.Withdrawn(100.0, "n"), "withdrawn"),
    (told.Emergency(100.0, "full", 1.0, 3.0), "a last checkpoint of everything (1.0 s needed, 3.0 s left)"),
    (told.Emergency(100.0, "none", None, None), "no last checkpoint"),
    (told.Emergency(100.0, "delta", 1.0, 3.0), "a last checkpoint of what has changed"),
    (told.Risk(100.0, "elevated", "taken often", 3.0, None), "this machine is at an elevated risk: taken often"),
    (told.Risk(100.0, "high", "the notice is told", 3.0, None), None),
    (told.Cadence(100.0, PLAN), None),
    (told.Fenced(100.0, 3), "a later attempt"),
    (told.Finished(100.0, 50), None),
    (told.Leaving(100.0, 3, "the machine goes"), "left at step 3: the machine goes"),
]


def tell_all(happenings: list[Event]) -> list[str | None]:
    teller = Teller()
    return [teller.tell(Entry("r", seq, float(seq), event)) for seq, event in enumerate(happenings, 1)]


def test_a_life_in_lines() -> None:
    lines = tell_all(LIFE)
    for line, part in zip(
        lines,
        [
            "run opened: true", "#1  renting a spot: cheapest", "machine m-1 is starting", "the machine is up", None,
            "ended: preempted-with-notice (taken)", "waiting: no capacity", "cancel", "run ended: cancelled (by hand)",
        ],
        strict=True,
    ):  # fmt: skip
        assert (line is None) == (part is None)
        assert part is None or part in str(line)


@pytest.mark.parametrize(("event", "part"), SAID, ids=lambda value: type(value).__name__)
def test_what_a_program_tells(event: told.Event, part: str | None) -> None:
    line = Teller().tell(Told(2, event))
    assert (line is None) == (part is None)
    assert part is None or part in str(line)


def test_every_kind_of_event_is_in_the_table() -> None:
    assert {type(event) for event, _ in SAID} == set(get_args(told.Event))


def test_saves_of_the_cadence_are_told_now_and_then_and_all_others_always() -> None:
    teller = Teller()
    lines = [teller.tell(Told(1, saved(float(t), t))) for t in range(100)]
    assert 8 <= sum(line is not None for line in lines) <= 12
    assert teller.saves == 100
    assert all(
        teller.tell(Told(1, saved(100.0, t, reason))) for t, reason in enumerate(("notice", "emergency", "final"))
    )
    teller.tell(Told(2, told.Restored(101.0, 50, "m", 0.1)))
    assert teller.tell(Told(2, saved(101.5, 51))) is not None


def test_the_durable_step_is_known_only_where_tiers_stand_before_the_store() -> None:
    teller = Teller()
    teller.tell(Told(1, saved(1.0, 5)))
    assert teller.durable is None
    lines = [teller.tell(Told(1, told.Carried(t, int(t), "file:/far", 1.0, "m", published=True))) for t in (1.0, 6.0)]
    assert [line is None for line in lines] == [False, True]
    final = replace(saved(6.5, 7, "final"), tier="file:/t")
    assert teller.tell(Told(1, final))
    assert teller.tell(Told(1, told.Carried(6.6, 6, "file:/far", 1.0, "m", published=True))) is None
    assert teller.tell(Told(1, told.Carried(6.8, 7, "file:/far", 1.0, "m", published=True)))
    assert (teller.durable, "durable to step 7" in work_line(teller)) == (7, True)
    teller.tell(Told(2, told.Restored(9.0, 7, "m", 0.1, (), "file:/t", 5)))
    assert teller.durable == 5


def test_what_was_lost_is_counted_at_the_resume() -> None:
    teller = Teller()
    for event in training(0.0, 0, 25):
        teller.tell(Told(1, event))
    assert (teller.step, teller.total) == (25, 100)
    line = teller.tell(Told(2, told.Restored(50.0, 20, "m", 0.1)))
    assert "5 steps to do again" in str(line)
    assert (teller.lost, teller.step) == (5, 20)


@given(st.text())
def test_no_text_breaks_a_line_or_steers_a_terminal(text: str) -> None:
    teller = Teller()
    for happening in (Entry("r", 1, 0.0, opened(text)), Told(1, told.SaveFailed(1.0, 3, text, 1))):
        line = str(teller.tell(happening))
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line
        assert "\x9b" not in line


def test_clocks_that_disagree_make_no_negative_times() -> None:
    teller = Teller()
    teller.tell(Entry("r", 1, 1000.0, opened()))
    assert str(teller.tell(Told(1, told.Fresh(3.0)))).startswith("    0.0 s")
