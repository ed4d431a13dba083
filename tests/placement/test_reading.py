"""Recordings in all forms, and what is said of those that cannot be used."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import UsageError
from spotweld.placement.pricehistory import GAP, UNLIMITED
from spotweld.placement.reading import read_recordings
from spotweld.values.recordings import region_of


def spot_traces(**changes: object) -> str:
    return json.dumps({"metadata": {"gap_seconds": 60}, "data": [1, 0]} | changes)


def history(*rows: dict[str, str]) -> str:
    known = {"AvailabilityZone": "us-east-1a", "InstanceType": "p3.2xlarge", "ProductDescription": "Linux/UNIX"}
    return json.dumps({"SpotPriceHistory": [known | row for row in rows]})


def at(minutes: float, price: str, **more: str) -> dict[str, str]:
    moment = datetime.fromtimestamp(1_700_000_100 + 60 * minutes, tz=UTC)
    return {"Timestamp": moment.isoformat(), "SpotPrice": price} | more


def write(folder: Path, content: str, name: str = "zone-a.json") -> Path:
    path = folder / name
    path.write_text(content)
    return path


def test_spot_traces_with_all_that_they_may_say(tmp_path: Path) -> None:
    metadata = {
        "gap_seconds": 195,
        "zone": "us-east-1a",
        "start": "2023-02-15 22:08:16",
        "currency": "USD",
        "on_demand_price": 3.06,
    }
    path = write(tmp_path, spot_traces(metadata=metadata, data=[None, 2, None, 0], prices=[0.5, None, 0.25, 1]))
    (one,) = read_recordings([path])
    assert (one.zone, one.region, one.gap, one.currency, one.on_demand) == ("us-east-1a", "us-east-1", 195, "USD", 3.06)
    assert one.start == datetime(2023, 2, 15, 22, 8, 16, tzinfo=UTC)
    assert one.capacity == [2, 2, 2, 0]
    assert one.prices == [0.5, 0.5, 0.25, 1]
    assert one.notes == (
        "data: 2 of 4 are null, the first at 0; the value before holds on",
        "prices: 1 of 4 are null, the first at 1; the value before holds on",
    )


def test_a_list_price_holds_all_the_time_and_a_file_names_its_zone(tmp_path: Path) -> None:
    (one,) = read_recordings([write(tmp_path, spot_traces(metadata={"gap_seconds": 60, "spot_price": 2.5}))])
    assert (one.zone, one.prices, one.notes) == ("zone-a", [2.5, 2.5], ())


def test_the_other_sense_is_turned_over_where_one_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, spot_traces(data=[1, 0, 0]))
    assert read_recordings([path])[0].capacity == [1, 0, 0]
    assert read_recordings([path], inverted=True)[0].capacity == [0, 1, 1]
    for meaning, capacity in (("data: 1 = preempted", [0, 1, 1]), ("1 = available", [1, 0, 0])):
        path = write(tmp_path, spot_traces(metadata={"gap_seconds": 60, "meaning": meaning}, data=[1, 0, 0]))
        (one,) = read_recordings([path])
        assert (one.capacity, bool(one.notes)) == (capacity, capacity[0] == 0)
    with pytest.raises(UsageError, match=r"data\[1\] is 2: only 0 and 1"):
        read_recordings([write(tmp_path, spot_traces(data=[1, 2]))], inverted=True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "truncated"),
        ("[]", "Expected `object`"),
        (spot_traces(data=[]), "data holds no value"),
        (spot_traces(data=[None]), "data holds no value"),
        (spot_traces(data=[1, -1]), r"data\[1\] is -1"),
        (spot_traces(data=[1, 0.5]), r"\$.data\[1\]"),
        (spot_traces(prices=[1, -0.5]), r"prices\[1\] is -0.5"),
        (spot_traces(prices=[1]), "2 values in data, but 1 prices"),
        (spot_traces(prices=[1, float("nan")]), r"byte \d+\): NaN and Infinity are no JSON; write null"),
        (spot_traces(prices=[float("-inf"), 1]), r"byte \d+\): NaN and Infinity"),
        (spot_traces(metadata={"gap_seconds": 0}), "gap_seconds"),
        (spot_traces(metadata={"gap_seconds": 60, "spot_price": -1}), "metadata.spot_price is -1"),
        (spot_traces(metadata={"gap_seconds": 60, "on_demand_price": -1}), "metadata.on_demand_price is -1"),
        (spot_traces(metadata={"gap_seconds": 60, "start": "yesterday"}), "yesterday"),
        (history(), "SpotPriceHistory is empty"),
        (history(at(0, "1"), at(5, "NaN")), r"SpotPriceHistory\[1\].SpotPrice is 'NaN'"),
        (history(at(0, "-1")), r"SpotPriceHistory\[0\]"),
        (history(at(0, "dear")), "'dear'"),
        (history(at(0, "1"), at(5, "1", InstanceType="p4d")), "p3.2xlarge, p4d"),
        (history(at(0, "1"), at(5, "1", ProductDescription="Windows")), "Linux/UNIX, Windows"),
        (history({"SpotPrice": "1", "Timestamp": "soon"}), "Timestamp"),
        (history(at(0, "1"), {"SpotPrice": "1", "Timestamp": "0001-01-01T00:00:00+05:00"}), "of the year 1, which"),
    ],
    ids=str,
)
def test_bad_json_is_refused_with_its_place(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        read_recordings([write(tmp_path, content)])
    assert "zone-a.json cannot be used" in str(caught.value)
    assert "time, zone, capacity, price" in caught.value.todo


def test_a_price_history_is_a_step_function(tmp_path: Path) -> None:
    rows = [
        # Newest first, as it comes; the second of two with one time stamp is the older.
        at(26, "0.40"),
        at(12, "0.30"),
        at(12, "9.99"),
        at(1, "0.20"),
        at(21, "0.9", AvailabilityZone="us-east-1b"),
    ]
    first, second = read_recordings([write(tmp_path, history(*rows))])
    assert first.gap == GAP == 300
    assert first.start == datetime.fromtimestamp(1_700_000_100 + 300, tz=UTC)
    # 5 and 10 minutes at 0.20; 15, 20 and 25 at 0.30. The price of minute 26 is seen at no tick.
    assert first.prices == [0.2, 0.2, 0.3, 0.3, 0.3, 0.4][: len(first.prices)]
    assert len(first.prices) == 5
    assert second.prices == [0.9]
    assert set(first.capacity) == {UNLIMITED}
    assert "--max-price" in first.notes[0]


def test_a_table_with_a_row_for_each_tick(tmp_path: Path) -> None:
    text = "time,zone,capacity,price\n2023-02-15T00:00:00,b,1,0.5\n2023-02-15T00:10:00,b,0,0.6\n"
    text += "2023-02-15T00:00:00Z,a,3,\n2023-02-15T00:10:00Z,a,,0.7\n"
    a, b = read_recordings([write(tmp_path, text, "both.csv")])
    assert (a.zone, a.gap, a.start) == ("a", 600, datetime(2023, 2, 15, tzinfo=UTC))
    assert (a.capacity, a.prices) == ([3, 3], [0.7, 0.7])
    assert (b.capacity, b.prices) == ([1, 0], [0.5, 0.6])
    assert len(a.notes) == 2
    assert b.notes == ()


def test_a_table_of_changes(tmp_path: Path) -> None:
    one, two = read_recordings(
        [
            write(tmp_path, "\ufefftime, Capacity\n0,1\n900,0\n\n1500,2\n", "zone-c.csv"),
            write(tmp_path, "time,price\n600,1\n0,2\n", "zone-d.csv"),
        ]
    )
    assert (one.zone, one.gap, one.capacity, one.prices) == ("zone-c", 300, [1, 1, 1, 0, 0, 2], [])
    assert one.notes == ("zone zone-c: capacity: 3 of 6 are null, the first at 1; the value before holds on",)
    assert (two.prices, set(two.capacity)) == ([2, 1], {UNLIMITED})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "empty"),
        ("time,capacity\n", "no rows"),
        ("time,capacity\n0,1\n", "all rows are of one time"),
        ("time,capacity\n0,1\n0,1\n5,1\n", "lines 2 and 3: two rows"),
        ("time,capacity\n0,1\n60,-1\n", 'line 3: capacity is "-1"'),
        ("time,capacity\n0,1\n60,0.5\n", "line 3: a capacity of 0.5"),
        ("time,price\n0,1\n60,nan\n", 'line 3: price is "nan"'),
        ("time,price\n0,1\n60,dear\n", 'line 3: price is "dear"'),
        ("time,price\n0,1\nlater,1\n", 'line 3: time is "later"'),
        ("time,price\n0,1\ninf,1\n", 'line 3: time is "inf"'),
        ("time,price\n0,1\n1e10,1\n", "a tick would last"),
        ("time,price\n0,1\n1e300,1\n", 'line 3: time is "1e300": .* no year up to 9999'),
        ("time,price\n0,1\n60\n", "line 3: 1 cells under 2 headings"),
        ("time,prices\n0,1\n", 'no column "prices": did you mean price'),
        ("zone,price\na,1\n", "needs the column time"),
        ("time,zone\n0,a\n", "capacity or price"),
        ("time,price,price\n0,1,1\n", "twice"),
        ("time,price\n0,1\n60.001,1\n1000000,1\n", "round them"),
        ("time,price\n1e14,1\n100000000000060,1\n", 'line 2: time is "1e14": .* no year up to 9999'),
        ("time,price\n0,\n60,\n", "price holds no value"),
        ('time,price\n0,"1\n', "line"),
        ("time,price\n0,1\n60,\udcff\n", "line 3, column 4: byte 0xff does not belong to UTF-8"),
    ],
    ids=ascii,
)
def test_bad_tables_are_refused_with_their_line(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "zone-a.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=why):
        read_recordings([path])


def test_a_folder_is_all_that_lies_in_it(tmp_path: Path) -> None:
    write(tmp_path, spot_traces(), "b.json")
    write(tmp_path, "time,capacity\n0,1\n60,0\n", "a.csv")
    write(tmp_path, "not one", "README.md")
    assert [one.zone for one in read_recordings([tmp_path])] == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no recording"):
        read_recordings([tmp_path / "empty"])


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", Path("/dev/zero")):
        with pytest.raises(UsageError, match="cannot be used"):
            read_recordings([path])


@given(
    st.binary(max_size=200)
    | st.text(alphabet='{}[]":,\n0123456789.-timezonecapacityprice', max_size=99).map(str.encode)
)
def test_any_bytes_give_an_error_or_recordings(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    for name in ("any.json", "any.csv"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content)
        with contextlib.suppress(UsageError):
            assert all(one.capacity for one in read_recordings([path]))


@pytest.mark.parametrize(
    ("zone", "region"),
    [("us-east-1a", "us-east-1"), ("us-east4-a", "us-east4"), ("asia-southeast1-b", "asia-southeast1"), ("a", "a")],
)
def test_a_zone_tells_its_region(zone: str, region: str) -> None:
    assert region_of(zone) == region
