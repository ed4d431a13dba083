"""What is cached of images, what of it may go, and that whoever is killed while it goes can begin again."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.images.builds.test_records import build as record_of
from tests.images.builds.test_records import preimage
from tests.images.samples import LAYER, add_blob, at, noise

from spotweld.errors import ImageDamaged
from spotweld.images.builders.builder import Outcome
from spotweld.images.builds.naming import LATEST, cache_of, tag_of
from spotweld.images.builds.records import Attempt, Done
from spotweld.images.caches.deciding import Cached, Cut, aged, builds_of, busted, instruction
from spotweld.images.caches.doing import cut, replicate
from spotweld.images.caches.looking import cached_steps, verify
from spotweld.images.lifetimes.deciding import Contents, Tag, Use
from spotweld.images.registries.copying import verify as verify_image
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Manifest,
    blobs,
    digest_of,
    manifest_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from spotweld.images.registries.registry import Registry
    from spotweld.values.digests import Digest

KEYS = ["a" * 40, "b" * 40]
OLD, DAY = 1_000_000.0, 86_400.0


def image_of(registry: Registry, repository: str, tag: str | None, steps: Sequence[tuple[str, bytes]]) -> Manifest:
    """An image with a history, as builders write it."""
    history = [{"created_by": text, "empty_layer": not layer} for text, layer in steps]
    config = json.dumps({"history": history, "rootfs": {"type": "layers"}}).encode()
    layers = [add_blob(registry, repository, layer, LAYER) for _, layer in steps if layer]
    body = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": add_blob(registry, repository, config, OCI_CONFIG)}
    manifest = manifest_of(body | {"layers": layers})
    registry.put_manifest(repository, manifest, tag)
    return manifest


def buildkit_of(registry: Registry, repository: str, tag: str, layers: Sequence[tuple[bytes, str]]) -> Manifest:
    """A cache as BuildKit writes it."""
    entries = [
        {**add_blob(registry, repository, layer, LAYER), "annotations": {"buildkit/createdat": moment}}
        for layer, moment in layers
    ]
    entries.append(add_blob(registry, repository, b'{"layers": []}', "application/vnd.buildkit.cacheconfig.v0"))
    manifest = manifest_of({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    registry.put_manifest(repository, manifest, tag)
    return manifest


def contents_of(registry: Registry, repository: str = "demo/base", image: str = "base") -> Contents:
    tags = tuple(Tag(name, registry.resolve(repository, name)) for name in registry.tags(repository))
    return Contents(image, registry.url, repository, tags, registry.tags(cache_of(repository)))


def built(registry: Registry, repository: str = "demo/base") -> Contents:
    """Two builds, the second one the latest; three cached steps, of which one is of no build."""
    first = [("RUN one # buildkit", noise("one", 30_000)), ("/bin/sh -c #(nop)  ENV A=b", b""), ("COPY x /", b"old x")]
    second = [*first[:2], ("COPY x / # buildkit", b"new x")]
    image_of(registry, repository, KEYS[0], first)
    for tag in (KEYS[1], LATEST):
        image_of(registry, repository, tag, second)
    image_of(registry, cache_of(repository), "c1", second[:1])
    image_of(registry, cache_of(repository), "c2", second)
    image_of(registry, cache_of(repository), "c3", [("/bin/sh -c make it", noise("elsewhere", 20_000))])
    return contents_of(registry, repository)


@pytest.mark.parametrize(
    ("created_by", "text"),
    [
        ("/bin/sh -c pip install x  &&  y", "RUN pip install x && y"),
        ("/bin/sh -c #(nop) ENV A=b", "ENV A=b"),
        (f"/bin/sh -c #(nop) COPY file:{'ab' * 32} in /x ", "COPY file:abababab in /x"),
        ("|1 A=1 /bin/sh -c echo $A > /a", "RUN echo $A > /a"),
        ("RUN |2 A=1 B=two words /bin/sh -c echo $A # buildkit", "RUN echo $A"),
        ("RUN /bin/sh -c make\n install # buildkit", "RUN make install"),
        ("COPY a b # buildkit", "COPY a b"),
        ("WORKDIR /x", "WORKDIR /x"),
        ("", ""),
    ],
)
def test_instructions_are_read_from_a_history(created_by: str, text: str) -> None:
    assert instruction(created_by) == text


@given(st.text())
def test_any_history_is_read(text: str) -> None:
    assert "\n" not in instruction(text)


def test_builds_come_with_what_is_known_of_them() -> None:
    digests = [digest_of(name.encode()) for name in "ab"]
    tags = (Tag(KEYS[0], digests[0]), Tag(KEYS[1], digests[1]), Tag(LATEST, digests[1]), Tag("mine", None))
    contents = Contents("base", "oci:/r", "demo/base", tags)
    record = record_of(1, started=50.0, commit="c0", dirty=True)
    contents = Contents("base", "oci:/r", "demo/base", (*tags, Tag(tag_of(record.key), digests[0])))
    uses = (Use(f"demo/base@{digests[0]}", "the run r"), Use("other", "the run s"))
    made = builds_of(contents, [record], uses)
    assert [one.tag for one in made] == [tag_of(record.key), *KEYS, "mine"]
    assert [one.latest for one in made] == [False, False, True, False]
    assert [one.used_by for one in made] == [("the run r",), ("the run r",), (), ()]
    assert (made[0].started, made[0].commit, made[0].dirty) == (50.0, "c0", True)
    # Alone, ``latest`` is a build of its own.
    assert [one.tag for one in builds_of(Contents("b", "", "d/b", tags[2:3]), [], ())] == [LATEST]


def test_each_step_is_explained(layout: Layout) -> None:
    contents = built(layout)
    buildkit_of(
        layout,
        "demo/base/cache",
        "rung-1",
        [(noise("one", 30_000), "2026-01-02T03:04:05.123456789Z"), (b"below", "2026-01-01T00:00:00Z")],
    )
    step = preimage("compiled")
    image_of(layout, "demo/base/cache", "key-1", [("RUN whatever", b"y")])
    layout.tag("demo/base/cache", "key-1", "rung-2")
    layout.write_blob("", digest_of(b"junk"), 4, [b"junk"])
    contents = contents_of(layout)
    record = record_of(1, started=9e9, steps=(Done(step, Outcome.HIT, 0.1, tag="key-1"),))
    found = {one.tag: one for one in cached_steps(layout, contents, [record])}
    assert found["c1"].what == "RUN one"
    assert (found["c1"].size, found["c1"].needed) == (30_000, (KEYS[0], KEYS[1], LATEST))
    assert (found["c2"].what, found["c2"].needed) == ("COPY x /", (KEYS[1], LATEST))
    assert (found["c3"].what, found["c3"].needed) == ("RUN make it", ())
    # BuildKit's own cache names no instruction; the image that has the layer does.
    assert (found["rung-1"].what, found["rung-1"].size) == ("RUN one", 30_000)
    assert (found["key-1"].what, found["key-1"].used) == ("RUN compiled", 9e9)
    assert found["rung-2"].used == 9e9
    path = layout.folder / "blobs" / str(found["c3"].digest).replace(":", "/")
    path.write_bytes(b"damaged")
    (broken,) = [one for one in cached_steps(layout, contents, []) if one.tag == "c3"]
    assert broken.digest is None


def test_the_age_of_a_step_is_what_is_known(layout: Layout, opened: Callable[[str], Registry]) -> None:
    built(layout)
    buildkit_of(layout, "demo/base/cache", "rung-1", [(b"x", "1971-01-01T00:00:00Z")])
    for path in (layout.folder / "blobs/sha256").iterdir():
        os.utime(path, (OLD, OLD))
    found = {one.tag: one.used for one in cached_steps(layout, contents_of(layout), [])}
    assert found == {"c1": OLD, "c2": OLD, "c3": OLD, "rung-1": 365 * DAY}
    served = opened("distribution")
    target = "aged/base"
    built(served, target)
    buildkit_of(served, f"{target}/cache", "rung-1", [(b"x", "1971-01-01T00:00:00Z")])
    buildkit_of(served, f"{target}/cache", "rung-2", [(b"x", "whenever")])
    found = {one.tag: one.used for one in cached_steps(served, contents_of(served, target), [])}
    assert found == {"c1": None, "c2": None, "c3": None, "rung-1": 365 * DAY, "rung-2": None}
    # What no server says, builds have noted; one that was begun again has looked at its steps again.
    record = record_of(1, started=OLD, steps=(Done(preimage("one"), Outcome.RAN, 1.0, tag="c1"),))
    record = msgspec.structs.replace(record, attempts=(*record.attempts, Attempt(OLD + DAY, "fake", "begun")))
    found = {one.tag: one.used for one in cached_steps(served, contents_of(served, target), [record])}
    assert (found["c1"], found["c3"]) == (OLD + DAY, None)


def test_who_busts_takes_the_cache_and_leaves_the_builds(registry: Registry, repository: str) -> None:
    contents, other = built(registry, repository), built(registry, f"{repository}-other")
    registry.tag(cache_of(repository), "c1", "rung-c1")
    agreed = busted(contents_of(registry, repository), ())
    assert (agreed.steps, agreed.builds) == (("c1", "c2", "c3", "rung-c1"), (KEYS[1],))
    latest = registry.resolve(repository, LATEST)
    heard: list[tuple[int, int]] = []
    gone = cut(registry, agreed, lambda *told: heard.append(told))
    assert (gone.steps, gone.builds) == (4, 1)
    assert heard[-1] == (5, 5)
    assert contents_of(registry, repository).cache == ()
    # Nothing is taken for up to date, and nothing was lost.
    assert registry.tags(repository) == (KEYS[0], LATEST)
    assert registry.resolve(repository, LATEST) == latest
    assert contents_of(registry, f"{repository}-other") == other
    assert all(verify_image(at(registry, repository, tag)) == () for tag in (KEYS[0], LATEST))
    assert busted(contents_of(registry, repository), ()) == Cut("base", contents.registry, repository)


def test_a_build_in_use_keeps_its_key(layout: Layout) -> None:
    agreed = busted(built(layout), (Use("base", "the run r"),))
    assert agreed.builds == ()
    assert agreed.steps == ("c1", "c2", "c3")
    assert "the run r uses the image" in agreed.staying[0]


def test_a_key_that_latest_left_meanwhile_stays(layout: Layout) -> None:
    agreed = busted(built(layout), ())
    layout.tag("demo/base", KEYS[0], LATEST)
    assert cut(layout, agreed).builds == 0
    assert KEYS[1] in layout.tags("demo/base")


CACHED = st.builds(
    Cached,
    tag=st.text("abc", min_size=1, max_size=3),
    digest=st.just(digest_of(b"x")),
    used=st.one_of(st.none(), st.floats(0, 100)),
    needed=st.sampled_from([(), (KEYS[0],), (LATEST,)]),
)


@given(st.lists(CACHED, max_size=8, unique_by=lambda one: one.tag), st.floats(0, 100))
def test_only_what_is_old_and_of_no_build_goes(steps: list[Cached], before: float) -> None:
    contents = Contents("base", "oci:/r", "demo/base", (), tuple(one.tag for one in steps))
    agreed = aged(contents, steps, before)
    known = {one.tag: one for one in steps}
    assert agreed.builds == ()
    for tag in agreed.steps:
        used = known[tag].used
        assert used is not None
        assert used < before
        assert known[tag].needed == ()
    left = [one for one in steps if one.tag not in agreed.steps and not one.needed and one.used is not None]
    assert all((one.used or 0) >= before for one in left)
    assert len(agreed.steps) <= len(aged(contents, steps, before + 1).steps)


def test_a_step_that_is_used_meanwhile_stays(layout: Layout) -> None:
    contents = built(layout)
    for path in (layout.folder / "blobs/sha256").iterdir():
        os.utime(path, (OLD, OLD))
    agreed = aged(contents, cached_steps(layout, contents, []), OLD + DAY)
    assert agreed.steps == ("c3",)
    assert agreed.staying == ("2 older step(s) stay: builds that are kept are made of them",)
    digest = layout.resolve("demo/base/cache", "c3")
    assert digest
    layout.blob_size("", digest)
    assert cut(layout, agreed).steps == 0
    path = layout.folder / "blobs" / digest.replace(":", "/")
    os.utime(path, (OLD, OLD))
    gone = cut(layout, agreed)
    assert gone.steps == 1
    assert gone.freed > 20_000
    assert contents_of(layout).cache == ("c1", "c2")


def test_every_byte_is_read_once_and_damage_is_told(layout: Layout) -> None:
    contents, other = built(layout), built(layout, "demo/other")
    heard: list[tuple[int, int]] = []
    found = verify(layout, [contents, other], lambda *told: heard.append(told))
    assert found.faults == ()
    assert heard[-1] == (found.read, found.read)
    sizes = {path.name: path.stat().st_size for path in (layout.folder / "blobs/sha256").iterdir()}
    manifests = {str(layout.resolve(c.repository, t.name))[7:] for c in (contents, other) for t in c.tags}
    manifests |= {str(layout.resolve(cache_of(c.repository), t))[7:] for c in (contents, other) for t in c.cache}
    assert found.read == sum(size for name, size in sizes.items() if name not in manifests)

    def flip(digest: Digest) -> None:
        path = layout.folder / "blobs" / digest.replace(":", "/")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    layer, manifest = digest_of(noise("elsewhere", 20_000)), layout.resolve("demo/base", KEYS[0])
    assert manifest
    flip(layer)
    flip(manifest)
    (layout.folder / "blobs" / digest_of(b"new x").replace(":", "/")).unlink()
    faults = {one.digest: one for one in verify(layout, [contents, other]).faults}
    assert set(faults) == {layer, manifest, digest_of(b"new x")}
    assert faults[layer].images == ("base",)
    assert "damaged" in faults[layer].why
    assert "spotweld cache bust base" in faults[layer].todo
    assert f"rm {layout.folder}/blobs/" in faults[layer].todo


def test_what_verify_says_removes_nothing_else(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "my images")
    image_of(layout, "demo/base", LATEST, [("RUN one", b"one")])
    path = layout.folder / "blobs" / digest_of(b"one").replace(":", "/")
    path.write_bytes(b"two")
    (fault,) = verify(layout, [contents_of(layout)]).faults
    assert shlex.split(fault.todo.partition(";")[0])[-2:] == ["rm", str(path)]


@pytest.mark.parametrize("what", ["layer", "manifest", "config"])
def test_what_verify_says_mends_the_image(layout: Layout, what: str) -> None:
    steps = [("RUN one", noise("one", 30_000))]

    def build() -> Manifest:
        made = [image_of(layout, "demo/base", tag, steps) for tag in (KEYS[1], LATEST)]
        image_of(layout, "demo/base/cache", "c1", steps)
        return made[0]

    image = build()
    config, layer = (part.digest for part in blobs(image))
    digest = {"layer": layer, "manifest": image.digest, "config": config}[what]
    path = layout.folder / "blobs" / digest.replace(":", "/")
    path.write_bytes(b"\0" * path.stat().st_size)
    (fault,) = verify(layout, [contents_of(layout)]).faults
    assert (fault.digest, fault.images) == (digest, ("base",))
    assert fault.todo.startswith(f"remove it: rm {path}; then make it again: spotweld cache bust base;")
    path.unlink()
    gone = cut(layout, busted(contents_of(layout), ()))
    assert ("is damaged" in gone.unfreed) == (what == "manifest")
    build()
    assert verify(layout, [contents_of(layout)]).faults == ()


@pytest.mark.parametrize("target", ["layout", "distribution"])
def test_an_image_is_replicated_and_nothing_moves_twice(
    layout: Layout, target: str, opened: Callable[[str], Registry], repository: str
) -> None:
    contents = built(layout, repository)
    buildkit_of(layout, f"{repository}/cache", "rung-1", [(noise("one", 30_000), "2026-01-02T03:04:05Z")])
    contents, there = contents_of(layout, repository), opened(target)
    heard: list[tuple[int, int]] = []
    done = replicate(layout, contents, there, lambda *told: heard.append(told))
    assert heard[-1][0] == heard[-1][1] == done.moved + done.there
    assert all(before[0] <= after[0] for before, after in itertools.pairwise(heard))
    assert [tag.name for tag in contents_of(there, repository).tags] == [*KEYS, LATEST]
    assert [tag.digest for tag in contents_of(there, repository).tags] == [tag.digest for tag in contents.tags]
    assert contents_of(there, repository).cache == ("c1", "c2", "c3", "rung-1")
    assert verify(there, [contents_of(there, repository)]).faults == ()
    # The layers that builds and cache have in common crossed the network once.
    sizes = {part.digest: part.size for tag in contents.tags for part in blobs(layout.manifest(repository, tag.name))}
    cache = f"{repository}/cache"
    sizes |= {part.digest: part.size for name in contents.cache for part in blobs(layout.manifest(cache, name))}
    assert done.moved == sum(sizes.values())
    again = replicate(layout, contents, there)
    assert (again.moved, again.there) == (0, sum(sizes.values()))


def test_damage_is_not_replicated(layout: Layout, tmp_path: Path) -> None:
    contents = built(layout)
    (layout.folder / "blobs" / digest_of(b"new x").replace(":", "/")).write_bytes(b"old x")
    target = Layout(tmp_path / "target")
    with pytest.raises(ImageDamaged):
        replicate(layout, contents, target)
    assert LATEST not in target.tags("demo/base")


PROGRAM = """
import os, signal, sys
from pathlib import Path
from spotweld.images.caches.deciding import aged, busted
from spotweld.images.caches.looking import cached_steps
from spotweld.images.caches.doing import cut, replicate
from spotweld.images.registries.layouts import Layout
from tests.images.caches.test_caches import contents_of
doing, folder, kill_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
layout, count = Layout(folder / "layout"), 0
def hear(*_):
    global count
    count += 1
    if count == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
