from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from tests.images.fake import Fake, fake
from tests.images.registries.test_layouts import small_disk
from tests.images.samples import add_image, at, noise
from tests.images.servers import docker_registry, registry_with_login, registry_with_tokens

from spotweld import errors
from spotweld.errors import (
    ImageDamaged,
    ImageError,
    ImageNotFound,
    RegistryFull,
    RegistryRefused,
    RegistryUnavailable,
    SpotweldError,
    UsageError,
)
from spotweld.images.registries import distribution
from spotweld.images.registries.copying import copy, verify
from spotweld.images.registries.distribution import Distribution
from spotweld.images.registries.distribution_client import Client, _origin, _pause
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import digest_of
from spotweld.images.registries.opening import open_registry
from spotweld.images.registries.refusals import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server_state() -> Iterator[Fake]:
    with fake() as state:
        yield state


def connected(url: str, slept: list[float] | None = None) -> Distribution:
    return Distribution(Client(url, lambda _: None, sleep=(slept if slept is not None else []).append, patience=10))


def logged_in(tmp_path: Path, url: str, login: str = "me:secret", **more: object) -> Distribution:
    host = url.partition("://")[2]
    entry = {"auth": base64.b64encode(login.encode()).decode(), **more}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    registry = open_registry(url, {"DOCKER_CONFIG": str(tmp_path), "HOME": "/nowhere"})
    assert isinstance(registry, Distribution)
    return registry


def test_basic_credentials_at_a_real_server(tmp_path: Path) -> None:
    with registry_with_login(tmp_path) as url:
        registry = logged_in(tmp_path, url)
        image = add_image(registry, "a", "v1", [b"layer"])
        assert registry.resolve("a", "v1") == image.digest
        assert verify(at(registry, "a", "v1")) == ()
        wrong, missing = logged_in(tmp_path, url, "me:wrong"), connected(url)
        for refused, why in ((wrong, "the password of me is wrong"), (missing, "nobody has logged in to 127.0.0.1:")):
            with pytest.raises(RegistryRefused, match=why) as caught:
                refused.tags("a")
            assert "docker login 127.0.0.1:" in caught.value.todo
            with pytest.raises(RegistryRefused, match=why):
                list(refused.read_blob("a", digest_of(b"layer")))


def test_an_account_of_a_real_server_that_may_only_read(tmp_path: Path) -> None:
    rights = {"reader": ["pull"], "writer": ["pull", "push"], "owner": ["pull", "push", "delete"]}
    with registry_with_tokens(tmp_path, rights) as url:
        image = add_image(logged_in(tmp_path, url, "owner:secret"), "a", "v1", [b"layer"])
        writer = logged_in(tmp_path, url, "writer:secret")
        writer.tag("a", "v1", "v2")
        reader = logged_in(tmp_path, url, "reader:secret")
        assert verify(at(reader, "a", "v1")) == ()
        for user, act in (
            ("reader", lambda: reader.tag("a", "v1", "v3")),
            ("reader", lambda: reader.prepare(["a"])),
            ("reader", lambda: add_image(reader, "a", "v1", [b"new"])),
            ("reader", lambda: reader.delete("a", "v1")),
            ("writer", lambda: writer.delete("a", "v1")),
        ):
            logged_in(tmp_path, url, f"{user}:secret")
            with pytest.raises(RegistryRefused, match=f"the account {user} may not do that") as caught:
                act()
            assert "Ask for the right" in caught.value.todo
        assert {reader.resolve("a", tag) for tag in reader.tags("a")} == {image.digest}
        with pytest.raises(RegistryRefused, match=r"Cannot log in to .*the password of owner is wrong"):
            logged_in(tmp_path, url, "owner:wrong").tags("a")
        with pytest.raises(RegistryRefused, match="nobody has logged in"):
            connected(url).tags("a")
        logged_in(tmp_path, url, "owner:secret").delete("a", "v1")
        assert logged_in(tmp_path, url, "owner:secret").tags("a") == ("v2",)


