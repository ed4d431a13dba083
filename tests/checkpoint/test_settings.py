from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from spotweld.checkpoint.hazard import Rate
from spotweld.checkpoint.settings import settings
from spotweld.errors import UsageError
from spotweld.project.nouns import CheckpointPolicy, EveryAuto, EverySeconds, EverySteps

ENVIRON = {
    "SPOTWELD_STORE": "file:/there",
    "SPOTWELD_RUN_ID": "r-1",
    "SPOTWELD_ATTEMPT": "4",
    "SPOTWELD_CHECKPOINT": msgspec.json.encode(CheckpointPolicy(EverySteps(9), 7, 2, 300.0)).decode(),
    "SPOTWELD_HAZARD": "1.5",
    "SPOTWELD_MACHINE_STARTED": "1700000000.5",
    "SPOTWELD_EVENTS_FILE": "/e",
}


def test_the_environment_is_used_where_the_caller_says_nothing() -> None:
    found = settings(ENVIRON)
    assert (found.store, found.run, found.attempt, found.events) == ("file:/there", "r-1", 4, "/e")
    assert (found.hazard, found.started) == ((Rate(0.0, 1.5),), 1700000000.5)
    assert found.policy == CheckpointPolicy(EverySteps(9), 7, 2, 300.0)


def test_the_caller_comes_first() -> None:
    found = settings(ENVIRON, store="memory:", run="mine", every="30s", keep_last=1, keep_every=0, max_lost_work="1m")
    assert (found.store, found.run) == ("memory:", "mine")
    assert found.policy == CheckpointPolicy(EverySeconds(30.0), 1, 0, 60.0)
    assert settings(ENVIRON, max_lost_work=90).policy.max_lost_work == 90


def test_there_are_defaults() -> None:
    found = settings({})
    assert (found.store, found.run, found.attempt) == ("file:.spotweld/store", "default", 0)
    assert found.policy == CheckpointPolicy()
    assert (found.hazard, found.started) == (None, None)


def test_every_can_be_said_in_four_ways() -> None:
    assert settings({}, every="auto").policy.every == EveryAuto()
    assert settings({}, every=5).policy.every == EverySteps(5)
    assert settings({}, every="1.5m").policy.every == EverySeconds(90.0)
    assert settings({}, every=EverySteps(2)).policy.every == EverySteps(2)


def test_memory_is_bytes_or_a_size() -> None:
    assert settings({}).policy.staging_memory is None
    assert settings({}, staging_memory=2**30).policy.staging_memory == 2**30
    assert settings({}, staging_memory="2GB").policy.staging_memory == 2 * 10**9


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-1", "0"])
def test_advice_that_makes_no_sense_is_none(text: str) -> None:
    found = settings({"SPOTWELD_HAZARD": text, "SPOTWELD_MACHINE_STARTED": text})
    assert (found.hazard, found.started) == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [{"every": 0}, {"every": "soon"}, {"every": EverySeconds(math.nan)}, {"keep_last": 0}, {"keep_every": -1}]
    + [{"max_lost_work": wrong} for wrong in (0, -1.0, math.inf, math.nan, "0s", "soon")]
    + [{"staging_memory": wrong} for wrong in (0, -1, 12 * 2**20 - 1, "2", "11 MiB", "much")]
    + [{"every": 30.0}, {"every": [1]}, {"tiers": "file:/x"}]
    + [{"tiers": ["file:/a", "file:/a"]}, {"compress": "zstd"}]
    + [{"run": name} for name in ("../x", "a/b", ".hidden", "a b", "x" * 129, "ä")],
)
def test_arguments_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        settings({}, **wrong)


def test_steps_may_be_a_number_of_numpys() -> None:
    assert settings({}, every=np.int64(5)).policy.every == EverySteps(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("SPOTWELD_CHECKPOINT", "{"), ("SPOTWELD_ATTEMPT", "two")])
def test_an_environment_without_sense_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        settings({name: value})


def test_a_program_whose_directory_the_agent_saves_does_not_save_the_same_run() -> None:
    environ = ENVIRON | {"SPOTWELD_CHECKPOINT": msgspec.json.encode(CheckpointPolicy(directory="out")).decode()}
    with pytest.raises(UsageError, match="directory out"):
        settings(environ)
    assert settings(environ, run="mine").policy == CheckpointPolicy()
