from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from tests.images.samples import add_blob, add_image, add_index
from tests.images.servers import docker_registry
from tests.images.workshop import FILES, Double, Shop, push

from spotweld.errors import BaseUnresolved, BuildFailed, ContextError, DockerfileError, RegistryUnavailable, TagMoved
from spotweld.images.builders.builder import Outcome
from spotweld.images.builders.readying import ready_dockerfile
from spotweld.images.builds.building import build
from spotweld.images.builds.comparing import layers
from spotweld.images.builds.freshness import cached_tags, damage_of, read_dockerfile, standings, triggers_memory_of
from spotweld.images.builds.happenings import Begun, Failed, Happening, Published, Ran, Warned
from spotweld.images.builds.naming import cache_of
from spotweld.images.builds.planning import plan_images
from spotweld.images.builds.records import builds, read_kept
from spotweld.images.caches.deciding import busted
from spotweld.images.caches.doing import cut
from spotweld.images.caches.looking import verify
from spotweld.images.lifetimes.deciding import Contents, Tag
from spotweld.images.registries.hosts import Hosts
from spotweld.images.registries.manifests import OCI_CONFIG, OCI_MANIFEST, blobs, manifest_of
from spotweld.images.registries.opening import Registries, open_registry
from spotweld.images.registries.registry import Registry
from spotweld.images.steps.keys import references
from spotweld.project.graph import build_order
from spotweld.project.reading import load_project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spotweld.images.builds.happenings import Built
    from spotweld.values.digests import Digest


