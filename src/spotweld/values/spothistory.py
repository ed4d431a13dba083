"""What ``aws ec2 describe-spot-price-history`` prints: spot prices of AWS, each from its time stamp on.

The form: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
"""

from __future__ import annotations

import math
from datetime import datetime

import msgspec


class SpotPrice(msgspec.Struct, rename="pascal"):
    """One price, in USD per machine and hour."""

    availability_zone: str
    instance_type: str
    product_description: str
    spot_price: str
    timestamp: datetime


class _Rows(msgspec.Struct):
    rows: list[msgspec.Raw] = msgspec.field(name="SpotPriceHistory")


def split_spot_history(content: bytes) -> list[msgspec.Raw]:
    """The rows of a history, not yet decoded: each is a ``SpotPrice``, if it is whole.

    Raises:
        ValueError: it is not such a history.
    """
    return msgspec.json.decode(content, type=_Rows).rows


def spot_price(text: str) -> float:
    """``"0.9180"`` as a number; NaN for everything that is no price."""
    try:
        price = float(text)
    except ValueError:
        return math.nan
    return price if 0 <= price < 1e9 else math.nan
