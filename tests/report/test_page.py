"""The page: well-formed, harmless, self-contained, the same every time, and whole in every odd case."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotweld.report.marks import inline_mark
from spotweld.report.page import render
from spotweld.report.story import Attempt, Checkpoint, Comparison, Outcome, State, Story, curve
from spotweld.report.summary import summary, to_json
from spotweld.report.words import CAUSES
from spotweld.runs.events import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

replace = msgspec.structs.replace
VOID = {"br", "col", "link", "meta"}


class Balance(HTMLParser):
    """Checks that every element is closed in its turn, and gathers what a test may ask for."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(story: Story) -> Balance:
    page = render(story)
    page.encode()
    balance = Balance()
    balance.feed(page)
    balance.close()
    assert balance.open == []
    for tag, name, value in balance.attributes:
        assert "nan" not in value.lower() or name not in {"x", "x1", "x2", "y", "d", "width", "style"}, (
            tag,
            name,
            value,
        )
        assert name not in {"src", "srcset", "action", "background"}
        assert not name.startswith("on"), "no script in attributes"
        assert name != "href" or value == "data:,"
    assert not {"script", "iframe", "img", "object", "embed", "base", "form"} & set(balance.tags)
    assert not re.search(r"https?://|@import|url\(", page)
    return balance


def words(story: Story) -> str:
    return " ".join(parsed(story).text)


def test_the_usual_page_tells_everything(usual: Story) -> None:
    page = parsed(usual)
    text = " ".join(page.text)
    assert "Finished, nothing lost: bit-identical to the undisturbed run" in text
    for part in ("Timeline", "Metrics", "Attempts", "Checkpoints", "Cost", "Run", "Test accuracy"):
        assert part in text
    assert page.tags["table"] == 5  # two of sampled values, attempts, checkpoints, ledger
    assert page.tags["h1"] == 1
    assert "interrupted, 8.0 s notice" in text
    assert "digest differs in 1 of 3 packs" in text
    assert page.tags["title"] > 50  # the page's own, and one for each thing that can be pointed at
    assert any(name == "aria-label" for _, name, _ in page.attributes)


def test_the_same_story_gives_the_same_page(sample: Callable[..., Story]) -> None:
    assert render(sample(seed=9)) == render(sample(seed=9))


def test_a_page_forbids_itself_to_load_anything(usual: Story) -> None:
    assert "default-src &#x27;none&#x27;" in render(usual)


def test_the_style_closes_no_element(usual: Story) -> None:
    style = re.search(r"<style>(.*?)</style>", render(usual), re.DOTALL)
    assert style
    assert "<" not in style[1]
    assert style[1].count("{") == style[1].count("}")


PROBE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\x00\u202e\ud800"


def test_no_text_becomes_markup(usual: Story) -> None:
    attempts = [replace(a, zone=PROBE, machine_type=PROBE, detail=PROBE) for a in usual.attempts]
    story = replace(
        usual,
        run=PROBE,
        job=PROBE,
        project=PROBE,
        labels={PROBE: PROBE},
        results={PROBE: PROBE},
        attempts=tuple(attempts),
        checkpoints=tuple(replace(c, reason=PROBE, detail=PROBE) for c in usual.checkpoints),
        curves=tuple(replace(c, name=PROBE) for c in usual.curves),
        rows=tuple(replace(r, sku_id=PROBE, availability_zone=PROBE, price_source=PROBE) for r in usual.rows),
        undisturbed=Comparison(False, None, detail=PROBE),
    )
    page = parsed(story)
    assert "<script>alert(1)" in " ".join(page.text)  # as text
    assert "\ud800" not in render(story)
    assert "\u202e" not in render(story)
    assert "\x00" not in render(story)
    assert not any("\u202e" in line for line in summary(story))


@given(st.text())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_shown_as_text(empty: Story, name: str) -> None:
    assert parsed(replace(empty, job=name, labels={name: name})).tags["h1"] == 1


def test_an_empty_run(empty: Story) -> None:
    text = words(empty)
    assert "Not started yet" in text
    assert "No machine has been rented yet." in text
    assert "No checkpoint was saved." in text
    assert "unknown" in text  # the cost is not 0: nobody knows it


def test_one_attempt_without_a_checkpoint(sample: Callable[..., Story]) -> None:
    story = sample(interruptions=0)
    text = words(replace(story, checkpoints=(), undisturbed=None))
    assert "Finished without an interruption" in text
    assert "No checkpoint was saved." in text
    assert "training that was lost" in text


