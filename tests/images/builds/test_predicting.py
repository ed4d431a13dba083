from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.images.builds.test_records import build, preimage

from spotweld.images.builders.builder import Outcome, Step
from spotweld.images.builds.comparing import LONG, nearest_build, past_layers
from spotweld.images.builds.predicting import Estimate, History, share, total
from spotweld.images.builds.rates import Rates, rates
from spotweld.images.builds.records import Attempt, Done
from spotweld.images.builds.reporting import counted, done_steps
from spotweld.images.steps.preimages import Input, Preimage
from spotweld.images.steps.preimages import Step as Keyed


def ran(text: str, seconds: float) -> Done:
    return Done(preimage(text), Outcome.RAN, seconds, seconds)


def hit(text: str, seconds: float, before: float | None) -> Done:
    return Done(preimage(text), Outcome.HIT, seconds, before)


def estimates() -> st.SearchStrategy[Estimate]:
    return st.builds(lambda s, u: Estimate(s, s / 2, s * 2, u), st.floats(0, 1000), st.integers(0, 1))


def test_the_same_instruction_takes_what_it_took() -> None:
    history = History([build(2, steps=(ran("make", 30.0),)), build(1, steps=(ran("make", 20.0),))])
    assert history.of(preimage("make"), hit=False) == Estimate(25.0, 20.0, 30.0)
    assert history.ran(preimage("make").key) == 30.0


def test_one_time_says_little_and_none_says_so() -> None:
    history = History([build(1, steps=(ran("make", 10.0),))])
    assert history.of(preimage("make"), hit=False) == Estimate(10.0, 3.0, 30.0)
    assert History([]).of(preimage("make"), hit=False) == Estimate(unknown=1)
    assert History([]).of(preimage("make"), hit=True) == Estimate()
    assert History([]).of(Preimage("0", (Input("instruction", "ENV", '["A=1"]'),)), hit=False) == Estimate()


def test_the_same_text_after_another_parent_is_alike_and_other_texts_give_their_median() -> None:
    before = Preimage("0", (Input("parent", "", "blake3:old"), *preimage("make").inputs))
    history = History([build(1, steps=(Done(before, Outcome.RAN, 8.0, 8.0), ran("other", 2.0)))])
    assert history.of(preimage("make"), hit=False).seconds == 8.0
    assert history.of(preimage("new"), hit=False) == Estimate(5.0, 2.0, 8.0)


def test_a_hit_repeats_the_run_and_is_not_counted_twice() -> None:
    history = History([build(2, steps=(hit("make", 0.5, 30.0),)), build(1, steps=(ran("make", 30.0),))])
    assert history.of(preimage("make"), hit=False) == Estimate(30.0, 9.0, 90.0)
    assert history.of(preimage("make"), hit=True) == Estimate(0.5, 0.5, 0.5)


@given(st.lists(estimates()), st.lists(estimates()))
def test_the_share_is_between_none_and_all_and_never_falls(done: list[Estimate], left: list[Estimate]) -> None:
    now = share(done, left)
    assert 0.0 <= now <= 1.0
    assert share([*done, *left], []) == 1.0
    if left:
        assert share([*done, left[0]], left[1:]) >= now - 1e-9
    whole = total([*done, *left])
    assert whole.low <= whole.seconds <= whole.high


def keyed(number: int, word: str, text: str, stage: int = 0) -> Keyed:
    one = Preimage(str(stage), (Input("instruction", word, f'["{text}"]'),))
    return Keyed(stage, number, one.key, one, "", number + 1)


STEPS = (keyed(0, "FROM", "a"), keyed(1, "RUN", "b"), keyed(2, "ENV", "c"), keyed(3, "RUN", "d"), keyed(4, "CMD", "e"))


def test_what_the_builder_does_not_report_went_as_the_one_before() -> None:
    reports = [Step(0, 1, "b", Outcome.HIT, 0.1), Step(0, 3, "d", Outcome.RAN, 4.0)]
    history = History([build(1, steps=(Done(STEPS[1].preimage, Outcome.RAN, 7.0, 7.0),))])
    done = done_steps(STEPS, reports, history, complete=True)
    assert [one.outcome for one in done] == ["hit", "hit", "hit", "ran", "ran"]
    assert [one.ran for one in done] == [None, 7.0, None, 4.0, 0.0]
    assert counted(done) == (2, 2, pytest.approx(6.9))


def test_a_build_that_was_stopped_has_what_it_reached() -> None:
    reports = [Step(0, 1, "b", Outcome.RAN, 1.0), Step(0, 3, "d", Outcome.FAILED, 4.0)]
    done = done_steps(STEPS, reports, History([]), complete=False)
    assert [one.outcome for one in done] == ["hit", "ran", "ran", "failed"]
    assert done_steps(STEPS, [], History([]), complete=False) == ()


def test_an_instruction_that_is_reported_twice_counts_once() -> None:
    reports = [Step(0, 1, "b", Outcome.RAN, 3.0), Step(0, 1, "b", Outcome.HIT, 0.0)]
    done = done_steps(STEPS[:2], reports, History([]), complete=True)
    assert [(one.outcome, one.seconds) for one in done] == [("hit", 0.0), ("ran", 3.0)]


def test_the_nearest_build_shares_most_and_a_finished_one_goes_first() -> None:
    one, two = build(1, steps=(ran("a", 1.0),)), build(2, steps=(ran("a", 1.0), ran("b", 1.0)))
    keys = {preimage("a").key, preimage("b").key}
    assert nearest_build(keys, [one, two]) is two
    lost = msgspec.structs.replace(two, digest=None)
    assert nearest_build(keys, [lost, two]) is two
    assert nearest_build(keys, []) is None


def test_a_long_run_gets_advice() -> None:
    (layer,) = past_layers(build(1, steps=(ran("make", LONG * 2),)), [], ())
    assert "one unit of 4 min" in layer.advice
    (layer,) = past_layers(build(1, steps=(ran("make", 2.0),)), [], ())
    assert layer.advice == ""


def test_rates_count_tries_and_instructions() -> None:
    def tried(number: int, *outcomes: str) -> tuple[Attempt, ...]:
        return tuple(Attempt(float(number + at), "fake", one) for at, one in enumerate(outcomes))  # type: ignore[arg-type]

    known = [
        build(3, attempts=tried(30, "begun"), steps=()),
        build(2, attempts=tried(20, "begun", "failed", "done"), steps=(hit("make", 0.5, 3.0), ran("b", 1.0))),
        build(1, attempts=tried(10, "done"), steps=(ran("make", 3.0),)),
    ]
    assert rates(known) == Rates(done=2, failed=1, interrupted=1, open=1, hits=1, ran=2, saved=2.5)
    assert rates([]) == Rates()
