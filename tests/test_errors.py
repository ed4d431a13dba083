"""Every error has a code of its own, a status that the CLI promises, and an explanation."""

from __future__ import annotations

import re

import pytest

from spotweld import errors
from spotweld.errors import ProjectError, SpotweldError, catalogue

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SpotweldError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_explained(kind: type[SpotweldError]) -> None:
    assert re.fullmatch(r"SW\d{4}", kind.code)
    assert kind.exit_status in {1, 2, 3, 4, 5, 6, 75}
    assert kind.__doc__
    assert kind.__doc__.splitlines()[0].rstrip().endswith(".")
    assert catalogue()[kind.code] is kind


def test_no_code_is_used_twice() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes) == len(catalogue())


def test_every_kind_stands_in_the_tree_with_its_code() -> None:
    tree = errors.__doc__ or ""
    for kind in KINDS:
        if kind is SpotweldError:
            continue
        line = next((line for line in tree.splitlines() if f"── {kind.__name__} " in line), "")
        assert line, f"{kind.__name__} is missing in the tree"
        assert kind.code in line or f"{kind.code[:4]}xx" in line, line


def test_what_and_why_make_the_message() -> None:
    assert str(SpotweldError("a", "b", "c")) == "a: b"
    assert str(SpotweldError("a")) == "a"


def test_a_project_error_begins_with_its_place() -> None:
    assert str(ProjectError("a", "b", file="f", line=3, column=4)) == "f:3:4: a: b"
    assert str(ProjectError("a", file="f", line=3)) == "f:3: a"
    assert str(ProjectError("a")) == "a"
