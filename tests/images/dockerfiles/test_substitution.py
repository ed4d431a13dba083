from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.images.dockerfiles.scope import Scope, hidden
from spotweld.images.dockerfiles.substitution import KEPT, BadSubstitution, expand

VALUES = {"A": "one", "E": "", "P": "foobarbaz", "D": "a/b/c.tar.gz"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A-${A}", "one-one"),
        ("'$A'", "$A"),
        ('"$A  x"', "one  x"),
        ("\\$A", "$A"),
        ('"\\$A \\" \\n"', '$A " \\n'),
        ("$", "$"),
        ("$N.", "."),
        ("${N:-x$A}", "xone"),
        ("${E:-x}", "x"),
        ("${E-x}", ""),
        ("${A:+yes}", "yes"),
        ("${E:+yes}", ""),
        ("${E+yes}", "yes"),
        ("${A:?no}", "one"),
        ("${P#f*b}", "arbaz"),
        ("${P##f*b}", "az"),
        ("${D%.*}", "a/b/c.tar"),
        ("${D%%.*}", "a/b/c"),
        ("${D//\\//-}", "a-b-c.tar.gz"),
        ("${P/ba?/-}", "foo-baz"),
        ("${P//ba?/-}", "foo--"),
        ("a\\ b", "a b"),
    ],
)
def test_a_reference_is_replaced_as_documented(text: str, result: str) -> None:
    assert expand(text, VALUES).text == result


@pytest.mark.parametrize(
    "text", ["'a", '"a', "${A", "${}", "${A:#x}", "${A^}", "${N?gone}", "${E:?gone}", "${:x}", "${A:"]
)
def test_what_breaks_the_rules_is_refused(text: str) -> None:
    with pytest.raises(BadSubstitution):
        expand(text, VALUES)


def test_what_only_the_base_knows_is_kept_and_is_no_quoted_text() -> None:
    assert expand("$N/x:${N:-y}", {}, keep=True).text == f"{KEPT}$N/x:{KEPT}${{N:-y}}"
    assert expand("'$N'", {}, keep=True).text == "$N"


def test_used_and_unset_names_are_told() -> None:
    found = expand("$A ${N} '$Q'", VALUES, keep=True)
    assert (found.used, found.unset) == (("A",), ("N",))


def test_words_are_split_outside_quotes() -> None:
    assert expand("a 'b c' d\\ e", {}).words == ("a", "b c", "d e")


def test_quotes_mean_nothing_in_a_heredoc() -> None:
    assert expand("it's $A", VALUES, quotes=False).text == "it's one"


def test_the_other_escape_character() -> None:
    assert expand("c:\\$A`$A", VALUES, escape="`").text == "c:\\one$A"


@given(st.text(alphabet="$A{}:-+?#%/'\"\\ *N<>`x\n", max_size=20), st.booleans(), st.booleans())
def test_any_text_is_replaced_or_refused(text: str, keep: bool, quotes: bool) -> None:
    try:
        found = expand(text, VALUES, keep=keep, quotes=quotes)
    except BadSubstitution:
        return
    assert keep or KEPT not in found.text


@given(st.text(alphabet="ab/ .:=-", max_size=20))
def test_text_without_marks_stays(text: str) -> None:
    assert expand(text, VALUES).text == text


def test_env_goes_before_arg_and_sees_the_values_from_before_it() -> None:
    scope = Scope({"X": "given"}, {"TARGETARCH": "amd64"})
    scope.declare(["X=default", "TARGETARCH", "NOBODY", "Y=$X-y"])
    assert scope.arguments == {"X": "given", "TARGETARCH": "amd64", "Y": "given-y"}
    assert scope.define(["X=env", "Z=$X"]) == ("X=env", "Z=given")
    assert (scope.values["X"], "X" in scope.arguments) == ("env", False)
    assert Scope({}, {}, scope).values["X"] == "env"


@given(st.text(min_size=1), st.sampled_from(["API_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "apikey"]))
def test_a_private_value_is_stored_as_its_digest(value: str, name: str) -> None:
    veiled = hidden(name, value)
    assert veiled.startswith("hidden:")
    assert len(veiled) == 39
    assert hidden(name, veiled) == veiled
    assert hidden("LEVEL", value) == value
