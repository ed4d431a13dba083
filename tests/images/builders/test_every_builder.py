"""What holds for every builder: one suite, real buildah and real BuildKit."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.images.builders.rigs import FILES, NAMES, Counter, keyed, until_durable
from tests.images.servers import docker_registry

from spotweld.errors import BuilderUnavailable, BuildFailed, CacheUnsaved
from spotweld.images.builders.buildah import mounts_below
from spotweld.images.builders.builder import Outcome, Solve, Step
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.registries.opening import open_registry

if TYPE_CHECKING:
    from pathlib import Path

Fresh = "Callable[[], Machine]"
Project = "Callable[..., Solve]"

pytestmark = pytest.mark.slow


def ran(counter: Counter) -> list[str]:
    """Which instructions were run to their end since this was asked last."""
    ended = [call.removeprefix("end/") for call in counter.calls if call.startswith("end/")]
    counter.calls.clear()
    return ended


def test_every_instruction_runs_once_and_never_again(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter, registry: str
) -> None:
    solve = project(three_stages, FILES, image=f"{registry}/image/{os.urandom(4).hex()}:1")
    machine = fresh()
    told: list[Step] = []
    first = machine.builder().solve(solve, told.append)
    assert ran(counter) == list(NAMES)
    assert tuple(told) == first.steps
    assert {step.outcome for step in told} == {Outcome.RAN}
    document = parse(three_stages)
    for step in told:
        one = document.stages[step.stage].instructions[step.number]
        assert step.text.split()[0] == one.word, (step, one)
    assert len([step for step in told if step.text.startswith(("RUN", "COPY"))]) == 12

    for again in (machine, fresh()):
        solved = again.builder().solve(solve)
        assert ran(counter) == []
        assert solved.ran() == ()
        assert solved.digest == first.digest
        assert solved.digest.startswith("sha256:")


@pytest.mark.parametrize("where", ["same machine", "fresh machine"])
def test_only_what_a_change_reaches_runs_again(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter, where: str
) -> None:
    solve = project(three_stages, FILES)
    machine = fresh()
    machine.builder().solve(solve)
    assert ran(counter) == list(NAMES)

    def again(dockerfile: str = three_stages, files: dict[str, str] = FILES, **more: object) -> list[str]:
        there = machine if where == "same machine" else fresh()
        there.builder().solve(project(dockerfile, files, **more))
        return ran(counter)

    assert again("# a comment\n" + three_stages.replace("COPY one", "# another\n\nCOPY one")) == []
    os.utime(solve.context / "one", (1, 1))
    assert again() == []
    assert again(files={**FILES, "unnamed": "new"}) == []
    assert again(files={"one": "1\n", "two": "two\n"}) == ["b2", "b3", "c1", "c2", "c3"]
    last = three_stages.replace("cat /c1 >/c2", "cat /c1 >/c2; true")
    assert again(last, files={"one": "1\n", "two": "two\n"}) == ["c2", "c3"]
    changed = {"one": "1 again\n", "two": "two\n"}
    assert again(last, changed) == ["a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3"]
    assert again(last, changed, args={"FLAVOUR": "sour"}) == list(NAMES)


def test_going_back_to_earlier_files_finds_what_was_made_of_them(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter
) -> None:
    fresh().builder().solve(keyed(project(three_stages, FILES)))
    assert ran(counter) == list(NAMES)
    fresh().builder().solve(keyed(project(three_stages, {"one": "1\n", "two": "other\n"})))
    assert ran(counter) == ["b2", "b3", "c1", "c2", "c3"]
    fresh().builder().solve(keyed(project(three_stages, FILES)))
    assert ran(counter) == []


def test_who_is_not_sure_in_the_end_publishes_nothing(fresh: Fresh, project: Project, base: str, registry: str) -> None:
    repository = f"image/{os.urandom(4).hex()}"
    solve = project(f"FROM {base}\nCOPY one /one\n", FILES, image=f"{registry}/{repository}:1")

    def sure() -> None:
        raise BuildFailed("it is another file now")

    with pytest.raises(BuildFailed, match="it is another file now"):
        fresh().builder().solve(solve, sure=sure)
    assert open_registry(registry).resolve(repository, "1") is None
    digest = fresh().builder().solve(solve).digest
    assert open_registry(registry).resolve(repository, "1") == digest


def test_an_equal_result_of_an_earlier_stage_stops_the_change(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter
) -> None:
    machine = fresh()
    machine.builder().solve(project(three_stages, FILES))
    ran(counter)
    same = three_stages.replace("cat b2 >b3", "cat <b2 >b3")
    machine.builder().solve(project(same, FILES))
    assert ran(counter) == ["b3"]


def test_a_failed_instruction_is_named_and_those_before_it_are_kept(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter
) -> None:
    told: list[Step] = []
    printed: list[str] = []
    broken = three_stages.replace("cat b2 >b3", "echo out of luck; false")
    with pytest.raises(BuildFailed) as caught:
        fresh().builder().solve(project(broken, FILES), told.append, printed.append)
    assert "out of luck; false" in caught.value.what
    assert "out of luck" in caught.value.todo
    assert "out of luck" in printed
    assert [step.outcome for step in told[-2:]] == [Outcome.RAN, Outcome.FAILED]
    assert ran(counter) == ["a1", "a2", "a3", "b1", "b2"]
    fresh().builder().solve(project(three_stages, FILES))
    assert ran(counter) == ["b3", "c1", "c2", "c3"]


def test_only_the_stages_that_the_target_needs_are_built(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter
) -> None:
    machine = fresh()
    machine.builder().solve(project(three_stages, FILES, target="first"))
    assert ran(counter) == ["a1", "a2", "a3"]
    machine.builder().solve(project(three_stages, FILES, target="second"))
    assert ran(counter) == ["b1", "b2", "b3"]


def test_a_base_is_what_its_pin_says(fresh: Fresh, project: Project, base: str, counter: Counter) -> None:
    machine = fresh()
    name = "images.example/base:1"
    pinned = [
        machine.builder().solve(project(f"FROM {base}\nRUN echo {text} >/text\n", image=f"{base}-{text}")).digest
        for text in ("old", "new")
    ]
    document = f"FROM {name}\n{counter.run('x', 'cat /text >/seen')}\n"
    for digest in (pinned[0], pinned[1], pinned[0]):
        bases = {name: f"{base}-{'old' if digest == pinned[0] else 'new'}@{digest}"}
        fresh().builder().solve(project(document, bases=bases))
    assert ran(counter) == ["x", "x"]


def test_two_builds_at_once_on_one_machine(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter, base: str
) -> None:
    machine = fresh()
    # BuildKit may lose what it has made when two builds at once are the first to fetch a base: give it the base.
    machine.builder().solve(project(f"FROM {base}\nRUN true\n"))
    solve = project(three_stages, FILES)
    other = solve.context / "other"
    other.write_text(f"FROM {base}\n{counter.run('o1')}\n{counter.run('o2')}\n")
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(machine.builder().solve, solve),
            pool.submit(machine.builder().solve, Solve(solve.context, other, solve.cache)),
        ]
        for one in both:
            one.result()
    assert sorted(ran(counter)) == sorted([*NAMES, "o1", "o2"])


def test_an_ignored_file_is_not_there(fresh: Fresh, project: Project, base: str) -> None:
    machine = fresh()
    document = f"FROM {base}\nCOPY . /all\nRUN ls /all && test ! -e /all/secret && test -e /all/kept\n"
    for ignore in (".dockerignore", "Dockerfile.dockerignore"):
        machine.builder().solve(project(document, {"secret": "s", "kept": "k", ignore: "secret\n"}))
        (project(document).context / ignore).unlink()


def test_a_file_that_is_missing_is_named(fresh: Fresh, project: Project, base: str) -> None:
    with pytest.raises(BuildFailed, match="nowhere"):
        fresh().builder().solve(project(f"FROM {base}\nCOPY nowhere /x\n"))


def test_a_cache_that_is_unreachable_is_one_clear_error(
    fresh: Fresh, project: Project, base: str, counter: Counter
) -> None:
    solve = project(f"FROM {base}\n{counter.run('x')}\n")
    nowhere = Solve(solve.context, solve.dockerfile, "127.0.0.1:1/cache")
    machine = fresh()
    with pytest.raises(CacheUnsaved) as caught:
        machine.builder().solve(nowhere)
    assert "127.0.0.1:1" in caught.value.why
    assert ran(counter) == ["x"]
    machine.builder().solve(solve)
    assert ran(counter) == []
    fresh().builder().solve(solve)
    assert ran(counter) == []


def test_it_says_its_version(fresh: Fresh) -> None:
    assert fresh().builder().version()[0].isdigit()


def test_without_the_program_it_says_so(fresh: Fresh, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = fresh()
    monkeypatch.setenv("PATH", "/nowhere")
    if machine.kind == "buildkit":
        machine.kill()
    with pytest.raises(BuilderUnavailable):
        machine.builder().solve(project("FROM scratch\n"))


def test_a_machine_killed_in_every_instruction_costs_no_finished_one(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter
) -> None:
    """Each machine dies in the instruction after the one in which the last died; the next one is fresh."""
    solve = project(three_stages, FILES)
    lines = three_stages.splitlines()
    killed: list[str] = []
    for before, victim in zip(("", *NAMES), NAMES, strict=False):
        machine = fresh()
        building = machine.start(solve)

        def strike(call: str, victim: str = victim, before: str = before, machine=machine) -> bool:  # noqa: ANN001
            if call != f"begin/{victim}":
                return True
            if before:
                line = next(at for at, text in enumerate(lines, 1) if f"begin/{before} " in text)
                until_durable(machine.kind, solve, line)
            building.kill()  # noqa: B023  called within this turn only
            machine.kill()
            killed.append(call)
            return False

        counter.hook = strike
        assert building.wait(60) != 0
    counter.hook = lambda _: True
    fresh().builder().solve(solve)
    assert killed == [f"begin/{name}" for name in NAMES]
    for name in NAMES:
        assert (name, counter.calls.count(f"begin/{name}")) == (name, 2)
        assert (name, counter.calls.count(f"end/{name}")) == (name, 1)


def test_a_build_that_was_killed_goes_on_upon_the_same_machine(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter
) -> None:
    solve = project(three_stages, FILES)
    machine = fresh()
    building = machine.start(solve)

    def strike(call: str) -> bool:
        if call == "begin/b2":
            building.kill()
        return call != "begin/b2"

    counter.hook = strike
    assert building.wait(60) != 0
    counter.hook = lambda _: True
    assert ran(counter) == ["a1", "a2", "a3", "b1"]
    machine.builder().solve(solve)
    assert ran(counter) == ["b2", "b3", "c1", "c2", "c3"]
    assert mounts_below(machine.folder) == () or machine.kind == "buildkit"
    fresh().builder().solve(solve)
    assert ran(counter) == []


@pytest.mark.parametrize("what", ["all", "layers"])
def test_a_cache_whose_blobs_are_gone_is_made_again(
    fresh: Fresh, project: Project, three_stages: str, counter: Counter, tmp_path: Path, what: str
) -> None:
    with docker_registry(tmp_path) as url:
        there = url.removeprefix("http://")
        solve = msgspec.structs.replace(project(three_stages, FILES), cache=f"{there}/cache", image=f"{there}/image:1")
        fresh().builder().solve(solve)
        assert ran(counter) == list(NAMES)
        for blob in (tmp_path / "registry").glob("docker/registry/v2/blobs/sha256/*/*/data"):
            begins = blob.read_bytes()[:40]
            layer = begins.startswith(b"\x1f\x8b")
            if blob.stat().st_size < 100_000 and (layer or what == "all") and b"schemaVersion" not in begins:
                blob.unlink()
        digest = fresh().builder().solve(solve).digest
        assert set(ran(counter)) == set(NAMES)
        assert digest.startswith("sha256:")
