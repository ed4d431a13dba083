"""YAML, its limits and its types."""

from __future__ import annotations

import pytest

from spotweld.errors import ProjectError
from spotweld.project.nodes import Items, Kind, Pairs, Scalar
from spotweld.project.parsing import DEEPEST, MOST_NODES, parse

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def refusal(text: str) -> ProjectError:
    with pytest.raises(ProjectError) as caught:
        parse(text, "p.yaml")
    assert caught.value.file == "p.yaml"
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        pytest.param(BOMB, 5, 12, "too much", id="bomb"),
        pytest.param("a: &x [1, *x]", 1, 11, "stands inside", id="cycle through a list"),
        pytest.param("a: &x {b: {c: *x}}", 1, 15, "stands inside", id="cycle through mappings"),
        pytest.param("a: *nobody", 1, 4, "no anchor", id="undefined alias"),
        pytest.param("a: 1\nb: 2\na: 3", 3, 1, "stands twice", id="duplicate key"),
        pytest.param('"a": 1\na: 3', 2, 1, "stands twice", id="duplicate key, once quoted"),
        pytest.param("1: a", 1, 1, "is a number", id="number as key"),
        pytest.param("true: a", 1, 1, "is a boolean", id="boolean as key"),
        pytest.param(": a", 1, 1, "is nothing", id="nothing as key"),
        pytest.param("? [a]\n: b", 1, 3, "a list stands", id="list as key"),
        pytest.param("? {a: b}\n: b", 1, 3, "a mapping stands", id="mapping as key"),
        pytest.param("a: &a {b: c}\nd:\n  <<: *a", 3, 3, "merge key", id="merge key"),
        pytest.param("a: !!python/object/apply:os.system [x]", 1, 4, "tag", id="object tag"),
        pytest.param("a: !mine b", 1, 4, "tag", id="own tag"),
        pytest.param("a: b\n---\nc: d", 2, 1, "second document", id="two documents"),
        pytest.param("%YAML 1.1\n---\na: no", 2, 1, "another version", id="YAML 1.1"),
        pytest.param("a:\n\tb: c", 2, 1, "a tab", id="tab indents"),
        pytest.param("a:\n  b: c\n \td: e", 3, 2, "a tab", id="tab after a space"),
        pytest.param("a: \x07", 1, 4, "U+0007", id="control character"),
        pytest.param("a: 1\nb: \x00", 2, 4, "U+0000", id="NUL"),
        pytest.param('a: "\\ud800"', 1, 4, "half a character", id="surrogate"),
        pytest.param("a: [1, 2", 1, 9, "not valid YAML", id="open bracket"),
        pytest.param("a: b: c", 1, 5, "not valid YAML", id="colon in a value"),
        pytest.param("[" * 200_000, 1, DEEPEST + 1, "too deeply", id="deep list"),
        pytest.param("{a: " * 50_000, 1, 4 * DEEPEST + 1, "too deeply", id="deep mapping"),
        pytest.param("- " * 100_000, 1, 2 * DEEPEST + 1, "too deeply", id="deep block list"),
    ],
)
def test_what_may_not_stand_in_a_file_is_refused_where_it_stands(text: str, line: int, column: int, said: str) -> None:
    error = refusal(text)
    assert (error.line, error.column) == (line, column), str(error)
    assert said in error.what
    assert error.why
    assert error.todo


def test_nodes_are_counted_with_aliases_expanded() -> None:
    inner = f"a: &a [{', '.join(['x'] * 99)}]\n"
    parse(inner + "b: [" + ", ".join(["*a"] * (MOST_NODES // 101)) + "]", "p.yaml")
    assert "too much" in refusal(inner + "b: [" + ", ".join(["*a"] * (MOST_NODES // 99)) + "]").what


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *[
            (text, Kind.TEXT)
            for text in ("no", "on", "yes", "12:30", "1_000", "2024-01-02", "0.5 USD", "<", "1h", "nULL")
        ],
        *[(text, Kind.NUMBER) for text in ("0", "-7", "+1", "0o17", "0x1F", "1.", ".5", "1e3", "-.inf", ".NaN", "007")],
        *[(text, Kind.BOOLEAN) for text in ("true", "False", "TRUE")],
        *[(text, Kind.NOTHING) for text in ("", "~", "null", "Null")],
        *[(text, Kind.TEXT) for text in ('"1"', "'true'", '""', "|\n  1")],
    ],
)
def test_plain_scalars_have_the_types_of_yaml_1_2(text: str, kind: Kind) -> None:
    root = parse(f"key: {text}\n", "p.yaml")
    assert isinstance(root, Pairs)
    value = root.pairs["key"][1]
    assert isinstance(value, Scalar)
    assert value.kind is kind


def test_nodes_know_where_they_stand() -> None:
    root = parse("# first\na:\n  - b\n  - {c: d}\n", "p.yaml")
    assert isinstance(root, Pairs)
    key, items = root.pairs["a"]
    assert (key.line, key.column) == (2, 1)
    assert isinstance(items, Items)
    inner = items.items[1]
    assert isinstance(inner, Pairs)
    assert (inner.line, inner.column) == (4, 5)
    assert (inner.pairs["c"][1].line, inner.pairs["c"][1].column) == (4, 9)


def test_aliases_that_are_fine_are_followed() -> None:
    root = parse("a: &x {b: c}\nd: *x\n", "p.yaml")
    assert isinstance(root, Pairs)
    assert root.pairs["a"][1] is root.pairs["d"][1]


def test_a_file_of_comments_holds_no_document() -> None:
    assert parse("# nothing\n", "p.yaml") is None