def test_a_repository_may_have_an_account_of_its_own_at_a_real_server(tmp_path: Path) -> None:
    with registry_with_tokens(tmp_path, {"reader": ["pull"], "writer": ["pull", "push"]}) as url:
        host = url.partition("://")[2]
        logins = {host: b"reader:secret", f"{host}/team": b"writer:secret"}
        auths = {key: {"auth": base64.b64encode(login).decode()} for key, login in logins.items()}
        (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
        registry = open_registry(url, {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
        add_image(registry, "team/a", "v1", [b"layer"])
        assert verify(at(registry, "team/a", "v1")) == ()
        with pytest.raises(RegistryRefused, match="the account reader may not do that"):
            add_image(registry, "teams/a", "v1", [b"layer"])


@pytest.mark.parametrize("status", [401, 403])
def test_a_blob_of_a_repository_that_must_not_be_read_is_moved(server_state: Fake, tmp_path: Path, status: int) -> None:
    registry = logged_in(tmp_path, server_state.url)
    add_image(registry, "a", "v1", [b"layer"])
    server_state.always = [(r"POST /v2/b/blobs/uploads/\?mount=.*", status, {}, "")]
    copy(at(registry, "a", "v1"), at(registry, "b", "v1"))
    assert verify(at(registry, "b", "v1")) == ()


@pytest.mark.parametrize("more", [{}, {"identitytoken": "refresh"}])
def test_a_token_is_fetched_and_renewed(server_state: Fake, tmp_path: Path, more: dict[str, str]) -> None:
    server_state.bearer = "me:secret"
    registry = logged_in(tmp_path, server_state.url, **more)
    add_image(registry, "a", "v1", [b"layer"])
    assert server_state.requests.count("POST /token" if more else "GET /token") <= 2
    server_state.token = "token-2"
    assert verify(at(registry, "a", "v1")) == ()
    assert b"".join(registry.blob("a", digest_of(b"layer"))) == b"layer"
    server_state.bearer = "me:other"
    server_state.token = "token-3"
    if not more:
        with pytest.raises(RegistryRefused, match=r"Cannot log in to .* wrong password"):
            registry.tags("a")


@pytest.mark.parametrize(
    "asked",
    [
        ["{bearer}", 'Basic realm="x"'],
        ["Negotiate", 'basic realm="a, Bearer b"', "{bearer}"],
        ['Basic realm="x", {bearer}'],
        ['Digest realm="https://x/y", nonce="a=", {bearer}, Negotiate'],
        ["Negotiate b2g=, {bearer}"],
    ],
)
def test_a_token_is_fetched_where_there_are_other_ways_in(server_state: Fake, tmp_path: Path, asked: list[str]) -> None:
    bearer = f'Bearer realm="{server_state.url}/token",service="fa\\ke"'
    server_state.bearer = "me:secret"
    server_state.challenges = [one.replace("{bearer}", bearer) for one in asked]
    assert logged_in(tmp_path, server_state.url).tags("a") == ()
    assert server_state.services == ["fake"]


def test_a_password_is_shown_where_there_are_other_ways_in(server_state: Fake, tmp_path: Path) -> None:
    server_state.basic = "me:secret"
    server_state.challenges = ['Basic realm="x"', "Negotiate"]
    assert logged_in(tmp_path, server_state.url).tags("a") == ()


def test_credentials_go_nowhere_else(server_state: Fake, tmp_path: Path) -> None:
    server_state.basic = "me:secret"
    registry = logged_in(tmp_path, server_state.url)
    add_image(registry, "a", "v1", [b"layer"])
    with fake() as elsewhere:
        elsewhere.blobs = server_state.blobs
        server_state.elsewhere = elsewhere.url
        assert verify(at(registry, "a", "v1")) == ()
        assert registry.blob_size("a", digest_of(b"layer")) == 5
        assert registry.blob_size("a", digest_of(b"other")) is None
        assert elsewhere.requests
        assert {shown for _, shown in elsewhere.authorizations} == {None}


def test_a_registry_that_sends_for_everything_elsewhere_is_followed_without_credentials(
    server_state: Fake, tmp_path: Path
) -> None:
    """As registry.k8s.io does: it holds no manifests of its own."""
    server_state.basic = "me:secret"
    registry = logged_in(tmp_path, server_state.url)
    with fake() as elsewhere:
        image = add_image(connected(elsewhere.url), "a", "v1", [b"layer"])
        elsewhere.authorizations.clear()
        server_state.elsewhere = elsewhere.url
        server_state.always = [
            (f"(GET|HEAD) {path}", 307, {"Location": f"{elsewhere.url}{path}"}, "")
            for path in ("/v2/a/manifests/v1", "/v2/a/tags/list")
        ]
        assert registry.resolve("a", "v1") == image.digest
        assert verify(at(registry, "a", "v1")) == ()
        assert registry.tags("a") == ("v1",)
        assert {shown for _, shown in elsewhere.authorizations} == {None}
        server_state.always = [("GET .*", 307, {"Location": "/v2/a/tags/list"}, "")]
        with pytest.raises(RegistryRefused, match="HTTP 307"):
            registry.tags("a")


def test_an_upload_goes_on_where_the_connection_broke(server_state: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "CHUNK", 10_000)
    data, slept = noise("long", 45_000), list[float]()
    server_state.cut = [10_000, 0, 1, 9_998, 3]
    registry = connected(server_state.url, slept)
    registry.write_blob("a", digest_of(data), len(data), [data])
    assert server_state.blobs == {digest_of(data): data}
    # Every byte was sent once: as many PATCHes as chunks and breaks that left something over.
    assert server_state.requests.count("POST /v2/a/blobs/uploads/") == 1
    assert server_state.cut == []
    assert slept


def test_an_upload_that_never_gets_on_is_given_up(server_state: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "CHUNK", 1000)
    server_state.cut = [0] * 100
    slept = list[float]()
    data = noise(1, 5000)
    with pytest.raises(RegistryUnavailable, match="Cannot reach"):
        connected(server_state.url, slept).write_blob("a", digest_of(data), len(data), [data])
    assert len(slept) < 10


def test_an_upload_whose_end_was_not_heard_is_found(server_state: Fake) -> None:
    registry = connected(server_state.url)
    server_state.answers = [("PUT /v2/a/blobs/uploads/.*", 404, {}, "")]
    with pytest.raises(RegistryUnavailable, match="lost the upload"):
        registry.write_blob("a", digest_of(b"x"), 1, [b"x"])
    server_state.answers = [("PUT /v2/a/blobs/uploads/.*", 404, {}, "")]
    server_state.blobs[digest_of(b"x")] = b"x"
    registry.write_blob("a", digest_of(b"x"), 1, [b"x"])


def test_a_download_goes_on_where_the_connection_broke(server_state: Fake) -> None:
    data = noise("long", 3_000_000)
    server_state.blobs[digest_of(data)] = data
    server_state.cut_reads = [1_000_000, 0, 1, 1_999_999]
    assert b"".join(connected(server_state.url).blob("a", digest_of(data), len(data))) == data
    server_state.cut_reads = [0] * 100
    with pytest.raises(RegistryUnavailable, match="Cannot reach"):
        list(connected(server_state.url).blob("a", digest_of(data)))


def test_a_flipped_bit_in_a_layer_is_refused(server_state: Fake, tmp_path: Path) -> None:
    registry = connected(server_state.url)
    add_image(registry, "a", "v1", [noise(1, 1000), b"whole"])
    broken = bytearray(noise(1, 1000))
    broken[500] ^= 4
    server_state.blobs[digest_of(noise(1, 1000))] = bytes(broken)
    target = Layout(tmp_path / "target")
    with pytest.raises(ImageDamaged, match="have the digest"):
        copy(at(registry, "a", "v1"), at(target, "a", "v1"))
    assert target.tags("a") == ()
    assert [one.digest for one in verify(at(registry, "a", "v1"))] == [digest_of(noise(1, 1000))]


def test_a_flipped_bit_on_a_real_servers_disk_is_refused(tmp_path: Path) -> None:
    layer = noise("flipped", 50_000)
    with docker_registry(tmp_path) as url:
        registry, target = connected(url), Layout(tmp_path / "target")
        add_image(registry, "a", "v1", [layer])
        (path,) = (tmp_path / "registry").rglob(f"{digest_of(layer)[7:]}/data")
        path.write_bytes(bytes([layer[0] ^ 1]) + layer[1:])
        with pytest.raises(ImageDamaged, match=f"{digest_of(layer)} in {url} .a. is damaged"):
            copy(at(registry, "a", "v1"), at(target, "a", "v1"))
        assert target.tags("a") == ()
        assert [one.digest for one in verify(at(registry, "a", "v1"))] == [digest_of(layer)]


def test_a_manifest_that_is_not_what_was_asked_for_is_refused(server_state: Fake) -> None:
    registry = connected(server_state.url)
    image = add_image(registry, "a", "v1", [b"layer"])
    server_state.manifests["a", image.digest] = (image.media_type, image.data + b" ")
    with pytest.raises(ImageDamaged, match=image.digest):
        registry.manifest("a", image.digest)
    server_state.manifests["a", "v1"] = (image.media_type, b"<html>")
    with pytest.raises(ImageDamaged, match="no manifest"):
        registry.manifest("a", "v1")
    server_state.manifests["a", "v1"] = ("application/vnd.docker.distribution.manifest.v1+json", b'{"fsLayers": []}')
    with pytest.raises(ImageError, match="unknown kind"):
        registry.manifest("a", "v1")


REFUSALS = [
    (401, {}, "", RegistryRefused, "nobody has logged in", "docker login"),
    (403, {}, '{"errors":[{"code":"DENIED","message":"not yours"}]}', RegistryRefused, "may not.*not yours", "right"),
    (404, {}, '{"errors":[{"code":"NAME_UNKNOWN"}]}', ImageNotFound, "NAME_UNKNOWN", "created before"),
    (405, {}, "Method not allowed", RegistryRefused, "read-only", "another registry"),
    (413, {}, "<html>too large</html>", RegistryRefused, "no upload of that size .HTTP 413.", "client_max_body_size"),
    (429, {"Retry-After": "7"}, "", RegistryUnavailable, "too often", "Wait"),
    (500, {}, '{"errors":[{"code":"UNKNOWN","detail":{"Err": 28}}]}', RegistryFull, "is full", "Free some space"),
    (503, {}, "", RegistryUnavailable, "HTTP 503", "log"),
    (507, {}, "", RegistryFull, "is full", "Free some space"),
    (418, {}, "", RegistryRefused, "HTTP 418", "log"),
]


@pytest.mark.parametrize(
    ("where", "refused"),
    [
        *(("PATCH", refused) for refused in REFUSALS),
        *((where, refused) for where in ("POST", "PUT", "manifest") for refused in REFUSALS[2::3]),
    ],
)
def test_every_refusal_is_explained_and_moves_no_tag(
    server_state: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    refused: tuple[int, dict[str, str], str, type[SpotweldError], str, str],
) -> None:
    status, headers, body, kind, why, todo = refused
    monkeypatch.setattr(distribution, "CHUNK", 100)
    source, registry = Layout(tmp_path / "source"), connected(server_state.url)
    old = add_image(registry, "a", "v1", [b"old"])
    add_image(source, "a", "v1", [noise(1, 300)])
    pattern = "PUT /v2/a/manifests/.*" if where == "manifest" else f"{where} /v2/a/blobs/uploads/.*"
    server_state.always = [(pattern, status, headers, body)]
    if status == 404 and where == "PUT":
        kind, why, todo = RegistryUnavailable, "lost the upload", "again"
    with pytest.raises(kind, match=why) as caught:
        copy(at(source, "a", "v1"), at(registry, "a", "v1"))
    assert todo in caught.value.todo
    assert caught.value.code in errors.catalogue()
    server_state.always = []
    assert registry.resolve("a", "v1") == old.digest
    assert verify(at(registry, "a", "v1")) == ()


def test_a_busy_registry_is_asked_again_as_late_as_it_says(server_state: Fake) -> None:
    slept = list[float]()
    registry = connected(server_state.url, slept)
    server_state.answers = [
        ("GET .*", 429, {"Retry-After": "7"}, ""),
        ("GET .*", 503, {"Retry-After": "never"}, ""),
        ("GET .*", 500, {"Retry-After": "1e9"}, ""),
    ]
    assert registry.tags("a") == ()
    assert slept == [7, 1, 60]


@pytest.mark.parametrize(
    ("until", "pause"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.5),  # the server's clock says more than that
        ("Fri, 01 Jan 2100 00:00:00 GMT", 60),
        ("Fri, 01 Jan 21000000 00:00:00 GMT", 0.5),
    ],
)
def test_a_busy_registry_may_say_a_date(server_state: Fake, until: str, pause: float) -> None:
    slept = list[float]()
    server_state.answers = [("GET .*", 429, {"Retry-After": until}, "")]
    connected(server_state.url, slept).tags("a")
    assert slept == [pause]


def test_a_date_to_wait_for_counts_by_the_registrys_clock() -> None:
    said = {"date": "Sun, 06 Nov 1994 08:49:07 GMT", "retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert _pause(said, 0.5) == 30
    assert _pause({"retry-after": said["retry-after"]}, 0.5) == 0.5


def test_a_busy_registry_is_waited_for_in_the_middle_of_a_copy(server_state: Fake) -> None:
    slept = list[float]()
    registry = connected(server_state.url, slept)
    add_image(registry, "a", "v1", [b"layer"])
    server_state.answers = [
        ("GET /v2/a/blobs/.*", 429, {"Retry-After": "9"}, ""),
        ("GET /v2/a/blobs/.*", 503, {}, ""),
        ("GET /v2/a/blobs/.*", 429, {}, ""),
    ]
    assert b"".join(registry.blob("a", digest_of(b"layer"))) == b"layer"
    assert slept == [9, 1, 2]
    server_state.always = [("GET /v2/a/blobs/.*", 429, {}, "")]
    with pytest.raises(RegistryUnavailable, match="asked too often"):
        list(registry.blob("a", digest_of(b"layer")))
    assert len(slept) == 6


def test_a_storage_of_a_registry_that_does_not_answer_is_told(server_state: Fake) -> None:
    slept = list[float]()
    registry = connected(server_state.url, slept)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        server_state.elsewhere = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RegistryUnavailable, match="Cannot reach the registry"):
            registry.blob_size("a", digest_of(b"layer"))
        with pytest.raises(RegistryUnavailable, match="Cannot reach the registry"):
            list(registry.blob("a", digest_of(b"layer")))
    assert slept == [0.5, 1, 2] * 2


def test_a_tag_is_deleted_by_name_where_the_server_can(server_state: Fake) -> None:
    registry = connected(server_state.url)
    image = add_image(registry, "a", "v1", [b"layer"])
    registry.tag("a", "v1", "v2")
    server_state.requests.clear()
    registry.delete("a", "v1")
    assert registry.tags("a") == ("v2",)
    assert [one for one in server_state.requests if one.startswith("DELETE")] == ["DELETE /v2/a/manifests/v1"]
    assert registry.manifest("a", "v2") == image


def test_a_server_that_does_not_delete_says_so(tmp_path: Path) -> None:
    with docker_registry(tmp_path, delete=False) as url:
        registry = connected(url)
        add_image(registry, "a", "v1", [b"layer"])
        with pytest.raises(RegistryRefused, match=r"does not delete") as caught:
            registry.delete("a", "v1")
        assert "storage.delete.enabled" in caught.value.todo
        assert registry.tags("a") == ("v1",)


def test_a_real_server_that_is_read_only_says_so(tmp_path: Path) -> None:
    with docker_registry(tmp_path) as url:
        image = add_image(connected(url), "a", "v1", [b"layer"])
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    closed = {"storage": {**storage, "maintenance": {"readonly": {"enabled": True}}}}
    with docker_registry(tmp_path, more=closed) as url:
        registry = connected(url)
        assert verify(at(registry, "a", "v1")) == ()
        for act in (
            lambda: registry.tag("a", "v1", "v2"),
            lambda: registry.delete("a", "v1"),
            lambda: add_image(registry, "a", "v1", [b"new"]),
        ):
            with pytest.raises(RegistryRefused, match="read-only"):
                act()
        assert registry.resolve("a", "v1") == image.digest


def test_a_real_server_with_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    source = Layout(tmp_path / "source")
    add_image(source, "a", "v2", [noise(1, 200_000), noise(2, 900_000)])
    with small_disk("1m") as folder, docker_registry(tmp_path, data=folder / "data") as url:
        registry = connected(url)
        old = add_image(registry, "a", "v1", [noise(0, 100_000)])
        with pytest.raises(RegistryFull, match="the registry is full") as caught:
            copy(at(source, "a", "v2"), at(registry, "a", "v1"))
        assert "Free some space" in caught.value.todo
        assert registry.resolve("a", "v1") == old.digest
        assert verify(at(registry, "a", "v1")) == ()
        # More space, as an administrator would make: what has arrived is not sent again.
        subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)
        try:
            arrived = registry.blob_size("a", digest_of(noise(1, 200_000))) or 0
        except RegistryUnavailable:
            arrived = 0  # The full disk took the name of the file that says where the blob is, and not its content.
        assert copy(at(source, "a", "v2"), at(registry, "a", "v1")).there >= arrived
        assert verify(at(registry, "a", "v1")) == ()


@pytest.mark.parametrize("empty", ["_layers/*/*/link", "_manifests/revisions/*/*/link", "_manifests/tags/*/*/link"])
def test_what_a_full_disk_left_empty_on_a_real_server_is_sent_anew(tmp_path: Path, empty: str) -> None:
    source = Layout(tmp_path / "source")
    add_image(source, "a", "v1", [noise(1, 200_000), noise(2, 900)])
    with docker_registry(tmp_path) as url:
        registry = connected(url)
        copy(at(source, "a", "v1"), at(registry, "a", "v1"))
        links = list((tmp_path / "registry/docker/registry/v2/repositories/a").glob(empty))
        for link in links:
            link.write_bytes(b"")
        assert links
        with pytest.raises(RegistryUnavailable):
            verify(at(registry, "a", "v1"))
        copy(at(source, "a", "v1"), at(registry, "a", "v1"))
        assert verify(at(registry, "a", "v1")) == ()


def test_a_blob_that_a_real_server_lost_bytes_of_is_never_taken_for_sent(tmp_path: Path) -> None:
    source = Layout(tmp_path / "source")
    add_image(source, "a", "v1", [noise(1, 200_000)])
    with docker_registry(tmp_path) as url:
        registry = connected(url)
        add_image(registry, "a", "old", [noise(1, 200_000)])
        name = digest_of(noise(1, 200_000)).partition(":")[2]
        (damaged,) = (tmp_path / "registry").rglob(f"{name}/data")
        damaged.write_bytes(noise(1, 100))
        with pytest.raises(ImageDamaged, match="it has 100 bytes instead of 200000"):
            copy(at(source, "a", "v1"), at(registry, "a", "v1"))
        assert registry.resolve("a", "v1") is None


def test_lists_in_pages_are_read_to_their_end(server_state: Fake) -> None:
    link = {"Link": '</v2/a/tags/list?n=1000&last=b>; rel="next"'}
    server_state.answers = [
        ("GET /v2/a/tags/list", 200, link, '{"tags": ["b", "a"]}'),
        ("GET /v2/a/tags/list", 200, {}, '{"tags": ["c"]}'),
        ("GET /v2/_catalog", 200, {}, '{"repositories": null}'),
        ("GET /v2/_catalog", 200, {}, "<html>"),
        ("GET /v2/_catalog", 404, {}, ""),
    ]
    registry = connected(server_state.url)
    assert registry.tags("a") == ("a", "b", "c")
    assert registry.repositories() == ()
    for _ in range(2):
        with pytest.raises(ImageError, match="repositories"):
            registry.repositories()


def test_the_users_proxy_is_taken(server_state: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server_state.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    registry = connected("http://registry.invalid:5000")
    image = add_image(registry, "a", "v1", [b"layer"])
    assert verify(at(registry, "a", "v1")) == ()
    assert registry.resolve("a", "v1") == image.digest
    monkeypatch.setenv("no_proxy", "registry.invalid:5001")
    assert connected("http://registry.invalid:5000").tags("a") == ("v1",)
    for direct in ("registry.invalid", "registry.invalid:5000"):
        monkeypatch.setenv("no_proxy", direct)
        with pytest.raises(RegistryUnavailable, match="Cannot reach"):
            connected("http://registry.invalid:5000").tags("a")


def test_the_users_proxy_is_shown_who_the_user_is(server_state: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, server_state.url.replace("//", "//me:p%40ss@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    registry = connected("http://registry.invalid:5000")
    add_image(registry, "a", "v1", [b"layer"])
    with pytest.raises(RegistryUnavailable, match="Tunnel connection failed"):
        connected("https://registry.invalid").tags("a")
    assert "CONNECT registry.invalid:443" in server_state.requests
    assert set(server_state.proxied) == {"Basic " + base64.b64encode(b"me:p@ss").decode()}


def test_a_real_server_with_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE"]
    subprocess.run([*made.split(), *more], cwd=tmp_path, check=True, capture_output=True)
    tls = {"certificate": str(tmp_path / "cert"), "key": str(tmp_path / "key")}
    with docker_registry(tmp_path, tls=tls) as url:
        assert url.startswith("https:")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        registry = connected(url)
        image = add_image(registry, "a", "v1", [b"layer"])
        assert registry.resolve("a", "v1") == image.digest
        assert verify(at(registry, "a", "v1")) == ()


def test_other_tools_read_it_and_we_read_theirs(server: str, tmp_path: Path, repository: str) -> None:
    registry, layout = connected(server), Layout(tmp_path / "layout")
    host = server.partition("://")[2]
    image = add_image(registry, repository, "v1", [noise(repository, 1000)])
    copied = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
    subprocess.run(
        [*copied, "--src-tls-verify=false", f"docker://{host}/{repository}:v1", f"{layout.url}:theirs:v1"],
        check=True,
        timeout=60,
    )
    assert layout.resolve("theirs", "v1") == image.digest
    other = f"{repository}-theirs"
    subprocess.run(
        [*copied, "--dest-tls-verify=false", f"{layout.url}:theirs:v1", f"docker://{host}/{other}:v2"],
        check=True,
        timeout=60,
    )
    assert registry.manifest(other, "v2") == image
    assert verify(at(registry, other, "v2")) == ()


def test_nobody_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    slept = list[float]()
    with pytest.raises(RegistryUnavailable, match=r"Cannot reach the registry .*Connection refused"):
        connected(f"http://127.0.0.1:{port}", slept).tags("a")
    assert slept == [0.5, 1, 2]


def test_a_server_that_speaks_no_tls_is_told(server_state: Fake) -> None:
    slept = list[float]()
    with pytest.raises(RegistryRefused, match="does not speak TLS") as caught:
        connected(server_state.url.replace("http:", "https:"), slept).tags("a")
    assert f"write {server_state.url}" in caught.value.todo
    assert slept == []


def test_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path) -> None:
    made = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=localhost"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    files = {"certificate": str(tmp_path / "cert"), "key": str(tmp_path / "key")}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["certificate"], files["key"])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client, pytest.raises(OSError, match=r".*"):
                context.wrap_socket(client, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(RegistryRefused, match="certificate is not trusted") as caught:
            connected(f"https://127.0.0.1:{listener.getsockname()[1]}").tags("a")
        thread.join()
    assert "SSL_CERT_FILE" in caught.value.todo


@pytest.mark.parametrize(
    "url",
    [
        "",
        "oci:",
        "ftp://a.b",
        "http://",
        "https://a.b/repo",
        "a.b/repo",
        "http://a b",
        "::",
        "http://[0]",
        "[:::]:5000",
    ],
)
def test_what_is_no_registrys_url(url: str) -> None:
    with pytest.raises(UsageError):
        open_registry(url, {})


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000/", "http://127.0.0.1:5000"),
        ("ghcr.io", "https://ghcr.io"),
        ("docker.io", "https://registry-1.docker.io"),
        ("http://cache:5000", "http://cache:5000"),
        ("http://cache", "http://cache"),
    ],
)
def test_where_a_url_leads(url: str, where: str) -> None:
    assert open_registry(url, {}).url == where


def test_the_usual_port_changes_nobody() -> None:
    """A registry that writes the port into its locations is still the one that the credentials are for."""
    assert _origin("https://Registry.example:443/v2/?a=1") == _origin("https://registry.example") != ""
    assert _origin("http://registry.example:80") == "http://registry.example"
    assert len({_origin(f"https://r.example{port}") for port in ("", ":80", ":5000", ":4430")}) == 4


def test_a_location_that_is_no_url_is_told(server_state: Fake) -> None:
    registry = connected(server_state.url)
    server_state.answers = [("POST /v2/a/blobs/uploads/", 202, {"Location": "http://[0]/x"}, "")]
    with pytest.raises(RegistryUnavailable, match="Cannot follow the registry"):
        registry.write_blob("a", digest_of(b"x"), 1, [b"x"])


def test_a_list_that_leads_to_itself_ends(server_state: Fake) -> None:
    link = {"Link": '</v2/a/tags/list?n=1000>; rel="next"'}
    server_state.always = [("GET /v2/a/tags/list", 200, link, '{"tags": ["a"]}')]
    with pytest.raises(ImageError, match="leads to itself"):
        connected(server_state.url).tags("a")


@pytest.mark.parametrize(("said", "size"), [("17", 17), ("many", -1), ("-5", -1)])
def test_a_size_that_makes_no_sense_is_none(server_state: Fake, said: str, size: int) -> None:
    registry = connected(server_state.url)
    with pytest.MonkeyPatch.context() as patch:
        answer = Answer(200, {"content-length": said}, b"")
        patch.setattr(registry._client, "ask", lambda *_, **__: answer)
        assert registry.blob_size("a", digest_of(b"x")) == size


def test_an_upload_that_fails_is_given_up(server_state: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "CHUNK", 1000)
    registry, data = connected(server_state.url), noise(1, 5000)

    def broken() -> Iterator[bytes]:
        yield data[:2500]
        raise KeyError("the source")

    with pytest.raises(KeyError):
        registry.write_blob("a", digest_of(data), len(data), broken())
    with pytest.raises(ImageDamaged):
        registry.write_blob("a", digest_of(b"other"), len(data), [data])
    assert server_state.uploads == {}
    assert len([one for one in server_state.requests if one.startswith("DELETE /v2/a/blobs/uploads/")]) == 2


def test_a_disk_that_is_full_in_the_middle_of_a_layer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "CHUNK", 100_000)
    data = noise(1, 2_000_000)
    with small_disk("1m") as folder, docker_registry(tmp_path, data=folder / "data") as url:
        # The server may say that all of a chunk has arrived, and find out later that it has not.
        with pytest.raises(RegistryUnavailable, match="is full") as caught:
            connected(url).write_blob("a", digest_of(data), len(data), [data])
        assert "space" in caught.value.todo
