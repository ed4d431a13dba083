"""Google's prices, put together from a catalogue that a server answers in the documented form."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from spotweld.cli.main import program
from spotweld.costs.prices.composing import Part, composed
from spotweld.costs.prices.fetching import get
from spotweld.costs.prices.gcp import fetch_gcp, getter
from spotweld.costs.prices.ours import shipped
from spotweld.costs.prices.table import Price
from spotweld.errors import ProviderError, UsageError
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from spotweld.costs.prices.gathering import Reading

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REGION = "us-central1"
SECRET = "AIza-secret-0123"
Answer = tuple[int, bytes]

# Unit prices of us-central1 that Google documents. The spot prices are made up.
LISTED = {
    ("N1 Predefined Instance Core", False): "0.031611",
    ("N1 Predefined Instance Ram", False): "0.004237",
    ("N1 Predefined Instance Core", True): "0.008",
    ("N1 Predefined Instance Ram", True): "0.001",
    ("E2 Instance Core", False): "0.02181159",
    ("E2 Instance Ram", False): "0.00292353",
    ("A2 Instance Core", False): "0.031611",
    ("A2 Instance Ram", False): "0.004237",
    ("Nvidia Tesla A100 GPU", False): "2.933908",
}


def sku(name: str, price: str, *, spot: bool = False, place: str = "Americas", **said: object) -> dict[str, object]:
    """An item with the fields of https://cloud.google.com/billing/docs/reference/rest/v1/services.skus."""
    gpu, ram = name.endswith("GPU"), name.endswith("Ram")
    group = "GPU" if gpu else "N1Standard" if name.startswith("N1 ") else "RAM" if ram else "CPU"
    if spot:
        name = f"{name} attached to Spot Preemptible VMs" if gpu else f"Spot Preemptible {name}"
    usage = "Preemptible" if spot else "OnDemand"
    units, _, rest = price.partition(".")
    return {
        "name": "services/6F81-5844-456A/skus/0000-0000-0000",
        "skuId": "0000-0000-0000",
        "description": f"{name} running in {place}",
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Compute",
            "resourceGroup": said.pop("group", group),
            "usageType": said.pop("usage", usage),
        },
        "serviceRegions": said.pop("regions", ["us-central1", "us-east1", "us-west1"]),
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": {
                    "usageUnit": said.pop("unit", "GiBy.h" if ram else "h"),
                    "usageUnitDescription": "gibibyte hour" if ram else "hour",
                    "baseUnit": "By.s" if ram else "s",
                    "displayQuantity": 1,
                    "tieredRates": [
                        {
                            "startUsageAmount": start,
                            "unitPrice": {
                                "currencyCode": said.get("currency", "USD"),
                                "units": units,
                                "nanos": int(rest.ljust(9, "0")),
                            },
                        }
                        for start in said.pop("tiers", [0])  # type: ignore[attr-defined]
                    ],
                },
                "currencyConversionRate": 1,
                "effectiveTime": said.pop("since", "2026-05-20T08:12:24.017Z"),
            }
        ],
        "serviceProviderName": "Google",
        "geoTaxonomy": {"type": "MULTI_REGIONAL", "regions": ["us-central1", "us-east1", "us-west1"]},
    }


def catalogue(*others: dict[str, object], without: str = "nothing") -> list[dict[str, object]]:
    listed = [sku(name, price, spot=spot) for (name, spot), price in LISTED.items() if name != without]
    return [*listed, *others]


def page(skus: list[dict[str, object]], token: str = "") -> Answer:
    return 200, json.dumps({"skus": skus, "nextPageToken": token}).encode()


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], Answer]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self)
            self.send_response(status)
            # A redirection's body is where it leads.
            self.send_header("Location" if status == 302 else "X-Nothing", body.decode() if status == 302 else "")
            self.send_header("Content-Length", str(len(body) + 9 * body.endswith(b"...")))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def fetched(skus: list[dict[str, object]], machine_type: str | None = None, region: str = REGION) -> Reading:
    return fetch_gcp(
        lambda _: page(skus)[1], region, NOW, shipped(NOW).prices, machine_type=machine_type, base="http://a.example"
    )


