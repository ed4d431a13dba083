"""``spotweld cost prices``, as a person or a script calls it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from spotweld.cli.main import program

if TYPE_CHECKING:
    from pathlib import Path

LIST = (
    "provider,region,zone,machine_type,arch,vcpus,memory_gib,accelerator,accelerators,on_demand,spot,currency,as_of,source\n"
    "mine,here,,dear,,8,32,,0,2,,EUR,2026-01-01,a list\n"
    "mine,here,,cheap,,,,T4,1,1.5,0.25,EUR,,a list\n"
    "mine,here,,wrong,,,,,,-1,,EUR,,a list\n"
)


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def call(*words: object) -> Result:
    return CliRunner().invoke(program, ["cost", "prices", *map(str, words)])


def test_the_shipped_table_without_a_file() -> None:
    result = call("--accelerator", "l4", "--region", "us-central1", "--type", "g2-standard-4")
    assert result.exit_code == 0, result.output
    head, row = (re.split(r"\s{2,}", line) for line in result.stdout.splitlines())
    assert head == [
        *("provider", "place", "machine type", "vCPUs", "memory", "accelerators", "on-demand", "spot", "age", "source")
    ]
    assert row[:8] == ["gcp", "us-central1", "g2-standard-4", "4", "16 GiB", "1 x L4", "0.7068 USD", "0.2799 USD"]
    assert row[8].endswith("!")  # years old: it says so
    assert "pricing.yml" in row[9]


def test_a_file_with_a_row_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(LIST)
    result = call(path, "--cheapest")
    assert result.exit_code == 0, result.output
    rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()[1:]]
    assert [row[2] for row in rows] == ["cheap", "dear"]
    assert rows[0][3:5] == ["unknown", "unknown"]
    assert rows[0][-2:] == ["unknown !", "a list"]
    assert rows[1][-3] == "unknown"  # spot: not 0
    assert "refused: " in result.stderr
    assert "line 4, column on_demand: a price is more than 0, not -1" in result.stderr
    assert "2 prices of 2" in result.stderr


def test_json_and_a_limit_of_age(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(LIST)
    found = json.loads(call(path, "--json", "--max-age", "9000d").stdout)
    (price,) = found["prices"]
    assert (price["machine_type"], price["on_demand"], price["spot"]) == (
        "dear",
        {"amount": "2", "currency": "EUR"},
        None,
    )
    assert [row["reason"] for row in found["refused"]] == [
        "a price is more than 0, not -1",
        "nobody knows how old it is",
    ]


def test_what_is_kept_is_known_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(LIST)
    assert call("--provider", "mine").stdout.count("mine") == 0
    result = call(path, "--keep")
    assert "2 prices kept: " in result.stderr
    assert (tmp_path / "data" / "spotweld" / "prices" / "mine-list.csv").exists()
    assert call("--provider", "mine").stdout.count("mine") == 2
    assert call("--keep").exit_code == 2


def test_what_is_no_price_list(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("a,b\n1,2\n")
    result = call(path)
    assert result.exit_code == 2
    assert "the first line lacks the columns" in result.stderr


SPOT = {
    "currencyCode": "USD",
    "retailPrice": 0.06,
    "armRegionName": "eastus",
    "effectiveStartDate": "2024-08-01T00:00:00Z",
    "productName": "Virtual Machines NCasT4 v3 Series",
    "skuName": "Standard_NC4as_T4_v3 Spot",
    "unitOfMeasure": "1 Hour",
    "type": "Consumption",
    "armSkuName": "Standard_NC4as_T4_v3",
}
PAGE = json.dumps({"Items": [SPOT], "NextPageLink": None}).encode()


def test_what_is_fetched_of_azure_is_kept_and_newer_than_the_shipped_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spotweld.costs.prices.fetching.get", lambda _: PAGE)
    result = call("--refresh", "azure", "--region", "eastus", "--type", "Standard_NC4as_T4_v3")
    assert result.exit_code == 0, result.output
    assert "1 price kept: " in result.stderr
    fetched, listed = (re.split(r"\s{2,}", line) for line in result.stdout.splitlines()[1:])
    assert fetched[5:8] == ["1 x T4", "unknown", "0.06000 USD"]
    assert not fetched[8].endswith("!")
    assert fetched[9] == "prices.azure.com eastus"
    assert listed[6] == "0.5260 USD"
    assert listed[8] == "unknown !"


def test_a_name_that_leads_out_of_the_folder_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("spotweld.costs.prices.fetching.get", lambda _: PAGE)
    result = call("--refresh", "azure", "--region", "../../elsewhere")
    assert result.exit_code == 2
    assert not (tmp_path / "data").exists()


def test_an_answer_without_prices_leaves_what_was_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("spotweld.costs.prices.fetching.get", lambda _: PAGE)
    assert call("--refresh", "azure", "--region", "eastus").exit_code == 0
    (kept,) = (tmp_path / "data" / "spotweld" / "prices").iterdir()
    before = kept.read_bytes()
    monkeypatch.setattr("spotweld.costs.prices.fetching.get", lambda _: b'{"Items": []}')
    result = call("--refresh", "azure", "--region", "eastus")
    assert result.exit_code == 1
    assert "Azure's list has no price of any machine in eastus" in result.stderr
    assert kept.read_bytes() == before