def test_sixty_attempts_and_twenty_thousand_points(sample: Callable[..., Story]) -> None:
    story = sample(interruptions=58, total=20_000, pace=40, every=50)
    assert len(story.attempts) > 60
    assert len(render(story).encode()) < 1_000_000
    parsed(story)


def test_many_metrics_and_checkpoints_stay_within_bounds(sample: Callable[..., Story]) -> None:
    story = sample(interruptions=3, total=20_000, pace=40, every=5)
    story = replace(story, curves=tuple(replace(story.curves[0], name=f"m{n}") for n in range(12)))
    page = render(story)
    assert len(page.encode()) < 1_000_000
    assert "3 more metrics in the JSON." in page
    assert "more in the middle are left out here" in page


def test_thousands_of_refusals_stay_within_bounds_and_hide_no_other_end(sample: Callable[..., Story]) -> None:
    story = sample(interruptions=3, total=2_000, pace=40, every=50)
    ends = story.attempts[-1].ended or story.told
    refused = replace(story.attempts[0], cause=Cause.NO_CAPACITY, booted=None, running_since=None, noticed=None)
    later = tuple(
        replace(refused, number=100 + n, started=ends + n * 30.0, ended=ends + n * 30.0 + 1.0) for n in range(5_000)
    )
    page = render(replace(story, attempts=story.attempts + later, closed=ends + 150_000.0, told=ends + 150_000.0))
    assert len(page.encode()) < 1_000_000
    assert all(f"Attempt {one.number}: " in page for one in story.attempts)


VALUES = [math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7e308, -1.7e308, 1.0]


@pytest.mark.parametrize("value", VALUES)
def test_odd_values_alone(empty: Story, value: float) -> None:
    parsed(replace(empty, curves=(curve("loss", [(1, 1, value)]), curve("none", []))))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 4), st.sampled_from(VALUES)), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_odd_values_together(empty: Story, samples: list[tuple[int, int, float]]) -> None:
    story = replace(empty, curves=(curve("loss", samples),), total_steps=None)
    parsed(story)
    to_json(story)


def test_missing_values_are_counted_and_marked(sample: Callable[..., Story]) -> None:
    story = sample(value=lambda step: math.nan if 100 <= step < 110 else 1 / step)
    assert "10 values not finite, marked at the top" in words(story)
    assert "No finite value at step 100 to 109" in words(story)


def test_steps_that_came_out_differently_are_not_called_fine(sample: Callable[..., Story]) -> None:
    story = replace(sample(), undisturbed=None)
    points = tuple(replace(p, same=False) if p.redone else p for p in story.curves[0].points)
    text = words(replace(story, curves=(replace(story.curves[0], points=points),)))
    assert "Finished, but redone steps came out differently" in text
    assert "with other bits than before" in text


times = st.floats(-1e4, 1e4).map(lambda t: 1_763_820_000.0 + t)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_clocks_may_say_what_they_will(usual: Story, data: st.DataObject) -> None:
    base = usual.attempts[0]
    made: list[Attempt] = []
    for number in range(data.draw(st.integers(0, 4))):
        drawn = {
            "started": data.draw(times),
            "booted": data.draw(st.none() | times),
            "running_since": data.draw(st.none() | times),
            "ended": data.draw(st.none() | times),
            "cause": data.draw(st.none() | st.sampled_from(Cause)),
            "last_step": data.draw(st.none() | st.integers(0, 10**6)),
            "seconds_lost": data.draw(st.floats(0, 1e5)),
            "noticed": data.draw(st.none() | times),
        }
        made.append(replace(base, number=number + 1, **drawn))
    drawn_saves = data.draw(st.lists(st.tuples(st.integers(0, 10**6), times, st.sampled_from(Outcome)), max_size=3))
    story = replace(
        usual,
        state=data.draw(st.sampled_from(State)),
        attempts=tuple(made),
        checkpoints=tuple(Checkpoint(step, at, 1, "cadence", 0, 0, 0, what) for step, at, what in drawn_saves),
        closed=data.draw(st.none() | times),
        curves=(replace(usual.curves[0], points=usual.curves[0].points[:20]),),
    )
    page = parsed(story)
    shares = [float(v[:-1]) for _, name, v in page.attributes if name in {"x", "x1", "x2", "width"} and v.endswith("%")]
    assert all(0 <= share <= 100.001 for share in shares)
    assert summary(story)


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_its_sign_and_its_words(cause: Cause) -> None:
    assert inline_mark(cause)
    assert CAUSES[cause]
