"""AWS's spot prices, fetched from an imitation of its API (moto)."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from spotweld.cli.main import program
from spotweld.costs.prices.aws import fetch_aws, fetch_aws_on_demand
from spotweld.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGION, TYPE = "us-east-1", "g4dn.xlarge"


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
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:9")  # moto has no price list service
    yield
    server.stop()


def call(*words: object) -> Result:
    return CliRunner().invoke(program, [*map(str, words)])


@pytest.mark.usefixtures("_aws")
def test_a_fetched_history_is_a_price_list_and_a_market(tmp_path: Path) -> None:
    result = call("cost", "prices", "--refresh", "aws", "--region", REGION, "--type", TYPE, "--json")
    assert result.exit_code == 0, result.output
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


def product(*dollars: str, unit: str = "Hrs") -> str:
    """A product as AWS's price list service documents it: JSON in a string."""
    dimensions = {
        f"JRTCKXETXF.{number}": {
            "unit": unit,
            "endRange": "Inf",
            "description": f"${dollars} per On Demand Linux instance hour",
            "appliesTo": [],
            "rateCode": "X",
            "beginRange": "0",
            "pricePerUnit": {"USD": one},
        }
        for number, one in enumerate(dollars)
    }
    term = {
        "priceDimensions": dimensions,
        "sku": "X",
        "effectiveDate": "2026-05-01T00:00:00Z",
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
    }
    reserved = {"X.R": {"priceDimensions": {"X.R.1": {"unit": "Hrs", "pricePerUnit": {"USD": "0.1"}}}}}
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "attributes": {"instanceType": TYPE}, "sku": "X"},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {"X.JRTCKXETXF": term}, "Reserved": reserved},
            "version": "20260501000000",
            "publicationDate": "2026-05-01T00:00:00Z",
        }
    )


@contextmanager
def price_lists(monkeypatch: pytest.MonkeyPatch, *pages: list[str]) -> Iterator[list[dict[str, Any]]]:
    """AWS's price list service, which answers with these pages; what it is asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            number = int(asked[-1].get("NextToken", 0))
            answer = {"FormatVersion": "aws_v1", "PriceList": pages[number]}
            if number + 1 < len(pages):
                answer["NextToken"] = str(number + 1)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://127.0.0.1:{running.server_port}")
        try:
            yield asked
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.usefixtures("_aws")
def test_the_on_demand_price_of_linux_on_shared_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    with price_lists(monkeypatch, [], [product("0.5260000000"), product("0.0000000000")]) as asked:
        price = fetch_aws_on_demand(REGION, TYPE, now)
    assert price.on_demand is not None
    assert price.on_demand.amount == Decimal("0.526")
    assert (price.provider, price.region, price.zone, price.machine_type) == ("aws", REGION, None, TYPE)
    assert (price.spot, price.as_of) == (None, now)
    filters = {one["Field"]: one["Value"] for one in asked[0]["Filters"]}
    assert asked[0]["ServiceCode"] == "AmazonEC2"
    assert {"instanceType": TYPE, "regionCode": REGION, "operatingSystem": "Linux", "tenancy": "Shared"}.items() <= (
        filters.items()
    )


@pytest.mark.usefixtures("_aws")
@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ([], "none is listed"),
        ([product("0.5"), product("0.6")], "2 are listed"),
        ([product("12", unit="Quantity")], "none is listed"),
        (["{}"], "cannot be read"),
        (["half"], "cannot be read"),
        ([product("cheap")], "cannot be read"),
    ],
)
def test_what_is_no_single_price_is_refused(monkeypatch: pytest.MonkeyPatch, listed: list[str], why: str) -> None:
    with price_lists(monkeypatch, listed), pytest.raises(ProviderError) as caught:
        fetch_aws_on_demand(REGION, TYPE, datetime.now(UTC))
    assert why in f"{caught.value} {caught.value.why}"


@pytest.mark.usefixtures("_aws")
def test_both_prices_are_kept_and_spot_even_where_the_other_may_not_be_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("cost", "prices", "--refresh", "aws", "--region", REGION, "--type", TYPE, "--json")
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert "note: no on-demand price" in result.stderr
    with price_lists(monkeypatch, [product("0.5555")]):
        result = call(*words)
    assert result.exit_code == 0, result.output
    found = [one["on_demand"]["amount"] for one in json.loads(result.stdout)["prices"] if one["on_demand"]]
    assert "0.5555" in found
    kept = {path.name for path in (tmp_path / "data" / "spotweld" / "prices").iterdir()}
    assert kept == {f"aws-{REGION}-{TYPE}.json", f"aws-{REGION}-{TYPE}-on-demand.csv"}
