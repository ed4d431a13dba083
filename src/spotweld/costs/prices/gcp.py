"""Prices of Google from its Cloud Billing Catalog, which has those of the parts that machines are made of.

The form: https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list. Anybody with an API key may ask.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import msgspec

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.composing import Part, Unpriced, composed
from spotweld.costs.prices.fetching import get
from spotweld.costs.prices.gathering import Reading, Refused
from spotweld.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from decimal import Decimal

    from spotweld.costs.prices.fetching import Get
    from spotweld.costs.prices.table import Price

GOOGLE = "https://cloudbilling.googleapis.com"
KEY = "GOOGLE_API_KEY"
"""The environment variable that holds the API key."""
PAGES = 100
"""Of up to 5,000 items. More than this is no catalogue of machines."""
_PATH = "/v1/services/6F81-5844-456A/skus?pageSize=5000&currencyCode=USD"  # Compute Engine
_CANNOT = "the prices of Google cannot be fetched"
# The whole text has to fit: "... in Calendar Mode", "Reserved ..." and the like are other things at other prices.
_PLACE = r"(?:[A-Z][\w.'-]*(?: [A-Z][\w.'-]*)*|[a-z]+-[a-z]+[0-9]+)"
_HOST = re.compile(rf"(?P<spot>Spot Preemptible )?(?P<name>\S.* (?P<what>Core|Ram)) running in {_PLACE}")
_GPU = re.compile(rf"(?P<name>Nvidia .+ (?P<what>GPU))(?P<spot> attached to Spot Preemptible VMs)? running in {_PLACE}")
_GROUPS = {"Core": ("CPU", "N1Standard"), "Ram": ("RAM", "N1Standard"), "GPU": ("GPU",)}
_UNITS = {"Core": "h", "Ram": "GiBy.h", "GPU": "h"}
_USAGES = {"OnDemand": False, "Preemptible": True}


class _Amount(msgspec.Struct, rename="camel"):
    currency_code: str
    units: int | str = 0
    nanos: int = 0


class _Tier(msgspec.Struct, rename="camel"):
    unit_price: _Amount
    start_usage_amount: float = 0


class _Expression(msgspec.Struct, rename="camel"):
    usage_unit: str
    tiered_rates: list[_Tier]


class _Pricing(msgspec.Struct, rename="camel"):
    pricing_expression: _Expression
    effective_time: cell.Moment


class _Category(msgspec.Struct, rename="camel"):
    resource_family: str
    resource_group: str
    usage_type: str


class _Sku(msgspec.Struct, rename="camel"):
    description: str
    category: _Category
    service_regions: list[str]
    pricing_info: list[_Pricing]


class _Page(msgspec.Struct, rename="camel"):
    skus: list[msgspec.Raw]
    next_page_token: str = ""


def getter(environ: Mapping[str, str]) -> Get:
    """Fetches with the user's API key, which goes in a header: a URL is quoted in errors and written to logs.

    Raises:
        UsageError: there is no key, or something that cannot be one.
    """
    key = environ.get(KEY, "").strip()
    if not re.fullmatch("[A-Za-z0-9_.-]{1,400}", key):
        why = f"{KEY} holds no API key" if key else f"{KEY} is not set"
        raise UsageError(_CANNOT, why, "set it to an API key that may use the Cloud Billing API")
    return partial(get, headers={"X-Goog-Api-Key": key})


def fetch_gcp(
    get: Get,
    region: str,
    now: datetime,
    known: Iterable[Price],
    *,
    machine_type: str | None = None,
    base: str = GOOGLE,
) -> Reading:
    """The prices of machine types in a region, put together from those of their parts, in USD.

    What is in the machines is not in the catalogue: ``known`` says it. A type of which one part has no price, or no
    single one, is refused.

    Args:
        get: fetches a URL.
        region: such as ``us-central1``.
        now: the time, which is the age of the prices.
        known: prices that say what is in machines.
        machine_type: such as ``n1-standard-8``. None: all that are known.
        base: where the API is.

    Raises:
        ProviderError: it does not answer, answers something else than such a catalogue, or has no price.
    """
    source = f"{urlsplit(base).hostname} {region}"
    parts: dict[Part, Decimal | Unpriced] = {}
    refused: list[Refused] = []
    for place, sku in _skus(get, base):
        if isinstance(sku, str):
            refused.append(Refused(source, place, sku))
        elif region in sku.service_regions and (part := _part(sku)):
            price = _price(sku, _UNITS[part.name.rsplit(" ", 1)[1]], now)
            if parts.setdefault(part, price) != price:
                parts[part] = Unpriced("the catalogue has two prices of it")
    found = composed(parts, known, region, now, source, machine_type)
    if not found.prices:
        why = f"{found.refused[0].place}: {found.refused[0].reason}" if found.refused else "no machine type is known"
        raise ProviderError(
            f"Google's catalogue gives no price of {machine_type or 'any machine'} in {region}",
            why,
            "look at the names of both",
        )
    return Reading(found.prices, (*refused, *found.refused))


def _skus(get: Get, base: str) -> Iterator[tuple[str, _Sku | str]]:
    """Every item of every page with its place, or what is wrong with it."""
    token = ""
    for number in range(1, PAGES + 1):
        try:
            content = get(f"{base}{_PATH}" + (f"&pageToken={quote(token, safe='')}" if token else ""))
        except ProviderError as error:
            todo = f"try again later; the key in {KEY} must be one that may use the Cloud Billing API"
            raise ProviderError(_CANNOT, error.why, todo) from error
        try:
            page = msgspec.json.decode(content, type=_Page)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProviderError(
                "the prices of Google cannot be read", f"page {number}: {error}", "try again"
            ) from error
        for place, raw in enumerate(page.skus):
            try:
                yield f"page {number}, item {place}", msgspec.json.decode(raw, type=_Sku)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                yield f"page {number}, item {place}", str(error)
        token = page.next_page_token
        if not token:
            return
    raise ProviderError("the prices of Google are not complete", f"more than {PAGES} pages", "try again later")


def _part(sku: _Sku) -> Part | None:
    """What the item is a price of, if that is a plain part of machines."""
    found = _GPU.fullmatch(sku.description) or _HOST.fullmatch(sku.description)
    spot = _USAGES.get(sku.category.usage_type)
    if found is None or spot is None or spot != bool(found["spot"]) or sku.category.resource_family != "Compute":
        return None
    return Part(found["name"], spot) if sku.category.resource_group in _GROUPS[found["what"]] else None


def _price(sku: _Sku, unit: str, now: datetime) -> Decimal | Unpriced:
    """What one of it costs per hour, by the newest price that holds already."""
    found = max(
        (one for one in sku.pricing_info if one.effective_time <= now), key=lambda one: one.effective_time, default=None
    )
    if found is None:
        return Unpriced("its price does not hold yet")
    said = found.pricing_expression
    if said.usage_unit != unit:
        return Unpriced(f"its price is per {said.usage_unit[:40]}, not per {unit}")
    if len(said.tiered_rates) != 1 or said.tiered_rates[0].start_usage_amount:
        return Unpriced("its price depends on how much is used")
    amount = said.tiered_rates[0].unit_price
    if amount.currency_code != "USD":
        return Unpriced(f"its price is in {amount.currency_code[:40]}; USD was asked for")
    try:
        hourly = cell.hourly({"unitPrice": _number(amount)}, "unitPrice")
    except ValueError as error:
        return Unpriced(str(error))
    return hourly.amount if hourly else Unpriced("it has no price")


def _number(amount: _Amount) -> str:
    """Units and billionths as one number. Both have the same sign, as google.type.Money says."""
    if not re.fullmatch("[0-9]{1,12}", str(amount.units)) or not 0 <= amount.nanos < 10**9:
        raise ValueError(f"not an amount: {str(amount.units)[:40]} and {amount.nanos} billionths")
    return f"{amount.units}.{amount.nanos:09d}"
