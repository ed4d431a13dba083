"""Google's billing catalogue, from a server that answers in its form."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from tests.costs.test_fetching import Answer, server

from spotweld.cli.main import program
from spotweld.costs.prices import fetching, gcp
from spotweld.costs.prices.fetching import get
from spotweld.costs.prices.gcp import fetch_gcp
from spotweld.costs.prices.ours import shipped
from spotweld.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 6, 1, tzinfo=UTC)
US = "us-central1"


def sku(description: str, price: str, usage: str = "OnDemand", unit: str = "h", **said: object) -> dict[str, Any]:
    """A line with the fields that https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list names."""
    units, _, part = price.partition(".")
    rate = {
        "startUsageAmount": 0,
        "unitPrice": {"currencyCode": "USD", "units": units, "nanos": int(part.ljust(9, "0")[:9])},
    }
    expression = {
        "usageUnit": unit,
        "usageUnitDescription": "hour",
        "baseUnit": "s",
        "baseUnitDescription": "second",
        "baseUnitConversionFactor": 3600,
        "displayQuantity": 1,
        "tieredRates": [rate],
    }
    return {
        "name": "services/6F81-5844-456A/skus/0000-0000-0000",
        "skuId": "0000-0000-0000",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": "CPU",
            "usageType": usage,
        },
        "serviceRegions": [US, "us-east1"],
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": expression,
                "currencyConversionRate": 1,
                "effectiveTime": "2026-01-01T00:00:00Z",
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "MULTI_REGIONAL", "regions": [US, "us-east1"]},
    } | said


def ram(description: str, price: str, usage: str = "OnDemand", **said: object) -> dict[str, Any]:
    return sku(description, price, usage, "GiBy.h", **said)


CATALOGUE = [
    sku("N1 Predefined Instance Core running in Americas", "0.031611"),
    ram("N1 Predefined Instance Ram running in Americas", "0.004237"),
    sku("Spot Preemptible N1 Predefined Instance Core running in Americas", "0.00768", "Preemptible"),
    ram("Spot Preemptible N1 Predefined Instance Ram running in Americas", "0.001419333", "Preemptible"),
    sku("E2 Instance Core running in Americas", "0.02181159"),
    ram("E2 Instance Ram running in Americas", "0.00292353"),
    sku("A2 Instance Core running in Americas", "0.031611"),
    ram("A2 Instance Ram running in Americas", "0.004237"),
    sku("Nvidia Tesla A100 GPU running in Americas", "2.933908"),
    # What must not be taken for any of these.
    sku("N1 Predefined Instance Core running in Sydney", "9", serviceRegions=["australia-southeast1"]),
    sku("N1 Custom Instance Core running in Americas", "9"),
    sku("Custom Instance Core running in Americas", "9"),
    sku("N1 Sole Tenancy Instance Core running in Americas", "9"),
    sku("Sole Tenancy Premium for N1 Predefined Instance Core running in Americas", "9"),
    sku("Reserved N1 Predefined Instance Core running in Americas", "9"),
    sku("Commitment v1: Cpu in Americas for 1 Year", "9", "Commit1Yr"),
    sku("E2 Instance Core running in Americas", "9", "Commit3Yr"),
    sku("Nvidia Tesla A100 80GB GPU running in Americas", "9"),
    sku("A100 GPU DWS Calendar Mode running in Americas", "9"),
    sku("Licensing Fee for NVIDIA L4", "1.0"),
    sku("Storage PD Capacity", "0.04", unit="GiBy.mo"),
]


def answering(lines: list[Any], size: int = 8) -> Callable[[str], Answer]:
    """The catalogue in pages."""

    def answer(path: str) -> Answer:
        begin = int(path.partition("pageToken=")[2] or 0)
        page: dict[str, Any] = {"skus": lines[begin : begin + size], "nextPageToken": ""}
        if begin + size < len(lines):
            page["nextPageToken"] = str(begin + size)
        return 200, json.dumps(page).encode()

    return answer


def fetched(lines: list[Any], machine_type: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """Prices and refusals, by machine type or place."""
    with server(answering(lines)) as base:
        found = fetch_gcp(get, US, shipped(NOW).prices, NOW, machine_type=machine_type, base=base)
    why: dict[str, str] = {}
    for one in found.refused:
        why[one.place] = f"{why[one.place]}; {one.reason}" if one.place in why else one.reason
    return {one.machine_type: one for one in found.prices}, why


@pytest.mark.parametrize(
    "machine_type", ["n1-standard-8", "n1-standard-96", "e2-standard-2", "a2-highgpu-1g", "a2-highgpu-8g"]
)
def test_parts_make_the_machines_that_the_shipped_table_has(machine_type: str) -> None:
    prices, _ = fetched(CATALOGUE, machine_type)
    (known,) = [one for one in shipped(NOW).prices if (one.machine_type, one.region) == (machine_type, US)]
    found = prices[machine_type]
    assert found.on_demand == known.on_demand
    assert (found.vcpus, found.memory, found.accelerator) == (known.vcpus, known.memory, known.accelerator)
    assert (found.region, found.zone, found.as_of) == (US, None, NOW)
    assert found.source == f"127.0.0.1 {US}"


def test_spot_is_what_preemptible_parts_cost_and_unknown_where_they_are_missing() -> None:
    prices, refused = fetched(CATALOGUE)
    assert prices["n1-standard-8"].spot.amount == 8 * Decimal("0.00768") + 30 * Decimal("0.001419333")
    assert prices["e2-standard-2"].spot is None
    assert refused["e2-standard-2"] == f"spot: e2 Core has no price in {US}"


def test_a_machine_with_a_part_that_nobody_prices_is_not_guessed() -> None:
    prices, refused = fetched(CATALOGUE)
    assert "g2-standard-4" not in prices
    assert refused["g2-standard-4"].endswith(f"g2 Core has no price in {US}")
    for with_disks in ("a3-highgpu-8g", "a2-ultragpu-8g"):
        assert with_disks not in prices
        assert "local disks" in refused[with_disks]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (sku("E2 Instance Core running in Americas", "0.0"), "a price is more than 0"),
        (ram("E2 Instance Core running in Americas", "1.0"), "priced by 'GiBy.h', not by 'h'"),
        (sku("E2 Instance Core running in Americas", "1.0", pricingInfo=[]), "no price of it holds yet"),
        ({"description": "half a line"}, "missing required field"),
        ("no line", "Expected `object`"),
    ],
)
def test_a_bad_line_is_refused_and_the_others_are_kept(line: object, reason: str) -> None:
    prices, refused = fetched([line, *[one for one in CATALOGUE if not one["description"].startswith("E2")]])
    assert "n1-standard-8" in prices
    assert "e2-standard-2" not in prices
    assert any(reason in why for why in refused.values())


def test_tiers_currencies_and_what_holds_later_are_not_taken() -> None:
    tiered = sku("E2 Instance Core running in Americas", "1.0")
    rate = tiered["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]
    tiered["pricingInfo"][0]["pricingExpression"]["tieredRates"] = [rate, rate | {"startUsageAmount": 100}]
    euro = sku("E2 Instance Core running in Americas", "1.0")
    euro["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"]["currencyCode"] = "EUR"
    _, refused = fetched([tiered, euro])
    assert {"its price depends on how much is used", "USD was asked for, not EUR"} <= set(refused.values())
    later = sku("E2 Instance Core running in Americas", "7.0")
    later["pricingInfo"][0]["effectiveTime"] = "2027-01-01T00:00:00Z"
    both = sku("E2 Instance Core running in Americas", "0.02181159")
    both["pricingInfo"] += later["pricingInfo"]
    prices, _ = fetched([both, CATALOGUE[5]])
    assert prices["e2-standard-2"].on_demand.amount == Decimal("0.06701142")


def test_two_prices_of_one_part_are_no_price() -> None:
    _, refused = fetched([*CATALOGUE, sku("E2 Instance Core running in Iowa", "0.5")], "e2-standard-2")
    assert f"on_demand: e2 Core has 2 prices in {US}" in refused["e2-standard-2"]


@pytest.mark.parametrize("answer", [(200, b"{"), (200, b"[]"), (404, b""), (403, b"")])
def test_what_is_no_catalogue(answer: Answer) -> None:
    with server(lambda _: answer) as base, pytest.raises(ProviderError, match="cannot be"):
        fetch_gcp(get, US, shipped(NOW).prices, NOW, base=base)


def test_pages_without_an_end() -> None:
    page = json.dumps({"skus": [], "nextPageToken": "again"}).encode()
    with server(lambda _: (200, page)) as base, pytest.raises(ProviderError, match="not complete"):
        fetch_gcp(get, US, shipped(NOW).prices, NOW, base=base)


def test_a_machine_that_nobody_knows() -> None:
    with pytest.raises(ProviderError, match="cannot be put together"):
        fetch_gcp(get, US, shipped(NOW).prices, NOW, machine_type="warp-9")


def call(*words: str) -> Result:
    result = CliRunner().invoke(program, ["cost", "prices", "--refresh", "gcp", *words])
    assert "Traceback" not in result.output
    return result


def test_the_verb_needs_a_key_and_never_shows_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    result = call("--region", US)
    assert result.exit_code == 2
    assert "GOOGLE_API_KEY is not set" in result.stderr
    monkeypatch.setenv("GOOGLE_API_KEY", "s3cret")
    monkeypatch.setattr(fetching, "_PAUSES", ())
    with server(lambda _: (503, b"")) as base:
        monkeypatch.setattr(gcp, "fetch_gcp", partial(fetch_gcp, base=base))
        result = call("--region", US)
        assert result.exit_code != 0
        assert "503" in result.output
        assert "s3cret" not in result.output
    with server(answering(CATALOGUE)) as base:
        monkeypatch.setattr(gcp, "fetch_gcp", partial(fetch_gcp, base=base))
        result = call("--region", US, "--type", "n1-standard-8", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["prices"]
    assert found["on_demand"]["amount"] == "0.379998"
    (kept,) = (tmp_path / "spotweld" / "prices").iterdir()
    assert kept.name == f"gcp-{US}-n1-standard-8.csv"
    assert "s3cret" not in kept.read_text()


def test_the_key_does_not_follow_a_redirection() -> None:
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["X-Goog-Api-Key"]))
            self.send_response(302 if self.path == "/first" else 200)
            self.send_header("Location", "/second")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        get(f"http://127.0.0.1:{running.server_port}/first", secret=("X-Goog-Api-Key", "k"))
        running.shutdown()
        thread.join()
    assert seen == [("/first", "k"), ("/second", None)]
