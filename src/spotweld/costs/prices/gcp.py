"""Prices of Google's machines, put together from the parts that its billing catalogue has prices of.

The catalogue: https://cloud.google.com/billing/v1/how-tos/catalog-api. It prices cores and GiB of memory of a machine
family, and accelerators, each in some regions, on demand and preemptible (spot). A machine costs what its parts do
(https://cloud.google.com/compute/vm-instance-pricing). What is in a machine the catalogue does not say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, urlsplit

import msgspec

from spotweld.costs.charges import EXACT, GIB
from spotweld.costs.prices.gathering import Reading, Refused
from spotweld.errors import ProviderError
from spotweld.values.money import Money

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from spotweld.costs.prices.fetching import Get
    from spotweld.costs.prices.table import Price

GCP = "https://cloudbilling.googleapis.com"
KEY = "GOOGLE_API_KEY"
"""The environment variable with a key of Google's, for which the Cloud Billing API is allowed."""
KEY_HEADER = "X-Goog-Api-Key"
PAGES = 100
"""The catalogue has about ten of 5,000 lines."""
_PATH = "/v1/services/6F81-5844-456A/skus"
"""What Compute Engine sells."""

Part: TypeAlias = tuple[str, str]
"""``("n1", "Core")``, ``("n1", "Ram")``, or ``("GPU", "T4")``."""

_KINDS = {"OnDemand": "on_demand", "Preemptible": "spot"}
_UNITS = {"Core": "h", "Ram": "GiBy.h", "GPU": "h"}
_SPOT = r"(?:(?:Spot )?Preemptible )?"
# Whole descriptions: custom machines, sole tenancy, commitments and reservations have other words in them.
_MACHINE = re.compile(rf"{_SPOT}(?:N1 Predefined|([A-Z][0-9][A-Z]?)(?: AMD| Arm)?) Instance (Core|Ram) running in .+")
_COMPUTE = re.compile(rf"{_SPOT}Compute optimized (Core|Ram) running in .+")
_ON_SPOT = r"(?: attached to (?:Spot )?Preemptible VMs)?"
_GPU = re.compile(rf"{_SPOT}Nvidia (?:Tesla )?([A-Z][0-9]+(?: [0-9]+GB)?) GPU{_ON_SPOT} running in .+")
_SHARED = frozenset({"e2-micro", "e2-small", "e2-medium", "f1-micro", "g1-small"})
_WITH_DISKS = re.compile(r"a2-ultragpu-.*|a3-.*|a4-.*|z3-.*|.*-lssd")


class _Money(msgspec.Struct, rename="camel"):
    currency_code: str = "USD"
    units: str = "0"
    nanos: int = 0


class _Rate(msgspec.Struct, rename="camel"):
    unit_price: _Money
    start_usage_amount: float = 0


class _Expression(msgspec.Struct, rename="camel"):
    usage_unit: str
    tiered_rates: list[_Rate]


class _Pricing(msgspec.Struct, rename="camel"):
    effective_time: datetime
    pricing_expression: _Expression


class _Category(msgspec.Struct, rename="camel"):
    usage_type: str


class _Sku(msgspec.Struct, rename="camel"):
    sku_id: str
    description: str
    category: _Category
    service_regions: list[str]
    pricing_info: list[_Pricing]


class _Page(msgspec.Struct, rename="camel"):
    skus: list[msgspec.Raw] = []
    next_page_token: str = ""


def fetch_gcp(
    get: Get, region: str, known: Iterable[Price], now: datetime, *, machine_type: str | None = None, base: str = GCP
) -> Reading:
    """The prices of machines in a region, as Google asks for them now, in USD.

    Of a machine with a part whose price is missing, or there more than once, nothing is said but the reason.

    Args:
        get: fetches a URL, and says the key.
        region: such as ``us-central1``.
        known: prices that say what is in machines; those of other clouds are passed over.
        now: the time, which is the age of the prices.
        machine_type: such as ``n1-standard-8``. None: all that are known.
        base: where the API is.

    Raises:
        ProviderError: it does not answer, or something else than its catalogue; or nobody knows what is in a machine.
    """
    source = f"{urlsplit(base).hostname} {region}"
    # The first that says it counts: what the user keeps comes before the shipped table.
    machines = {
        one.machine_type: one
        for one in reversed(list(known))
        if one.provider == "gcp" and one.vcpus is not None and one.memory is not None
        and machine_type in {None, one.machine_type}
    }  # fmt: skip
    if not machines:
        raise ProviderError(
            "the prices of Google cannot be put together",
            f"no price list says what is in {machine_type or 'its machines'}",
            "keep a list that does: spotweld cost prices FILE --keep",
        )
    parts, refused = _parts(get, region, now, base, source)
    prices: list[Price] = []
    for name in sorted(machines):
        price, problems = _composed(machines[name], parts, region, now, source)
        if price is not None:
            prices.append(price)
        refused += [Refused(source, name, problem) for problem in problems]
    return Reading(tuple(prices), tuple(refused))


