"""Fetching prices: from a server that answers as Azure documents it, and from an imitation of AWS."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from spotweld.costs.prices.asking import described
from spotweld.costs.prices.azure import fetch_azure
from spotweld.costs.prices.fetching import get
from spotweld.costs.prices.table import Price
from spotweld.errors import ProviderError
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 6, 1, tzinfo=UTC)
Answer = tuple[int, bytes]


@contextmanager
def server(answer: Callable[[str], Answer]) -> Iterator[str]:
    """Answer each request with what ``answer`` says of its path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def item(**said: object) -> dict[str, object]:
    """An item with the fields that https://learn.microsoft.com/rest/api/cost-management/retail-prices lists."""
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": 0.096,
        "unitPrice": 0.096,
        "armRegionName": "eastus",
        "location": "US East",
        "effectiveStartDate": "2024-08-01T00:00:00Z",
        "meterId": "0",
        "meterName": "D2s v5",
        "productId": "0",
        "skuId": "0",
        "productName": "Virtual Machines Dsv5 Series",
        "skuName": "Standard_D2s_v5",
        "serviceName": "Virtual Machines",
        "serviceId": "0",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": "Standard_D2s_v5",
    } | said


def page(*items: object, following: str | None = None) -> Answer:
    return 200, json.dumps({"Items": items, "NextPageLink": following, "Count": len(items)}).encode()


def test_the_pages_of_azure() -> None:
    asked: list[str] = []

    def answer(path: str) -> Answer:
        asked.append(path)
        if "skip" not in path:
            others = [
                item(productName="Virtual Machines Dsv5 Series Windows", retailPrice=9),
                item(type="DevTestConsumption", retailPrice=9),
                item(type="Reservation", unitOfMeasure="1 Hour", retailPrice=9),
                item(skuName="D2s v5 Low Priority", retailPrice=9),
                item(effectiveStartDate="2026-07-01T00:00:00Z", retailPrice=9),  # not yet
                item(effectiveStartDate="2020-07-01T00:00:00Z", retailPrice=9),  # no longer
            ]
            return page(item(), *others, following=f"{base}{path}&$skip=100")
        return page(
            item(skuName="D2s v5 Spot", retailPrice=0.0184),
            item(armSkuName="Standard_D4s_v5", retailPrice=-1),
            item(armSkuName="Standard_D8s_v5", currencyCode="EUR"),
            item(armSkuName="Standard_D16s_v5", retailPrice="cheap"),
            item(armSkuName="Standard_D32s_v5", effectiveStartDate="2024-08-01T00:00:00"),  # of which zone?
        )

    with server(answer) as base:
        found = fetch_azure(get, "eastus", NOW, base=base)
    assert found.prices == (
        Price(
            "azure",
            "eastus",
            None,
            "Standard_D2s_v5",
            on_demand=Money(Decimal("0.096")),
            spot=Money(Decimal("0.0184")),
            as_of=NOW,
            source="127.0.0.1 eastus",
        ),
    )
    assert sorted(row.place for row in found.refused) == [
        "page 2, item 1, column retailPrice",
        "page 2, item 2, column currencyCode",
        "page 2, item 3",
        "page 2, item 4",
    ]
    (condition,) = parse_qs(urlsplit(asked[0]).query)["$filter"]
    assert "armRegionName eq 'eastus'" in condition
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, b"<html>"), "page 1"),
        ((200, b'{"Items": [{"retailPrice": NaN}]}'), "page 1"),
        ((200, b'{"Items": [], "NextPageLink": "\xff"}'), "page 1"),
        (page(following="http://elsewhere.example/"), "elsewhere"),
        (page(following="http://[::1"), "elsewhere"),
        (page(), "no price of any machine in eastus$"),
        (page(item(retailPrice="cheap")), "no price of any machine in eastus: page 1, item 0"),
        ((403, b""), "403"),
    ],
)
def test_what_is_no_answer_of_azure(answer: Answer, why: str) -> None:
    with server(lambda _: answer) as base, pytest.raises(ProviderError, match=why):
        fetch_azure(get, "eastus", NOW, base=base)


def test_an_item_that_is_no_text_is_refused_and_the_others_are_kept() -> None:
    content = page(item(armSkuName="broken"), item())[1].replace(b"broken", b"\xff")
    found = fetch_azure(lambda _: content, "eastus", NOW)
    assert [row.place for row in found.refused] == ["page 1, item 0"]
    assert [price.machine_type for price in found.prices] == ["Standard_D2s_v5"]


def test_pages_without_an_end() -> None:
    url = "http://a.example/next"
    with pytest.raises(ProviderError, match="more than 400 pages"):
        fetch_azure(lambda _: page(following=url)[1], "eastus", NOW, base="http://a.example")


def test_a_busy_server_is_asked_again_and_a_full_one_no_more_than_four_times() -> None:
    asked: list[str] = []
    slept: list[float] = []

    def answer(path: str) -> Answer:
        asked.append(path)
        return (200, b"here") if path == "/soon" and len(asked) == 3 else (503, b"")

    with server(answer) as base:
        assert get(f"{base}/soon", sleep=slept.append) == b"here"
        asked.clear()
        with pytest.raises(ProviderError, match="503"):
            get(f"{base}/never", sleep=slept.append)
    assert len(asked) == 4
    assert slept == [1, 4, 1, 4, 16]
    with pytest.raises(ProviderError, match="no web address"):
        get("file:///etc/passwd")


def test_what_is_in_a_machine_is_known_from_other_prices() -> None:
    bare = Price("azure", "eastus", None, "NC6", on_demand=Money(Decimal(1)))
    full = Price("azure", "westus", None, "NC6", vcpus=6.0, accelerator="V100", accelerators=1.0)
    (filled, same) = described([bare, full])
    assert (filled.vcpus, filled.accelerator, filled.memory, filled.region) == (6, "V100", None, "eastus")
    assert same == full