def test_pages_of_a_real_server_make_the_prices_of_the_shipped_table() -> None:
    asked: list[tuple[str, str | None]] = []

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        asked.append((request.path, request.headers["X-Goog-Api-Key"]))
        listed = catalogue()
        if len(asked) == 1:
            return 503, b""
        return page(listed[5:]) if "pageToken" in request.path else page(listed[:5], "a+b/c=")

    fetch = partial(getter({"GOOGLE_API_KEY": f" {SECRET}\n"}), sleep=lambda _: None)
    with server(answer) as base:
        found = fetch_gcp(fetch, REGION, NOW, shipped(NOW).prices, base=base)
    composed_prices = {price.machine_type: price for price in found.prices}
    known = {price.machine_type: price for price in shipped(NOW).prices if price.region == REGION}
    same = ["n1-standard-2", "n1-standard-8", "n1-standard-96", "e2-standard-2", "e2-standard-16", "a2-highgpu-8g"]
    assert [composed_prices[name].on_demand for name in same] == [known[name].on_demand for name in same]
    assert composed_prices["n1-standard-8"].spot == Money(Decimal("0.094"))
    assert composed_prices["e2-standard-2"].spot is None
    assert composed_prices["a2-megagpu-16g"].on_demand == Money(Decimal("55.739504"))  # what Google's page says
    assert composed_prices["n1-standard-8"].source == f"127.0.0.1 {REGION}"
    assert composed_prices["n1-standard-8"].as_of == NOW
    assert {key for _, key in asked} == {SECRET}
    assert SECRET not in "".join(path for path, _ in asked)
    assert [parse_qs(urlsplit(path).query).get("pageToken") for path, _ in asked] == [None, None, ["a+b/c="]]
    reasons = {row.place: row.reason for row in found.refused}
    assert reasons["g2-standard-4, on-demand"] == "G2 Instance Core: the catalogue has no price there"
    assert reasons["e2-standard-2, spot"] == "E2 Instance Core: the catalogue has no price there"
    assert "local SSDs" in reasons["a3-highgpu-8g"]
    assert "local SSDs" in reasons["a2-ultragpu-8g"]
    assert "nobody here knows" in reasons["tpu-v6e-8"]


DECOYS = [
    sku("N1 Predefined Instance Core", "9", usage="Commit1Yr"),
    sku("N1 Predefined Instance Core", "9", place="Americas in Calendar Mode"),
    sku("N1 Predefined Instance Core", "9", place="Americas for 1 Year"),
    sku("N1 Predefined Instance Sole Tenancy Core", "9"),
    sku("N1 Predefined Instance Core", "9", group="VmState"),
    sku("N1 Predefined Instance Core", "9", regions=["europe-west4"]),
    sku("N1 Predefined Instance Core", "9", spot=True, usage="OnDemand"),
    sku("Sole Tenancy Premium for N1 Predefined Instance Core", "9"),
    sku("Custom Instance Core", "9"),
    sku("Reserved N1 Predefined Instance Core", "9"),
    sku("DWS Defined Duration N1 Predefined Instance Core", "9"),
    sku("Commitment v1: N1 Predefined Instance Core", "9"),
]


@pytest.mark.parametrize("decoy", DECOYS, ids=lambda decoy: str(decoy["description"]))
def test_other_things_are_not_mistaken_for_a_machines_parts(decoy: dict[str, object]) -> None:
    assert fetched(catalogue(decoy), "n1-standard-8") == fetched(catalogue(), "n1-standard-8")
    with pytest.raises(ProviderError, match="N1 Predefined Instance Core: the catalogue has no price"):
        fetched([decoy, *catalogue(without="N1 Predefined Instance Core")], "n1-standard-8")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"unit": "GiBy.mo"}, "per GiBy.mo, not per GiBy.h"),
        ({"currency": "EUR"}, "in EUR"),
        ({"tiers": [0, 100]}, "how much is used"),
        ({"tiers": [5]}, "how much is used"),
        ({"since": "2026-07-01T00:00:00Z"}, "not hold yet"),
        ({"price": "0"}, "more than 0"),
        ({"price": "-1"}, "not an amount"),
    ],
)
def test_a_part_whose_price_cannot_be_used(said: dict[str, str], why: str) -> None:
    price = said.get("price", "0.004237")
    bad = sku("N1 Predefined Instance Ram", price, **{key: one for key, one in said.items() if key != "price"})
    found = fetched([*catalogue(without="N1 Predefined Instance Ram"), bad, *spot_ram()], "n1-standard-8")
    ((place, reason),) = [(row.place, row.reason) for row in found.refused]
    assert place == "n1-standard-8, on-demand"
    assert why in reason
    (half,) = found.prices
    assert (half.on_demand, half.spot) == (None, Money(Decimal("0.094")))


