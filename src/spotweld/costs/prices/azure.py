"""Prices of Azure from its retail prices API, which anybody may ask.

The form: https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import msgspec

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.gathering import Reading, Refused, gathered
from spotweld.costs.prices.table import Price
from spotweld.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from spotweld.costs.prices.fetching import Get

AZURE = "https://prices.azure.com"
PAGES = 400
"""More than this is no list of one region."""
_PATH = "/api/retail/prices"


class _Item(msgspec.Struct, rename="camel"):
    arm_region_name: str
    arm_sku_name: str
    currency_code: str
    effective_start_date: cell.Moment
    product_name: str
    retail_price: Decimal
    sku_name: str
    type: str
    unit_of_measure: str
    tier_minimum_units: float = 0

    @property
    def wanted(self) -> bool:
        """Whether it is an hour of a Linux machine, on-demand or spot: not Windows, a reservation or the old kind."""
        return (
            self.type == "Consumption"
            and self.unit_of_measure == "1 Hour"
            and self.tier_minimum_units == 0
            and self.arm_sku_name != ""
            and "Windows" not in self.product_name
            and "Cloud Services" not in self.product_name
            and "Low Priority" not in self.sku_name
        )

    @property
    def spot(self) -> bool:
        """Azure says it in the name alone."""
        return self.sku_name.endswith(" Spot")


class _Page(msgspec.Struct):
    items: list[msgspec.Raw] = msgspec.field(name="Items")
    following: str | None = msgspec.field(name="NextPageLink", default=None)


def fetch_azure(get: Get, region: str, now: datetime, *, machine_type: str | None = None, base: str = AZURE) -> Reading:
    """The prices of Linux machines in a region, as Azure asks for them now, in USD.

    What a machine has inside is not in the answer: its vCPUs, memory and accelerators are None.

    Args:
        get: fetches a URL.
        region: such as ``westeurope``.
        now: the time, which is the age of the prices.
        machine_type: such as ``Standard_D8s_v5``. None: all of them.
        base: where the API is.

    Raises:
        ProviderError: it does not answer, answers something else than such a list, or has no price.
    """
    found: dict[tuple[str, str, bool], tuple[_Item, str]] = {}
    refused: list[Refused] = []
    source = f"{urlsplit(base).hostname} {region}"
    for place, item in _items(get, _first(base, region, machine_type), base):
        if isinstance(item, str):
            refused.append(Refused(source, place, item))
        elif item.wanted and item.effective_start_date <= now:
            key = (item.arm_region_name, item.arm_sku_name, item.spot)
            if key not in found or item.effective_start_date > found[key][0].effective_start_date:
                found[key] = (item, place)
    rows = gathered(((place, _price(item, now, source)) for item, place in found.values()), source)
    told = (*refused, *rows.refused)
    if not rows.prices:
        raise ProviderError(
            f"Azure's list has no price of {machine_type or 'any machine'} in {region}",
            f"{told[0].place}: {told[0].reason}" if told else "",
            "look at the names of both",
        )
    return Reading(rows.prices, told)


def _first(base: str, region: str, machine_type: str | None) -> str:
    asked = {"serviceName": "Virtual Machines", "armRegionName": region, "priceType": "Consumption"}
    if machine_type is not None:
        asked["armSkuName"] = machine_type
    condition = " and ".join(f"{key} eq '{value.replace(chr(39), chr(39) * 2)}'" for key, value in asked.items())
    return f"{base}{_PATH}?currencyCode='USD'&$filter={quote(condition)}"


def _items(get: Get, url: str | None, base: str) -> Iterator[tuple[str, _Item | str]]:
    """Every item of every page with its place, or what is wrong with it."""
    for number in range(1, PAGES + 1):
        if url is None:
            return
        if _host(url) != _host(base):
            raise ProviderError("the prices of Azure are not complete", f"the next page lies elsewhere: {url[:80]}")
        try:
            page = msgspec.json.decode(get(url), type=_Page)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProviderError("the prices of Azure cannot be read", f"page {number}: {error}", "try again") from error
        for place, raw in enumerate(page.items):
            try:
                yield f"page {number}, item {place}", msgspec.json.decode(raw, type=_Item)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                yield f"page {number}, item {place}", str(error)
        url = page.following or None
    if url is not None:
        raise ProviderError("the prices of Azure are not complete", f"more than {PAGES} pages", "ask for one --type")


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _price(item: _Item, now: datetime, source: str) -> Price | cell.BadCell:
    if item.currency_code != "USD":
        return cell.BadCell("currencyCode", f"USD was asked for, not {item.currency_code[:40]}")
    cells = {
        "armRegionName": item.arm_region_name,
        "armSkuName": item.arm_sku_name,
        "retailPrice": str(item.retail_price),
    }
    try:
        hourly = cell.hourly(cells, "retailPrice")
        return Price(
            provider="azure",
            region=cell.name(cells, "armRegionName"),
            zone=None,
            machine_type=cell.name(cells, "armSkuName"),
            on_demand=None if item.spot else hourly,
            spot=hourly if item.spot else None,
            as_of=now,
            source=source,
        )
    except cell.BadCell as bad:
        return bad
