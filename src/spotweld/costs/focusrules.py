"""The columns of FOCUS 1.2 that a ledger fills, and what it asks of their values.

Source: FinOps Open Cost and Usage Specification 1.2, "Columns" and "Attributes" (focus.finops.org). Columns on
commitments, capacity reservations, invoices, sub-accounts and prices in other currencies are not filled by a ledger:
their names are known, their values are not looked at.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a value has to look like."""

    TEXT = "text"
    DECIMAL = "decimal"
    PRICE = "price"
    """A decimal that is not below zero."""
    MOMENT = "moment"
    CURRENCY = "currency"
    UNIT = "unit"
    TAGS = "tags"


class Column(msgspec.Struct, frozen=True):
    """What FOCUS asks of one column."""

    kind: Kind = Kind.TEXT
    mandatory: bool = False
    """It has to be there."""
    filled: bool = False
    """It is never null."""
    billed: bool = False
    """It is not null in charges for usage and purchases, corrections apart, and null in taxes."""
    values: frozenset[str] = frozenset()
    """What it may say; empty: anything."""


_MOMENT = Column(Kind.MOMENT, mandatory=True, filled=True)
_COST = Column(Kind.DECIMAL, mandatory=True, filled=True)
_NAME = Column(mandatory=True, filled=True)
_CATEGORIES = """AI and Machine Learning|Analytics|Business Applications|Compute|Databases|Developer Tools|Multicloud
Identity|Integration|Internet of Things|Management and Governance|Media|Migration|Mobile|Networking|Security|Storage
Web|Other"""

COLUMNS: dict[str, Column] = {
    "BilledCost": _COST,
    "BillingAccountId": _NAME,
    "BillingAccountName": Column(mandatory=True),
    "BillingCurrency": Column(Kind.CURRENCY, mandatory=True, filled=True),
    "BillingPeriodEnd": _MOMENT,
    "BillingPeriodStart": _MOMENT,
    "ChargeCategory": Column(
        mandatory=True, filled=True, values=frozenset({"Usage", "Purchase", "Tax", "Credit", "Adjustment"})
    ),
    "ChargeClass": Column(mandatory=True, values=frozenset({"Correction"})),
    "ChargeDescription": Column(mandatory=True),
    "ChargeFrequency": Column(filled=True, values=frozenset({"One-Time", "Recurring", "Usage-Based"})),
    "ChargePeriodEnd": _MOMENT,
    "ChargePeriodStart": _MOMENT,
    "ConsumedQuantity": Column(Kind.DECIMAL),
    "ConsumedUnit": Column(Kind.UNIT),
    "ContractedCost": _COST,
    "ContractedUnitPrice": Column(Kind.PRICE, billed=True),
    "EffectiveCost": _COST,
    "InvoiceIssuerName": _NAME,
    "ListCost": _COST,
    "ListUnitPrice": Column(Kind.PRICE, billed=True),
    "PricingCategory": Column(billed=True, values=frozenset({"Standard", "Dynamic", "Committed", "Other"})),
    "PricingQuantity": Column(Kind.DECIMAL, mandatory=True, billed=True),
    "PricingUnit": Column(Kind.UNIT, mandatory=True, billed=True),
    "ProviderName": _NAME,
    "PublisherName": _NAME,
    "RegionId": Column(),
    "RegionName": Column(),
    "AvailabilityZone": Column(),
    "ResourceId": Column(),
    "ResourceName": Column(),
    "ResourceType": Column(),
    "ServiceCategory": Column(mandatory=True, filled=True, values=frozenset(_CATEGORIES.replace("\n", "|").split("|"))),
    "ServiceName": _NAME,
    "ServiceSubcategory": Column(filled=True),
    "SkuId": Column(billed=True),
    "SkuPriceId": Column(billed=True),
    "Tags": Column(Kind.TAGS),
}

OTHERS = frozenset({
    "BillingAccountType", "CapacityReservationId", "CapacityReservationStatus", "CommitmentDiscountCategory",
    "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity", "CommitmentDiscountStatus",
    "CommitmentDiscountType", "CommitmentDiscountUnit", "InvoiceId", "PricingCurrency",
    "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "SkuMeter",
    "SkuPriceDetails", "SubAccountId", "SubAccountName", "SubAccountType",
})  # fmt: skip
"""Columns of FOCUS 1.2 that are not looked at."""

COMPUTE = frozenset({
    "Containers", "End User Computing", "Quantum Compute", "Serverless Compute", "Virtual Machines", "Other (Compute)",
})  # fmt: skip
"""The subcategories of the service category Compute, and of no other."""
