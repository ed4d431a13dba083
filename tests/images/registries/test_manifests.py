from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.errors import ImageDamaged, ImageError, SpotweldError
from spotweld.images.registries.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Platform,
    blobs,
    checked,
    children,
    digest_of,
    for_platform,
    labelled,
    labels,
    manifest_of,
    platforms,
    read_manifest,
)

PART = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(b"x"), "size": 1}
FOREIGN = {
    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "digest": digest_of(b"windows"),
    "size": 7,
    "urls": ["https://a.b/c"],
}


def encoded(**body: Any) -> bytes:  # noqa: ANN401
    return json.dumps(body).encode()


def test_its_bytes_are_its_name() -> None:
    data = encoded(mediaType=OCI_MANIFEST, config=PART, layers=[PART], unknown={"kept": 1})
    manifest = read_manifest(data, "here", digest_of(data))
    assert (manifest.data, manifest.digest, manifest.media_type) == (data, digest_of(data), OCI_MANIFEST)
    assert read_manifest(data, "here", digest_of(data, "sha512")).digest == digest_of(data, "sha512")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"config": PART}, OCI_MANIFEST),
        ({"manifests": [PART]}, OCI_INDEX),
        ({"manifests": []}, OCI_INDEX),
        ({"mediaType": DOCKER_MANIFEST, "config": PART}, DOCKER_MANIFEST),
        ({"mediaType": DOCKER_LIST, "manifests": []}, DOCKER_LIST),
    ],
)
def test_its_kind_is_what_it_says_or_what_it_holds(body: dict[str, object], kind: str) -> None:
    assert read_manifest(encoded(**body), "here").media_type == kind
    assert read_manifest(encoded(**body), "here", media_type="text/plain").media_type == kind


def test_each_blob_is_named_once_and_foreign_ones_are_not() -> None:
    manifest = manifest_of({"mediaType": DOCKER_MANIFEST, "config": PART, "layers": [PART, FOREIGN, PART]})
    assert [part.digest for part in blobs(manifest)] == [digest_of(b"x")]
    assert children(manifest) == ()


def test_an_index_names_manifests() -> None:
    part = {**PART, "mediaType": OCI_MANIFEST}
    entry = {**part, "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}}
    manifest = manifest_of({"mediaType": OCI_INDEX, "manifests": [entry, part]})
    (child,) = children(manifest_of({"mediaType": OCI_INDEX, "manifests": [entry]}))
    assert str(child.platform) == "linux/arm/v7"
    assert len(children(manifest)) == 1
    assert blobs(manifest) == ()


def test_labels_keep_all_that_is_not_understood() -> None:
    manifest = manifest_of({"mediaType": OCI_INDEX, "manifests": [], "subject": {"a": 1}, "annotations": {"x": "1"}})
    new = labelled(manifest, {"y": "2"})
    assert labels(new) == {"x": "1", "y": "2"}
    assert json.loads(new.data)["subject"] == {"a": 1}
    assert labels(manifest_of({"mediaType": OCI_INDEX, "manifests": [], "annotations": None})) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        encoded(config={"digest": "x"}),
        encoded(config={**PART, "digest": "../../etc/passwd"}),
        encoded(config=PART, layers=[{**PART, "size": -1}]),
        encoded(manifests=[{**PART, "digest": "sha256:" + "A" * 64}]),
    ],
)
def test_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(ImageDamaged, match="is damaged"):
        read_manifest(data, "here")


NAMES = st.sampled_from(["config", "layers", "manifests", "mediaType", "digest", "size"])
VALUES = st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(NAMES, inner))


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_nothing_else_comes_of_any_bytes(data: bytes) -> None:
    try:
        manifest = read_manifest(data, "here")
    except SpotweldError as error:
        assert isinstance(error, ImageError)  # noqa: PT017
    else:
        assert manifest.data == data
        blobs(manifest)
        children(manifest)


@given(st.binary(max_size=200), st.integers(0, 1599), st.integers(1, 50))
def test_one_flipped_bit_is_always_noticed(data: bytes, bit: int, piece: int) -> None:
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    assert b"".join(checked(pieces, digest_of(data), "here", len(data))) == data
    if data:
        broken = bytearray(data)
        broken[bit // 8 % len(data)] ^= 1 << bit % 8
        with pytest.raises(ImageDamaged, match="have the digest"):
            list(checked([bytes(broken)], digest_of(data), "here"))


def test_the_index_of_a_buildkit_cache_names_blobs() -> None:
    kinds = ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"]
    kinds += ["application/vnd.buildkit.cacheconfig.v0"]
    entries = [{**PART, "mediaType": kind, "digest": digest_of(kind.encode())} for kind in kinds]
    cache = manifest_of({"mediaType": OCI_INDEX, "manifests": entries})
    assert children(cache) == ()
    assert [part.media_type for part in blobs(cache)] == kinds


PLATFORMS = st.builds(
    Platform,
    architecture=st.sampled_from(["amd64", "arm", "arm64", "unknown"]),
    os=st.sampled_from(["linux", "windows"]),
    variant=st.sampled_from(["", "v7", "v8"]),
)
ENTRIES = st.lists(st.tuples(st.integers(0, 3), st.none() | PLATFORMS), max_size=8)


@given(ENTRIES, PLATFORMS)
def test_one_manifest_may_be_of_several_platforms(entries: list[tuple[int, Platform | None]], wanted: Platform) -> None:
    parts = [
        {"mediaType": OCI_MANIFEST, "digest": digest_of(b"%d" % number), "size": 1}
        | ({"platform": msgspec.to_builtins(platform)} if platform else {})
        for number, platform in entries
    ]
    layer = PART | {"mediaType": "application/vnd.oci.image.layer.v1.tar"}
    index = manifest_of({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*parts, layer]})
    named = [(digest_of(b"%d" % number), platform) for number, platform in entries]
    assert [(part.digest, part.platform) for part in platforms(index)] == named
    assert [part.digest for part in children(index)] == list(dict.fromkeys(digest for digest, _ in named))
    fitting = [
        (platform.variant, digest)
        for digest, platform in named
        if platform and (platform.os, platform.architecture) == (wanted.os, wanted.architecture)
    ]
    same = [digest for variant, digest in fitting if variant == wanted.variant]
    found = for_platform(index, wanted)
    assert (found.digest if found else None) == next(iter([*same, *(digest for _, digest in fitting)]), None)
