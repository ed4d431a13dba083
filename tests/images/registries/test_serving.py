"""An image layout behind HTTP, as builders and other tools see it."""

from __future__ import annotations

import fcntl
import http.client
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.images.registries.test_layouts import small_disk
from tests.images.samples import add_blob, add_image, at, noise

from spotweld.errors import RegistryFull, RegistryRefused
from spotweld.images.registries import layouts
from spotweld.images.registries.copying import copy, verify
from spotweld.images.registries.distribution import Distribution
from spotweld.images.registries.distribution_client import Client
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import LARGEST, OCI_CONFIG, digest_of, manifest_of
from spotweld.images.registries.opening import open_registry
from spotweld.images.registries.serving import reachable
from spotweld.images.registries.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterator

UPLOADS = "/v2/a/b/blobs/uploads/"


class Answered:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    @property
    def code(self) -> str:
        """The specification's word for a refusal."""
        (error,) = json.loads(self.body)["errors"]
        assert error["message"]
        return str(error["code"])


class Asking:
    """A layout, the address under which it is served, and one connection to it."""

    def __init__(self, layout: Layout, host: str) -> None:
        self.layout, self.host = layout, host
        self.connection = http.client.HTTPConnection(host, timeout=20)

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Answered:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body=body, headers=sent, encode_chunked=not isinstance(body, bytes))  # type: ignore[arg-type]
        return Answered(self.connection.getresponse())

    def raw(self, data: bytes) -> bytes:
        """All that is answered to these bytes, on a connection of their own."""
        with socket.create_connection(("127.0.0.1", int(self.host.rpartition(":")[2])), timeout=20) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def begin(self) -> str:
        """Where a new upload goes."""
        answer = self("POST", UPLOADS)
        assert (answer.status, answer.headers["range"]) == (202, "0-0")
        return answer.headers["location"]


@contextmanager
def asking(layout: Layout) -> Iterator[Asking]:
    with reachable(layout) as host:
        made = Asking(layout, host)
        yield made
        made.connection.close()


@pytest.fixture
def ask(layout: Layout) -> Iterator[Asking]:
    with asking(layout) as made:
        yield made


def leftovers(layout: Layout) -> list[Path]:
    return list(layout.folder.rglob(".~*"))


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


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    """One served layout for many examples."""
    with asking(Layout(tmp_path_factory.mktemp("still"))) as made:
        yield made


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


