import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import ProjectError
from spotweld.providers.local.traces import Recorded, Seeded, Timeline, read_trace

LEVELS = st.lists(st.integers(0, 4), min_size=1, max_size=12)
MOMENTS = st.integers(0, 10**6)


def timelines() -> st.SearchStrategy[Timeline]:
    recorded = st.builds(Recorded, LEVELS, st.integers(1, 1000))
    seeded = st.builds(
        lambda seed, up, down: Seeded(seed, up=up, down=down), st.text(), st.floats(500, 1e6), st.floats(0, 1e6)
    )
    return st.one_of(recorded, seeded)


@given(timelines(), MOMENTS, st.integers(0, 4))
def test_a_drop_is_the_first_moment_at_which_so_little_is_left(timeline: Timeline, after: int, ceiling: int) -> None:
    drop = timeline.drop(after, ceiling)
    if drop is None:
        # A recording repeats: what does not happen in two turns never will.
        levels, gap = timeline._levels, timeline._gap
        seen = [timeline.level(after + i * gap) for i in range(2 * len(levels) + 1)]
        assert all(not (before > now <= ceiling) for before, now in pairwise(seen))
        return
    assert drop.at > after
    assert drop.level == timeline.level(drop.at) <= ceiling
    assert timeline.level(drop.at - 1) > drop.level
    if timeline.level(after) > ceiling:
        # It holds more than that until then.
        assert all(timeline.level(t) > ceiling for t in range(after, drop.at, max(1, (drop.at - after) // 50)))


@given(timelines(), MOMENTS, st.integers(0, 4))
def test_every_drop_has_its_own_number_and_the_same_one_for_ever(timeline: Timeline, after: int, ceiling: int) -> None:
    first = timeline.drop(after, ceiling)
    if first is not None:
        second = timeline.drop(first.at, ceiling)
        assert second.ordinal > first.ordinal
        assert timeline.drop(after, ceiling) == first
        assert timeline.drop(first.at - 1, ceiling) == first


@given(st.text(), st.integers(0, 10**7), st.lists(MOMENTS))
def test_one_seed_gives_one_history_in_whichever_order_it_is_asked(seed: str, after: int, moments: list[int]) -> None:
    one, other = Seeded(seed, up=6e4, down=1e4), Seeded(seed, up=6e4, down=1e4)
    late = one.drop(after, 0)
    assert [one.level(t) for t in moments] == [other.level(t) for t in moments]
    assert other.drop(after, 0) == late


def test_seeds_are_independent() -> None:
    firsts = {Seeded(f"7/{zone}", up=6e7, down=1e4).drop(0, 0).at for zone in range(100)}
    assert len(firsts) == 100


def test_seeded_capacity_has_the_means_that_were_asked_for_and_a_heavy_tail() -> None:
    timeline = Seeded("mean", up=60_000, down=10_000)
    timeline.level(2 * 10**9)
    changes = timeline._changes
    ups = [end - begin for begin, end in zip([0, *changes[1::2]], changes[::2], strict=False)]
    downs = [end - begin for begin, end in zip(changes[::2], changes[1::2], strict=False)]
    assert len(ups) > 10_000
    assert sum(ups) / len(ups) == pytest.approx(60_000, rel=0.1)
    assert sum(downs) / len(downs) == pytest.approx(10_000, rel=0.05)
    assert sorted(ups)[len(ups) // 2] == pytest.approx(0.198 * 60_000, rel=0.1)


def test_seeded_capacity_is_there_at_first() -> None:
    assert all(Seeded(str(i), up=6e4, down=6e4).level(0) == 1 for i in range(100))


def test_a_recording_repeats_and_may_lose_capacity_at_the_seam() -> None:
    recorded = Recorded([0, 3, 2, 5], 10)
    assert [recorded.level(t) for t in range(0, 80, 10)] == [0, 3, 2, 5, 0, 3, 2, 5]
    assert [recorded.drop(t, 9).at for t in (0, 20, 40)] == [20, 40, 60]
    assert recorded.drop(20, 9).level == 0
    assert recorded.drop(20, 1).at == 40


def test_a_recording_without_losses_has_none() -> None:
    assert Recorded([1], 10).drop(5, 9) is None
    assert Recorded([0, 0], 10).drop(5, 9) is None
    assert Recorded([2, 1], 10).drop(5, 0) is None


def write(folder: Path, **changes: object) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps({"metadata": {"gap_seconds": 60}, "data": [1, 0]} | changes))
    return path


def test_reads_a_recording(tmp_path: Path) -> None:
    metadata = {"gap_seconds": 1.5, "currency": "USD", "zone": "somewhere", "start": "2023-02-15"}
    path = write(tmp_path, metadata=metadata, data=[None, 3, None, 0, 2], prices=[None, 0.25, 0.5, None, 1])
    recorded = read_trace(path, currency="USD")
    assert [recorded.level(t) for t in range(0, 7500, 1500)] == [3, 3, 3, 0, 2]
    prices = [recorded.price(t) for t in range(0, 7500, 1500)]
    assert prices == [Decimal(p) for p in ("0.25", "0.25", "0.5", "0.5", "1")]


def test_a_recording_needs_no_prices(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path), currency="EUR").price(0) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"data": []},
        {"data": [None, None]},
        {"data": [1, -1]},
        {"data": [1, "x"]},
        {"data": [1, 0.5]},
        {"data": {"a": 1}},
        {"data": [10**12]},
        {"data": None},
        {"metadata": {}},
        {"metadata": None},
        {"metadata": {"gap_seconds": 0}},
        {"metadata": {"gap_seconds": -60}},
        {"metadata": {"gap_seconds": 1e300}},
        {"metadata": {"gap_seconds": "60"}},
        {"metadata": {"gap_seconds": 60, "currency": "EUR"}},
        {"prices": [0.1]},
        {"prices": [None, None]},
        {"prices": [0.1, -1]},
        {"prices": ["0.1", "0.2"]},
    ],
    ids=str,
)
def test_what_is_no_recording_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ProjectError, match="trace"):
        read_trace(path, currency="USD")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("capacity: none")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "missing.json", tmp_path / "text.json", tmp_path / "binary.json"):
        with pytest.raises(ProjectError, match="trace"):
            read_trace(path, currency="USD")
    with pytest.raises(ProjectError, match="no file"):
        read_trace(Path("/dev/zero"), currency="USD")


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_give_a_project_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    with pytest.raises(ProjectError):
        read_trace(path, currency="USD")
