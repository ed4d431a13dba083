"""Price lists: what is good is kept, what cannot be is refused with its place and the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spotweld.costs.prices.asking import ask, keep_prices, known_prices, price_folder
from spotweld.costs.prices.ours import COLUMNS, read_ours, shipped, write_ours
from spotweld.costs.prices.reading import not_older, read_prices
from spotweld.costs.prices.table import Price, cheapest, find, is_old, newest
from spotweld.errors import UsageError
from spotweld.values.money import Money

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SKYPILOT = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone"
)
GPUHUNT = "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size"
GCOSTS = """\
---
about:
  copyright: |2

    Some words: and more
  timestamp: 1741233236
compute:
  instance:
    g2-standard-4:
      cost:
        us-central1:
          hour: 0.706832255
          hour_spot: 0.279932
          month: 515.98754615
        us-east1:
          hour: 0.706832255
          hour_spot: .nan
      cpu: 4
      l4: 1
      local-ssd: 375
      ram: 16
    e2-standard-2:
      cost:
        us-central1:
          hour: 0.06701142
          hour_spot: 0.026792
      cpu: 2
      ram: 8
  license:
    sles:
      cost:
        us-central1:
          hour: 1
"""


def usd(text: str) -> Money:
    return Money(Decimal(text))


def file(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def a_price(**said: object) -> Price:
    known = Price("aws", "us-east-1", None, "m5.large", on_demand=usd("0.096"), as_of=NOW, source="list")
    return msgspec.structs.replace(known, **said)


def test_the_shipped_table_is_whole_and_every_price_has_a_source() -> None:
    found = shipped(NOW)
    assert found.refused == ()
    assert len(found.prices) > 300
    assert all(price.source and price.on_demand for price in found.prices)
    assert {price.provider for price in found.prices} == {"aws", "gcp", "azure"}
    assert {"T4", "L4", "A10G", "V100", "A100", "H100"} <= {price.accelerator for price in found.prices}
    # https://cloud.google.com/compute/vm-instance-pricing, March 2025
    answer = ask(found.prices, "a2-highgpu-1g", zone="us-central1-a")
    assert answer.on_demand == answer.spot
    assert answer.spot is not None
    assert (answer.spot.on_demand, answer.spot.spot) == (usd("3.673385"), usd("1.293355"))
    assert answer.spot.accelerators == 1


@pytest.mark.parametrize(
    ("small", "large", "times"),
    [
        ("m6i.large", "m6i.8xlarge", 16),
        ("c7g.xlarge", "c7g.4xlarge", 4),
        ("p3.2xlarge", "p3.16xlarge", 8),
        ("e2-standard-2", "e2-standard-16", 8),
        ("n1-standard-8", "n1-standard-96", 12),
        ("a2-highgpu-1g", "a2-highgpu-8g", 8),
        ("Standard_F2s_v2", "Standard_F32s_v2", 16),
        ("Standard_NC6s_v3", "Standard_NC24s_v3", 4),
    ],
)
def test_sizes_of_one_kind_cost_in_proportion(small: str, large: str, times: int) -> None:
    table = shipped(NOW).prices
    places = {price.region for price in find(table, machine_type=small)}
    places &= {price.region for price in find(table, machine_type=large)}
    assert places
    for region in places:
        (one,), (many,) = (find(table, region=region, machine_type=name) for name in (small, large))
        for what in ("on_demand", "spot"):
            a, b = getattr(one, what), getattr(many, what)
            assert (a is None) == (b is None)
            assert a is None or abs(a.amount * times / b.amount - 1) < Decimal("0.01")


def test_a_catalogue_of_skypilot(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "aws/vms.csv",
        SKYPILOT,
        "g4dn.xlarge,T4,1.0,4.0,16.0,\"{'Gpus': [{'Name': 'T4'}]}\",0.526,0.1578,us-east-1,use1-az1",
        "m5.large,,,2.0,8.0,,0.096,,us-east-1,",
    )
    first, second = read_prices(path, NOW, as_of=NOW).prices
    assert first == Price(
        "aws",
        "us-east-1",
        "use1-az1",
        "g4dn.xlarge",
        vcpus=4.0,
        memory=16 * 1024**3,
        accelerator="T4",
        accelerators=1.0,
        on_demand=usd("0.526"),
        spot=usd("0.1578"),
        as_of=NOW,
        source="file vms.csv",
    )
    assert (second.zone, second.spot, second.accelerators) == (None, None, 0)


def test_half_of_a_google_machine_has_no_price(tmp_path: Path) -> None:
    lines = (
        SKYPILOT,
        "a2-highgpu-1g,,,12.0,85.0,,0.73948,0.29576,us-central1,us-central1-a",
        ",A100,1,,,,2.9339,0.88,us-central1,us-central1-a",
        "n2-standard-2,,,2,8,,0.097118,0.02,us-central1,us-central1-a",
    )
    found = read_prices(file(tmp_path, "gcp.csv", *lines), NOW)
    assert [price.machine_type for price in found.prices] == ["n2-standard-2"]
    assert [(row.place, row.reason) for row in found.refused] == [
        ("line 2, column Price", "the price of the host alone, without its accelerators"),
        ("line 3, column InstanceType", "the price of an accelerator alone, without a machine"),
    ]


def test_a_tpu_is_a_machine_of_its_own(tmp_path: Path) -> None:
    lines = (
        SKYPILOT,
        ",tpu-v6e-8,1,,,tpu-v6e-8,21.6,5.18666,us-central1,us-central1-b",
        ",tpu-v6e-8,1,,,tpu-v6e-8,700.0,700.0,us-central2,us-central2-b",
    )
    found = read_prices(file(tmp_path, "gcp.csv", *lines), NOW)
    (price,) = found.prices
    assert (price.machine_type, price.spot, price.vcpus) == ("tpu-v6e-8", usd("5.18666"), None)
    assert [row.place for row in found.refused] == ["line 3, column Price"]


def test_whose_catalogue_it_is_must_be_known(tmp_path: Path) -> None:
    path = file(tmp_path, "vms.csv", SKYPILOT, "m5.large,,,2,8,,0.096,,us-east-1,")
    with pytest.raises(UsageError, match="whose prices") as caught:
        read_prices(path, NOW)
    assert "--provider" in str(caught.value)
    assert read_prices(path, NOW, provider="aws").prices[0].provider == "aws"


def test_two_lines_of_gpuhunt_are_one_price(tmp_path: Path) -> None:
    lines = (
        GPUHUNT,
        "g5.xlarge,us-east-1,1.006,4,16,1,A10G,24,False,",
        "g5.xlarge,us-east-1,0.4321,4,16,1,A10G,24,True,",
        "g2-standard-4,us-central1-a,0.7,4,16,1,L4,24,False,",
        "g5.xlarge,us-east-1,0.5,4,16,1,A10G,24,True,",
        "g5.2xlarge,us-east-1,0.5,8,32,1,A10G,24,maybe,",
    )
    found = read_prices(file(tmp_path, "aws.csv", *lines), NOW)
    both, other = found.prices
    assert (both.on_demand, both.spot, both.zone) == (usd("1.006"), usd("0.4321"), None)
    assert (other.region, other.zone) == ("us-central1", "us-central1-a")
    assert [row.place for row in found.refused] == ["line 5", "line 6, column spot"]
    assert "as at line 2" in found.refused[0].reason


def test_google_prices_in_yaml(tmp_path: Path) -> None:
    found = read_prices(file(tmp_path, "pricing.yml", GCOSTS), NOW)
    first, second = found.prices
    assert (first.machine_type, first.accelerator, first.accelerators) == ("g2-standard-4", "L4", 1)
    assert (first.on_demand, first.spot) == (usd("0.706832255"), usd("0.279932"))
    assert first.as_of == datetime.fromtimestamp(1741233236, tz=UTC)
    assert (second.machine_type, second.accelerator, second.memory) == ("e2-standard-2", None, 8 * 1024**3)
    assert [(row.place, row.reason) for row in found.refused] == [("line 17, column hour_spot", "not a number: '.nan'")]


def test_half_a_yaml_keeps_the_whole_machines_in_it(tmp_path: Path) -> None:
    cut = GCOSTS[: GCOSTS.index("      cpu: 2")]
    found = read_prices(file(tmp_path, "pricing.yml", cut), NOW)
    assert [price.machine_type for price in found.prices] == ["g2-standard-4"]
    assert "cut off" in found.refused[-1].reason
    with pytest.raises(UsageError, match="no compute"):
        read_prices(file(tmp_path, "other.yml", "about:\n  timestamp: 1"), NOW)


def history(*rows: dict[str, object]) -> str:
    known = {
        "AvailabilityZone": "us-east-1a",
        "InstanceType": "p3.2xlarge",
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": "0.918",
        "Timestamp": "2026-05-01T00:00:00+00:00",
    }
    return json.dumps({"SpotPriceHistory": [known | row for row in rows]})


def test_the_newest_of_a_history_counts(tmp_path: Path) -> None:
    said = history(
        {"SpotPrice": "0.95", "Timestamp": "2026-05-02T00:00:00Z"},
        {},
        {"AvailabilityZone": "us-east-1b", "SpotPrice": "1.1"},
        {"ProductDescription": "Windows"},
        {"SpotPrice": "-1"},
        {"SpotPrice": "NaN"},
        {"Timestamp": "2026-09-02T00:00:00Z"},
        {"InstanceType": 3},
        {"Timestamp": "0001-01-01T00:00:00+01:00"},
        {"InstanceType": "no text"},
    )
    path = tmp_path / "prices.json"
    path.write_bytes(said.encode().replace(b"no text", b"\xff"))
    found = read_prices(path, NOW)
    assert [(price.zone, price.spot, price.on_demand) for price in found.prices] == [
        ("us-east-1a", usd("0.95"), None),
        ("us-east-1b", usd("1.1"), None),
    ]
    assert [row.place for row in found.refused] == [
        "SpotPriceHistory[3].ProductDescription",
        "SpotPriceHistory[4].SpotPrice",
        "SpotPriceHistory[5].SpotPrice",
        "SpotPriceHistory[6].Timestamp",
        "SpotPriceHistory[7]",
        "SpotPriceHistory[8].Timestamp",
        "SpotPriceHistory[9]",
    ]


HEAD = {column: column for column in COLUMNS}
GOOD = {
    "provider": "aws",
    "region": "us-east-1",
    "machine_type": "m5.large",
    "on_demand": "0.096",
    "currency": "USD",
    "as_of": "2026-01-01",
    "source": "a list",
}


def ours(*rows: dict[str, str]) -> bytes:
    return "".join(",".join(row.get(column, "") for column in COLUMNS) + "\n" for row in (HEAD, *rows)).encode()


@pytest.mark.parametrize(
    ("cells", "place", "reason"),
    [
        ({"on_demand": "-0.1"}, "column on_demand", "more than 0"),
        ({"on_demand": "0"}, "column on_demand", "more than 0"),
        ({"spot": "NaN"}, "column spot", "not a number"),
        ({"spot": "1e9"}, "column spot", "less than"),
        ({"spot": "cheap"}, "column spot", "not a number"),
        ({"on_demand": ""}, "", "no price"),
        ({"currency": "dollars"}, "column currency", "not a currency"),
        ({"currency": ""}, "column currency", "not a currency"),
        ({"source": ""}, "column source", "where it comes from"),
        ({"region": ""}, "column region", "empty"),
        ({"machine_type": "=1+1"}, "column machine_type", "not a name"),
        ({"as_of": "yesterday"}, "column as_of", "not a date"),
        ({"as_of": "2027-01-01"}, "column as_of", "ahead"),
        ({"as_of": "0001-01-01T00:00:00+01:00"}, "column as_of", "not a date"),
        ({"vcpus": "-2"}, "column vcpus", "between"),
        ({"memory_gib": "lots"}, "column memory_gib", "not a number"),
    ],
)
def test_a_row_that_cannot_be_is_refused_and_the_others_are_kept(
    cells: dict[str, str], place: str, reason: str
) -> None:
    found = read_ours(ours(GOOD | cells, GOOD | {"machine_type": "m5.xlarge"}), "a.csv", NOW)
    assert [price.machine_type for price in found.prices] == ["m5.xlarge"]
    (refused,) = found.refused
    assert refused.file == "a.csv"
    assert refused.place == ", ".join(filter(None, ["line 2", place]))
    assert reason in refused.reason


def test_half_a_line_and_an_open_quotation_mark_spoil_themselves_only() -> None:
    good = ours(GOOD, GOOD | {"machine_type": "m5.xlarge"}, GOOD | {"machine_type": "c5.large"}).split(b"\n")
    good.insert(2, b'aws,"us-east-1,,m5.large')
    found = read_ours(b"\n".join(good)[:-30], "a.csv", NOW)
    assert [price.machine_type for price in found.prices] == ["m5.large", "m5.xlarge"]
    assert [row.place for row in found.refused] == ["line 3", "line 5"]


@given(st.integers(1, 50))
def test_a_price_that_is_cut_off_is_no_smaller_price(cut: int) -> None:
    order, row = [*(column for column in COLUMNS if column != "spot"), "spot"], GOOD | {"spot": "0.375"}
    head, line = ",".join(order), ",".join(row.get(column, "") for column in order)
    whole = f"{head}\n{line}\n".encode()
    assert read_ours(whole, "a.csv", NOW).prices[0].spot == usd("0.375")
    found = read_ours(whole[:-cut], "a.csv", NOW)
    assert found.prices == ()
    assert found.refused


def test_the_newest_counts_even_if_an_older_one_is_cheaper() -> None:
    listed = a_price(spot=usd("0.01"), as_of=NOW - timedelta(days=9))
    live = a_price(on_demand=None, spot=usd("0.03"))
    answer = ask([listed, live], "m5.large", region="us-east-1")
    assert (answer.on_demand, answer.spot) == (listed, live)


NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,12}", fullmatch=True)
AMOUNTS = st.decimals(Decimal("0.000001"), Decimal(9999), allow_nan=False, allow_infinity=False, places=6)
MONEYS = st.builds(Money, AMOUNTS, st.just("EUR"))
PRICES = st.builds(
    Price,
    provider=NAMES,
    region=NAMES,
    zone=st.none() | NAMES,
    machine_type=NAMES,
    arch=st.none() | st.sampled_from(["x86_64", "arm64"]),
    vcpus=st.none() | st.integers(1, 999).map(lambda eighths: eighths / 8),
    memory=st.none() | st.integers(1, 10**6).map(lambda mebibytes: mebibytes * 1024**2),
    accelerator=st.none() | NAMES,
    accelerators=st.none() | st.integers(0, 16).map(float),
    on_demand=st.none() | MONEYS,
    spot=MONEYS,
    as_of=st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    source=st.from_regex(r'[a-z"][a-z, "]{0,20}[a-z"]', fullmatch=True),
)


@given(st.lists(PRICES, unique_by=lambda price: price.key))
def test_what_is_written_is_read_again(prices: list[Price]) -> None:
    found = read_ours(write_ours(prices), "a.csv", NOW)
    assert found.refused == ()
    assert list(found.prices) == prices


@given(st.lists(PRICES, min_size=1, unique_by=lambda price: price.key), st.data())
def test_every_line_is_either_taken_or_refused(prices: list[Price], data: st.DataObject) -> None:
    head, *lines = write_ours(prices).decode().rstrip("\n").split("\n")
    broken = data.draw(st.sets(st.integers(0, len(lines) - 1)))
    for place in broken:
        at = data.draw(st.integers(0, len(lines[place])))
        junk = data.draw(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=8))
        lines[place] = data.draw(st.sampled_from([lines[place][:at], lines[place][:at] + junk + lines[place][at:]]))
    found = read_ours("\n".join([head, *lines, ""]).encode(), "a.csv", NOW)
    whole = [price for place, price in enumerate(prices) if place not in broken]
    assert len(found.prices) + len(found.refused) == sum(bool(line.strip()) for line in lines)
    taken = {price.key for price in found.prices}
    assert all(price.key in taken for price in whole)
    assert all(
        money is None or (money.amount.is_finite() and money.amount > 0)
        for price in found.prices
        for money in (price.on_demand, price.spot)
    )


FORMS = {
    "aws/vms.csv": f"{SKYPILOT}\ng5.large,A10G,1,4,16,,1.006,0.4,us-east-1,use1-az1\nm5.large,,,2,8,,0.1,,us-east-1,\n",
    "aws/aws.csv": f"{GPUHUNT}\ng5.large,us-east-1,1.006,4,16,1,A10G,24,False,\nm5.large,us-east-1,0.1,2,8,0,,,True,\n",
    "aws/pricing.yml": GCOSTS,
    "aws/history.json": history({}, {"AvailabilityZone": "us-east-1b", "SpotPrice": "1.1"}),
    "aws/ours.csv": ours(GOOD, GOOD | {"machine_type": "m5.xlarge"}).decode(),
}


@pytest.mark.parametrize("name", FORMS)
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_makes_a_price_that_cannot_be(tmp_path: Path, name: str, data: st.DataObject) -> None:
    whole = FORMS[name].encode()
    at, until = sorted((data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole)))))
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=6)) + data.draw(st.sampled_from([whole[until:], b""])))
    try:
        found = read_prices(path, NOW)
    except UsageError as error:
        assert error.why  # noqa: PT017 - most damage spoils rows, some the whole file
        return
    for price in found.prices:
        assert price.machine_type
        assert price.region
        assert price.on_demand or price.spot
        assert price.as_of is None or price.as_of <= NOW + timedelta(days=1)
        for money in (price.on_demand, price.spot):
            assert money is None or (0 < money.amount < 10**6 and len(money.currency) == 3)


@given(st.binary(max_size=300))
def test_no_bytes_are_a_fault_of_ours(content: bytes) -> None:
    try:
        found = read_ours(content, "a.csv", NOW)
    except ValueError as error:
        assert "line" in str(error)  # noqa: PT017 - most bytes are no list, some are an empty one
    else:
        assert found.prices == ()


def test_what_fits_and_what_is_newest() -> None:
    old, new = a_price(as_of=NOW - timedelta(days=40)), a_price(on_demand=usd("0.1"))
    zone = a_price(zone="us-east-1a", on_demand=None, spot=usd("0.03"))
    undated = a_price(as_of=None)
    assert find([old, zone, a_price(region="us-west-2")], zone="us-east-1a") == [old, zone]
    assert find([a_price(accelerator="A100")], accelerator="a100")
    assert newest([undated, old, new, zone]) == [new, zone]
    assert [is_old(price, NOW) for price in (old, new, undated)] == [True, False, True]


def test_what_two_sources_say_is_never_put_into_one_price() -> None:
    listed, live = a_price(spot=usd("0.05"), as_of=NOW - timedelta(days=9)), a_price(on_demand=None, spot=usd("0.03"))
    assert newest([listed, live]) == [listed, live]
    answer = ask([listed, live], "m5.large", region="us-east-1")
    assert (answer.on_demand, answer.spot) == (listed, live)


def test_the_cheapest_first_and_currencies_apart() -> None:
    euro = a_price(on_demand=Money(Decimal(9), "EUR"))
    dear, cheap = a_price(machine_type="m5.xlarge", on_demand=usd("0.192")), a_price(spot=usd("0.01"))
    assert cheapest([dear, euro, cheap]) == [euro, cheap, dear]


def test_asking_in_a_zone_or_in_a_region() -> None:
    zones = [
        a_price(zone="us-east-1a", spot=usd("0.03")),
        a_price(zone="us-east-1b", spot=usd("0.02")),
    ]
    there = ask(zones, "m5.large", zone="us-east-1a")
    assert (there.on_demand, there.spot) == (zones[0], zones[0])
    elsewhere = ask(zones, "m5.large", zone="us-east-1c")
    assert elsewhere.on_demand is not None  # on-demand costs the same in the whole region
    assert elsewhere.spot is None
    assert ask(zones, "m5.large", region="us-east-1").spot == zones[1]
    assert ask(zones, "m5.huge", region="us-east-1").on_demand is None
    with pytest.raises(ValueError, match="region or in a zone"):
        ask(zones, "m5.large")


def test_old_ones_can_be_refused() -> None:
    found = read_ours(ours(GOOD, GOOD | {"machine_type": "a", "as_of": ""}), "a.csv", NOW)
    left = not_older(found, timedelta(days=30), NOW)
    assert left.prices == ()
    assert [row.reason for row in left.refused] == ["it is too old: 2026-01-01", "nobody knows how old it is"]
    assert not_older(found, timedelta(days=300), NOW).prices == found.prices[:1]


def test_what_was_kept_is_known(tmp_path: Path) -> None:
    folder = price_folder({"XDG_DATA_HOME": str(tmp_path)})
    assert known_prices(folder, NOW) == shipped(NOW)
    mine = a_price(machine_type="mine")
    assert keep_prices([mine], folder, "own") == tmp_path / "spotweld" / "prices" / "own.csv"
    assert known_prices(folder, NOW).prices[0] == mine
    assert price_folder({"HOME": "/h", "XDG_DATA_HOME": "relative"}).as_posix() == "/h/.local/share/spotweld/prices"