def _parts(
    get: Get, region: str, now: datetime, base: str, source: str
) -> tuple[dict[tuple[Part, str], set[Decimal]], list[Refused]]:
    """What each part costs in an hour, on demand and as spot; more than one price where the catalogue has several."""
    found: dict[tuple[Part, str], set[Decimal]] = defaultdict(set)
    refused: list[Refused] = []
    for place, sku in _skus(get, base):
        if isinstance(sku, str):
            refused.append(Refused(source, place, sku))
            continue
        part, kind = _part(sku.description), _KINDS.get(sku.category.usage_type)
        if part is None or kind is None or region not in sku.service_regions:
            continue
        try:
            found[part, kind].add(_amount(sku, part, now))
        except ValueError as error:
            refused.append(Refused(source, f"{place}, {sku.sku_id}", str(error)))
    return found, refused


def _skus(get: Get, base: str) -> Iterator[tuple[str, _Sku | str]]:
    """Every line of every page with its place, or what is wrong with it."""
    token = ""
    for number in range(1, PAGES + 1):
        following = f"&pageToken={quote(token, safe='')}" if token else ""
        try:
            page = msgspec.json.decode(get(f"{base}{_PATH}?currencyCode=USD&pageSize=5000{following}"), type=_Page)
        except msgspec.MsgspecError as error:
            raise ProviderError(
                "the prices of Google cannot be read", f"page {number}: {error}", "try again"
            ) from error
        for place, raw in enumerate(page.skus):
            try:
                yield f"page {number}, line {place}", msgspec.json.decode(raw, type=_Sku)
            except msgspec.ValidationError as error:
                yield f"page {number}, line {place}", str(error)
        token = page.next_page_token
        if not token:
            return
    raise ProviderError("the prices of Google are not complete", f"more than {PAGES} pages", "try again")


def _part(description: str) -> Part | None:
    if machine := _MACHINE.fullmatch(description):
        return (machine[1] or "N1").lower(), machine[2]
    if compute := _COMPUTE.fullmatch(description):
        return "c2", compute[1]
    if gpu := _GPU.fullmatch(description):
        return "GPU", gpu[1].replace(" ", "-")
    return None


def _amount(sku: _Sku, part: Part, now: datetime) -> Decimal:
    """Of an hour.

    Raises:
        ValueError: it is in other units or another currency, tiered, or nothing.
    """
    past = [one for one in sku.pricing_info if one.effective_time <= now]
    if not past:
        raise ValueError("no price of it holds yet")
    expression = max(past, key=lambda one: one.effective_time).pricing_expression
    unit = _UNITS["GPU" if part[0] == "GPU" else part[1]]
    if expression.usage_unit != unit:
        raise ValueError(f"it is priced by {expression.usage_unit[:20]!r}, not by {unit!r}")
    if len(expression.tiered_rates) != 1 or expression.tiered_rates[0].start_usage_amount:
        raise ValueError("its price depends on how much is used")
    price = expression.tiered_rates[0].unit_price
    if price.currency_code != "USD":
        raise ValueError(f"USD was asked for, not {price.currency_code[:20]}")
    try:
        amount = Decimal(int(price.units)) + Decimal(price.nanos).scaleb(-9)
    except ValueError:
        raise ValueError(f"no amount: {price.units[:20]!r}") from None
    if amount <= 0:
        raise ValueError(f"a price is more than 0, not {amount}")
    return amount


def _composed(
    machine: Price, parts: dict[tuple[Part, str], set[Decimal]], region: str, now: datetime, source: str
) -> tuple[Price | None, list[str]]:
    """A machine's price, and what is wrong with its halves."""
    if machine.machine_type in _SHARED:
        return None, ["it has a part of a core, which the catalogue does not price"]
    if _WITH_DISKS.fullmatch(machine.machine_type):
        return None, ["it comes with local disks, whose price is not among its parts"]
    amounts: dict[str, Money | None] = {}
    problems = []
    for kind in _KINDS.values():
        total = Decimal(0)
        wrong = ""
        for part, count in _needed(machine):
            prices = parts.get((part, kind), set())
            if len(prices) != 1:
                name = " ".join(part)
                wrong = f"{kind}: {name} has {len(prices) or 'no'} price{'s' if prices else ''} in {region}"
                break
            with localcontext(EXACT):
                total += count * next(iter(prices))
        problems += [wrong] if wrong else []
        amounts[kind] = None if wrong else Money(total)
    if not any(amounts.values()):
        return None, problems
    made = msgspec.structs.replace(machine, region=region, zone=None, as_of=now, source=source, **amounts)
    return made, problems


def _needed(machine: Price) -> list[tuple[Part, Decimal]]:
    """The parts of a machine, and how much of each."""
    family = machine.machine_type.partition("-")[0]
    with localcontext(EXACT):
        memory = Decimal(machine.memory or 0) / GIB
    needed = [((family, "Core"), Decimal(str(machine.vcpus))), ((family, "Ram"), memory)]
    if machine.accelerator:
        needed.append((("GPU", machine.accelerator), Decimal(str(machine.accelerators or 1))))
    return needed
