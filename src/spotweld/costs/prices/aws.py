"""Prices of AWS: spot from its own history, on-demand from its price list service; needs the extra ``aws``.

The price list service: https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.table import Price
from spotweld.errors import ProviderError, UsageError

_LISTS = "us-east-1"
"""Where the price list service is; it knows all regions."""
_LINUX = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "licenseModel": "No License required",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}
LENGTH = timedelta(days=30)
"""How much of the history is fetched; AWS keeps 90 days."""


def fetch_aws(region: str, machine_type: str, now: datetime) -> bytes:
    """The spot prices of a machine type in all zones of a region over the last 30 days.

    It is what ``aws ec2 describe-spot-price-history`` prints, so ``spotweld simulate`` reads it too. Credentials and
    the address come from where boto3 finds them: the environment, or AWS's own files.

    Args:
        region: such as ``us-east-1``.
        machine_type: such as ``p3.2xlarge``.
        now: the time.

    Raises:
        UsageError: boto3 is not installed.
        ProviderError: AWS refuses, does not answer, or has none.
    """
    asked = {
        "InstanceTypes": [machine_type],
        "ProductDescriptions": ["Linux/UNIX"],
        "StartTime": now - LENGTH,
        "EndTime": now,
    }
    rows = _asked("ec2", region, "describe_spot_price_history", "SpotPriceHistory", asked)
    if not rows:
        raise ProviderError(f"AWS has no spot prices of {machine_type} in {region}", "", "look at the names of both")
    return msgspec.json.encode({"SpotPriceHistory": rows})


def fetch_aws_on_demand(region: str, machine_type: str, now: datetime) -> Price:
    """The on-demand price of a Linux machine on shared hardware, in USD.

    Args:
        region: such as ``us-east-1``.
        machine_type: such as ``p3.2xlarge``.
        now: the time, which is the age of the price.

    Raises:
        UsageError: boto3 is not installed.
        ProviderError: AWS refuses, does not answer, or has no such price, or several.
    """
    wanted = _LINUX | {"instanceType": machine_type, "regionCode": region}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    listed = _asked("pricing", _LISTS, "get_products", "PriceList", {"ServiceCode": "AmazonEC2", "Filters": filters})
    try:
        products = [msgspec.json.decode(text, type=_Product) for text in listed]
        amounts = {amount for product in products for amount in product.hourly()}
    except (msgspec.MsgspecError, TypeError) as error:
        raise ProviderError("the prices of AWS cannot be read", str(error), "try again") from error
    if len(amounts) != 1:
        why = f"{len(amounts)} are listed" if amounts else "none is listed"
        raise ProviderError(f"AWS has not one on-demand price of {machine_type} in {region}", why, "look at both names")
    cells = {"USD": str(amounts.pop())}
    return Price(
        provider="aws",
        region=region,
        zone=None,
        machine_type=machine_type,
        on_demand=cell.hourly(cells, "USD"),
        as_of=now,
        source=f"AWS price list service, {region}",
    )


class _Dimension(msgspec.Struct, rename="camel"):
    unit: str
    price_per_unit: dict[str, Decimal]


class _Term(msgspec.Struct, rename="camel"):
    price_dimensions: dict[str, _Dimension]


class _Terms(msgspec.Struct):
    on_demand: dict[str, _Term] = msgspec.field(name="OnDemand", default={})


class _Product(msgspec.Struct):
    terms: _Terms

    def hourly(self) -> list[Decimal]:
        """What it costs in an hour, as far as that is more than nothing: capacity that is reserved is listed at 0."""
        found = [one for term in self.terms.on_demand.values() for one in term.price_dimensions.values()]
        return [one.price_per_unit["USD"] for one in found if one.unit == "Hrs" and one.price_per_unit.get("USD")]


def _asked(service: str, region: str, operation: str, key: str, asked: dict[str, Any]) -> list[Any]:
    """All pages of an answer of AWS.

    Raises:
        UsageError: boto3 is not installed.
        ProviderError: AWS refuses, or does not answer.
    """
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "the prices of AWS cannot be fetched", "boto3 is not installed", "pip install 'spotweld[aws]'"
        ) from error
    rows: list[Any] = []
    try:
        for page in boto3.client(service, region_name=region).get_paginator(operation).paginate(**asked):
            rows += page[key]
    except (BotoCoreError, ClientError) as error:
        needed = "".join(word.capitalize() for word in operation.split("_"))
        raise ProviderError(
            "the prices of AWS cannot be fetched", str(error), f"{service}:{needed} is needed"
        ) from error
    return rows
