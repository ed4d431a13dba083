"""The schema and the loader tell the same story."""

from __future__ import annotations

import json
import pathlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from spotweld.errors import ProjectError
from spotweld.project.keys import PROJECT
from spotweld.project.reading import load_project
from spotweld.project.schema import schema, schema_json
from spotweld.project.shapes import Choice, Named, Number, Path, Several, Shape, Table, Text, Truth, Whole
from spotweld.project.starter import starter

HERE = pathlib.Path(__file__).parents[2]
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
        queue += part.get("anyOf", [])
    assert seen > 25


def test_defaults_are_those_of_the_nouns() -> None:
    job = schema()["properties"]["jobs"]["additionalProperties"]["properties"]
    assert job["checkpoint"]["properties"]["every"]["default"] == "auto"
    assert job["checkpoint"]["properties"]["keep_last"]["default"] == 3
    assert job["retry"]["properties"]["on_events"]["default"] == ["no-capacity", "interruption", "error"]
    image = schema()["properties"]["images"]["additionalProperties"]["properties"]
    shown = {name: key["default"] for name, key in image.items() if "default" in key}
    assert shown == {"context": ".", "dockerfile": "Dockerfile", "lifetime": "ephemeral", "keep": 3}
    local = schema()["properties"]["providers"]["properties"]["local"]["properties"]
    assert local["up"]["default"] == "3600s"
    assert local["notices"]["default"] == ["30s"]


ODD = st.sampled_from(
    [
        *(
            "",
            " ",
            "a",
            "A",
            "é",
            "a b",
            "a\n",
            "SPOTWELD_X",
            "90",
            "0s",
            "1s ",
            " 1s",
            "٣s",
            "0 steps",
            "none",
            "auto",
        ),
        *(
            "1 USD\n",
            "٣ USD",
            "3 EUR",
            "1.0000000001 USD",
            "file:x",
            "memory:",
            "s3://u:p@b",
            ".",
            "gone",
            "\x7f",
            "\u2028",
        ),
        *(0, -1, 1, 2**64, 0.0, 0.5, -0.5, 1.0, 1e300, float("inf"), float("nan"), True, None),
    ]
)


def values(shape: Shape, luck: st.SearchStrategy[bool]) -> st.SearchStrategy[Any]:  # noqa: C901 - one case for each kind
    """Mostly what the shape takes, now and then something odd."""
    right: st.SearchStrategy[Any]
    match shape:
        case Text():
            right = st.from_regex(shape.form, fullmatch=True, alphabet=PRINTABLE).map(lambda text: text[:100])
        case Whole():
            right = st.integers(shape.least - 1, shape.most + 1)
        case Number():
            right = st.floats(shape.above, shape.most)
        case Truth():
            right = st.booleans()
        case Choice():
            right = st.sampled_from([str(word) for word in shape.of])
        case Path():
            right = st.just("." if shape.folder else "generated.yaml")
        case Several():
            right = st.lists(values(shape.of, luck), min_size=shape.least, max_size=3)
        case Named():
            right = st.dictionaries(
                values(shape.name, LUCKY), values(shape.value, luck), min_size=shape.least, max_size=2
            )
        case Table():
            inner = {name: values(key.shape, luck) for name, key in shape.keys.items()}
            needed = {name for name, key in shape.keys.items() if key.required}
            right = st.fixed_dictionaries(
                {name: inner[name] for name in needed},
                optional={name: value for name, value in inner.items() if name not in needed},
            )
            if shape.short:
                right |= inner[shape.short]
    return luck.flatmap(lambda lucky: right if lucky else ODD)


LUCKY = st.just(value=True)
PRINTABLE = st.characters(exclude_categories=["Cc", "Cs"])
# Of forty values one is odd, so that about half of all projects are right but for their currencies.
LUCK = st.integers(0, 39).map(lambda number: number != 39)


@settings(deadline=None, max_examples=60)
@given(project=values(PROJECT, LUCK))
def test_what_the_schema_refuses_the_loader_refuses_too(
    tmp_path_factory: pytest.TempPathFactory, project: dict[str, Any]
) -> None:
    # Not a name that another test could find from below.
    file = tmp_path_factory.getbasetemp() / "generated.yaml"
    (file.parent / "Dockerfile").touch()
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
        {"jobs": {"t": {"command": "a", "checkpoint": {"max_lost_work": 300}}}},
        {"jobs": {"t": {"command": "a", "checkpoint": {"tiers": "file:/a"}}}},
        {"jobs": {"t": {"command": "a", "checkpoint": {"tiers": ["file:a"]}}}},
        {"jobs": {"t": {"command": "a", "checkpoint": {"tiers": [{"keep_last": 2}]}}}},
        {"jobs": {"t": {"command": "a", "checkpoint": {"staging_memory": 2000000000}}}},
        {"providers": {"local": {"zones": {}}}},
        {"providers": {"local": {"speed": 0}}},
        {"images": {"Base": {}}},
        {"images": {"base": {"contxt": "."}}},
        {"images": {"base": {"platform": "linux/x86_64"}}},
        {"images": {"base": {"bases": {"debian": "A:1"}}}},
        {"images": {"base": {"lifetime": "eternal"}}},
        {"registries": {"persistent": "https://user:password@host"}},
        {"jobs": {"t": {"command": "a", "image": "https://host/a"}}},
        {"store": "memory:"},
        {"store": "s3://user:password@bucket"},
    ],
    ids=json.dumps,
)
def test_the_schema_sees_most_mistakes_by_itself(change: dict[str, Any]) -> None:
    assert refused(change)
