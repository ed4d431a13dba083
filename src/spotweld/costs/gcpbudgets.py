"""A budget alert of Google Cloud, as Pub/Sub delivers it.

https://cloud.google.com/billing/docs/how-to/budgets-programmatic-notifications describes the data,
https://cloud.google.com/pubsub/docs/push what is around it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from decimal import Decimal

import msgspec

from spotweld.errors import UsageError

LARGEST = 2**20
"""Bytes of a message; real ones have a few hundred."""


class BudgetMessage(msgspec.Struct, frozen=True):
    """What a cloud says about one of its budgets."""

    id: str
    """Pub/Sub's, the same whenever the message is delivered; of bare data, a digest."""
    budget: str
    """The name that it has in the cloud."""
    cost: Decimal
    amount: Decimal
    currency: str

    @property
    def broken(self) -> bool:
        """Whether all of it is spent. An amount of nothing, as after a month without costs, says nothing."""
        return 0 < self.amount <= self.cost


class _Data(msgspec.Struct, rename="camel"):
    budget_display_name: str
    cost_amount: Decimal
    budget_amount: Decimal
    currency_code: str
    cost_interval_start: str = ""
    budget_amount_type: str = ""
    alert_threshold_exceeded: float | None = None


class _Inner(msgspec.Struct, rename="camel"):
    data: str
    message_id: str


class _Outer(msgspec.Struct):
    message: _Inner


def parse_message(written: bytes) -> BudgetMessage:
    """The message, or its bare data.

    Raises:
        UsageError: it is neither.
    """
    if len(written) > LARGEST:
        raise _refusal(f"it has more than {LARGEST // 1024} KiB")
    try:
        found = msgspec.json.decode(written)
        if isinstance(found, dict) and "message" in found:
            inner = msgspec.convert(found, _Outer).message
            data, known = base64.b64decode(inner.data, validate=True), inner.message_id
            if not known:
                raise _refusal("its messageId is empty")
        else:
            data, known = written, f"sha256:{hashlib.sha256(written.strip()).hexdigest()}"
        said = msgspec.json.decode(data, type=_Data)
    except binascii.Error as error:
        raise _refusal("message.data is not base64") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _refusal(str(error)) from error
    if not (said.cost_amount.is_finite() and said.budget_amount.is_finite()):
        raise _refusal("an amount is not a number")
    return BudgetMessage(known, said.budget_display_name, said.cost_amount, said.budget_amount, said.currency_code)


def _refusal(why: str) -> UsageError:
    todo = "give the JSON that Pub/Sub delivers for a budget of Google Cloud, or what its message.data holds"
    return UsageError("this is no budget alert of Google Cloud", why, todo)
