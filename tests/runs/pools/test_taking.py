"""Which machine of a pool a run takes, and when it rents one instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.runs.pools.hall import NAME, Hall
from tests.runs.samples import offer

from spotweld.placement.placer import Rent, Wait
from spotweld.project.nouns import Pool, SpotUse
from spotweld.providers.provider import MachineEnd
from spotweld.runs.pools.members import Claim, claim
from spotweld.runs.pools.taking import Warm, find, fitting
from spotweld.values.offers import CapacityType

if TYPE_CHECKING:
    from pathlib import Path

SPOT = Warm("warm", "t1", "m1", offer("a"), 1.0)
FIRM = Warm("warm", "t2", "m2", offer("b", CapacityType.ON_DEMAND), 1.0)
RENT_SPOT, RENT_FIRM = Rent(offer("c"), ""), Rent(offer("c", CapacityType.ON_DEMAND), "")


@pytest.mark.parametrize(
    ("warm", "choice", "use", "wanted"),
    [
        ((), RENT_SPOT, SpotUse.AUTO, None),
        ((SPOT, FIRM), RENT_SPOT, SpotUse.AUTO, SPOT),
        ((FIRM,), RENT_SPOT, SpotUse.AUTO, FIRM),
        ((SPOT, FIRM), Wait(5.0, ""), SpotUse.AUTO, SPOT),
        ((SPOT, FIRM), RENT_FIRM, SpotUse.AUTO, FIRM),
        ((SPOT,), RENT_FIRM, SpotUse.AUTO, None),
        ((SPOT, FIRM), RENT_FIRM, SpotUse.ON_DEMAND, FIRM),
        ((FIRM,), RENT_SPOT, SpotUse.SPOT, None),
        ((FIRM,), Wait(5.0, ""), SpotUse.SPOT, None),
    ],
)
def test_which_machine_fits(warm: tuple[Warm, ...], choice: Rent | Wait, use: SpotUse, wanted: Warm | None) -> None:
    assert fitting(warm, choice, use) == wanted


def test_only_what_is_ready_free_and_prepared_for_this_job_is_found(tmp_path: Path) -> None:
    hall = Hall(tmp_path, pool=Pool(NAME, "job", machines=3))

    def found(**job: object) -> list[str]:
        wanted = msgspec.structs.replace(hall.job, **job)
        warm = find(hall.objects, hall.provider, "project", wanted, hall.opened.source, None, "memory:")
        return [one.token for one in warm]

    keeper = hall.keeper()
    hall.keep(1.0, keeper)
    assert found() == [], "not ready yet"
    members = hall.keep(10.0, keeper).waiting
    tokens = [member.token for member in members]
    assert sorted(found()) == sorted(tokens)
    assert found(setup="make") == found(name="other") == found(spot_policy=SpotUse.ON_DEMAND) == []
    claim(hall.objects, hall.at(tokens[0]), Claim(why="closed"))
    hall.provider.interrupt(str(members[1].machine), notice=50.0)
    assert found() == [tokens[2]]
    hall.provider.end(str(members[2].machine), MachineEnd.LOST)
    assert found() == []
