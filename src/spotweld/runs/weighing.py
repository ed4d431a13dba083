"""What runs and images weigh in the store and the registries, looked at now and then and written down.

Between two looks the earlier weight holds. What is seen for the first time counts from when the oldest of it was
written, where a store tells that.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import msgspec

from spotweld.costs.holdings import Weighing
from spotweld.errors import SpotweldError
from spotweld.images.lifetimes.surveying import survey
from spotweld.runs.drive import log_path
from spotweld.runs.log import EventLog
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects
    from spotweld.values.clocks import Clock
    from spotweld.values.money import Money

LOOK_EVERY = 3600.0
"""Seconds between two looks at one place, at least."""


class Weighed(NamedTuple):
    """A weighing in its place in the log."""

    seq: int
    time: float
    weighing: Weighing


class WeightLog(EventLog):
    """The event log of a project, with its weighings beside it.

    Args:
        path: the event log's file.
        clock: stamps looks.

    Raises:
        RunError: the file is not a log, or of a newer Spotweld.
    """

    tables: ClassVar[tuple[str, ...]] = (
        """CREATE TABLE IF NOT EXISTS weighings (
            seq INTEGER PRIMARY KEY, time REAL NOT NULL, weighing BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE IF NOT EXISTS looks (place TEXT PRIMARY KEY, time REAL NOT NULL) STRICT",
    )

    def weighings(self, after: int = 0, until: float | None = None) -> list[Weighed]:
        """The weighings above a sequence number, of moments before ``until``; in the order of their numbers."""
        query = "SELECT seq, time, weighing FROM weighings WHERE seq > ? AND time < ? ORDER BY seq"
        with self._transaction():
            rows = self._db.execute(query, (after, float("inf") if until is None else until)).fetchall()
        return [Weighed(seq, time, msgspec.json.decode(data, type=Weighing)) for seq, time, data in rows]

    def due(self, place: str) -> bool:
        """Whether the last look at a place was long enough ago; a clock that was set back makes it so."""
        with self._transaction():
            row = self._db.execute("SELECT time FROM looks WHERE place = ?", (place,)).fetchone()
        return row is None or not 0 <= self._clock.now() - row[0] < LOOK_EVERY

    def weigh(self, place: str, found: Iterable[Weighing]) -> None:
        """Write down what lies in a place now, where that is new; what lay there and was not found is gone.

        All of it is written, or nothing. Of two that look at once, the second one writes nothing twice.
        """
        now = self._clock.now()
        with self._transaction():
            last = {
                one.owner: one
                for (data,) in self._db.execute("SELECT weighing FROM weighings ORDER BY seq")
                if (one := msgspec.json.decode(data, type=Weighing)).place == place
            }
            seen = {one.owner: one for one in found if one.size}
            for owner, one in seen.items():
                old = last.get(owner)
                if old is None:
                    self._write(one)
                elif (old.size, old.monthly, old.labels) != (one.size, one.monthly, one.labels):
                    self._write(msgspec.structs.replace(one, time=now))
            for owner in last.keys() - seen.keys():
                if last[owner].size:
                    self._write(msgspec.structs.replace(last[owner], time=now, size=0))
            self._db.execute("INSERT OR REPLACE INTO looks VALUES (?, ?)", (place, now))

    def _write(self, one: Weighing) -> None:
        row = one.time, msgspec.json.encode(one)
        self._db.execute("INSERT INTO weighings (time, weighing) VALUES (?, ?)", row)


def weigh(project: Project, clock: Clock) -> list[str]:
    """Look at what lies in the project's store and registries, as far as their prices are known and a look is due.

    Returns:
        Notes for people: what could not be looked at. Its weight stays as it was.
    """
    if project.store_price is None and project.registries.price is None:
        return []
    log = WeightLog(log_path(project.state), clock)
    notes: list[str] = []
    try:
        objects = open_store(project.store, verify=False)
        if project.store_price is not None and log.due(project.store):
            log.weigh(project.store, _runs(log, project, objects, project.store_price, clock.now()))
        registries = project.registries.persistent, project.registries.ephemeral
        if project.registries.price is not None and any(log.due(place) for place in registries):
            notes = _weigh_images(log, project, objects, project.registries.price, clock.now())
    except (SpotweldError, OSError) as error:
        notes = [f"what lies in the store could not be looked at, so its weight stays as it was: {error}"]
    finally:
        log.close()
    return notes


def _runs(log: EventLog, project: Project, objects: Objects, monthly: Money, now: float) -> list[Weighing]:
    """What the project's runs have in its store; the store may be that of other projects as well."""
    sizes: dict[str, int] = defaultdict(int)
    oldest: dict[str, float] = {}
    for meta in objects.list("runs/"):
        run = meta.key.split("/")[1]
        sizes[run] += meta.size
        oldest[run] = min(oldest.get(run, now), meta.modified)
    return [
        Weighing(oldest[run], project.store, "store", run, sizes[run], monthly, project.name, log.state(run).job.labels)
        for run in log.runs()
        if run in sizes
    ]


def _weigh_images(log: WeightLog, project: Project, objects: Objects, monthly: Money, now: float) -> list[str]:
    found = survey(project, objects)
    unseen = {one.where: one.why for one in found.unseen}
    asked, as_they_are = project.registries, found.project.registries
    homes = {asked.persistent: as_they_are.persistent, asked.ephemeral: as_they_are.ephemeral}
    for place, home in homes.items():
        mine = [one for one in found.contents if one.registry == home and one.is_known]
        if home not in unseen and all(one.size is not None for one in mine):
            sizes: dict[str, int] = defaultdict(int)
            for one in mine:
                sizes[one.image] += one.size or 0
            log.weigh(
                place,
                [
                    Weighing(now, place, "registry", f"image {image}", size, monthly, project.name, {"image": image})
                    for image, size in sizes.items()
                ],
            )
    return [f"{place} could not be looked at, so its weight stays as it was: {why}" for place, why in unseen.items()]
