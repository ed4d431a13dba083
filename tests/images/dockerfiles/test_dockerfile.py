from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.images.dockerfiles.generated import dockerfiles, plausible

from spotweld.errors import DockerfileError
from spotweld.images.dockerfiles.dockerfile import Instruction, meaning, parse
from spotweld.images.dockerfiles.lines import Heredoc
from spotweld.images.dockerfiles.spacing import squeezed


def only(text: str) -> Instruction:
    """The instruction after FROM."""
    return parse(f"FROM scratch\n{text}\n").stages[0].instructions[1]


@given(dockerfiles | plausible)
def test_a_text_is_parsed_or_refused_at_a_line(text: str) -> None:
    try:
        parsed = parse(text)
    except DockerfileError as error:
        refused = error
    else:
        refused = None
    if refused:
        assert 0 <= refused.line <= text.count("\n") + 1
        assert str(refused).startswith(
            f"Dockerfile:{refused.line}: " if refused.line else "Dockerfile: there is no FROM"
        )
        return
    lines = text.count("\n") + 1
    ends = 0
    for stage in parsed.stages:
        assert stage.instructions[0].word == "FROM"
        for instruction in stage.instructions:
            assert ends < instruction.line <= instruction.end <= lines
            ends = instruction.end


@given(plausible)
def test_a_prefix_is_the_beginning_of_the_same_file(text: str) -> None:
    try:
        parsed = parse(text)
    except DockerfileError:
        return
    everything = [one for stage in parsed.stages for one in stage.instructions]
    for count, instruction in enumerate(everything, 1):
        prefix = parse(parsed.prefix(instruction))
        assert [one for stage in prefix.stages for one in stage.instructions] == everything[:count]


words = st.sampled_from(
    ["apt-get", "install", "-y", "&&", "'a  b'", '"c  \\" d"', "a\\ b", "$X", "${X}", "|", "x#y", "\\\\x"]
)
breaks = st.sampled_from([" ", "  ", " \\\n", " \\\n    ", " \\\n# why\n\t", " \\\n\n", " \\ \t\n "])


@given(st.lists(st.tuples(words, breaks), min_size=1, max_size=8))
def test_a_command_means_the_same_wherever_it_is_wrapped(parts: list[tuple[str, str]]) -> None:
    plain = only("RUN " + " ".join(word for word, _ in parts) + " end")
    wrapped = only("run " + "".join(word + space for word, space in parts) + "end")
    assert (wrapped.word, meaning(wrapped)) == (plain.word, meaning(plain))


@given(st.lists(words, min_size=1, max_size=6))
def test_squeezing_twice_changes_nothing_more(parts: list[str]) -> None:
    once = squeezed("   ".join(parts))
    assert squeezed(once) == once
    assert once.replace(" ", "") == "".join(parts).replace(" ", "")


@pytest.mark.parametrize(
    "command",
    [
        "echo 'a  b'", 'echo "a  b"', 'echo "$(echo "a  b")"', "echo `a  b`",
        "echo a\\  b", "a $'b\\'  c'", "cat  <<X", "'a  b",
    ],
)  # fmt: skip
def test_spaces_that_the_shell_sees_are_kept(command: str) -> None:
    assert squeezed(command) == command


def test_another_shell_gets_every_space() -> None:
    assert meaning(only("RUN a   b"), shell=False) == ("a   b",)


def test_stages_have_names_bases_and_platforms() -> None:
    parsed = parse("ARG X=1\nFROM --platform=$BUILDPLATFORM a:$X AS Build\nRUN b\nFROM build\n")
    first, second = parsed.stages
    assert (first.name, first.base, first.platform, len(first.instructions)) == ("build", "a:$X", "$BUILDPLATFORM", 2)
    assert (second.name, second.base, second.platform) == ("", "build", "")
    assert parsed.arguments[0].arguments == ("X=1",)


def test_heredocs_belong_to_their_instruction() -> None:
    run = only("RUN <<EOF cat > /a && <<-'B' cat\nFROM x\n# kept\nEOF\n\ttab\n\tB\nCMD x")
    assert run.heredocs == (Heredoc("EOF", "FROM x\n# kept\n", expands=True), Heredoc("B", "tab\n", expands=False))
    assert (run.line, run.end) == (2, 7)


def test_a_shift_is_no_heredoc() -> None:
    assert only("RUN echo $((1<<2)) '<<EOF'").heredocs == ()
    assert only("CMD echo <<EOF").heredocs == ()


def test_flags_lose_their_quotes() -> None:
    copy = only('COPY --from="a" --chown=1:2 --exclude="x y" b c')
    assert copy.flags == ("--from=a", "--chown=1:2", "--exclude=x y")
    assert (copy.flag("from"), copy.flag("link"), copy.values("chown")) == ("a", "", ("1:2",))
    assert copy.arguments == ("b", "c")


def test_lists_and_commands_are_told_apart() -> None:
    assert (only('CMD ["a", "b"]').listed, only('CMD ["a", "b"]').arguments) == (True, ("a", "b"))
    assert (only("CMD [ a").listed, only("CMD [ a").arguments) == (False, ("[ a",))
    assert only('HEALTHCHECK cmd ["x"]').arguments == ("CMD", "x")


def test_pairs_keep_their_quotes_and_the_old_form_is_one_pair() -> None:
    assert only("ENV A=1 B='2 3' C=4\\ 5").arguments == ("A=1", "B='2 3'", "C=4\\ 5")
    assert only("ENV A b c").arguments == ("A=b c",)


def test_the_escape_directive_moves_the_continuation() -> None:
    parsed = parse("# syntax=x\n# escape=`\nFROM a\nRUN b `\n c \\\nRUN d\n")
    assert [one.text for one in parsed.stages[0].instructions] == ["FROM a", "RUN b  c \\", "RUN d"]
    assert (parsed.directives.escape, parsed.directives.syntax) == ("`", "x")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 0, "there is no FROM"),
        ("RUN x\nFROM a", 1, "RUN stands before FROM"),
        ("FROM a\n\nRUM x", 3, "there is no instruction 'RUM'"),
        ("FROM a\nRUN <<EOF\nx", 2, "the here-document 'EOF' does not end"),
        ("FROM a b", 1, "FROM is not understood"),
        ("FROM a AS 1x", 1, "'1x' cannot be a stage's name"),
        ("FROM a\nCOPY x", 2, "COPY needs a source and a destination"),
        ("FROM a\nRUN", 2, "RUN needs an argument"),
        ("FROM a\nENV A", 2, "ENV is not understood"),
        ("FROM a\nENV A=1 B", 2, "ENV is not understood"),
        ("FROM a\nARG =1", 2, "ARG is not understood"),
        ("FROM a\nCMD [1]", 2, "CMD is not understood"),
        ("FROM a\nONBUILD FROM b", 2, "ONBUILD cannot keep FROM"),
        ("# escape=x\nFROM a", 1, "'x' cannot be the escape character"),
        ("# escape=`\n# escape=`\nFROM a", 2, "the directive 'escape' is given twice"),
        ("FROM a\nRUN \0", 2, "the file is not text"),
    ],
)
def test_errors_name_the_line(text: str, line: int, what: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text, "my.Dockerfile")
    assert (caught.value.line, caught.value.what, caught.value.file) == (line, what, "my.Dockerfile")


def test_a_misspelt_instruction_is_guessed() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a\nCOPPY a b")
    assert caught.value.todo == "write COPY"