def spot_ram() -> list[dict[str, object]]:
    return [sku("N1 Predefined Instance Ram", "0.001", spot=True)]


def test_two_prices_of_one_part_are_none_and_the_same_twice_is_one() -> None:
    twice = sku("N1 Predefined Instance Core", "0.031611", place="Iowa")
    assert fetched(catalogue(twice), "n1-standard-8") == fetched(catalogue(), "n1-standard-8")
    other = sku("N1 Predefined Instance Core", "0.04", place="Iowa")
    found = fetched(catalogue(other, twice), "n1-standard-8")
    assert found.prices[0].on_demand is None
    assert "two prices" in found.refused[0].reason


def test_of_several_prices_the_newest_that_holds() -> None:
    several = sku("N1 Predefined Instance Core", "0.031611")
    infos = several["pricingInfo"]
    assert isinstance(infos, list)
    old = sku("N1 Predefined Instance Core", "9", since="2020-01-01T00:00:00Z")["pricingInfo"]
    later = sku("N1 Predefined Instance Core", "9", since="2027-01-01T00:00:00Z")["pricingInfo"]
    several["pricingInfo"] = [*old, *infos, *later]  # type: ignore[misc]
    skus = [*catalogue(without="N1 Predefined Instance Core"), several]
    assert fetched(skus, "n1-standard-8").prices[0].on_demand == Money(Decimal("0.379998"))


def test_an_item_that_cannot_be_read_is_refused_with_its_place() -> None:
    without_zone = sku("N1 Predefined Instance Core", "9", since="2020-01-01T00:00:00")
    found = fetched([{"description": "half"}, without_zone, *catalogue()], "n1-standard-8")
    assert [row.place for row in found.refused[:2]] == ["page 1, item 0", "page 1, item 1"]
    assert len(found.prices) == 1
    content = page([sku("no text", "9"), *catalogue()])[1].replace(b"no text", b"\xff")
    found = fetch_gcp(lambda _: content, REGION, NOW, shipped(NOW).prices, machine_type="n1-standard-8")
    assert found.refused[0].place == "page 1, item 0"
    assert len(found.prices) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, b"<html>"), "page 1"),
        ((200, b"{}"), "page 1"),
        ((200, b'{"skus": [{"description": "N1...'), "page 1"),
        ((200, page(catalogue())[1][:-100] + b"..."), "page 1"),
        ((403, b""), "403"),
        ((503, b""), "503"),
    ],
)
def test_what_is_no_catalogue_keeps_nothing_and_tells_no_key(answer: Answer, why: str) -> None:
    fetch = partial(getter({"GOOGLE_API_KEY": SECRET}), sleep=lambda _: None)
    with server(lambda _: answer) as base, pytest.raises(ProviderError, match=why) as caught:
        fetch_gcp(fetch, REGION, NOW, shipped(NOW).prices, base=base)
    assert SECRET not in f"{caught.value}{caught.value.todo}{caught.value.__cause__}"


def test_a_catalogue_that_breaks_off_after_a_page() -> None:
    def answer(request: BaseHTTPRequestHandler) -> Answer:
        return (500, b"") if "pageToken" in request.path else page(catalogue(), "next")

    fetch = partial(get, sleep=lambda _: None)
    with server(answer) as base, pytest.raises(ProviderError, match="500"):
        fetch_gcp(fetch, REGION, NOW, shipped(NOW).prices, base=base)


def test_pages_without_an_end() -> None:
    with pytest.raises(ProviderError, match="more than 100 pages"):
        fetch_gcp(lambda _: page([], "again")[1], REGION, NOW, [], base="http://a.example")


def test_the_key_does_not_follow_to_another_server() -> None:
    seen: list[str | None] = []

    def elsewhere(request: BaseHTTPRequestHandler) -> Answer:
        seen.append(request.headers["X-Goog-Api-Key"])
        return page(catalogue())

    with server(elsewhere) as other, server(lambda _: (302, other.encode())) as base:
        fetch_gcp(getter({"GOOGLE_API_KEY": SECRET}), REGION, NOW, shipped(NOW).prices, base=base)
    assert seen == [None]


