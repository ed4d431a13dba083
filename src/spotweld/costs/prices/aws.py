"""Spot prices of AWS from its own history, in the form that its command line prints; needs the extra ``aws``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from spotweld.errors import ProviderError, UsageError

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
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "the prices of AWS cannot be fetched", "boto3 is not installed", "pip install 'spotweld[aws]'"
        ) from error
    rows: list[dict[str, Any]] = []
    try:
        pages = boto3.client("ec2", region_name=region).get_paginator("describe_spot_price_history")
        for page in pages.paginate(
            InstanceTypes=[machine_type], ProductDescriptions=["Linux/UNIX"], StartTime=now - LENGTH, EndTime=now
        ):
            rows += page["SpotPriceHistory"]
    except (BotoCoreError, ClientError) as error:
        raise ProviderError(
            "the prices of AWS cannot be fetched", str(error), "ec2:DescribeSpotPriceHistory is needed"
        ) from error
    if not rows:
        raise ProviderError(f"AWS has no spot prices of {machine_type} in {region}", "", "look at the names of both")
    return msgspec.json.encode({"SpotPriceHistory": rows})
