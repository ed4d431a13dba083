from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from tests.images.dockerfiles.generated import dockerfiles, plausible

from spotweld.errors import BaseUnresolved, ContextError, DockerfileError
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.steps.context import Context
from spotweld.images.steps.explaining import explain
from spotweld.images.steps.keys import Reference, Step, image_key, references, step_keys
from spotweld.images.steps.preimages import Input, Preimage
from spotweld.values.digests import Digest, parse_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

BASES = {"a": Digest("sha256:" + "1" * 64), "b": Digest("sha256:" + "2" * 64)}
PLATFORM = "linux/amd64"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "x").write_text("x")
    (tmp_path / "y").write_text("y")
    return tmp_path


def keys(text: str, root: Path, args: Mapping[str, str] | None = None, **more: str) -> tuple[Step, ...]:
    platform = more.pop("platform", PLATFORM)
    return step_keys(parse(text), Context(root), args or {}, BASES, platform, **more)


def why(old: tuple[Step, ...], new: tuple[Step, ...]) -> list[str]:
    verdicts = explain([step.preimage for step in old], [step.preimage for step in new])
    return ["HIT" if verdict.hit else verdict.why for verdict in verdicts]


def test_a_step_has_its_key_its_preimage_and_its_prefix(root: Path) -> None:
    steps = keys("FROM a AS one\nARG X=1\nCOPY x /\nRUN <<EOF\nb\nEOF\nFROM one\nCMD c", root)
    assert [(step.stage, step.number, step.line) for step in steps] == [
        (0, 0, 1),
        (0, 2, 3),
        (0, 3, 4),
        (1, 0, 7),
        (1, 1, 8),
    ]
    assert steps[2].prefix == "FROM a AS one\nARG X=1\nCOPY x /\nRUN <<EOF\nb\nEOF\n"
    for step in steps:
        assert parse_digest(step.key) == step.preimage.key
        again = msgspec.json.decode(msgspec.json.encode(step.preimage), type=Preimage)
        assert again == step.preimage


def test_a_target_needs_only_its_own_stages(root: Path) -> None:
    text = (
        "FROM a AS one\nRUN b\nFROM b AS two\nRUN c\nFROM scratch AS three\nCOPY --from=one /x /\nCOPY --from=1 /x /\n"
    )
    assert {step.stage for step in keys(text, root, target="one")} == {0}
    assert {step.stage for step in keys(text, root, target="1")} == {1}
    assert {step.stage for step in keys(text, root)} == {0, 1, 2}
    with pytest.raises(DockerfileError, match="there is no stage 'tree'") as caught:
        keys(text, root, target="tree")
    assert caught.value.todo == "did you mean 'three'?"


def test_references_are_what_has_to_be_resolved() -> None:
    text = (
        "# syntax=docker/dockerfile:1\nARG V=1\nFROM a:$V AS one\nFROM --platform=linux/arm64 b\nFROM scratch\n"
        "COPY --from=one /x /\nCOPY --from=c /x /\nRUN --mount=from=d,target=/d e\n"
        "ADD https://example.org/x /\nFROM unused@sha256:1\nFROM 2"
    )
    parsed = parse(text)
    found = references(parsed, {"V": "2"}, PLATFORM, target="2")
    image, syntax = "image", "syntax"
    assert found == (
        Reference(syntax, "docker/dockerfile:1", PLATFORM),
        Reference(image, "a:2", PLATFORM),
        Reference(image, "c", PLATFORM),
        Reference(image, "d", PLATFORM),
        Reference("remote", "https://example.org/x", PLATFORM),
    )


