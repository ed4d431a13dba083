"""An image layout behind HTTP: the words of the specification, in which builders and other tools speak with it."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.images.registries.asking import UPLOADS, Asking, asking, leftovers
from tests.images.samples import add_blob, add_image, noise

from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import LARGEST, OCI_CONFIG, digest_of, manifest_of
from spotweld.images.registries.opening import open_registry
from spotweld.images.registries.serving import reachable
from spotweld.images.registries.uploads import Uploads

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_is_reached_under_its_own_name() -> None:
    for url, host in (("https://r.example.org:5000", "r.example.org:5000"), ("docker.io", "docker.io")):
        with reachable(open_registry(url, {})) as found:
            assert found == host


def test_nothing_is_left_when_the_block_ends(layout: Layout) -> None:
    before = set(threading.enumerate())
    with asking(layout) as ask:
        where = ask.begin()
        assert ask("PATCH", where, b"half").status == 202
        idle = socket.create_connection(("127.0.0.1", int(ask.host.rpartition(":")[2])))
        host, port = ask.host.split(":")
        assert leftovers(layout)
    assert not leftovers(layout)
    with idle, suppress(ConnectionResetError):
        assert idle.recv(1) == b""
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_its_words_are_the_specifications(ask: Asking) -> None:
    image = add_image(ask.layout, "a/b/c", "v1", [b"a layer"])
    layer = digest_of(b"a layer")
    assert ask("GET", "/v2/").headers["docker-distribution-api-version"] == "registry/2.0"
    for method in ("HEAD", "GET"):
        for name in ("v1", image.digest):
            answer = ask(method, f"/v2/a/b/c/manifests/{name}")
            assert (answer.status, answer.body) == (200, image.data if method == "GET" else b"")
            assert answer.headers["docker-content-digest"] == image.digest
            assert answer.headers["content-type"] == image.media_type
            assert answer.headers["content-length"] == str(len(image.data))
        answer = ask(method, f"/v2/a/b/c/blobs/{layer}")
        assert (answer.status, answer.body) == (200, b"a layer" if method == "GET" else b"")
        assert (answer.headers["content-length"], answer.headers["docker-content-digest"]) == ("7", layer)
    assert json.loads(ask("GET", "/v2/a/b/c/tags/list").body) == {"name": "a/b/c", "tags": ["v1"]}
    answer = ask("PUT", "/v2/a/b/c/manifests/v2", image.data, Content_Type=image.media_type)
    assert (answer.status, answer.headers["docker-content-digest"]) == (201, image.digest)
    assert answer.headers["location"] == f"/v2/a/b/c/manifests/{image.digest}"
    answer = ask("POST", f"{UPLOADS}?mount={layer}&from=a/b/c")
    assert (answer.status, answer.headers["location"]) == (201, f"/v2/a/b/blobs/{layer}")
    assert ask("POST", f"{UPLOADS}?mount={digest_of(b'other')}&from=a/b/c").status == 202
    assert ask("DELETE", "/v2/a/b/c/manifests/v1").status == 202
    assert ask("DELETE", "/v2/a/b/c/manifests/v1").code == "MANIFEST_UNKNOWN"
    add_image(ask.layout, "a/b/c", "other", [b"another layer"])
    ask.layout.tag("a/b/c", "v2", "v3")
    ask.layout.put_manifest("elsewhere", image, "v2")
    assert ask("DELETE", f"/v2/a/b/c/manifests/{image.digest}").status == 202
    assert ask.layout.tags("a/b/c") == ("other",)
    assert ask.layout.tags("elsewhere") == ("v2",)


@pytest.mark.parametrize(
    ("asked", "status", "extent"),
    [
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=2-", 206, (2, 10)),
        ("bytes=-3", 206, (7, 10)),
        ("bytes=4-99", 206, (4, 10)),
        ("bytes=0-", 200, (0, 10)),
        ("bytes=-99", 200, (0, 10)),
        ("bytes=10-", 416, (0, 0)),
        ("bytes=-0", 416, (0, 0)),
        ("bytes=5-4", 416, (0, 0)),
        ("bytes=1-2,4-5", 200, (0, 10)),
        ("bytes=-", 200, (0, 10)),
        ("lines=1-2", 200, (0, 10)),
    ],
)
def test_parts_of_a_blob_are_read(ask: Asking, asked: str, status: int, extent: tuple[int, int]) -> None:
    data = b"0123456789"
    add_blob(ask.layout, "a", data)
    answer = ask("GET", f"/v2/a/blobs/{digest_of(data)}", Range=asked)
    assert answer.status == status
    if status == 416:
        assert answer.headers["content-range"] == "bytes */10"
    else:
        assert answer.body == data[slice(*extent)]
        assert answer.headers.get("content-range") == (
            f"bytes {extent[0]}-{extent[1] - 1}/10" if status == 206 else None
        )


def test_lists_come_in_pages(ask: Asking) -> None:
    image = add_image(ask.layout, "a", None, [])
    wanted = [f"t{number}" for number in range(7)]
    for tag in wanted:
        ask.layout.put_manifest("a", image, tag)
        ask.layout.put_manifest(f"r/{tag}", image, "x")
    ask.layout.put_manifest("", image, "foreign")
    for first, key, names in (
        ("/v2/a/tags/list?n=3", "tags", wanted),
        ("/v2/_catalog?n=3", "repositories", ["a", *(f"r/{tag}" for tag in wanted)]),
    ):
        found, target, pages = [], first, 0
        while target:
            answer = ask("GET", target)
            found += json.loads(answer.body)[key]
            further = re.match('<(.*)>; rel="next"', answer.headers.get("link", ""))
            target, pages = further[1] if further else "", pages + 1
        assert (found, pages) == (names, 3)
    assert json.loads(ask("GET", "/v2/a/tags/list?n=0").body)["tags"] == []
    assert json.loads(ask("GET", "/v2/a/tags/list?last=t4").body)["tags"] == ["t5", "t6"]


def test_a_blob_arrives_in_one_request_or_in_many(ask: Asking) -> None:
    for algorithm in ("sha256", "sha512"):
        data = noise(algorithm, 100_000)
        digest = digest_of(data, algorithm)
        for way in ("post", "put", "patch", "chunked"):
            target = ask.layout.folder / "blobs" / digest.replace(":", "/")
            target.unlink(missing_ok=True)
            if way == "post":
                answer = ask("POST", f"{UPLOADS}?digest={digest}", data)
            elif way == "put":
                answer = ask("PUT", f"{ask.begin()}?digest={digest}", data)
            else:
                where = ask.begin()
                sent = data if way == "patch" else iter([data[:1], data[1:70_000], data[70_000:]])
                answer = ask("PATCH", where, sent)
                assert (answer.status, answer.headers["range"]) == (202, "0-99999")
                answer = ask("PUT", f"{answer.headers['location']}?digest={digest}")
            assert answer.status == 201
            assert answer.headers["location"] == f"/v2/a/b/blobs/{digest}"
            assert answer.headers["docker-content-digest"] == digest
            assert target.read_bytes() == data
    assert not leftovers(ask.layout)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    chunked=st.lists(st.booleans(), min_size=7, max_size=7),
    at_end=st.booleans(),
)
def test_a_blob_is_the_same_however_it_was_split(
    still: Asking, data: bytes, cuts: list[int], chunked: list[bool], at_end: bool
) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(edges)]
    digest = digest_of(data)
    (still.layout.folder / "blobs" / digest.replace(":", "/")).unlink(missing_ok=True)
    where, sent = still.begin(), 0
    last = parts.pop() if at_end else b""
    for part, in_chunks in zip(parts, chunked, strict=False):
        headers = {"Content_Range": f"{sent}-{sent + len(part) - 1}"} if part else {}
        body: object = iter([part[:7], part[7:]] if len(part) > 7 else [part]) if in_chunks and part else part
        answer = still("PATCH", where, body, **headers)
        sent += len(part)
        assert answer.status == 202
        assert answer.headers["range"] == f"0-{max(0, sent - 1)}"
        where = answer.headers["location"]
        answer = still("GET", where)
        assert (answer.status, answer.headers["range"]) == (204, f"0-{max(0, sent - 1)}")
    assert still("PUT", f"{where}?digest={digest}", last).status == 201
    assert still("GET", f"/v2/a/b/blobs/{digest}").body == data
    assert still("GET", where).code == "BLOB_UPLOAD_UNKNOWN"


def test_an_upload_that_does_not_go_on_where_it_is_stays(ask: Asking) -> None:
    where = ask.begin()
    ask("PATCH", where, b"01234", Content_Range="0-4")
    for extent, data in (("0-4", b"01234"), ("6-7", b"67"), ("5-9", b"567"), ("x", b"5"), ("9-5", b"5")):
        answer = ask("PATCH", where, data, Content_Range=extent)
        assert (answer.status, answer.code, answer.headers["range"]) == (416, "BLOB_UPLOAD_INVALID", "0-4")
    assert ask("PATCH", where, b"567", Content_Range="5-7").headers["range"] == "0-7"
    assert ask("PUT", f"{where}?digest={digest_of(b'01234567')}").status == 201


def test_an_upload_that_is_not_its_digest_leaves_nothing(ask: Asking) -> None:
    where = ask.begin()
    assert ask("PATCH", where, b"bytes").status == 202
    answer = ask("PUT", f"{where}?digest={digest_of(b'other')}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert ask("PATCH", where, b"more").code == "BLOB_UPLOAD_UNKNOWN"
    assert ask("HEAD", f"/v2/a/b/blobs/{digest_of(b'other')}").status == 404
    assert ask("DELETE", ask.begin()).status == 204
    assert not leftovers(ask.layout)


@pytest.mark.parametrize("headers", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_that_is_cut_off_leaves_nothing(ask: Asking, method: str, headers: bytes) -> None:
    where = ask.begin()
    body = b"half" if b"Length" in headers else b"1000\r\nhalf"
    target = f"{where}?digest={digest_of(b'half')}"
    assert ask.raw(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n".encode() + headers + b"\r\n\r\n" + body) == b""
    assert ask("GET", where).code == "BLOB_UPLOAD_UNKNOWN"
    assert ask("HEAD", f"/v2/a/b/blobs/{digest_of(b'half')}").status == 404
    assert not leftovers(ask.layout)


def test_forgotten_uploads_end(layout: Layout) -> None:
    clock = [0.0]
    uploads = Uploads(layout, lambda: clock[0])
    old = uploads.begin("a")
    clock[0] = 3000.0
    with uploads.taken("a", old.name) as found:
        assert found is old
    clock[0] = 6000.0
    other = uploads.begin("a")
    clock[0] = 8000.0
    uploads.begin("b")
    with uploads.taken("a", old.name) as found:
        assert found is None
    with uploads.taken("a", other.name) as found:
        assert found is other
    with uploads.taken("elsewhere", other.name) as found:
        assert found is None
    uploads.drop_all()
    assert not leftovers(layout)


def test_a_manifest_that_cannot_be_kept_is_refused(ask: Asking) -> None:
    config = add_blob(ask.layout, "a", b"{}", OCI_CONFIG)
    body = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config}
    gone = manifest_of(body | {"layers": [{**config, "digest": digest_of(b"gone")}]})
    for name, data, code in (
        ("v1", gone.data, "MANIFEST_BLOB_UNKNOWN"),
        ("v1", b"", "MANIFEST_INVALID"),
        ("v1", b'{"layers": 1}', "MANIFEST_INVALID"),
        ("v1", b'{"fsLayers": []}', "MANIFEST_INVALID"),
        (digest_of(b"other"), gone.data, "MANIFEST_INVALID"),
        ("-", gone.data, "MANIFEST_INVALID"),
        ("v1", b" " * (LARGEST + 1), "MANIFEST_INVALID"),
    ):
        answer = ask("PUT", f"/v2/a/manifests/{name}", data)
        assert (answer.code, answer.status) == (code, 413 if len(data) > LARGEST else 400)
    assert ask.layout.tags("a") == ()


def test_a_damaged_manifest_is_a_miss_that_a_push_mends(ask: Asking) -> None:
    image = add_image(ask.layout, "a", "v1", [b"layer"])
    (ask.layout.folder / "blobs" / image.digest.replace(":", "/")).write_bytes(b"{}")
    answer = ask("GET", "/v2/a/manifests/v1")
    assert answer.code == "MANIFEST_UNKNOWN"
    assert "is damaged" in answer.body.decode()
    # A layer is no manifest either.
    assert ask("GET", f"/v2/a/manifests/{digest_of(b'layer')}").code == "MANIFEST_UNKNOWN"
    assert ask("PUT", "/v2/a/manifests/v1", image.data).status == 201
    assert ask("GET", "/v2/a/manifests/v1").body == image.data


def test_a_layout_has_its_usual_port_and_another_while_that_is_taken(tmp_path: Path) -> None:
    one, other = Layout(tmp_path / "one"), Layout(tmp_path / "other")
    with reachable(one) as usual:
        pass
    with reachable(one) as again, reachable(one) as second, reachable(other) as else_:
        assert again == usual
        assert len({again, second, else_}) == 3
