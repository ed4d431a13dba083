from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.choosing import Choice, Chooser, Goal, Trial, choose

CHUNK = 4 * 2**20
RATES = st.floats(1e6, 1e11)
NAMES = ["raw", "planes4", "delta4", "zstd"]
ALONE = ["raw", "planes4", "zstd"]
TRIALS = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(Trial, st.floats(1, 1e9), st.floats(0, 2e9), st.floats(0, 1e3), st.integers(1, 9)),
)


def time(trials: dict[str, Trial], codec: str, threads: int, link: float) -> float:
    """Seconds a byte, worked out once more."""
    if codec == "raw":
        return 1 / link
    trial = trials[codec]
    return max(trial.seconds / trial.raw / threads, trial.stored / trial.raw / link)


@given(TRIALS, st.integers(1, 64), RATES)
def test_nothing_is_chosen_that_is_slower_than_raw(trials: dict[str, Trial], threads: int, link: float) -> None:
    choice = choose(trials, goal=Goal.TIME, threads=threads, link=link)
    assert choice.codec == "raw" or choice.codec in trials
    assert time(trials, choice.codec, threads, link) <= 1 / link
    for codec in trials.keys() - {"raw", "delta4"}:
        if time(trials, codec, threads, link) < 0.96 / link:
            assert time(trials, choice.codec, threads, link) <= time(trials, codec, threads, link) * 1.000001


@given(TRIALS, st.integers(1, 64), st.none() | RATES)
def test_for_bytes_nothing_smaller_is_left_aside(trials: dict[str, Trial], threads: int, link: float | None) -> None:
    choice = choose(trials, goal=Goal.BYTES, threads=threads, link=link)
    assert choice.ratio <= 1
    ratios = {codec: trials[codec].stored / trials[codec].raw for codec in trials.keys() - {"raw"}}
    assert all(choice.ratio <= ratio for codec, ratio in ratios.items() if codec != "delta4" and ratio < 0.96)
    assert "delta4" not in ratios or choice.ratio <= ratios["delta4"] / 0.96


@given(TRIALS, st.integers(1, 64), RATES, st.sampled_from(Goal))
def test_a_difference_is_clearly_better_than_what_stands_alone(
    trials: dict[str, Trial], threads: int, link: float, goal: Goal
) -> None:
    choice = choose(trials, goal=goal, threads=threads, link=link)
    if choice.codec == "delta4":
        others = [trial.stored / trial.raw for codec, trial in trials.items() if codec in {"planes4", "zstd"}]
        assert choice.ratio <= 0.97 * min([1.0, *others]) + 1e-12


@given(TRIALS, st.integers(1, 64), RATES, RATES)
def test_a_slower_link_never_gets_more_bytes(trials: dict[str, Trial], threads: int, one: float, other: float) -> None:
    slow, fast = (choose(trials, goal=Goal.TIME, threads=threads, link=link) for link in sorted((one, other)))
    assert slow.ratio <= fast.ratio * 1.000001


def test_without_a_known_link_time_is_no_reason() -> None:
    trials = {"planes4": Trial(CHUNK, CHUNK / 2, 0.001)}
    assert choose(trials, goal=Goal.TIME, threads=1, link=None) == Choice("raw")
    assert choose(trials, goal=Goal.BYTES, threads=1, link=None).codec == "planes4"


TRUTH = {"planes4": (0.82, 1e9), "delta4": (0.70, 0.9e9), "zstd": (0.92, 0.2e9)}


def save(
    chooser: Chooser, chunks: int, truth: dict[str, tuple[float, float]] | None = None, kind: str = "v"
) -> list[str]:
    """The codecs of so many chunks of which each does what ``truth`` (ratio, bytes a second) says."""
    used = []
    for _ in range(chunks):
        codec = chooser.codec_for(kind, NAMES)
        ratio, rate = {"raw": (1.0, 1e99), **(truth or TRUTH)}[codec]
        chooser.learn(kind, codec, CHUNK, int(CHUNK * ratio), CHUNK / rate)
        used.append(codec)
    return used


def test_it_finds_the_best_for_the_link() -> None:
    for link, best in ((5e9, "raw"), (0.95e9, "planes4"), (0.5e9, "delta4"), (1e7, "delta4")):
        truth = TRUTH if best != "planes4" else {**TRUTH, "delta4": (0.81, 0.9e9)}
        chooser = Chooser(link=link)
        save(chooser, 64, truth)
        later = save(chooser, 1024, truth)
        assert later.count(best) >= 1000, (link, best)
        assert chooser.choice("v", NAMES).codec == best


def test_little_time_is_lost_on_trying() -> None:
    chooser = Chooser(link=3e9)
    first, later = save(chooser, 64), save(chooser, 4096)
    assert len(first) - first.count("raw") <= 12
    assert later.count("raw") == len(later)  # the others take more than twice as long as the link


def test_what_changes_is_noticed() -> None:
    chooser = Chooser(goal=Goal.BYTES)
    save(chooser, 400)
    grown = {**TRUTH, "delta4": (0.84, 0.9e9)}
    save(chooser, 100, grown)
    assert save(chooser, 300, grown).count("planes4") > 250
    save(chooser, 5000)
    assert save(chooser, 300).count("delta4") > 250


def test_a_link_that_slows_down_is_answered_at_once() -> None:
    chooser = Chooser(link=5e9, threads=2)
    assert set(save(chooser, 100)[64:]) == {"raw"}
    chooser.link = 1e8
    assert chooser.codec_for("v", NAMES) == "delta4"
    assert chooser.choice("v", ALONE).codec == "planes4"


def test_kinds_are_told_apart_and_have_their_own_codecs() -> None:
    chooser = Chooser(goal=Goal.BYTES)
    save(chooser, 80, kind="w")
    assert chooser.choice("w", NAMES).codec == "delta4"
    assert chooser.choice("m", NAMES) == Choice("raw")
    assert {chooser.codec_for("text", ["raw", "zstd"]) for _ in range(20)} == {"raw", "zstd"}


def test_a_cold_first_trial_does_not_count() -> None:
    chooser = Chooser(link=0.5e9)
    assert chooser.codec_for("v", ALONE) == "planes4"
    chooser.learn("v", "planes4", CHUNK, CHUNK // 2, 3.0)
    chooser.learn("v", "planes4", CHUNK, CHUNK // 2, 0.004)
    assert chooser.choice("v", ALONE).codec == "planes4"
    chooser.learn("v", "planes4", 0, 9, 0.1)
    assert chooser.choice("v", ALONE).ratio == 0.5
