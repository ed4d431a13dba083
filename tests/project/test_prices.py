"""What the project file says of prices other than those of machines."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from spotweld.errors import ProjectError
from spotweld.project.reading import load_project
from spotweld.values.money import Money
from spotweld.values.offers import Disk

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.project.nouns import Project

HEAD = "name: x\njobs: {t: {command: a}}\n"


def project(folder: Path, written: str) -> Project:
    file = folder / "spotweld.yaml"
    file.write_text(HEAD + written)
    return load_project(file)


def usd(amount: str) -> Money:
    return Money(Decimal(amount))


def test_what_is_not_said_is_not_known(tmp_path: Path) -> None:
    found = project(tmp_path, "")
    known = found.store_price, found.registries.price, found.placement.egress_price, found.local.disk
    assert known == (None, None, None, None)


def test_what_is_said(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        "store_price: 0.023 USD\n"
        "registries: {price: 0.10 USD}\n"
        "placement: {egress_price: 0.02 USD}\n"
        "providers: {local: {disk: {size: 100GiB, price: 0.08 USD}, zones: {z: "
        "{spot: 1 USD, on_demand: 2 USD, region: us-east-1}}}}\n",
    )
    assert found.store_price == usd("0.023")
    assert found.registries.price == usd("0.10")
    assert found.registries.persistent.startswith("oci:/")
    assert found.placement.egress_price == usd("0.02")
    assert found.local.disk == Disk(100 * 2**30, usd("0.08"), "spotweld.yaml")
    assert found.local.zones[0].region == "us-east-1"


@pytest.mark.parametrize(
    ("written", "place", "said"),
    [
        ("store_price: 0 USD", (3, 14), "more than nothing"),
        ("store_price: -1 USD", (3, 14), "an amount and a currency"),
        ("store_price: 1 EUR", (3, 14), "is in EUR"),
        ("placement: {egress_price: free}", (3, 27), "an amount and a currency"),
        ("registries: {price: 5}", (3, 21), "an amount and a currency"),
        ("providers: {local: {disk: {size: 1GB}}}", (3, 27), "has no price"),
        ("providers: {local: {disk: {size: much, price: 1 USD}}}", (3, 34), "a number and a unit"),
    ],
)
def test_bad_prices_are_refused_where_they_stand(
    tmp_path: Path, written: str, place: tuple[int, int], said: str
) -> None:
    with pytest.raises(ProjectError) as refusal:
        project(tmp_path, written)
    assert f":{place[0]}:{place[1]}:" in str(refusal.value)
    assert said in str(refusal.value)
