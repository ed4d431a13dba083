"""AWS's prices: spot from an imitation of its API (moto), on-demand from a server that answers as its price list.

moto has no price list. What the server here answers is checked against botocore's own model of the service.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from spotweld.cli.main import program
from spotweld.costs.prices.aws import fetch_aws, fetch_aws_on_demand
from spotweld.costs.prices.table import Price
from spotweld.errors import ProviderError, UsageError
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGION, TYPE = "us-east-1", "g4dn.xlarge"
REFRESH = ("cost", "prices", "--refresh", "aws", "--region", REGION, "--type", TYPE, "--json")


FILTERS = {
    "instanceType": TYPE,
    "regionCode": REGION,
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}


def product(
    usd: str = "0.5260000000", *, unit: str = "Hrs", since: str = "2024-04-01T00:00:00Z", **attributes: str
) -> str:
    """A row of the price list, with the fields that AWS describes for the list of AmazonEC2."""
    term, rate = "SKU.JRTCKXETXF", "SKU.JRTCKXETXF.6YS6EN2CT7"
    dimension = {
        "unit": unit,
        "endRange": "Inf",
        "description": "an hour",
        "appliesTo": [],
        "rateCode": rate,
        "beginRange": "0",
        "pricePerUnit": {"USD": usd},
    }
    on_demand = {"priceDimensions": {rate: dimension}, "sku": "SKU", "effectiveDate": since, "offerTermCode": "JRTCKX"}
    about = {**FILTERS, "servicecode": "AmazonEC2", "vcpu": "4", "memory": "16 GiB", **attributes}
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "attributes": about, "sku": "SKU"},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {term: on_demand}, "Reserved": {"SKU.X": {"effectiveDate": since}}},
            "version": "20240508191027",
            "publicationDate": "2024-05-08T19:10:27Z",
        }
    )


class PriceList:
    """A server that gives its rows one a page, or refuses."""

    def __init__(self, *rows: str, refuses: bool = False) -> None:
        self.rows, self.refuses = rows, refuses
        self.asked: list[dict[str, object]] = []

    def __enter__(self) -> Self:
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                mine.asked.append(asked)
                body = json.dumps(mine.answer(int(asked.get("NextToken", "0")))).encode()
                self.send_response(400 if mine.refuses else 200)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.running.serve_forever, args=(0.01,))
        self.thread.start()
        os.environ["AWS_ENDPOINT_URL_PRICING"] = f"http://127.0.0.1:{self.running.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        del os.environ["AWS_ENDPOINT_URL_PRICING"]
        self.running.shutdown()
        self.thread.join()
        self.running.server_close()

    def answer(self, first: int) -> dict[str, object]:
        if self.refuses:
            return {"__type": "AccessDeniedException", "Message": "no pricing:GetProducts for you"}
        more = {"NextToken": str(first + 1)} if first + 1 < len(self.rows) else {}
        return {"FormatVersion": "aws_v1", "PriceList": list(self.rows[first : first + 1]), **more}


@pytest.fixture
def _aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield
    server.stop()


def call(*words: object) -> Result:
    return CliRunner().invoke(program, [*map(str, words)])


@pytest.mark.usefixtures("_aws")
def test_a_fetched_history_is_a_price_list_and_a_market(tmp_path: Path) -> None:
    with PriceList(product()):
        result = call(*REFRESH)
    assert result.exit_code == 0, result.output
    (whole,) = [row for row in json.loads(result.stdout)["prices"] if row["source"] == "AWS price list us-east-1"]
    assert (whole["on_demand"]["amount"], whole["zone"], whole["accelerator"]) == ("0.526", None, "T4")
    assert (tmp_path / "data" / "spotweld" / "prices" / f"aws-{REGION}-{TYPE}.csv").exists()
    kept = tmp_path / "data" / "spotweld" / "prices" / f"aws-{REGION}-{TYPE}.json"
    said = {row["AvailabilityZone"]: row["SpotPrice"] for row in json.loads(kept.read_bytes())["SpotPriceHistory"]}
    assert said
    found = {row["zone"]: row for row in json.loads(result.stdout)["prices"] if row["spot"]}
    assert {zone: float(row["spot"]["amount"]) for zone, row in found.items()} == {
        zone: float(price) for zone, price in said.items()
    }
    assert {row["accelerator"] for row in found.values()} == {"T4"}  # as the shipped table says
    simulated = call(
        *("simulate", kept, "--on-demand-price", 0.526, "--work", "1s", "--deadline", "2s", "--changeover", "0s"),
        *("--starts", 1, "--json"),
    )
    assert simulated.exit_code == 0, simulated.output
    assert json.loads(simulated.stdout)["market"]["zones"]


@pytest.mark.usefixtures("_aws")
def test_without_the_permission_for_the_price_list_spot_is_kept_all_the_same(tmp_path: Path) -> None:
    with PriceList(refuses=True):
        result = call(*REFRESH)
    assert result.exit_code == 0, result.output
    assert "no on-demand price was fetched" in result.stderr
    assert "pricing:GetProducts is needed" in result.stderr
    kept = tmp_path / "data" / "spotweld" / "prices"
    assert [path.name for path in kept.iterdir()] == [f"aws-{REGION}-{TYPE}.json"]
    assert any(row["spot"] for row in json.loads(result.stdout)["prices"])


@pytest.mark.usefixtures("_aws")
def test_the_on_demand_price_of_all_pages() -> None:
    now = datetime.now(UTC)
    others = [
        product("9", capacitystatus="UnusedCapacityReservation"),
        product("9", tenancy="Dedicated"),
        product("9", preInstalledSw="SQL Web"),
        product("9", operatingSystem="Windows"),
        product("9", instanceType="g4dn.2xlarge"),
        product("9", regionCode="eu-west-1"),
        product("9", unit="Quantity"),
        product("9", since=(now + timedelta(days=9)).isoformat()),
    ]
    with PriceList(*others, product(), product("0.526")) as server:
        price = fetch_aws_on_demand(REGION, TYPE, now)
    assert price == Price(
        "aws", REGION, None, TYPE, on_demand=Money(Decimal("0.526")), as_of=now, source="AWS price list us-east-1"
    )
    assert len(server.asked) == 10
    assert server.asked[0]["ServiceCode"] == "AmazonEC2"
    assert server.asked[0]["Filters"] == [
        {"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in FILTERS.items()
    ]


@pytest.mark.usefixtures("_aws")
@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "no on-demand price of g4dn.xlarge in us-east-1$"),
        ([product("9", tenancy="Host")], "no on-demand price of g4dn.xlarge in us-east-1$"),
        ([product("0.5"), product("0.6")], "2 prices fit"),
        ([product("0.0000000000")], "a price is more than 0"),
        ([product("dear")], "not a number"),
        ([product("")], "no on-demand price"),
        ([product(since="2020-01-01T00:00:00")], "timezone"),
        (["<html>"], "malformed"),
        (['{"product": {}}'], "attributes"),
    ],
)
def test_what_is_no_single_on_demand_price(rows: list[str], why: str) -> None:
    with PriceList(*rows), pytest.raises(ProviderError, match=why):
        fetch_aws_on_demand(REGION, TYPE, datetime.now(UTC))


def test_what_the_server_here_answers_is_of_the_services_form() -> None:
    client = boto3.client("pricing", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in FILTERS.items()]
    asked = {"ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": filters}
    with Stubber(client) as stub:
        stub.add_response("get_products", PriceList(product(), product()).answer(0), asked)
        assert client.get_products(**asked)["NextToken"] == "1"


@pytest.mark.usefixtures("_aws")
def test_who_refuses_or_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderError, match="cannot be fetched"):
        fetch_aws(REGION, TYPE, datetime.now(UTC))


@pytest.mark.usefixtures("_aws")
def test_a_machine_that_aws_does_not_have() -> None:
    with pytest.raises(ProviderError, match="no spot prices of warp9"):
        fetch_aws(REGION, "warp9.large", datetime.now(UTC))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match="boto3") as caught:
        fetch_aws(REGION, TYPE, datetime.now(UTC))
    assert "spotweld[aws]" in caught.value.todo


def test_what_refreshing_needs() -> None:
    for words in (["--refresh", "aws", "--region", REGION], ["--refresh", "azure"]):
        result = call("cost", "prices", *words)
        assert result.exit_code == 2
        assert "needs --region" in result.stderr
