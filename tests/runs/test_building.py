"""The plan of a build on a rented machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.images.workshop import Shop

from spotweld.errors import UsageError
from spotweld.placement.cheapest import CheapestSpot
from spotweld.project.nouns import RetryOn
from spotweld.providers.opening import open_provider
from spotweld.runs.building import patience, plan_build
from spotweld.testing.providers import ScriptedProvider
from spotweld.values.clocks import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from spotweld.providers.provider import Provider
    from spotweld.runs.opening import Plan


def planned(shop: Shop, folder: Path, provider: Provider | None = None) -> Plan:
    project = shop.project
    folder.mkdir()
    provider = provider or open_provider(project.state, project.local)
    return plan_build(project, ["tool"], "buildah", 0, folder, provider=provider, placer=CheapestSpot(), timeout=9.0)


def test_interruptions_are_tried_again_and_errors_are_not(tmp_path: Path) -> None:
    plan = planned(Shop(tmp_path), tmp_path / "order")
    assert set(plan.job.retry.on_events) == {RetryOn.INTERRUPTION, RetryOn.NO_CAPACITY}
    assert [file.path for file in plan.source.files] == ["contexts.tar", "order.json"]
    assert (plan.job.max_duration, plan.image, plan.hosts) == (9.0, None, ())
    assert plan.run.startswith("build-")


def test_its_program_gets_the_credentials_of_the_projects_registries(tmp_path: Path) -> None:
    assert planned(Shop(tmp_path, "https://h.example:5000/"), tmp_path / "order").hosts == ("h.example:5000",)


def test_a_folder_as_registry_is_refused_where_machines_do_not_have_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no machine of") as caught:
        planned(Shop(tmp_path), tmp_path / "order", ScriptedProvider((), (), SystemClock()))
    assert "name a server" in caught.value.todo


@given(st.floats(0, 1e6), st.integers(0, 3))
def test_a_build_may_lose_two_machines_in_their_last_moment(high: float, unknown: int) -> None:
    allowed = patience(high, unknown)
    assert allowed is None if unknown else allowed is not None and allowed >= 3 * high
