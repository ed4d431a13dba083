"""A recorded market as a live one: offers, rooms and standings at a moment, for tests of placers."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from spotweld.placement.facts import facts, fresh
from spotweld.placement.placer import Ending, Held, Observation, Placement, Rent, Sighting, Standing
from spotweld.project.nouns import Job, PlacementRules, SpotUse
from spotweld.values.money import Money
from spotweld.values.offers import CapacityType, Offer

if TYPE_CHECKING:
    from spotweld.placement.market import Market
    from spotweld.placement.placer import Placer
    from spotweld.placement.seeing import Task

EPOCH = 1_000_000.0


def offer(
    zone: str, kind: CapacityType = CapacityType.SPOT, price: float = 1.0, region: str = "r", currency: str = "USD"
) -> Offer:
    return Offer("p", region, zone, "m", kind, Money(Decimal(str(price)), currency), "test")


@dataclass
class Live:
    """One run that a placer drives through a recorded market, tick by tick. Nothing takes time but the ticks.

    Args:
        market: the recording.
        task: what there is to do, in the market's time.
        pace: seconds of the market's time in one of the placer's.
    """

    market: Market
    task: Task
    pace: float = 1.0
    tells: bool = True
    """Whether the provider tells how many machines can be had."""
    cost: float = 0.0
    whys: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left, self.warming, self.tick = self.task.work, 0.0, 0
        self.held: Offer | None = None
        self.began = 0.0
        self.past: list[Placement] = []
        self.sightings: list[Sighting] = []

    @property
    def rules(self) -> PlacementRules:
        return PlacementRules(changeover=self.task.changeover / self.pace, back_off=1.0)

    @property
    def job(self) -> Job:
        return Job("j", "true", work=self.task.work / self.pace, deadline=self.task.deadline / self.pace)

    @property
    def now(self) -> float:
        return EPOCH + self.tick * self.market.gap / self.pace

    def observe(self) -> Observation:
        offers = []
        for zone, region, spot, firm in zip(
            self.market.zones, self.market.regions, self.market.spot[self.tick], self.market.on_demand, strict=True
        ):
            offers += [offer(zone, price=spot, region=region), offer(zone, CapacityType.ON_DEMAND, firm, region)]
        rooms = dict(zip(self.market.zones, self.market.capacity[self.tick].tolist(), strict=True))
        held = None
        if self.held is not None:
            working = self.began + self.task.changeover / self.pace
            held = Held(self.held, self.began, self.began, working if self.warming <= 0 else None)
        standing = Standing(
            self.left / self.pace,
            (self.task.deadline - self.tick * self.market.gap) / self.pace,
            self.task.changeover / self.pace,
            self.task.cadence / self.pace,
        )
        return Observation(
            self.now, SpotUse.AUTO, tuple(offers), tuple(self.past), rooms if self.tells else {}, held, standing,
            tuple(self.sightings),
        )  # fmt: skip

    def run(self, placer: Placer) -> float:
        """To the end; when the work was done, in seconds of the market's time."""
        while True:
            if self.held is not None and self.held.capacity_type is CapacityType.SPOT and not self._up(self.held.zone):
                self._end(Ending.INTERRUPTED)
            self._note()
            if self.held is not None and (why := placer.reconsider(self.observe())) is not None:
                self.whys.append(why)
                self._end(Ending.OTHER)
            if self.held is None:
                self._place(placer)
            used = self._pass()
            if self.left <= 0:
                return self.tick * self.market.gap + used
            self.tick += 1

    def _place(self, placer: Placer) -> None:
        answer = placer.decide(self.observe())
        self.whys.append(answer.why)
        if not isinstance(answer, Rent):
            return
        if answer.offer.capacity_type is CapacityType.SPOT and not self._up(answer.offer.zone):
            self.past.append(Placement(answer.offer.zone, CapacityType.SPOT, self.now, self.now, Ending.REFUSED))
            return
        self.held, self.began, self.warming = answer.offer, self.now, self.task.changeover

    def _up(self, zone: str) -> bool:
        return bool(self.market.capacity[self.tick, self.market.zones.index(zone)])

    def _end(self, ending: Ending) -> None:
        assert self.held is not None
        self.past.append(Placement(self.held.zone, self.held.capacity_type, self.began, self.now, ending))
        self.held = None

    def _note(self) -> None:
        seen = self.observe()
        spot = [one for one in seen.offers if one.capacity_type is CapacityType.SPOT]
        news = fresh(self.now, spot, facts(seen), self.sightings)
        if news is not None:
            self.sightings.append(news)

    def _pass(self) -> float:
        if self.held is None:
            return 0.0
        used = min(self.market.gap, self.left + self.warming)
        zone = self.market.zones.index(self.held.zone)
        firm = self.held.capacity_type is CapacityType.ON_DEMAND
        self.cost += float(self.market.on_demand[zone] if firm else self.market.spot[self.tick, zone]) * used / 3600
        warm = min(self.warming, used)
        self.warming -= warm
        self.left -= used - warm
        return used
