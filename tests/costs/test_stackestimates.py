"""A software stack on many clusters, three ways."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spotweld.costs.renewals import Range
from spotweld.costs.stackestimates import Plant, Way, bill
from spotweld.errors import UsageError
from spotweld.values.money import Money, parse_money

HOUR = 3600.0
PLANT = Plant(10, Decimal(3), head=parse_money("0.17 USD"), builder=parse_money("1.36 USD"))
"""Ten clusters in three months. A c6i.xlarge as head node, a c6i.8xlarge to build: the shipped prices of us-east-1."""
SOURCE = Way("from source on each head node", None, Range(4 * HOUR, 6 * HOUR, 8 * HOUR))
"""4 to 8 hours for a bioinformatics stack: the public guide "Software Build Caching Strategy" of a cluster tool."""
IMAGE = Way(
    "build machine and machine image", Range.exactly(1.5 * HOUR), Range(120.0, 150.0, 180.0), Decimal(50),
    parse_money("0.05 USD"),
)  # fmt: skip
"""50 GiB as a snapshot; the head node boots in 2 to 3 minutes."""
CACHE = Way(
    "binary cache", Range.exactly(1.5 * HOUR), Range(600.0, 750.0, 900.0), Decimal(20), parse_money("0.023 USD")
)
"""20 GiB in an object store, installed in 10 to 15 minutes."""


def money(amount: Money) -> float:
    return round(float(amount.amount), 4)


def test_ten_clusters_over_three_months() -> None:
    source, image, cache = (bill(PLANT, way) for way in (SOURCE, IMAGE, CACHE))
    assert money(source.total.expected) == 10.2
    assert (money(source.total.low), money(source.total.high)) == (6.8, 13.6)
    # One build, ten boots, and three months of 50 GiB.
    assert money(image.total.expected) == pytest.approx(1.5 * 1.36 + 10 * 0.17 * 150 / 3600 + 3 * 50 * 0.05, abs=1e-4)
    assert money(cache.total.expected) == pytest.approx(1.5 * 1.36 + 10 * 0.17 * 750 / 3600 + 3 * 20 * 0.023, abs=1e-4)
    assert [money(one.per_cluster.expected) for one in (source, image, cache)] == [1.02, 0.9611, 0.3774]
    assert [money(one.per_month.expected) for one in (source, image, cache)] == [3.4, 3.2036, 1.2581]


@given(st.integers(1, 100), st.integers(1, 20), st.integers(1, 36))
def test_the_parts_are_the_whole(clusters: int, builds: int, months: int) -> None:
    plant = replace(PLANT, clusters=clusters, builds=builds, months=Decimal(months))
    for way in (SOURCE, IMAGE, CACHE):
        found = bill(plant, way)
        assert found.total.expected == found.once.expected + found.each.expected * clusters + found.kept
        assert found.total.low <= found.total.expected <= found.total.high
        for share, parts in ((found.per_cluster, clusters), (found.per_month, months)):
            assert abs(share.high.amount * parts - found.total.high.amount) <= Decimal("1e-9") * parts


@pytest.mark.parametrize(
    "plant", [replace(PLANT, clusters=0), replace(PLANT, builds=0), replace(PLANT, months=Decimal(0))], ids=str
)
def test_what_cannot_be_is_refused(plant: Plant) -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        bill(plant, SOURCE)


def test_keeping_is_never_taken_to_be_free() -> None:
    with pytest.raises(UsageError, match="has no price"):
        bill(PLANT, replace(CACHE, keeping=None))
    with pytest.raises(ValueError, match="do not add up"):
        bill(replace(PLANT, builder=parse_money("1 EUR")), CACHE)
