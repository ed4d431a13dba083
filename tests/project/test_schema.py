"""The schema and the loader tell the same story."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from spotweld.errors import ProjectError
from spotweld.project.reading import load_project
from spotweld.project.schema import schema, schema_json
from spotweld.project.starter import starter

HERE = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(schema())


def plain(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())
    assert json.loads(schema_json()) == schema()


def test_the_starter_fits() -> None:
    VALIDATOR.validate(plain(starter("x")))


def test_every_example_fits_the_schema_and_loads() -> None:
    for file in HERE.glob("examples/**/spotweld.yaml"):
        VALIDATOR.validate(plain(file.read_text()))
        assert load_project(file).jobs


def test_every_default_and_every_example_in_the_schema_fits_its_own_place() -> None:
    seen = 0
    queue: list[Any] = [schema()]
    while queue:
        part = queue.pop()
        for shown in [*part.get("examples", []), *([part["default"]] if "default" in part else [])]:
            if part.get("type") == "string" and "pattern" in part and str(shown).startswith('"'):
                continue  # an example that shows its quotes
            Draft202012Validator(part).validate(shown)
            seen += 1
        queue += part.get("properties", {}).values()
        queue += [part[key] for key in ("items", "additionalProperties") if isinstance(part.get(key), dict)]
    assert seen > 25


def test_defaults_are_those_of_the_nouns() -> None:
    job = schema()["properties"]["jobs"]["additionalProperties"]["properties"]
    assert job["checkpoint"]["properties"]["every"]["default"] == "auto"
    assert job["checkpoint"]["properties"]["keep_last"]["default"] == 3
    assert job["retry"]["properties"]["on_events"]["default"] == ["no-capacity", "interruption", "error"]
    local = schema()["properties"]["providers"]["properties"]["local"]["properties"]
    assert local["up"]["default"] == "3600s"
    assert local["notices"]["default"] == ["30s"]


NAMES = st.sampled_from(
    ["a", "t2", "a-b_c", "A", "", "-a", "a" * 63, "a" * 64, "é", "TEAM", "SPOTWELD_X", "1", "a b", "a\n"]
)
TEXTS = st.one_of(
    NAMES,
    st.sampled_from(
        ["python train.py", " ", "30s", "1h 30m", "0s", "90", "100 steps", "0 steps", "auto", "none", "1 USD"]
    )
    | st.sampled_from(
        ["0.5 USD", "3 EUR", "1.0000000001 USD", "spot", "on-demand", "error", "file:x", "s3://b", "memory:"]
    )
    | st.sampled_from([".", "gone", "٣s", "٣ USD", "1s ", " 1s", "1 USD\n", "\x7f", "\u2028", "😀"]),
    st.text(max_size=4),
)
SCALARS = st.one_of(TEXTS, st.integers(-3, 20_000), st.integers(), st.floats(), st.booleans(), st.none())
KEYS: dict[str, Any] = {
    "command": TEXTS,
    "setup": TEXTS,
    "workdir": st.sampled_from([".", "gone", ""]),
    "env": st.dictionaries(NAMES, SCALARS, max_size=2),
    "spot_policy": TEXTS,
    "checkpoint": st.fixed_dictionaries({}, optional={"every": SCALARS, "keep_last": SCALARS, "keep_every": SCALARS}),
    "retry": st.fixed_dictionaries({}, optional={"on_events": st.lists(TEXTS, max_size=3), "failures": SCALARS}),
    "max_duration": SCALARS,
    "budget": SCALARS,
    "labels": st.dictionaries(NAMES, TEXTS, max_size=2),
    "unknown": SCALARS,
}
LOCAL: dict[str, Any] = {
    "zones": st.dictionaries(
        NAMES, st.fixed_dictionaries({"spot": TEXTS, "on_demand": TEXTS}, optional={"machines": SCALARS}), max_size=2
    ),
    **dict.fromkeys(("seed", "up", "down", "speed", "boot"), SCALARS),
    "notices": st.lists(SCALARS, max_size=3),
}


@st.composite
def projects(draw: st.DrawFn) -> dict[str, Any]:
    """A project that is right, with up to three places changed to something that may be right or wrong."""
    project: dict[str, Any] = {"name": "x", "jobs": {"t": {"command": "a"}}, "providers": {"local": {}}}
    for _ in range(draw(st.integers(0, 3))):
        where, keys = draw(
            st.sampled_from([(project["jobs"]["t"], KEYS), (project["providers"]["local"], LOCAL), (project, {})])
        )
        if keys:
            key = draw(st.sampled_from(sorted(keys)))
            where[key] = draw(st.one_of(keys[key], SCALARS))
        else:
            where[draw(st.sampled_from(["name", "store", "extra"]))] = draw(TEXTS)
    return project


@settings(deadline=None, max_examples=400)
@given(project=projects())
def test_what_the_schema_refuses_the_loader_refuses_too(
    tmp_path_factory: pytest.TempPathFactory, project: dict[str, Any]
) -> None:
    # Not a name that another test could find from below.
    file = tmp_path_factory.getbasetemp() / "generated.yaml"
    text = json.dumps(project, ensure_ascii=False)
    file.write_text(text, encoding="utf-8")
    with suppress(ProjectError):
        load_project(file)
        errors = [error.message for error in VALIDATOR.iter_errors(project)]
        assert not errors, f"the loader takes {text} and the schema does not: {errors}"


def refused(change: dict[str, Any]) -> bool:
    project = {"name": "x", "jobs": {"t": {"command": "a"}}} | change
    return not VALIDATOR.is_valid(project)


@pytest.mark.parametrize(
    "change",
    [
        {"nmae": "x"},
        {"name": "X"},
        {"name": 3},
        {"jobs": {}},
        {"jobs": {"t": {}}},
        {"jobs": {"t": {"command": " "}}},
        {"jobs": {"t": {"command": "a", "budget": "12"}}},
        {"jobs": {"t": {"command": "a", "env": {"A": 3}}}},
        {"jobs": {"t": {"command": "a", "checkpoint": {"every": "0 steps"}}}},
        {"providers": {"local": {"zones": {}}}},
        {"providers": {"local": {"speed": 0}}},
        {"store": "memory:"},
        {"store": "s3://user:password@bucket"},
    ],
    ids=json.dumps,
)
def test_the_schema_sees_most_mistakes_by_itself(change: dict[str, Any]) -> None:
    assert refused(change)