contents = contents_of(layout)
if doing == "bust":
    cut(layout, busted(contents, ()), hear)
elif doing == "clear":
    cut(layout, aged(contents, cached_steps(layout, contents, []), 9e9), hear)
else:
    replicate(layout, contents, Layout(folder / "target"), hear)
"""


@pytest.mark.parametrize("doing", ["bust", "clear", "replicate"])
def test_whoever_is_killed_leaves_something_that_can_be_finished(doing: str, tmp_path: Path) -> None:
    killed_and_done_again(doing, tmp_path, {"bust": [3], "clear": [2], "replicate": [7]}[doing])


@pytest.mark.slow
@pytest.mark.parametrize(("doing", "events"), [("bust", 5), ("clear", 2), ("replicate", 12)])
def test_whoever_is_killed_at_any_event_can_begin_again(doing: str, events: int, tmp_path: Path) -> None:
    for kill_at in range(1, events + 1):
        killed_and_done_again(doing, tmp_path / str(kill_at), [kill_at])
    killed_and_done_again(doing, tmp_path / "often", list(range(1, events + 1)))


def killed_and_done_again(doing: str, tmp_path: Path, kills: Sequence[int]) -> None:
    layout, target = Layout(tmp_path / "layout"), Layout(tmp_path / "target")
    built(layout)
    for kill_at in kills:
        command = [sys.executable, "-c", PROGRAM, doing, str(tmp_path), str(kill_at)]
        subprocess.run(command, check=False, timeout=60)
        latest = layout.resolve("demo/base", LATEST)
        assert all(verify_image(at(layout, "demo/base", tag)) == () for tag in layout.tags("demo/base"))
        assert latest
        for tag in target.tags("demo/base"):
            assert verify_image(at(target, "demo/base", tag)) == ()
    done = subprocess.run([sys.executable, "-c", PROGRAM, doing, str(tmp_path), "0"], check=False, timeout=60)
    assert done.returncode == 0
    if doing == "bust":
        assert contents_of(layout).cache == ()
        assert layout.tags("demo/base") == (KEYS[0], LATEST)
    elif doing == "clear":
        assert contents_of(layout).cache == ("c1", "c2")
        assert layout.tags("demo/base") == (*KEYS, LATEST)
    else:
        assert contents_of(target).cache == contents_of(layout).cache
        assert [tag.digest for tag in contents_of(target).tags] == [tag.digest for tag in contents_of(layout).tags]
        assert verify(target, [contents_of(target)]).faults == ()
