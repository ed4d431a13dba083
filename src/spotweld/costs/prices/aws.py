"""Prices of AWS: spot from its own history, on-demand from its price list; needs the extra ``aws``.

The price list: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from spotweld.costs.prices import cells as cell
from spotweld.costs.prices.table import Price
from spotweld.errors import ProviderError, UsageError

LENGTH = timedelta(days=30)
"""How much of the history is fetched; AWS keeps 90 days."""
_LISTED_AT = "us-east-1"
"""The price list of all regions is served in a few only."""
_PLAIN = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}


class _Dimension(msgspec.Struct, rename="camel"):
    unit: str
    price_per_unit: dict[str, str]


class _Term(msgspec.Struct, rename="camel"):
    effective_date: cell.Moment
    price_dimensions: dict[str, _Dimension]


class _Terms(msgspec.Struct):
    on_demand: dict[str, _Term] = msgspec.field(name="OnDemand", default_factory=dict)


class _Product(msgspec.Struct):
    attributes: dict[str, str]


class _Listed(msgspec.Struct):
    product: _Product
    terms: _Terms


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
    rows = _pages(
        "ec2", region, "describe_spot_price_history", asked, "SpotPriceHistory", "ec2:DescribeSpotPriceHistory"
    )
    if not rows:
        raise ProviderError(f"AWS has no spot prices of {machine_type} in {region}", "", "look at the names of both")
    return msgspec.json.encode({"SpotPriceHistory": rows})


def fetch_aws_on_demand(region: str, machine_type: str, now: datetime) -> Price:
    """The on-demand price of a machine type in a region: Linux, no other software, no reservation, in USD.

    Args:
        region: such as ``us-east-1``.
        machine_type: such as ``p3.2xlarge``.
        now: the time, which is the age of the price.

    Raises:
        UsageError: boto3 is not installed.
        ProviderError: AWS refuses, does not answer, or has none, or not a single one.
    """
    wanted = {"instanceType": machine_type, "regionCode": region, **_PLAIN}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    asked = {"ServiceCode": "AmazonEC2", "FormatVersion": "aws_v1", "Filters": filters}
    rows = _pages("pricing", _LISTED_AT, "get_products", asked, "PriceList", "pricing:GetProducts")
    what = f"AWS's list has no on-demand price of {machine_type} in {region}"
    try:
        listed = [msgspec.json.decode(row, type=_Listed) for row in rows]
        prices = {
            cell.hourly(dimension.price_per_unit, "USD")
            for one in listed
            if wanted.items() <= one.product.attributes.items()
            for term in one.terms.on_demand.values()
            if term.effective_date <= now
            for dimension in term.price_dimensions.values()
            if dimension.unit == "Hrs"
        }
    except (msgspec.MsgspecError, cell.BadCell) as error:
        raise ProviderError(what, str(error), "look it up by hand") from error
    if len(prices) != 1 or None in prices:
        why = f"{len(prices)} prices fit" if prices else ""
        raise ProviderError(what, why, "look at the names of both")
    return Price(
        "aws", region, None, machine_type, on_demand=prices.pop(), as_of=now, source=f"AWS price list {region}"
    )


def _pages(service: str, region: str, verb: str, asked: dict[str, Any], rows: str, permission: str) -> list[Any]:
    """The rows of all pages of an answer."""
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "the prices of AWS cannot be fetched", "boto3 is not installed", "pip install 'spotweld[aws]'"
        ) from error
    try:
        pages = boto3.client(service, region_name=region).get_paginator(verb)
        return [row for page in pages.paginate(**asked) for row in page[rows]]
    except (BotoCoreError, ClientError) as error:
        raise ProviderError("the prices of AWS cannot be fetched", str(error), f"{permission} is needed") from error