@pytest.fixture(params=["layout", "distribution"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Shop:
    return Shop(tmp_path, request.getfixturevalue("server") if kind == "distribution" else "")


def make(
    shop: Shop, *names: str, watch: Callable[[Happening], None] = lambda _: None, at_once: int = 1
) -> tuple[Built, ...]:
    return build(shop.project, names or None, shop.builder, shop.objects, watch, at_once=at_once)


def test_the_first_build_does_everything_and_the_second_nothing(shop: Shop) -> None:
    told: list[Happening] = []
    first = make(shop, watch=told.append)

    assert sorted(shop.builder.ran) == sorted(
        ["COPY tree /", "RUN make base", "RUN install numpy", "ENV A=1", "RUN install torch", "ARG MODE", "RUN prepare",
         "COPY train.py /", "RUN check", "CMD train", "COPY tool /", "RUN one"]
    )  # fmt: skip
    assert [one.image for one in first] == ["base", "tool", "stack", "trainer"]
    assert all(one.built for one in first)
    assert {one.image for one in told if isinstance(one, Begun)} == {one.image for one in first}
    assert {one.built for one in told if isinstance(one, Published)} == set(first)
    assert sum(isinstance(one, Ran) for one in told) == 12

    shop.builder.ran.clear()
    shop.builder.solves.clear()
    second = make(shop)
    assert [one.digest for one in second] == [one.digest for one in first]
    assert not any(one.built for one in second)
    assert shop.builder.solves == []


def test_an_image_has_its_tags_labels_and_records(shop: Shop) -> None:
    made = {one.image: one for one in make(shop)}
    base = made["base"]
    registry = open_registry(base.registry)
    assert registry.resolve(base.repository, base.tag) == registry.resolve(base.repository, "latest") == base.digest
    labels = registry.labels(base.repository, "latest")
    assert labels["io.spotweld.key"] == base.key
    assert labels["io.spotweld.lifetime"] == "persistent"
    assert base.tag == base.key.partition(":")[2][:40]
    (record,) = builds(shop.objects, "base")
    assert (record.digest, record.key, record.tag) == (base.digest, base.key, base.tag)
    assert [one.outcome for one in record.attempts] == ["done"]
    assert [done.preimage.instruction.name for done in record.steps] == ["FROM", "COPY", "RUN"]
    assert [done.ran for done in record.steps] == [None, 3.0, 3.0]
    kept = read_kept(shop.objects, "base")
    assert kept is not None
    assert kept.protected
    other = read_kept(shop.objects, "tool")
    assert other is not None
    assert not other.protected


def test_a_change_rebuilds_what_follows_it_and_what_is_upon_it(shop: Shop) -> None:
    make(shop)
    shop.builder.ran.clear()
    shop.change("stack/Dockerfile", "torch", "jax")
    before = {one.image.name: one for one in standings(shop.project)}
    assert [name for name, one in before.items() if one.digest is None] == ["stack", "trainer"]
    assert before["trainer"].waits == ("stack",)
    assert before["trainer"].key is None
    made = {one.image: one for one in make(shop, "trainer")}
    assert shop.builder.ran[:1] == ["RUN install jax"]
    assert "RUN install numpy" not in shop.builder.ran
    assert "RUN prepare" in shop.builder.ran
    assert (made["stack"].hits, made["stack"].ran) == (2, 1)
    assert made["stack"].saved == 5.0
    assert "tool" not in made


def test_a_pinned_name_that_means_an_image_of_the_project_changes_with_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    name = "mirror/base@sha256:" + "1" * 64
    shop.change("stack/Dockerfile", "FROM base", f"FROM {name}")
    shop.change("spotweld.yaml", "{base: base}", f'{{"{name}": base}}')
    before = {one.image: one for one in make(shop, "stack")}
    shop.write("base/tree", "other bytes\n")
    after = {one.image: one for one in make(shop, "stack")}
    assert after["base"].built
    assert after["stack"].built
    assert after["stack"].key != before["stack"].key


def test_labels_do_not_change_what_is_built_upon_an_image(shop: Shop) -> None:
    """The base is labelled anew, as after a build at another commit; what is upon it stays."""
    made = {one.image: one for one in make(shop)}
    base = made["base"]
    registry = open_registry(base.registry)
    new = registry.label(base.repository, base.tag, {"org.opencontainers.image.revision": "other"})
    registry.tag(base.repository, new, "latest")
    assert all(one.is_published for one in standings(shop.project))


def test_what_was_reverted_is_there_and_latest_goes_back(shop: Shop) -> None:
    first = {one.image: one for one in make(shop)}["tool"]
    shop.write("tool/tool", "another\n")
    second = {one.image: one for one in make(shop)}["tool"]
    assert second.digest != first.digest
    shop.write("tool/tool", "tool\n")
    shop.builder.solves.clear()
    third = {one.image: one for one in make(shop)}["tool"]
    assert (third.digest, third.built, shop.builder.solves) == (first.digest, False, [])
    assert open_registry(third.registry).resolve(third.repository, "latest") == first.digest


def dying(shop: Shop, point: str) -> subprocess.CompletedProcess[str]:
    """Build ``tool`` in a process that is killed there."""
    words = [sys.executable, "-m", "tests.images.builds.dying", str(shop.folder), "tool", point]
    return subprocess.run(words, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=False)


def check_killed_and_done_again(shop: Shop, point: str) -> None:
    """Build in a process that is killed at a point, then in another one that is not."""
    killed = dying(shop, point)
    assert killed.returncode == -signal.SIGKILL, (point, killed.stderr)
    (before,) = standings(shop.project, ["tool"])
    registry, repository = open_registry(before.registry), before.repository
    whole(registry, repository)
    done = dying(shop, "")
    assert done.returncode == 0, (point, done.stderr)
    whole(registry, repository)
    log = (shop.folder / "log").read_text().splitlines()
    for text in ("COPY tool /", "RUN one"):
        # Only what had run and was not sent yet runs again.
        unsent = log[: log.index(f"sent {text}")] if f"sent {text}" in log else log
        assert log.count(f"ran {text}") == unsent.count(f"ran {text}") <= 2, (point, log)
        assert log.count(f"ran {text}") == 1 or point in IN_PROGRESS, (point, log)
    (standing,) = standings(shop.project, ["tool"])
    assert standing.is_published, point
    assert registry.labels(repository, "latest")["io.spotweld.key"] == standing.key
    assert registry.tags(repository) == tuple(sorted(["latest", standing.tag]))
    (record,) = builds(shop.objects, "tool")
    assert (record.digest, record.key) == (standing.digest, standing.key)
    assert [done.preimage.instruction.name for done in record.steps] == ["FROM", "COPY", "RUN"]
    kept = read_kept(shop.objects, "tool")
    assert kept is not None


def whole(registry: Registry, repository: str) -> None:
    """No tag names anything that is missing or damaged."""
    tags = tuple(Tag(name, registry.resolve(repository, name)) for name in registry.tags(repository))
    contents = Contents("tool", registry.url, repository, tags, registry.tags(cache_of(repository)))
    assert verify(registry, [contents]).faults == ()


IN_PROGRESS = {"before blob 1", "after blob 1", "before blob 2", "after blob 2", "before put cached step 1"}
IN_PROGRESS |= {"before blob 3", "after blob 3", "before blob 4", "after blob 4", "before put cached step 2"}
"""While an instruction's result is sent, before its tag is there."""
PUBLISHING = (
    "before put key 1",  # it is built, and not pushed
    "after put key 1",  # pushed, and has no labels
    "after put key 2",  # labelled, and not recorded
    "after store builds 4",  # recorded, and latest does not name it
    "after put latest 1",
)


@pytest.mark.parametrize("point", PUBLISHING)
def test_killed_while_an_image_is_published_the_next_build_mends_it(tmp_path: Path, point: str) -> None:
    check_killed_and_done_again(Shop(tmp_path), point)


@pytest.mark.slow
def test_killed_before_or_after_anything_durable_the_next_build_mends_it(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    def shop(name: str) -> Shop:
        (tmp_path / name).mkdir()
        return Shop(tmp_path / name, request.getfixturevalue("server") if kind == "distribution" else "")

    points = dying(shop("none"), "").stdout.splitlines()
    assert set(PUBLISHING) <= set(points)
    assert len(points) > 30
    for number, point in enumerate(points):
        check_killed_and_done_again(shop(str(number)), point)


def test_a_failed_instruction_has_its_line_and_the_others_go_on(shop: Shop) -> None:
    shop.change("stack/Dockerfile", "RUN install torch", "RUN fail")
    told: list[Happening] = []
    with pytest.raises(BuildFailed, match=r"stack: Dockerfile:4: RUN fail: failed: exit status 7"):
        make(shop, watch=told.append)
    assert {one.built.image for one in told if isinstance(one, Published)} == {"base", "tool"}
    assert [one.image for one in told if isinstance(one, Failed)] == ["stack"]
    (record,) = builds(shop.objects, "stack", unfinished=True)
    assert record.digest is None
    assert [one.outcome for one in record.attempts] == ["failed"]
    assert [done.outcome for done in record.steps] == [Outcome.HIT, Outcome.RAN, Outcome.RAN, Outcome.FAILED]
    assert builds(shop.objects, "stack") == ()

    shop.builder.ran.clear()
    shop.change("stack/Dockerfile", "RUN fail", "RUN install torch")
    make(shop)
    assert "RUN install numpy" not in shop.builder.ran


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tool/tool", "edited\n"),
        ("tool/Dockerfile", "FROM scratch\nCOPY tool /\nRUN two\n"),
        ("tool/Dockerfile", "FRO\n"),
    ],
)
def test_an_image_whose_files_change_while_it_is_built_is_not_published(shop: Shop, file: str, text: str) -> None:
    def edit(point: str) -> None:
        if point == "COPY tool /":
            shop.write(file, text)

    shop.builder.hook = edit
    with pytest.raises(BuildFailed, match="tool: its files changed while it was built") as caught:
        make(shop, "tool")
    assert "Build again" in caught.value.todo
    shop.builder.hook = lambda _: None
    shop.write(file, FILES[file])
    (standing,) = standings(shop.project, ["tool"])
    assert (standing.found, standing.latest) == (None, None)
    (made,) = make(shop, "tool")
    assert made.built


def test_a_tag_that_somebody_else_moved_is_an_error_and_nothing_is_lost(shop: Shop) -> None:
    (first,) = make(shop, "tool")
    shop.write("tool/tool", "mine\n")

    def other(point: str) -> None:
        if point == "pushed":
            with Hosts(Registries()) as hosts:
                push(f"{hosts.of(first.registry)}/{first.repository}:latest", "theirs")

    shop.builder.hook = other
    with pytest.raises(TagMoved, match="moved by somebody else during this build") as caught:
        make(shop, "tool")
    shop.builder.hook = lambda _: None
    assert "building again" in caught.value.todo
    (standing,) = standings(shop.project, ["tool"])
    assert standing.digest is not None
    assert standing.tag in caught.value.todo
    shop.builder.solves.clear()
    (made,) = make(shop, "tool")
    assert shop.builder.solves == []
    assert open_registry(made.registry).resolve(made.repository, "latest") == made.digest


def test_two_machines_that_build_the_same_agree(shop: Shop) -> None:
    def other(point: str) -> None:
        if point == "pushed":
            build(shop.project, ["tool"], Double(), shop.objects)

    shop.builder.hook = other
    (made,) = make(shop, "tool")
    assert open_registry(made.registry).resolve(made.repository, "latest") == made.digest


def test_another_machine_that_labels_the_same_image_at_the_same_moment_is_no_error(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Registry.label
    others: list[Digest] = []

    def label(self: Registry, repository: str, tag: str, added: Mapping[str, str]) -> Digest:
        if not others:
            # It is at another commit, so its labels differ.
            others.append(real(self, repository, tag, {**added, "org.opencontainers.image.revision": "other"}))
            raise TagMoved("the tag was moved")
        return real(self, repository, tag, added)

    monkeypatch.setattr(Registry, "label", label)
    (made,) = make(shop, "tool")
    assert [made.digest] == others
    assert standings(shop.project, ["tool"])[0].is_published


def test_an_image_that_is_always_moved_is_an_error_in_the_end(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def label(*_: object) -> Digest:
        raise TagMoved("the tag was moved")

    monkeypatch.setattr(Registry, "label", label)
    with pytest.raises(TagMoved):
        make(shop, "tool")


@pytest.mark.parametrize("record", ["partial", "damaged", "gone"])
def test_the_record_of_an_image_that_is_there_is_made_whole(shop: Shop, record: str) -> None:
    shop.builder.seconds = dict.fromkeys(("COPY tool /", "RUN one"), 0.1)  # too short to be written at once
    stopped = RuntimeError("the machine is lost")

    def stop(point: str) -> None:
        if point == "pushed":
            raise stopped

    shop.builder.hook = stop
    with pytest.raises(RuntimeError):
        make(shop, "tool")
    (begun,) = builds(shop.objects, "tool", unfinished=True)
    assert len(begun.steps) < 3
    key = f"images/tool/builds/{begun.tag}.json"
    if record == "damaged":
        shop.objects.put(key, b"{")
    if record == "gone":
        shop.objects.delete(key)
    shop.builder.hook = lambda _: None
    (made,) = make(shop, "tool")
    assert not made.built
    (whole,) = builds(shop.objects, "tool")
    assert whole.digest == made.digest
    assert [done.preimage.instruction.name for done in whole.steps] == ["FROM", "COPY", "RUN"]


def test_independent_images_are_built_side_by_side(shop: Shop) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(point: str) -> None:
        if point in {"RUN make base", "RUN one"}:
            both.wait()

    shop.builder.hook = meet
    assert len(make(shop, at_once=2)) == 4


def test_bases_are_given_by_digest(shop: Shop) -> None:
    made = {one.image: one for one in make(shop, "stack")}
    base = made["base"]
    asked = {solve.context.name: solve for solve in shop.builder.solves}
    assert asked["stack"].bases["base"].endswith(f"{base.repository}@{base.digest}")
    assert asked["base"].bases == {}
    assert asked["stack"].cache.endswith(f"{made['stack'].repository}/cache")


def test_a_base_of_a_registry_is_pinned_and_its_move_is_seen(shop: Shop, server: str) -> None:
    host = server.removeprefix("http://")
    name = f"{host}/outside-{shop.folder.name}".lower().replace("_", "-")
    old = push(f"{name}:1", "one")
    shop.write("tool/Dockerfile", f"FROM {name}:1\nRUN one\n")
    make(shop, "tool")
    assert shop.builder.solves[-1].bases == {f"{name}:1": f"{name}@{old}"}
    assert standings(shop.project, ["tool"])[0].is_published
    push(f"{name}:1", "two")
    assert standings(shop.project, ["tool"])[0].digest is None
    shop.write("tool/Dockerfile", f"FROM {name}@{old}\nRUN one\n")
    assert standings(shop.project, ["tool"])[0].steps


def test_a_base_that_cannot_be_reached_is_one_clear_error(shop: Shop, server: str, free_port: int) -> None:
    host = server.removeprefix("http://")
    shop.write("tool/Dockerfile", f"FROM {host}/nobody:1\n")
    with pytest.raises(BaseUnresolved, match=r"tool/Dockerfile:1: .*has no nobody:1"):
        standings(shop.project, ["tool"])
    shop.write("tool/Dockerfile", f"ARG A\nFROM 127.0.0.1:{free_port}/some:1\n")
    with pytest.raises(BaseUnresolved, match=r"tool/Dockerfile:2: .*Cannot reach"):
        standings(shop.project, ["tool"])
    shop.write("tool/Dockerfile", f"FROM 127.0.0.1:{free_port}/some@sha256:{64 * 'a'}\n")
    assert standings(shop.project, ["tool"])[0].key


@pytest.mark.parametrize("pinned", [True, False])
def test_what_a_base_outside_the_project_copies_on_builds_upon_it_counts(
    shop: Shop, server: str, *, pinned: bool
) -> None:
    there, repository = open_registry(server), f"onbuild/{uuid.uuid4().hex}"
    tools = add_image(there, f"{repository}/tools", "1", [b"tools"])
    host = server.removeprefix("http://")
    kept = ["ARG WHAT=tool", "COPY $WHAT /", f"COPY --from={host}/{repository}/tools:1 /bin /bin"]
    config = add_blob(there, repository, json.dumps({"config": {"OnBuild": kept}}).encode(), OCI_CONFIG)
    base = manifest_of({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": []})
    there.put_manifest(repository, base, "1")
    shop.write("tool/Dockerfile", f"FROM {host}/{repository}{f'@{base.digest}' if pinned else ':1'}\nRUN one\n")

    (first,) = make(shop, "tool")
    (standing,) = standings(shop.project, ["tool"])
    assert standing.digest == first.digest
    assert [step.preimage.text().split()[0] for step in standing.steps] == ["FROM", "COPY", "COPY", "RUN"]
    assert f"{host}/{repository}/tools:1" in standing.bases
    shop.write("tool/other", "nobody copies this")
    assert make(shop, "tool")[0].built is False
    shop.write("tool/tool", "changed")
    assert standings(shop.project, ["tool"])[0].digest is None
    assert make(shop, "tool")[0].built is True
    add_image(there, f"{repository}/tools", "1", [b"other tools"])
    assert tools.digest != there.resolve(f"{repository}/tools", "1")
    assert standings(shop.project, ["tool"])[0].digest is None
    (shop.folder / "tool/tool").unlink()
    with pytest.raises(ContextError, match=r"tool/Dockerfile:1: .*there is no 'tool'"):
        standings(shop.project, ["tool"])


def test_triggers_are_asked_for_once_and_a_damaged_memory_costs_no_more(shop: Shop, server: str) -> None:
    there, repository = open_registry(server), f"plain/{uuid.uuid4().hex}"
    image = add_image(there, repository, None, [b"layer"])
    add_index(there, repository, "1", [("amd64", image), ("arm64", image)])
    shop.write("tool/Dockerfile", f"FROM {server.removeprefix('http://')}/{repository}:1\nRUN one\n")
    asked: list[Registry] = []

    class Counting(Registries):
        def __getitem__(self, url: str) -> Registry:
            asked.append(super().__getitem__(url))
            return asked[-1]

    key = standings(shop.project, ["tool"])[0].key
    memory = triggers_memory_of(shop.project)
    before = memory.read_bytes()
    standings(shop.project, ["tool"], Counting())
    once = len(asked)
    memory.write_text("nonsense")
    assert standings(shop.project, ["tool"], Counting())[0].key == key
    assert len(asked) == 2 * once + 1
    assert memory.read_bytes() == before


@pytest.mark.parametrize(
    ("file", "text", "error", "words"),
    [
        ("tool/Dockerfile", "FROM scratch\nCOPY missing /\n", ContextError, r"tool/Dockerfile:2: .*'missing'"),
        ("tool/Dockerfile", "FROM scratch\n\nRUNN x\n", DockerfileError, r"tool/Dockerfile:3: .*RUNN"),
        ("tool/Dockerfile", "", DockerfileError, "no FROM"),
    ],
)
def test_bad_files(shop: Shop, file: str, text: str, error: type[Exception], words: str) -> None:
    shop.write(file, text)
    with pytest.raises(error, match=words):
        make(shop)


def test_a_dockerfile_that_went_away(shop: Shop) -> None:
    project = shop.project
    (shop.folder / "tool/Dockerfile").unlink()
    with pytest.raises(DockerfileError, match=r"tool/Dockerfile: there is no such Dockerfile"):
        standings(project)


def test_a_registry_that_does_not_answer(tmp_path: Path, free_port: int) -> None:
    shop = Shop(tmp_path, f"http://127.0.0.1:{free_port}")
    with pytest.raises(RegistryUnavailable):
        make(shop, "tool")
    assert shop.builder.solves == []


def test_an_image_whose_blobs_are_gone_is_built_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    (made,) = make(shop, "tool")
    for blob in (tmp_path / ".spotweld/images/ephemeral/blobs/sha256").iterdir():
        if blob.name != made.digest.partition(":")[2]:
            blob.unlink()
    (standing,) = standings(shop.project, ["tool"])
    assert "is gone" in standing.damage
    told: list[Happening] = []
    (again,) = make(shop, "tool", watch=told.append)
    assert again.built
    assert "is gone" in next(one.why for one in told if isinstance(one, Begun))
    assert standings(shop.project, ["tool"])[0].is_published


def test_spotwelds_own_folder_is_no_part_of_a_context(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.change("spotweld.yaml", "tool: {context: tool}", "tool: {dockerfile: tool/Dockerfile}")
    shop.write("tool/Dockerfile", "FROM scratch\nCOPY . /\n")
    shop.write(".dockerignore", "store\n")
    make(shop, "base")
    first = standings(shop.project, ["tool"])[0].key
    make(shop, "stack")
    assert standings(shop.project, ["tool"])[0].key == first
    entries = {one.name for one in standings(shop.project, ["tool"])[0].steps[1].preimage.inputs}
    assert "tool/tool" in entries
    assert not any(name.startswith((".spotweld", "store")) for name in entries)


def test_carriage_returns_count_in_a_here_document_and_nowhere_else(tmp_path: Path) -> None:
    """There they end up in the image: a script with them does not start, and to take them out has to build it again."""
    shop = Shop(tmp_path)

    def key(text: str) -> object:
        shop.write("tool/Dockerfile", text)
        (standing,) = standings(shop.project, ["tool"])
        with ready_dockerfile(shop.project, standing, "buildah") as file:
            assert file.read_bytes() == text.encode()
        return standing.key

    head, tail = "FROM scratch\nCOPY <<EOF /start\n", "#!/bin/sh\nexec true\nEOF\nRUN one\n"
    plain = key(head + tail)
    assert key(head.replace("\n", "\r\n") + tail) == plain
    assert key(head + tail.replace("\n", "\r\n")) != plain


@pytest.mark.parametrize("rules", ["", "noise\n"])
def test_a_builder_gets_the_ignore_rules_of_the_key_even_if_there_are_none(tmp_path: Path, rules: str) -> None:
    shop = Shop(tmp_path)
    shop.write("tool/.containerignore", "tool\n")
    if rules:
        shop.write("tool/.dockerignore", rules)
    (standing,) = standings(shop.project, ["tool"])
    with ready_dockerfile(shop.project, standing, "buildah") as file:
        assert file.with_name("Dockerfile.dockerignore").read_text() == rules
        shop.write("tool/Dockerfile", "FROM other\n")
        assert file.read_text() == FILES["tool/Dockerfile"]


def test_buildah_is_told_what_its_own_idea_of_the_rules_would_keep(tmp_path: Path) -> None:
    """By ``!docs`` BuildKit means the folder alone, which nothing has left out, and buildah what is in it as well."""
    shop, rules = Shop(tmp_path), "**/*.md\n!docs\n!docs/kept.md\n"
    shop.write("tool/.dockerignore", rules)
    for name in ("a.md", "docs/a.md", "docs/kept.md", "docs/in/b[1] .md ", "docs/in/c.md", "docs/c.txt"):
        shop.write(f"tool/{name}", "x")
    (standing,) = standings(shop.project, ["tool"])
    with ready_dockerfile(shop.project, standing, "buildah") as file:
        told = file.with_name("Dockerfile.dockerignore").read_text()
    assert told == rules + "\n/docs/a.md\n/docs/in/c.md"
    with ready_dockerfile(shop.project, standing, "buildkit") as file:
        assert file.with_name("Dockerfile.dockerignore").read_text() == rules


def test_a_damaged_record_is_a_warning(shop: Shop) -> None:
    make(shop, "tool")
    (record,) = builds(shop.objects, "tool")
    shop.objects.put(f"images/tool/builds/{record.tag}.json", b"{")
    shop.write("tool/tool", "more\n")
    told: list[Happening] = []
    make(shop, "tool", watch=told.append)
    assert any("passed over" in one.what for one in told if isinstance(one, Warned))


def test_the_example_is_a_chain_that_needs_no_registry() -> None:
    project = load_project(Path(__file__).parents[3] / "examples/spotweld.yaml")
    assert [image.name for image in build_order(project.images, ["trainer"])] == ["base", "ml-stack", "trainer"]
    for image in project.images.values():
        document = read_dockerfile(project, image)
        wanted = {one.name for one in references(document, image.args, "linux/amd64")}
        assert wanted == set(image.bases)


@pytest.mark.parametrize("which", [(), (0,), (3,), (1, 2), (0, 1, 2, 3)])
def test_what_is_told_of_a_cache_that_loses_steps_is_what_is_run(shop: Shop, which: tuple[int, ...]) -> None:
    """Some: whoever busted it was killed, or a part was cleared; the last: all is gone."""
    made = {one.image: one for one in make(shop)}["trainer"]
    (record,) = builds(shop.objects, "trainer")
    steps = [done.tag for done in record.steps if done.tag]
    assert len(steps) == 4
    registry = open_registry(made.registry)
    cache = registry.tags(cache_of(made.repository))
    tags = tuple(Tag(name, made.digest) for name in ("latest", made.tag))
    agreed = busted(Contents("trainer", made.registry, made.repository, tags, cache), ())
    cut(registry, agreed if len(which) == 4 else replace(agreed, steps=tuple(steps[one] for one in which)))
    plans = {one.image: one for one in plan_images(standings(shop.project), lambda: shop.objects)}
    assert {name: one.does for name, one in plans.items()} == {
        "base": "nothing", "tool": "nothing", "stack": "nothing", "trainer": "build",
    }  # fmt: skip
    told: list[Happening] = []
    make(shop, watch=told.append)
    begun = next(one for one in told if isinstance(one, Begun))
    assert begun.layers == plans["trainer"].layers
    misses = plans["trainer"].misses
    assert all("not in the cache" in layer.why for layer in misses)
    ran = [one.text for one in told if isinstance(one, Ran) and one.outcome is Outcome.RAN and "ARG" not in one.text]
    assert [layer.text for layer in misses] == ran
    assert len(ran) == (4 - which[0] if which else 0)


def test_another_builder_does_not_find_what_this_one_has_cached(shop: Shop) -> None:
    make(shop, "tool")
    (made,) = make(shop, "tool")
    open_registry(made.registry).delete(made.repository, made.tag)
    known = builds(shop.objects, "tool")
    (standing,) = standings(shop.project, ["tool"])
    cached = cached_tags(standing, Registries())
    for builder, hits in (("", [True] * 3), ("double", [True] * 3), ("other", [False] * 3)):
        assert [layer.hit for layer in layers(standing, known, cached, builder)] == hits
    assert "double ran it, and other does not look there" in {
        one.why for one in layers(standing, known, cached, "other")
    }


def test_a_base_whose_layers_are_gone_from_a_server_is_built_again_before_what_is_upon_it(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "project").mkdir()
    with docker_registry(tmp_path / "server") as url:
        shop = Shop(tmp_path / "project", url)
        base = make(shop, "stack")[0]
        manifest = open_registry(url).manifest(base.repository, base.digest)
        gone = blobs(manifest)[-1].digest.partition(":")[2]
        shutil.rmtree(tmp_path / f"server/registry/docker/registry/v2/blobs/sha256/{gone[:2]}/{gone}")
        shop.change("stack/Dockerfile", "torch", "jax")
        told: list[Happening] = []
        again, stack = make(shop, "stack", watch=told.append)
        assert (again.built, stack.built) == (True, True)
        assert "is gone" in next(one.why for one in told if isinstance(one, Begun))
        assert damage_of(open_registry(url), base.repository, again.digest) == ""
