"""The context as an archive behind a URL."""

from __future__ import annotations

import os
import socket
import struct
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.images.builders.archive import EVERYTHING, pack, reach, served
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.dockerfiles.ignore import Ignore
from spotweld.images.steps.context import Context

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("RUN true", []),
        ("COPY src/a ./b/../c /x/", ["src/a", "c"]),
        ("COPY src/*.py data/?/x /x/", ["src/*.py", "data/?/x"]),
        ("COPY *.py src /x/", [""]),
        ("COPY . /x", [""]),
        ("COPY $SRC /x", [""]),
        ('COPY "a b" /x', [""]),
        ("COPY --from=other /a /x", []),
        ("COPY <<EOF /x\nEOF", []),
        ("ADD https://example.org/a.tar b.tar /x/", ["b.tar"]),
        ("RUN --mount=type=bind,source=wheels,target=/w true", ["wheels"]),
        ("RUN --mount=target=/w true", [""]),
        ("RUN --mount=type=cache,target=/w --mount=type=bind,from=other,target=/o true", []),
        ("ONBUILD RUN true", [""]),
    ],
)
def test_what_an_instruction_may_read(line: str, wanted: list[str]) -> None:
    assert reach(parse(f"FROM scratch AS other\nFROM x\n{line}\n")) == frozenset(wanted)


def packed(context: Path, ignore: str = "", wanted: frozenset[str] = EVERYTHING) -> dict[str, tarfile.TarInfo]:
    to = context.parent / "context.tar"
    pack(context, Ignore(ignore), wanted, to)
    with tarfile.open(to) as tar:
        return {info.name: info for info in tar}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("1")
    (folder / "src" / "deep" / "b.py").write_text("2")
    (folder / "data").mkdir()
    (folder / "data" / "big").write_text("3")
    return folder


def test_it_holds_what_is_needed_and_not_ignored(context: Path) -> None:
    everything = {".", "src", "src/a.py", "src/deep", "src/deep/b.py", "data", "data/big"}
    assert set(packed(context)) == everything
    assert set(packed(context, wanted=frozenset(["src/deep"]))) == {".", "src", "src/deep", "src/deep/b.py"}
    assert set(packed(context, wanted=frozenset(["src/de"]))) == {".", "src"}
    assert set(packed(context, "src\n!src/deep/b.py")) == everything - {"src/a.py"}
    assert set(packed(context, wanted=frozenset())) == {"."}


def test_a_path_through_a_link_needs_everything(context: Path) -> None:
    (context / "link").symlink_to("data")
    assert "data/big" in packed(context, wanted=frozenset(["link/big"]))
    assert packed(context)["link"].linkname == "data"


@pytest.mark.parametrize("source", ["src/*.py", "src/l*", "src/dee?/link", "src/**/l*"])
def test_a_link_that_a_pattern_names_needs_everything(context: Path, source: str) -> None:
    for folder, target in (("src", "../data/big"), ("src/deep", "../../data/big")):
        (context / folder / "link").symlink_to(target)
    wanted = reach(parse(f"FROM scratch\nCOPY {source} /x/\n"))
    assert ("data/big" in packed(context, wanted=wanted)) is (source != "src/*.py")


def test_files_have_no_owners_and_no_second_names(context: Path) -> None:
    os.link(context / "data" / "big", context / "src" / "same")
    os.chown(context / "data" / "big", 12, 34)
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()  # noqa: PTH109  because a socket's path can have 104 bytes only
        os.chdir(context)
        server.bind("socket")
        os.chdir(here)
    found = packed(context)
    assert "socket" not in found
    assert {info.type for name, info in found.items() if name in {"data/big", "src/same"}} == {tarfile.REGTYPE}
    assert {(info.uid, info.gid, info.uname, info.gname) for info in found.values()} == {(0, 0, "", "")}
    assert found["src/same"].size == 1


@given(
    names=st.sets(st.sampled_from(["a", "b", "c/a", "c/b", "c/d/a", "e"]), min_size=1),
    rules=st.lists(st.sampled_from(["a", "c", "!c/a", "**/b", "c/*", "!c/d", "*", "!e"]), max_size=4),
)
def test_the_archive_has_what_the_keys_see(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], rules: list[str]
) -> None:
    context = tmp_path_factory.mktemp("context") / "context"
    for name in names:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    ignore = "\n".join(rules)
    seen = {entry.path for entry in Context(context, Ignore(ignore)).named(".")}
    assert set(packed(context, ignore)) - {"."} == seen


def test_it_is_served_under_a_name_that_nobody_can_guess(tmp_path: Path) -> None:
    archive = tmp_path / "context.tar"
    archive.write_bytes(b"x" * 3_000_000)
    with served(archive) as url:
        with urllib.request.urlopen(url) as answer:
            tag = answer.headers["ETag"]
            assert answer.read() == archive.read_bytes()
        head = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(head) as answer:
            assert answer.headers["Content-Length"] == "3000000"
        for wrong, status in (
            (urllib.request.Request(url, headers={"If-None-Match": tag}), 304),
            (urllib.request.Request(url.replace("/context", "x/context")), 404),
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(wrong)
            caught.value.close()
            assert caught.value.code == status
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)


def test_a_client_that_goes_away_is_no_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "context.tar"
    archive.write_bytes(b"x" * 30_000_000)
    with served(archive) as url:
        parts = urllib.parse.urlsplit(url)
        client = socket.create_connection((parts.hostname or "", parts.port or 0))
        client.sendall(f"GET {parts.path} HTTP/1.0\r\n\r\n".encode())
        assert client.recv(100)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        for thread in threading.enumerate():
            if "process_request" in thread.name:
                thread.join()
    assert capfd.readouterr().err == ""
