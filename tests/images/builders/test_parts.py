"""The parts of the builders that run nothing: where a Dockerfile is cut, and how a builder's output is read."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.images.samples import add_image

from spotweld.errors import BuilderUnavailable, DockerfileError
from spotweld.images.builders.buildah import Reading, mounts_below
from spotweld.images.builders.builder import Outcome, Solve, Step, ignore
from spotweld.images.builders.climbing import Climber
from spotweld.images.builders.commands import follow
from spotweld.images.builders.ladder import Rung, rungs, salt_of, stages
from spotweld.images.builders.restocking import Stock, unfindable
from spotweld.images.builders.vertices import Progress, Vertex
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.registries.opening import open_registry

THREE = """\
ARG TAG=1
FROM base:$TAG AS first
ENV A=1
RUN one \\
  # why
  more
COPY <<EOF /here
RUN not an instruction
EOF
FROM scratch AS second
WORKDIR /w
COPY --from=first /x /x
FROM other
RUN --mount=type=bind,from=second,target=/s three
CMD ["x"]
"""


def test_a_rung_ends_where_its_instruction_ends() -> None:
    found = rungs(parse(THREE))
    assert [(rung.stage, rung.number, rung.line) for rung in found] == [(0, 2, 4), (0, 3, 7), (1, 2, 12), (2, 1, 14)]
    assert [rung.text.splitlines()[-1].strip() for rung in found] == [
        "more",
        "EOF",
        "COPY --from=first /x /x",
        "RUN --mount=type=bind,from=second,target=/s three",
    ]
    assert all(THREE.startswith(rung.text) for rung in found)


def test_the_target_decides_which_stages_have_rungs() -> None:
    document = parse("FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM one\nRUN 3\n")
    assert [rung.stage for rung in rungs(document)] == [0, 2]
    assert [rung.stage for rung in rungs(document, "two")] == [1]
    assert [rung.stage for rung in rungs(document, "0")] == [0]
    with pytest.raises(DockerfileError, match="'three'"):
        rungs(document, "three")


def test_a_name_with_a_variable_may_be_any_earlier_stage() -> None:
    document = parse("ARG B=one\nFROM a AS one\nRUN 1\nFROM b\nRUN 2\nFROM $B\nRUN 3\n")
    assert stages(document, {})[2].needs == {0, 1}


def changed(text: str) -> list[int]:
    """Which of the tags differ when the text is that instead."""
    return [
        at for at, (a, b) in enumerate(zip(rungs(parse(THREE)), rungs(parse(text)), strict=True)) if a.tags != b.tags
    ]


def test_a_tag_follows_what_its_rung_depends_on_and_nothing_else() -> None:
    assert changed("# comment\n\n" + THREE.replace("  # why\n", "")) == []
    assert changed(THREE.replace("RUN one", "RUN two")) == [0, 1, 2, 3]
    assert changed(THREE.replace("RUN not", "RUN yes")) == [1, 2, 3]
    assert changed(THREE.replace("WORKDIR /w", "WORKDIR /v")) == [2, 3]
    assert changed(THREE.replace("FROM other", "FROM another")) == [3]
    assert changed(THREE.replace("three", "four")) == [3]
    assert changed(THREE.replace('["x"]', '["y"]')) == []
    assert changed(THREE.replace("TAG=1", "TAG=2")) == [0, 1, 2, 3]
    plain, salted = rungs(parse(THREE)), rungs(parse(THREE), "", {"TAG": "3"})
    assert not {rung.tags for rung in plain} & {rung.tags for rung in salted}


def test_where_a_base_lies_is_no_part_of_a_tag() -> None:
    def salt(pinned: str) -> dict[str, str]:
        return salt_of(Solve(Path(), Path("Dockerfile"), "cache", bases={"base": pinned}))

    assert salt("127.0.0.1:20001/x/base@sha256:1") == salt("registry.example.org/x/base@sha256:1")
    assert salt("127.0.0.1:20001/x/base@sha256:1") != salt("127.0.0.1:20001/x/base@sha256:2")


@given(st.lists(st.sampled_from(["RUN a", "COPY b c", "ENV D=1", "# no", "", "ADD e f", "RUN a \\\n  b"]), max_size=12))
def test_every_rung_is_a_document_whose_last_rung_it_is(lines: list[str]) -> None:
    document = parse("\n".join(["FROM x", *lines]) + "\n")
    for rung in rungs(document):
        again = rungs(parse(rung.text))
        assert (again[-1].tags, again[-1].line, again[-1].text) == (rung.tags, rung.line, rung.text)


def test_buildah_misses_what_follows_an_arg_of_its_stage() -> None:
    document = parse("ARG A\nFROM x\nRUN 1\nFROM y\nRUN 2\nARG B\nENV C=1\nRUN 3\n")
    plan = stages(document, {})
    assert unfindable(document, plan) == {(1, number): f"step-{plan[1].tags[number]}" for number in (2, 3, 4)}


def test_what_a_machine_has_is_tagged_again_where_the_cache_was_emptied(registry: str, tmp_path: Path) -> None:
    there, name, memory = open_registry(registry), f"cache/{uuid.uuid4().hex}", tmp_path / "memory.json"
    memory.write_bytes(b'{"step-1": "sha2')  # whoever wrote it was killed
    pulled: list[str] = []
    for _ in range(2):
        add_image(there, name, "0123", [b"layer"])
        stock = Stock(there, f"{registry}/{name}", {(0, 1): "step-1"}, memory)
        stock.fetch(lambda reference: pulled.append(reference) is None)
        stock.keep((0, 1), "0123")
        assert (stock.troubles, pulled) == ([], [])
        assert there.resolve(name, "step-1") == there.resolve(name, "0123")
        for tag in there.tags(name):
            there.delete(name, tag)


def read(text: str) -> list[Step]:
    ticks = iter(range(1000))
    reading = Reading(ignore, {(1, 1): "step-1"}, lambda: float(next(ticks)))
    for line in text.splitlines():
        reading.hear(line)
    reading.fail()
    return reading.steps


def test_buildah_says_what_became_of_each_instruction() -> None:
    steps = read("""\
