"""Our parser against BuildKit's own, and our ignore rules against a port of its matcher.

Both are Python packages that only the tests need; docs/decisions/0010-dockerfile-parser.md says why.
"""

from __future__ import annotations

import pytest
from e2b_dockerfile_utils import PatternMatcher
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.images.dockerfiles.generated import dockerfiles, plausible

from spotweld.errors import DockerfileError
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.dockerfiles.ignore import Ignore

buildkit = pytest.importorskip("dockerfile", reason="BuildKit's parser is packaged for x86-64 alone")
PAIRS = {"ENV", "LABEL"}


@settings(max_examples=500)
@given(dockerfiles | plausible)
def test_what_we_accept_we_read_as_buildkit_does(text: str) -> None:
    """It accepts more: what is wrong in an instruction it finds only later."""
    try:
        parsed = parse(text)
    except DockerfileError:
        return
    ours = [*parsed.arguments, *(one for stage in parsed.stages for one in stage.instructions)]
    try:
        theirs = [one for one in buildkit.parse_string(text) if one.cmd]
    except buildkit.GoParseError as error:
        # That version ignores what follows a JSON list; today's takes the whole for a command, as we do.
        assert "JSON array" in str(error)  # noqa: PT017 - the rare case
        return
    assert [one.word for one in ours] == [one.cmd.upper() for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assume(one.listed == other.json or not one.arguments[-1].startswith("["))
        assume(one.listed == other.json or one.word not in {"COPY", "ADD", "VOLUME"})
        assert one.flags == other.flags
        assert (one.line, one.end) == (other.start_line, other.end_line)
        assert [(body.name, body.text) for body in one.heredocs] == [(b.name, b.content) for b in other.heredocs]
        if one.word in PAIRS:
            pairs = tuple(f"{a}={b}" for a, b in zip(other.value[::2], other.value[1::2], strict=True))
            assert one.arguments == pairs
        elif one.word == "HEALTHCHECK":
            assert one.arguments == (other.value[0].upper(), *other.value[1:])
        elif one.word != "ONBUILD":
            assert one.arguments == other.value


_PARTS = [
    "a",
    "b",
    "ab",
    "*",
    "**",
    "*b",
    "a?",
    "[a-b]",
    "[^a]",
    "a**",
    "**b",
    ".",
    "..",
    "\\a",
    "c.d",
    "*.d",
    "[",
    "a]",
    "**/b",
    "a/**/b",
    "!",
]
_rules = st.lists(
    st.builds(
        lambda sign, parts, end: sign + "/".join(parts) + end,
        st.sampled_from(["", "!", "/", "!/", " "]),
        st.lists(st.sampled_from(_PARTS), min_size=1, max_size=3),
        st.sampled_from(["", "/", " "]),
    ),
    max_size=3,
)
_paths = st.lists(st.sampled_from(["a", "b", "ab", "abb", "c.d", "x"]), min_size=1, max_size=4).map("/".join)


@settings(max_examples=500)
@given(_rules, _paths)
def test_the_same_files_are_ignored(rules: list[str], path: str) -> None:
    try:
        ours = Ignore("\n".join(rules)).decides(path) is not None
    except DockerfileError:
        ours = None
    try:
        theirs = PatternMatcher(rules).matches(path)
    except ValueError:
        theirs = None
    assert ours == theirs
