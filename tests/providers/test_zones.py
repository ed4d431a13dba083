from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import ProviderError
from spotweld.project.nouns import LocalProvider, LocalZone
from spotweld.providers.local.zones import Zone, find_zone
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType

ZONE = LocalZone("a", spot=Money(Decimal("0.3")), on_demand=Money(Decimal(1)), machines=3)
CONFIG = LocalProvider((ZONE,), up=600.0, down=60.0, notices=(30.0, 5.0, 0.0, None))
SPEEDS = st.floats(0.01, 1000)
MOMENTS = st.floats(0, 1000)


def seeded(seed: int = 0, zone: LocalZone = ZONE, **more: object) -> Zone:
    return Zone(msgspec.structs.replace(CONFIG, seed=seed, **more), zone)


@given(st.integers(), MOMENTS, st.integers(0, 2))
def test_the_same_seed_loses_the_same(seed: int, elapsed: float, older: int) -> None:
    assert seeded(seed).loss(elapsed, older) == seeded(seed).loss(elapsed, older)
    assert seeded(seed).capacity(elapsed) == seeded(seed).capacity(elapsed)


@given(st.integers(), SPEEDS, MOMENTS, st.integers(0, 2))
def test_capacity_and_loss_agree(seed: int, speed: float, elapsed: float, older: int) -> None:
    zone = seeded(seed, speed=speed)
    loss = zone.loss(elapsed, older)
    assert zone.capacity(loss.at) == loss.capacity <= older
    assert loss.at > elapsed or loss.at == pytest.approx(elapsed, abs=0.001 / speed)
    assert loss.decided <= loss.at


@given(st.integers(), SPEEDS)
def test_speed_scales_the_trace_and_leaves_the_notice_alone(seed: int, speed: float) -> None:
    plain, quick = seeded(seed).loss(0, 0), seeded(seed, speed=speed).loss(0, 0)
    assert quick.at * speed == pytest.approx(plain.at)
    assert quick.lead == plain.lead


def test_leads_are_drawn_from_the_notices_for_each_loss() -> None:
    zone, now, leads = seeded(), 0.0, []
    for _ in range(200):
        loss = zone.loss(now, 0)
        leads.append(loss.lead)
        now = loss.at
    assert set(leads) == set(CONFIG.notices)
    assert all(leads.count(lead) > 20 for lead in CONFIG.notices)


def test_zones_and_seeds_are_independent() -> None:
    other = msgspec.structs.replace(ZONE, name="b")
    losses = {seeded(seed, zone).loss(0, 0).at for seed in range(20) for zone in (ZONE, other)}
    assert len(losses) == 40


def test_a_zone_without_notices_gives_none() -> None:
    assert seeded(notices=()).loss(0, 0).lead is None


def test_the_oldest_stay(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"metadata": {"gap_seconds": 10}, "data": [4, 2, 1, 4]}')
    zone = seeded(zone=msgspec.structs.replace(ZONE, machines=2, trace=path))
    assert [zone.capacity(t) for t in (0, 9.9, 10, 20, 30, 40)] == [8, 8, 4, 2, 8, 8]
    assert [zone.loss(0, older).at for older in (7, 4, 3, 2)] == [10, 10, 20, 20]
    assert zone.loss(0, 1) is None


def test_offers_at_the_price_of_then(tmp_path: Path) -> None:
    path = tmp_path / "us-east-1a.json"
    path.write_text('{"metadata": {"gap_seconds": 10}, "data": [1, 1], "prices": [0.25, 0.125]}')
    zone = seeded(zone=msgspec.structs.replace(ZONE, trace=path))
    for elapsed, price in ((0, "0.25"), (10, "0.125"), (20, "0.25")):
        spot, on_demand = zone.offers(elapsed)
        assert (spot.capacity_type, on_demand.capacity_type) == (CapacityType.SPOT, CapacityType.ON_DEMAND)
        assert (spot.hourly, spot.price_source) == (Money(Decimal(price)), "trace us-east-1a")
        assert (on_demand.hourly, on_demand.price_source) == (ZONE.on_demand, "spotweld.yaml")
    assert seeded().offers(0)[0].hourly == ZONE.spot
    assert spot.place == "local/a spot"


def test_an_offer_of_another_project_is_refused() -> None:
    offer = SimpleNamespace(zone="local/b")
    with pytest.raises(ProviderError, match="local/b: the project file has local/a"):
        find_zone(CONFIG, offer)
