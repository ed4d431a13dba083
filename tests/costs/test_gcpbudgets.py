"""Budget alerts of Google Cloud."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest

from spotweld.costs.gcpbudgets import LARGEST, parse_message
from spotweld.errors import UsageError

DATA: dict[str, Any] = {
    "budgetDisplayName": "all",
    "alertThresholdExceeded": 1.0,
    "costAmount": 140.321,
    "costIntervalStart": "2026-11-01T08:00:00Z",
    "budgetAmount": 140.32,
    "budgetAmountType": "SPECIFIED_AMOUNT",
    "currencyCode": "USD",
}


def wrapped(data: bytes, known: str = "1234") -> bytes:
    inner = {"data": base64.b64encode(data).decode(), "messageId": known, "attributes": {"schemaVersion": "1.0"}}
    return json.dumps({"message": inner, "subscription": "projects/x/subscriptions/y"}).encode()


def test_a_message_and_its_bare_data_say_the_same() -> None:
    data = json.dumps(DATA).encode()
    message, bare = parse_message(wrapped(data)), parse_message(data + b"\n")
    assert (message.id, message.budget, message.currency) == ("1234", "all", "USD")
    assert (message.cost, message.amount) == (Decimal("140.321"), Decimal("140.32"))
    assert bare.id == parse_message(data).id != parse_message(json.dumps(DATA | {"costAmount": 1}).encode()).id
    assert (bare.budget, bare.cost, bare.amount) == (message.budget, message.cost, message.amount)


@pytest.mark.parametrize(
    ("cost", "amount", "broken"), [(1, 1, True), (1.01, 1, True), (0.99, 1, False), (0, 0, False), (-3, 1, False)]
)
def test_it_is_broken_from_its_amount_on(cost: float, amount: float, broken: bool) -> None:
    assert parse_message(json.dumps(DATA | {"costAmount": cost, "budgetAmount": amount}).encode()).broken is broken


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (b"", "truncated"),
        (b"[]", "object"),
        (b"{}", "budgetDisplayName"),
        (b"\xff", ""),
        (b"[" * 100_000, ""),
        (b" " * (LARGEST + 1), "KiB"),
        (b'{"message": 1}', "message"),
        (b'{"message": {"data": "e30=", "messageId": ""}}', "messageId"),
        (b'{"message": {"data": "?", "messageId": "1"}}', "base64"),
        ('{"message": {"data": "é", "messageId": "1"}}'.encode(), ""),
        (wrapped(b"{}"), "budgetDisplayName"),
        (json.dumps(DATA | {"costAmount": "NaN"}).encode(), "not a number"),
        (json.dumps(DATA | {"costAmount": None}).encode(), "costAmount"),
        (json.dumps(DATA | {"budgetAmount": "much"}).encode(), "budgetAmount"),
    ],
)
def test_what_is_none_is_refused(written: bytes, why: str) -> None:
    with pytest.raises(UsageError, match="no budget alert of Google Cloud") as caught:
        parse_message(written)
    assert why in caught.value.why