def test_what_runs_on_the_builder_ignores_the_platform_until_it_asks(root: Path) -> None:
    text = "FROM --platform=$BUILDPLATFORM a AS tools\nRUN make\n{}FROM b\nCOPY --from=tools /x /\n"
    here, there = ({"platform": platform, "builder": PLATFORM} for platform in (PLATFORM, "linux/arm64"))
    plain = text.format("")
    assert [a.key == b.key for a, b in zip(keys(plain, root, **here), keys(plain, root, **there), strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip
    asks = text.format("ARG TARGETARCH\nRUN make\n")
    assert why(keys(asks, root, **here), keys(asks, root, **there))[:3] == [
        "HIT",
        "HIT",
        "ARG TARGETARCH: amd64 -> arm64",
    ]


@pytest.mark.parametrize(
    ("text", "line", "kind", "what"),
    [
        ("FROM a\nCOPY z /", 2, ContextError, "there is no 'z' in the context"),
        ("FROM a\nRUN --mount=source=z,target=/z b", 2, ContextError, "there is no 'z' in the context"),
        ("FROM c", 1, BaseUnresolved, "the image 'c' was not resolved to a digest"),
        ("FROM a\nCOPY --from=c x /", 2, BaseUnresolved, "the image 'c' was not resolved to a digest"),
        ("FROM $NO", 1, DockerfileError, "the base '$NO' comes out empty"),
        ("FROM a\nENV A=${B", 2, DockerfileError, "ENV is not understood"),
        ("ARG A='\nFROM a", 1, DockerfileError, "\"'\" is not understood"),
        ("FROM a AS one\nCOPY --from=one x /", 2, DockerfileError, "stage 'one' needs itself"),
        ("FROM a\nCOPY --from=b2 x /\nFROM a AS b2\nCOPY --from=0 x /", 2, DockerfileError, "stage 'b2' needs itself"),
        ('FROM a\nRUN --mount=type=bind,\\"x b', 2, DockerfileError, "--mount is not understood"),
    ],
)  # fmt: skip
def test_errors_name_the_instruction(root: Path, text: str, line: int, kind: type[DockerfileError], what: str) -> None:
    with pytest.raises(kind) as caught:
        keys(text, root)
    assert (caught.value.line, caught.value.what) == (line, what)


@given(dockerfiles | plausible)
def test_any_dockerfile_has_keys_or_a_clear_error(text: str) -> None:
    try:
        parsed = parse(text)
        bases = {one.name: BASES["a"] for one in references(parsed, {"P": PLATFORM}, PLATFORM)}
        context = Context(Path(__file__).parent)
        steps = step_keys(parsed, context, {"P": PLATFORM}, bases, PLATFORM)
    except DockerfileError:
        return
    assert len({step.key for step in steps}) <= len(steps)
    assert explain([], [step.preimage for step in steps])


def test_private_values_are_never_stored(root: Path) -> None:
    text = "FROM a\nARG API_TOKEN\nARG PLAIN\nENV U=//u:$API_TOKEN@h DB_PASSWORD=hunter2\nLABEL t=$API_TOKEN\nRUN b\n"
    steps = keys(text, root, {"API_TOKEN": "s3cret", "PLAIN": "seen"})
    stored = msgspec.json.encode([step.preimage for step in steps])
    assert b"s3cret" not in stored
    assert b"hunter2" not in stored
    assert b"seen" in stored
    assert steps[-1].key != keys(text, root, {"API_TOKEN": "other", "PLAIN": "seen"})[-1].key


@pytest.mark.parametrize("cut", ["%%:*", "%:*", "##*[", "#*:", "/:*/", "//?/"])
def test_a_part_of_a_private_value_changes_with_the_value(root: Path, cut: str) -> None:
    text = f"FROM a\nARG TOKENIZER\nENV IN=at:$TOKENIZER\nENV NAME=${{TOKENIZER{cut}}} OTHER=${{IN{cut}}}\n"
    one, two = (keys(text, root, {"TOKENIZER": value}) for value in ("bert:1", "llama:2"))
    told = [step.preimage.inputs[1].value for step in (one[-1], two[-1])]
    assert told[0] != told[1]
    assert one[-1].key != two[-1].key
    assert not any("bert" in value or "llama" in value for value in told)


@pytest.mark.parametrize("use", ["COPY $TOKEN_FILE /", "RUN --mount=source=$TOKEN_FILE,target=/t b"])
def test_a_private_value_still_finds_its_file(root: Path, use: str) -> None:
    text = f"FROM a\nARG TOKEN_FILE\n{use}\n"
    assert ("file", "x") in {(one.kind, one.name) for one in keys(text, root, {"TOKEN_FILE": "x"})[1].preimage.inputs}


def test_a_source_that_only_the_base_knows_takes_the_whole_context(root: Path) -> None:
    step = keys("FROM a\nCOPY $DIR/x /\n", root)[1]
    assert {one.name for one in step.preimage.inputs if one.kind == "file"} == {"x", "y"}
    assert step.doubts == ("$DIR/x needs the environment of the base image; the whole context counts",)


def test_a_url_without_a_checksum_is_doubted(root: Path) -> None:
    url = "https://example.org/x"
    text = f"FROM a\nADD {url} /\nADD --checksum=sha256:1 {url} /"
    assert [step.doubts for step in keys(text, root)[1:]] == [
        (f"{url} has no --checksum: a change behind it is not seen",),
        (),
    ]


def test_triggers_run_in_the_stage_that_is_built_upon_them(root: Path) -> None:
    text = "FROM a AS one\nONBUILD COPY x /\nFROM one\nRUN b\n"
    before = keys(text, root)
    assert [(step.stage, step.number) for step in before] == [(0, 0), (0, 1), (1, 0), (1, 0), (1, 1)]
    (root / "x").write_text("changed")
    assert why(before, keys(text, root)) == ["HIT", "HIT", "HIT", "file x changed", "parent missed"]


def test_a_program_in_another_shell_keeps_its_spaces(root: Path) -> None:
    for shell, same in (("/bin/bash", True), ("/usr/bin/python3", False)):
        text = f'FROM a\nSHELL ["{shell}", "-c"]\nRUN if x:  y\n'
        assert (keys(text, root)[2].key == keys(text.replace("  y", " y"), root)[2].key) is same


def test_the_images_key_is_of_the_last_step_the_platform_and_the_labels(root: Path) -> None:
    steps = keys("FROM a\nRUN b", root)
    first = image_key(steps, PLATFORM, {"a": "1", "b": "2"})
    assert first == image_key(steps, PLATFORM, {"b": "2", "a": "1"})
    others = {image_key(steps, PLATFORM), image_key(steps, "linux/arm64"), image_key(steps[:1], PLATFORM)}
    assert len({first, *others}) == 4


E12 = "ENV E: 1 -> 2"
REASONS = [
    ("RUN b\nRUN d", "RUN c\nRUN d", {}, ["HIT", "the instruction changed: RUN b -> RUN c", "parent missed"]),
    ("RUN b", "RUN a\nRUN b", {}, ["HIT", "the instruction is new", "parent missed"]),
    ("RUN a\nRUN b", "RUN b", {}, ["HIT", "parent missed"]),
    ("ARG V=1\nRUN b", "ARG V=2\nRUN b", {}, ["HIT", "ARG V: 1 -> 2"]),
    ("ARG V=1\nLABEL v=$V", "ARG V=2\nLABEL v=$V", {}, ["HIT", "ARG V: 1 -> 2"]),
    ("RUN b", "ARG V=2\nRUN b", {}, ["HIT", "ARG V is new"]),
    ("ENV E=1\nUSER $E", "ENV E=2\nUSER $E", {}, ["HIT", "the instruction changed: ENV E=1 -> ENV E=2", E12]),
    ("COPY x /", "COPY x /", {"x": "z"}, ["HIT", "file x changed"]),
    ("COPY . /", "COPY . /", {"w": "w"}, ["HIT", "file w is new"]),
    ("COPY x /", "COPY y /", {}, ["HIT", "the instruction changed: COPY x / -> COPY y /"]),
    ("RUN <<E\na\nb\nE", "RUN <<E\na\nc\nd\nE", {}, ["HIT", "here-document E changed: +2 -1"]),
    ("COPY --from=b x /", "COPY --from=a x /", {}, ["HIT", "base changed: b -> a"]),
    ("ARG TOKEN=1\nRUN b", "ARG TOKEN=2\nRUN b", {}, None),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "files", "reasons"), REASONS)
def test_a_miss_names_the_first_input_that_differs(
    root: Path, old: str, new: str, files: dict[str, str], reasons: list[str] | None
) -> None:
    before = keys(f"FROM a\n{old}\n", root)
    for name, text in files.items():
        (root / name).write_text(text)
    found = why(before, keys(f"FROM a\n{new}\n", root))
    if reasons is None:
        assert found[1].startswith("ARG TOKEN: hidden:")
    else:
        assert found == reasons


def test_a_changed_file_is_named_apart(root: Path) -> None:
    before = [step.preimage for step in keys("FROM a\nCOPY . /\n", root)]
    (root / "x").write_text("z")
    after = [step.preimage for step in keys("FROM a\nCOPY . /\n", root)]
    assert [verdict.file for verdict in explain(before, after)] == ["", "x"]


def test_a_context_that_is_no_folder_is_refused(root: Path) -> None:
    with pytest.raises(ContextError, match="there is no context"):
        keys("FROM a\nCOPY . /\n", root / "x")


def test_files_tell_how_they_differ(root: Path) -> None:
    (root / "l").symlink_to("x")
    text = "FROM a\nCOPY . /\n"

    before = keys(text, root)
    (root / "x").chmod(0o755)
    assert why(before, keys(text, root))[1] == "file x is now executable"
    (root / "x").chmod(0o600)
    closed = keys(text, root)
    assert why(before, closed)[1] == "the mode of x is now 600"
    assert why(closed, before)[1] == "the mode of x is no longer 600"
    before = keys(text, root)
    (root / "y").rename(root / "z")
    assert why(before, keys(text, root))[1] == "file y renamed to z"
    before = keys(text, root)
    (root / "l").unlink()
    (root / "l").symlink_to("z")
    assert why(before, keys(text, root))[1] == "link l: x -> z"
    before = keys(text, root)
    (root / "l").unlink()
    (root / "l").write_text("l")
    assert why(before, keys(text, root))[1] == "l was a link and is a file"
    before = keys(text, root)
    (root / "l").unlink()
    assert why(before, keys(text, root))[1] == "file l is gone"


def test_a_base_that_moved_is_named(root: Path) -> None:
    parsed = parse("FROM a\nRUN b")
    before = keys("FROM a\nRUN b", root)
    moved = step_keys(parsed, Context(root), {}, {"a": Digest("sha256:" + "3" * 64)}, PLATFORM)
    assert why(before, moved) == ["base a moved from sha256:111111111111 to sha256:333333333333", "parent missed"]


def test_a_stage_that_changed_is_named(root: Path) -> None:
    text = "FROM a AS one\nRUN b\nFROM b\nCOPY --from=one /x /\n"
    assert why(keys(text, root), keys(text.replace("RUN b", "RUN c"), root)) == [
        "HIT", "the instruction changed: RUN b -> RUN c", "HIT", "stage one changed",
    ]  # fmt: skip


def test_a_stage_inherits_variables_and_shell(root: Path) -> None:
    text = (
        'FROM a AS one\nARG F=x\nARG V=1\nENV E=x\nSHELL ["python3", "-c"]\n'
        "FROM one\nCOPY $F $E /\nRUN if a:  b\nLABEL v=$V\n"
    )
    steps = keys(text, root)
    assert [step.preimage.text() for step in steps[4:]] == ["COPY x x /", "RUN if a:  b", "LABEL v=1"]
    assert [one.name for one in steps[4].preimage.inputs if one.kind == "file"] == ["x"]
    assert why(steps, keys(text, root, {"V": "2"}))[4:] == ["HIT", "ARG V: 1 -> 2", "ARG V: 1 -> 2"]


def test_what_is_taken_from_an_image_depends_on_the_platform(root: Path) -> None:
    text = "FROM --platform=linux/amd64 a\nCOPY --from=b x /\n"
    before, after = keys(text, root), keys(text, root, platform="linux/arm64")
    assert why(before, after) == ["HIT", "platform changed: linux/amd64 -> linux/arm64"]


def test_a_platform_counts_on_a_stage_upon_a_stage(root: Path) -> None:
    text = "FROM a AS one\nFROM --platform={} one\nRUN b\n"
    before, after = (keys(text.format(platform), root) for platform in ("linux/amd64", "linux/arm64"))
    assert why(before, after) == ["HIT", "platform changed: linux/amd64 -> linux/arm64", "parent missed"]


def test_a_heredoc_is_part_of_an_onbuild(root: Path) -> None:
    text = "FROM a AS one\nONBUILD RUN <<E\nb\nE\nFROM one\n"
    assert why(keys(text, root), keys(text.replace("\nb\n", "\nc\n"), root)) == [
        "HIT", "here-document E changed: +1 -1", "parent missed", "here-document E changed: +1 -1",
    ]  # fmt: skip


def lines_run(do: Callable[[], object]) -> int:
    """How many lines of Python that takes."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: object) -> object:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(before)
    return count


def test_a_folder_whose_files_were_all_replaced_is_explained_in_one_pass() -> None:
    def step(name: str, files: int) -> Preimage:
        taken = [Input("file", f"{name}{number}", f"blake3:{name}{number}") for number in range(files)]
        return Preimage("0", (Input("instruction", "COPY", '["data","/"]'), *taken))

    few, many = (lines_run(lambda n=n: explain([step("a", n)], [step("b", n)])) for n in (100, 400))  # type: ignore[misc]
    assert many < 5 * few
