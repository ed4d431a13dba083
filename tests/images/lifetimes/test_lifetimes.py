"""Decisions: what goes, what stays, which old builds are cleaned up."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.images.homes import PERSISTENT, key_of, project_of, with_image, without

from spotweld.images.builds.naming import LATEST, tag_of
from spotweld.images.builds.records import Build, Kept
from spotweld.images.lifetimes.deciding import (
    ANY,
    LIFETIME_LABEL,
    PROJECT_LABEL,
    Contents,
    Survey,
    Tag,
    Use,
    outdated,
    plan,
    remembered,
    uses_image,
    uses_tag,
)
from spotweld.images.registries.manifests import digest_of
from spotweld.project.nouns import Image, Lifetime, Registries
from spotweld.values.digests import Digest

KEEPS, GOES = "https://keeps.example.org", "https://goes.example.org"
PROJECT = project_of(Path("/p"), Registries(KEEPS, GOES))
KEY = 40 * "a"
OURS = {PROJECT_LABEL: "demo", LIFETIME_LABEL: "ephemeral"}


def contents(image: str = "trainer", registry: str = GOES, *tags: Tag, cache: tuple[str, ...] = ()) -> Contents:
    known = tags or (Tag(KEY, digest_of(b"a"), OURS), Tag(LATEST, digest_of(b"a"), OURS))
    return Contents(image, registry, f"demo/{image}", known, cache, 100)


def kept(image: str = "trainer", registry: str = GOES, *, protected: bool = True) -> Kept:
    return Kept("demo", image, registry, f"demo/{image}", PERSISTENT, protected)


def goes(survey: Survey, *named: str) -> list[str]:
    return [going.image for going in plan(survey, named).going]


def test_ephemeral_images_go_with_their_caches() -> None:
    found = plan(Survey(PROJECT, (contents(cache=("c",)),), {}))
    (going,) = found.going
    assert (going.tags, going.cache, going.size, going.persistent) == ((LATEST, KEY), ("c",), 100, False)
    assert found.staying == ()


def test_what_is_in_the_registry_of_persistent_images_stays() -> None:
    (staying,) = plan(Survey(PROJECT, (contents("base", KEEPS, cache=("c",)),), {})).staying
    assert staying.what == "image base (1 build, 1 cached steps)"
    assert staying.where == f"{KEEPS} (demo/base)"
    assert staying.why == "it lies in the registry of persistent images"
    assert (staying.size, staying.command) == (100, "spotweld teardown base --persistent")


@pytest.mark.parametrize(
    ("project", "why"),
    [
        (PROJECT, "ephemeral"),
        (without(PROJECT, "trainer"), "not in the project file any more"),
        (with_image(PROJECT, Image("trainer", lifetime=PERSISTENT)), "persistent"),
    ],
)
def test_the_record_protects_whatever_the_file_says(project: object, why: str) -> None:
    found = plan(Survey(project, (contents(),), {"trainer": kept()}))  # type: ignore[arg-type]
    assert found.going == ()
    assert why in found.staying[0].why


def test_a_record_that_cannot_be_read_protects() -> None:
    found = plan(Survey(PROJECT, (contents(),), {"trainer": None}))
    assert found.going == ()
    assert "cannot be read" in found.staying[0].why


def test_a_record_of_another_place_protects_nothing_here() -> None:
    assert goes(Survey(PROJECT, (contents(),), {"trainer": kept(registry=KEEPS)})) == ["trainer"]
    assert goes(Survey(PROJECT, (contents(),), {"trainer": kept(protected=False)})) == ["trainer"]


def test_the_label_protects() -> None:
    mark = Tag(KEY, digest_of(b"a"), {PROJECT_LABEL: "demo", LIFETIME_LABEL: "persistent"})
    assert goes(Survey(PROJECT, (contents("trainer", GOES, mark),), {})) == []


def test_with_one_registry_for_both_the_file_decides_what_no_record_does() -> None:
    project = replace(PROJECT, registries=Registries(GOES, GOES))
    assert goes(Survey(project, (contents("base"), contents("trainer")), {})) == ["trainer"]
    without_base = replace(project, images={})
    assert goes(Survey(without_base, (contents("base"),), {})) == ["base"]


def test_a_protected_image_goes_when_it_is_named() -> None:
    survey = Survey(PROJECT, (contents("base", KEEPS), contents()), {"base": kept("base", KEEPS)})
    found = plan(survey, ["base"])
    assert [(going.image, going.persistent) for going in found.going] == [("base", True), ("trainer", False)]
    assert [going.image for going in plan(survey, ["base"], ["trainer"]).going] == ["trainer"]
    assert found.staying == ()


def test_the_record_of_a_protected_image_that_is_gone_can_still_be_changed() -> None:
    nothing = Contents("base", KEEPS, "demo/base")
    survey = Survey(PROJECT, (nothing, Contents("base", GOES, "demo/base")), {"base": kept("base", KEEPS)})
    (going,) = plan(survey, ["base"]).going
    assert (going.registry, going.tags, going.persistent) == (KEEPS, (), True)
    assert len(plan(survey).staying) == 1


def test_what_others_put_there_stays() -> None:
    theirs = Tag("v1", digest_of(b"b"), {})
    other = Tag(40 * "b", digest_of(b"b"), {PROJECT_LABEL: "other"})
    found = plan(Survey(PROJECT, (contents("trainer", GOES, theirs, other, Tag(KEY, None)),), {}))
    assert [going.tags for going in found.going] == [(KEY,)]
    assert found.going[0].size is None
    assert [one.command for one in found.staying] == [
        f"skopeo delete docker://goes.example.org/demo/trainer:{name}" for name in ("v1", 40 * "b")
    ]
    mine = Tag("v1", digest_of(b"b"), OURS)
    assert plan(Survey(PROJECT, (contents("trainer", GOES, mine),), {})).going[0].tags == ("v1",)


def test_the_command_for_a_tag_in_a_folder_or_without_tls() -> None:
    theirs = Tag("v1", digest_of(b"b"))
    commands = [
        plan(Survey(PROJECT, (contents("trainer", url, theirs),), {})).staying[0].command
        for url in ("oci:/r", "oci:/my images", "http://127.0.0.1:5000")
    ]
    assert commands == [
        "skopeo delete oci:/r:demo/trainer:v1",
        "skopeo delete 'oci:/my images:demo/trainer:v1'",
        "skopeo delete --tls-verify=false docker://127.0.0.1:5000/demo/trainer:v1",
    ]


places = st.sampled_from([KEEPS, GOES])
lifetimes = st.sampled_from(Lifetime)
records = st.builds(Kept, st.just("demo"), st.just("x"), places, st.just("demo/x"), lifetimes, st.booleans())


@given(old=st.none() | records, new=records, move=st.booleans())
def test_remembering_never_unprotects(old: Kept | None, new: Kept, move: bool) -> None:
    now = remembered(old, new, move=move)
    assert now in {old, new}
    if old is not None and old.protected:
        assert now.protected
        assert now == old or (move and new.protected)
    else:
        assert now == new


@given(
    record=st.none() | records,
    lifetime=st.none() | lifetimes,
    registry=places,
    label=st.none() | lifetimes,
    named=st.booleans(),
)
def test_nothing_protected_goes_unnamed(
    record: Kept | None, lifetime: Lifetime | None, registry: str, label: Lifetime | None, named: bool
) -> None:
    images = {} if lifetime is None else {"x": Image("x", lifetime=lifetime)}
    marks = {PROJECT_LABEL: "demo"} | ({} if label is None else {LIFETIME_LABEL: str(label)})
    here = contents("x", registry, Tag(KEY, digest_of(b"a"), marks))
    survey = Survey(replace(PROJECT, images=images), (here,), {} if record is None else {"x": record})
    protected = (
        registry == KEEPS or label is PERSISTENT or bool(record and record.protected and record.registry == registry)
    )
    found = plan(survey, ["x"] if named else [])
    assert len(found.going) == int(named or not protected)
    assert len(found.going) + len(found.staying) == 1
    assert all(going.persistent == protected for going in found.going)


def record(number: int, started: float) -> Build:
    return Build("x", key_of(number), Digest(""), GOES, "demo/x", "", "", "", False, started, 1.0, "0", ())


def tags_of(*numbers: int, latest: int | None = None) -> dict[str, Digest]:
    tags = {tag_of(key_of(number)): digest_of(str(number).encode()) for number in numbers}
    return tags if latest is None else tags | {LATEST: digest_of(str(latest).encode())}


def old(keep: int, *uses: Use, latest: int = 4, there: tuple[int, ...] = (1, 2, 3, 4)) -> list[int]:
    builds = [record(number, float(number)) for number in (1, 2, 3, 4)]
    names = {tag_of(key_of(number)): number for number in (1, 2, 3, 4)}
    return [names[tag] for tag in outdated(tags_of(*there, latest=latest), builds, keep, uses, "demo/x")]


def test_the_newest_builds_stay_and_the_oldest_goes_first() -> None:
    assert old(2) == [1, 2]
    assert old(4) == []
    assert old(9) == []


def test_latest_stays_however_old_it_is() -> None:
    assert old(1, latest=1) == [2, 3]


def test_builds_that_are_gone_take_no_place() -> None:
    assert old(2, there=(1, 2, 4)) == [1]


def test_tags_that_nobody_here_has_built_stay() -> None:
    tags = tags_of(1, 2, 7, latest=2) | {"v1": digest_of(b"1")}
    assert outdated(tags, [record(1, 1.0), record(2, 2.0)], 1, (), "demo/x") == (tag_of(key_of(1)),)
    assert outdated(tags, [], 1, (), "demo/x") == ()


@pytest.mark.parametrize(
    ("image", "left"),
    [
        ("x", []),
        (ANY, []),
        ("demo/x", []),
        ("goes.example.org/demo/x:latest", []),
        (f"goes.example.org/demo/x:{tag_of(key_of(1))}", [2]),
        (f"demo/x@{digest_of(b'2')}", [1]),
        (f"demo/x:latest@{digest_of(b'2')}", [1]),
        ("demo/xy:latest", [1, 2]),
        ("y", [1, 2]),
        ("python:3.12", [1, 2]),
    ],
)
def test_what_is_in_use_stays(image: str, left: list[int]) -> None:
    assert old(2, Use(image, "the run r")) == left
    assert uses_image(Use(image, ""), "x", "demo/x") == (left != [1, 2])


@given(
    started=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    keep=st.integers(1, 9),
    latest=st.integers(0, 7),
    used=st.sets(st.integers(0, 7)),
)
def test_laws_of_the_clean_up(started: list[int], keep: int, latest: int, used: set[int]) -> None:
    builds = [record(number, float(when)) for number, when in enumerate(started)]
    tags = tags_of(*range(len(started)), latest=latest)
    uses = [Use(f"demo/x@{digest_of(str(number).encode())}", "") for number in used]
    gone = outdated(tags, builds, keep, uses, "demo/x")
    left = [one for one in builds if one.tag not in gone]
    assert LATEST not in gone
    assert len(left) >= min(keep, len(builds))
    for one in builds:
        if one.tag in gone:
            assert tags[one.tag] != tags[LATEST]
            assert not any(uses_tag(use, "x", "demo/x", one.tag, tags[one.tag]) for use in uses)
            assert sum(other.started >= one.started for other in left) >= keep
    assert outdated({name: tags[name] for name in tags if name not in gone}, builds, keep, uses, "demo/x") == ()