def test_only_this_machine_is_answered(ask: Asking) -> None:
    port = ask.host.rpartition(":")[2]
    for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", "127.1.2.3", f"[::1]:{port}"):
        assert b" 200 " in ask.raw(f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    for host in ("evil.example.org", f"evil.example.org:{port}", "127.0.0.1.example.org", "10.0.0.1", "", "[", "::::"):
        answer = ask.raw(f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b" 403 " in answer.splitlines()[0]
        assert b"DENIED" in answer
    evil = b"GET http://evil.example.org/v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert b" 403 " in ask.raw(evil)
    assert b" 200 " in ask.raw(evil.replace(b"evil.example.org", b"localhost"))
    assert b" 403 " in ask.raw(b"GET /v2/ HTTP/1.0\r\n\r\n")
    assert b" 403 " in ask.raw(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.org\r\n\r\n")
    assert ask("POST", UPLOADS, Origin="https://evil.example.org").status == 403
    assert not leftovers(ask.layout)


HOST = b"Host: localhost\r\n"
MALFORMED = [
    b"garbage\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /v2/ HTTP/1.1 more\r\n\r\n",
    b"GET /v2/ HTTP/9.9\r\n" + HOST + b"\r\n",
    b"\xff\xfe\xfd / HTTP/1.1\r\n" + HOST + b"\r\n",
    b"BREW /v2/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /v2/ HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    b"GET /v2/ HTTP/1.1\r\n" + b"A: " + b"b" * 70_000 + b"\r\n\r\n",
    b"GET /v2/../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /v2/a/blobs/sha256:..%2f..%2fx HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /v2/A/tags/list HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /v2/a/tags/list?n=x HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /v2/_catalog?n=-1 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /v2/_catalog?" + b"a=b&" * 100 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET http://[/v2/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET ftp://localhost/v2/ HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"PUT /v2/a/manifests/\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"PUT /v2/a/manifests/%00 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"DELETE /v2/a/blobs/sha256:00 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST /v2/a/blobs/uploads/?digest=sha256:00 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"POST /v2/a/blobs/uploads/?mount=x HTTP/1.1\r\n" + HOST + b"\r\n",
    b"PATCH /v2/a/blobs/uploads/none HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 200,
]


@pytest.mark.parametrize("request_", MALFORMED, ids=lambda data: repr(data[:40]))
def test_what_makes_no_sense_is_refused(ask: Asking, request_: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    answer = ask.raw(request_)
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]["message"]
    assert ask("GET", "/v2/").status == 200
    assert not leftovers(ask.layout)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from([b"GET", b"HEAD", b"POST", b"PATCH", b"PUT", b"DELETE"]),
    path=st.one_of(
        st.binary(max_size=40),
        st.tuples(
            st.sampled_from([b"/v2/a/blobs/", b"/v2/a/manifests/", b"/v2/a/blobs/uploads/", b"/v2/", b"/v2/_catalog?"]),
            st.binary(max_size=20),
        ).map(b"".join),
    ),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"Content-Length", b"Content-Range", b"Range", b"Transfer-Encoding", b"Content-Type"]),
            st.one_of(st.binary(max_size=12), st.sampled_from([b"chunked", b"1", b"0-0", b"bytes=0-1"])),
        ),
        max_size=3,
    ),
    body=st.binary(max_size=20),
)
def test_nothing_that_is_sent_makes_it_fail(
    still: Asking, method: bytes, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    lines = [
        method + b" " + path + b" HTTP/1.1",
        b"Host: localhost",
        *(name + b": " + value for name, value in headers),
    ]
    answer = still.raw(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    for status in re.findall(rb"(?m)^HTTP/1\.1 (\d\d\d) ", answer):
        assert status[:1] in b"124"
    assert still("GET", "/v2/").status == 200


def patient(host: str, slept: list[float]) -> Distribution:
    return Distribution(Client(f"http://{host}", lambda: None, sleep=slept.append, patience=20))


def test_a_full_disk_is_told_and_its_space_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spotweld.images.registries.distribution.CHUNK", 200_000)
    source = Layout(tmp_path / "source")
    add_image(source, "a", "v2", [noise(1, 300_000), noise(2, 900_000)])
    with small_disk("1m") as folder:
        layout = Layout(folder / "layout")
        old = add_image(layout, "a", "v1", [noise(0, 100_000)])
        with asking(layout) as ask:
            registry = patient(ask.host, [])
            for _ in range(2):
                with pytest.raises(RegistryFull, match="No space left on device") as caught:
                    copy(at(source, "a", "v2"), at(registry, "a", "v1"))
                assert "Free some space" in caught.value.todo
                assert layout.resolve("a", "v1") == old.digest
                assert not leftovers(layout)
            big = noise(3, 3_000_000)
            answer = ask("POST", f"{UPLOADS}?digest={digest_of(big)}", big)
            assert answer.status == 507
            assert "no space left" in answer.body.decode()
            assert verify(at(registry, "a", "v1")) == ()
            assert add_image(registry, "a", "v1", [b"tiny"]).digest == layout.resolve("a", "v1")


def test_a_read_only_disk_and_a_held_lock_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk("1m") as folder:
        layout = Layout(folder / "layout")
        image = add_image(layout, "a", "v1", [b"layer"])
        with asking(layout) as ask:
            registry, slept = patient(ask.host, []), list[float]()
            monkeypatch.setattr(layouts, "_PATIENCE", 0.01)
            holder = (layout.folder / "index.lock").open()
            fcntl.flock(holder, fcntl.LOCK_EX)
            assert ask("PUT", "/v2/a/manifests/v2", image.data).status == 503
            holder.close()
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
            for doing in (lambda: registry.tag("a", "v1", "v2"), lambda: add_image(registry, "a", "v2", [b"new"])):
                with pytest.raises(RegistryRefused, match="Read-only file system"):
                    doing()
            assert verify(at(registry, "a", "v1")) == ()
            assert slept == []


def test_two_that_serve_one_layout_lose_no_tag(layout: Layout) -> None:
    def push(host: str, name: str) -> None:
        registry = patient(host, [])
        for number in range(8):
            add_image(registry, "a", f"{name}-{number}", [b"shared", f"{name}{number}".encode()])

    with reachable(layout) as one, reachable(Layout(layout.folder)) as two:
        threads = [threading.Thread(target=push, args=pair) for pair in ((one, "a"), (two, "b"), (one, "c"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(layout.tags("a")) == {f"{name}-{number}" for name in "abc" for number in range(8)}
    assert all(verify(at(layout, "a", tag)) == () for tag in layout.tags("a"))


SERVER = """
import sys, time
from pathlib import Path
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.serving import reachable
with reachable(Layout(Path(sys.argv[1]))) as host:
    print(host, flush=True)
    time.sleep(300)
"""


@contextmanager
def elsewhere(layout: Layout) -> Iterator[tuple[Asking, subprocess.Popen[str]]]:
    """The layout served by another process."""
    served = subprocess.Popen([sys.executable, "-c", SERVER, str(layout.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert served.stdout
        made = Asking(layout, served.stdout.readline().strip())
        yield made, served
        made.connection.close()
    finally:
        served.kill()
        served.communicate()


def test_a_killed_server_leaves_what_had_arrived_whole(layout: Layout) -> None:
    with elsewhere(layout) as (ask, served):
        image = add_image(patient(ask.host, []), "a", "v1", [b"layer"])
        where = ask.begin()
        assert ask("PATCH", where, noise(1, 50_000)).status == 202
        served.kill()
    assert leftovers(layout)
    again = Layout(layout.folder)
    assert verify(at(again, "a", "v1")) == ()
    assert again.resolve("a", "v1") == image.digest
    with asking(again) as ask:
        assert ask("GET", where).code == "BLOB_UPLOAD_UNKNOWN"
        add_image(patient(ask.host, []), "a", "v2", [b"other"])
        assert not leftovers(layout)


def test_a_large_blob_is_never_held_in_memory(layout: Layout) -> None:
    with elsewhere(layout) as (ask, served):

        def peak() -> int:
            status = Path(f"/proc/{served.pid}/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]

        before, piece = peak(), noise("piece", 2**20)
        pieces = [piece] * 100
        whole = b"".join(pieces)
        assert ask("PATCH", where := ask.begin(), iter(pieces)).status == 202
        assert ask("PUT", f"{where}?digest={digest_of(whole)}").status == 201
        assert ask("GET", f"/v2/a/b/blobs/{digest_of(whole)}").body == whole
        assert peak() - before < 20_000


def skopeo(*words: str) -> None:
    subprocess.run(["skopeo", "--insecure-policy", *words], check=True, timeout=60, capture_output=True)


def test_skopeo_copies_to_it_and_from_it(ask: Asking, tmp_path: Path) -> None:
    source = Layout(tmp_path / "source")
    image = add_image(source, "a", "v1", [noise(1, 100_000), b"small"])
    there = f"docker://{ask.host}/team/project/image:v1"
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", f"{source.url}:a:v1", there)
    assert ask.layout.resolve("team/project/image", "v1") == image.digest
    assert verify(at(ask.layout, "team/project/image", "v1")) == ()
    skopeo("copy", "--preserve-digests", "--src-tls-verify=false", there, f"oci:{tmp_path}/back:x")
    assert Layout(tmp_path / "back").resolve("", "x") == image.digest
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", there, f"docker://{ask.host}/team/other:v2")
    skopeo("delete", "--tls-verify=false", there)
    assert ask.layout.tags("team/project/image") == ()
    assert ask.layout.resolve("team/other", "v2") == image.digest


def test_a_layout_has_its_usual_port_and_another_while_that_is_taken(tmp_path: Path) -> None:
    one, other = Layout(tmp_path / "one"), Layout(tmp_path / "other")
    with reachable(one) as usual:
        pass
    with reachable(one) as again, reachable(one) as second, reachable(other) as else_:
        assert again == usual
        assert len({again, second, else_}) == 3