@pytest.mark.parametrize(("key", "why"), [("", "not set"), ("two\nlines: of-it", "holds no API key")])
def test_without_a_key(key: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"GOOGLE_API_KEY.*{why}|GOOGLE_API_KEY {why}") as caught:
        getter({"GOOGLE_API_KEY": key})
    assert "of-it" not in str(caught.value)


@pytest.mark.parametrize(
    ("machine_type", "why"),
    [
        ("n1-custom-8-30720", "nobody here knows"),
        ("e2-medium", "nobody here knows"),
        ("c3-standard-192-metal", "nobody here knows"),
        ("c3-standard-4-lssd", "local SSDs"),
        ("m1-ultramem-40", "nobody here knows"),
        ("n2-standard-80", "nobody says what is in it"),
    ],
)
def test_machine_types_that_are_not_put_together(machine_type: str, why: str) -> None:
    with pytest.raises(ProviderError, match=f"no price of {machine_type} .*{why}"):
        fetched(catalogue(), machine_type)


def test_what_is_in_a_machine_must_be_said_in_one_way() -> None:
    def told(*known: Price) -> Reading:
        parts = {Part(name, spot): Decimal(price) for (name, spot), price in LISTED.items()}
        return composed(parts, known, REGION, NOW, "a list")

    e2 = Price("gcp", "anywhere", None, "e2-standard-2", vcpus=2.0, memory=8 * 2**30)
    assert told(e2, e2).prices[0].on_demand == Money(Decimal("0.06701142"))
    assert told(e2, Price("gcp", "b", None, "e2-standard-2", vcpus=4.0, memory=8 * 2**30)).prices == ()
    assert told(Price("gcp", "b", None, "e2-standard-2", vcpus=2.0)).refused[0].reason.startswith("its vCPUs")
    with_gpu = Price("gcp", "b", None, "e2-standard-2", vcpus=2.0, memory=8 * 2**30, accelerators=1.0)
    assert "cannot be" in told(with_gpu).refused[0].reason
    no_gpu = Price("gcp", "b", None, "a2-highgpu-1g", vcpus=12.0, memory=85 * 2**30)
    assert "cannot be" in told(no_gpu).refused[0].reason
    n1 = Price("gcp", "b", None, "n1-highcpu-2", vcpus=2.0, memory=round(1.8 * 2**30))
    attached = Price("gcp", "b", None, "n1-highcpu-2", vcpus=2.0, memory=round(1.8 * 2**30), accelerators=1.0)
    assert told(attached, n1).prices[0].on_demand == Money(Decimal("0.0708486"))
    assert told(Price("azure", "b", None, "e2-standard-2", vcpus=2.0, memory=8 * 2**30)) == told()


@given(
    core=st.decimals("0.000000001", 100, places=9),
    ram=st.decimals("0.000000001", 100, places=9),
    vcpus=st.integers(1, 416),
    gib=st.integers(1, 12_000),
)
def test_a_price_is_the_exact_sum_of_its_parts(core: Decimal, ram: Decimal, vcpus: int, gib: int) -> None:
    known = Price("gcp", "b", None, "n2-standard-4", vcpus=float(vcpus), memory=gib * 2**30)
    parts = {Part("N2 Instance Core", spot=True): core, Part("N2 Instance Ram", spot=True): ram}
    (price,) = composed(parts, [known], REGION, NOW, "a list").prices
    assert price.on_demand is None
    assert price.spot == Money(vcpus * core + gib * ram)


def call(*words: str) -> Result:
    return CliRunner().invoke(program, ["cost", "prices", *words])


def test_the_verb_keeps_what_it_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    words = ("--refresh", "gcp", "--region", REGION, "--type", "n1-standard-8", "--json")
    refused = call(*words)
    assert refused.exit_code == 2
    assert "GOOGLE_API_KEY is not set" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("GOOGLE_API_KEY", SECRET)
    monkeypatch.setattr("spotweld.costs.prices.gcp.get", lambda _, **__: page(catalogue())[1])
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    kept = tmp_path / "spotweld" / "prices" / f"gcp-{REGION}-n1-standard-8.csv"
    assert f"1 price kept: {kept}" in result.stderr
    newest = next(row for row in json.loads(result.stdout)["prices"] if row["source"].startswith("cloudbilling"))
    assert (newest["on_demand"]["amount"], newest["spot"]["amount"]) == ("0.379998", "0.094")
    assert (newest["vcpus"], newest["memory"]) == (8, 30 * 2**30)  # as the shipped table says
