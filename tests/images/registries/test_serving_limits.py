"""A served layout and what it does not do: strangers, nonsense, full disks, blobs that are larger than the memory."""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.images.registries.asking import UPLOADS, Asking, asking, elsewhere, leftovers, patient
from tests.images.registries.test_layouts import small_disk
from tests.images.samples import add_image, at, noise

from spotweld.errors import RegistryFull, RegistryRefused
from spotweld.images.registries import layouts
from spotweld.images.registries.copying import copy, verify
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import digest_of


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