[1/2] STEP 1/3: FROM base AS a
Trying to pull base...
[1/2] STEP 2/3: RUN one
STEP 3/3: RUN printed by an instruction
--> Pushing cache host/c:0123
--> 0123456789a
[1/2] STEP 3/3: COPY x y
--> Using cache 0123
--> 0123456789b
[2/2] STEP 1/3: FROM base
[2/2] STEP 2/3: RUN two
--> Cache pulled from remote host/c:4567
--> Using cache 4567
--> 0123456789c
[2/2] STEP 3/3: RUN false
Error: building at STEP "RUN false": exit status 1
""")
    assert [(step.stage, step.number, step.text, step.outcome, step.remote, step.tag) for step in steps] == [
        (0, 1, "RUN one", Outcome.RAN, False, "0123"),
        (0, 2, "COPY x y", Outcome.HIT, False, ""),
        (1, 1, "RUN two", Outcome.HIT, True, "step-1"),
        (1, 2, "RUN false", Outcome.FAILED, False, ""),
    ]


def test_an_instruction_of_buildah_may_wait_for_another_stage() -> None:
    steps = read("""\
[3/3] STEP 1/2: FROM base
[3/3] STEP 2/2: COPY --from=b /x /x
[2/3] STEP 1/2: FROM base AS b
[2/3] STEP 2/2: RUN two
--> 0123456789a
--> Using cache 0123
--> 0123456789b
""")
    assert [(step.stage, step.outcome) for step in steps] == [(1, Outcome.RAN), (2, Outcome.HIT)]


def test_buildkit_reports_in_texts_of_several_lines() -> None:
    ended = {"digest": "d", "name": "[2/2] RUN x", "started": "2026-01-01T00:00:01Z"}
    done = {**ended, "completed": "2026-01-01T00:00:03.5123456789Z", "cached": True}
    logs = {"logs": [{"vertex": "d", "data": base64.b64encode(b"one\ntwo\n").decode()}]}
    stream = [
        json.dumps(text, indent=2) for text in ({"vertexes": [ended]}, logs, {"vertexes": [done]}, {"vertexes": [done]})
    ]
    progress = Progress(stages(parse(THREE), {}))
    told = [event for text in [*stream, "ERROR: no"] for line in text.splitlines() for event in progress.hear(line)]
    assert told == ["one", "two", Vertex("d", "[2/2] RUN x", 2.512345, cached=True)]
    assert progress.other == ["ERROR: no"]


@pytest.mark.parametrize(
    ("name", "highest", "place"),
    [
        ("[first 2/3] RUN one more", 3, (0, 2, "RUN one more")),
        ("[linux/arm64 first  3/3] COPY x", 3, (0, 3, "COPY x")),
        ("[first 1/3] FROM base:1", 3, None),
        ("[first 1/3] RUN one more", 2, (0, 2, "RUN one more")),
        ("[second 1/2] WORKDIR /w", 2, (1, 1, "WORKDIR /w")),
        ("[stage-2 2/2] RUN three", 2, (2, 1, "RUN three")),
        ("[first 4/3] RUN one more", 5, (0, 2, "RUN one more")),
        ("[first 2/3] RUN trigger", 5, None),
        ("[internal] load build context", 0, None),
        ("[elsewhere 2/3] RUN x", 0, None),
        ("exporting to image", 0, None),
    ],
)
def test_a_step_of_buildkit_is_found_in_the_document(name: str, highest: int, place: object) -> None:
    plan = stages(parse(THREE.replace(":$TAG", ":1")), {})
    assert Vertex("d", name, 0.0, cached=False).place(plan, dict.fromkeys(range(3), highest)) == place


def test_an_imported_reference_is_known() -> None:
    assert Vertex("d", "importing cache manifest from h/c:t", 0.0, cached=False).imported() == "h/c:t"


def rung(stage: int, number: int) -> Rung:
    return Rung(stage, number, 1, "", (f"{stage}.{number}",))


def test_rungs_that_wait_are_sent_together_by_stage() -> None:
    sent: list[list[str]] = []
    begun, may_go_on = threading.Event(), threading.Event()

    def send(together: tuple[Rung, ...]) -> str:
        sent.append([one.tags[0] for one in together])
        begun.set()
        assert may_go_on.wait(60)
        return "no space" if len(together) == 2 else ""

    with Climber(send) as climber:
        climber.reached(rung(0, 1))
        assert begun.wait(60)
        for number in (3, 2):
            climber.reached(rung(0, number))
        climber.reached(rung(1, 1))
        may_go_on.set()
    assert sent == [["0.1"], ["0.2", "0.3"], ["1.1"]]
    assert climber.troubles == ["no space"]


@pytest.mark.parametrize("error", [OSError("the disk is full"), BuilderUnavailable("it is gone")])
def test_a_rung_that_cannot_be_sent_at_all_is_a_trouble_and_the_next_one_goes(error: Exception) -> None:
    sent: list[str] = []

    def send(together: tuple[Rung, ...]) -> str:
        sent.append(together[-1].tags[0])
        if len(sent) == 1:
            raise error
        return ""

    with Climber(send) as climber:
        climber.reached(rung(0, 1))
        climber.reached(rung(1, 1))
    assert sent == ["0.1", "1.1"]
    assert climber.troubles == [str(error)]


def test_after_an_exception_nothing_more_is_sent() -> None:
    sent: list[str] = []
    begun, may_go_on = threading.Event(), threading.Event()

    def send(together: tuple[Rung, ...]) -> str:
        sent.append(together[-1].tags[0])
        begun.set()
        assert may_go_on.wait(60)
        return ""

    def climb() -> None:
        with Climber(send) as climber:
            climber.reached(rung(0, 1))
            assert begun.wait(60)
            climber.reached(rung(0, 2))
            threading.Timer(0.05, may_go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climb()
    assert sent == ["0.1"]


def test_a_program_is_heard_on_both_streams_and_its_status_told() -> None:
    heard: list[str] = []
    ended = follow(["sh", "-c", "echo out; echo 'Error: bad' >&2; echo $X; exit 3"], heard.append, env={"X": "y"})
    assert heard == ["out", "Error: bad", "y"]
    assert (ended.status, ended.words) == (3, "Error: bad")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(BuilderUnavailable, match="no-such-builder"):
        follow(["no-such-builder"], ignore, env={})


def test_nothing_is_mounted_in_a_new_folder(tmp_path: Path) -> None:
    assert mounts_below(tmp_path) == ()
