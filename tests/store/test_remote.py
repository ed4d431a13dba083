"""What only stores behind a network do: answer 409, answer late, answer nonsense."""

import http.server
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

import pytest

from spotweld.errors import Conflict, NotFound, Unavailable
from spotweld.store import remote
from spotweld.store.objects import Objects, Version
from spotweld.store.opening import open_store


class Scripted(http.server.BaseHTTPRequestHandler):
    """An S3 whose answers to each method are listed, and 500 once they are used up."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    answers: ClassVar[list[tuple[str, int]]]
    seen: ClassVar[list[str]]

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).seen.append(self.command)
        fitting = [answer for answer in self.answers if answer[0] == self.command]
        if fitting:
            self.answers.remove(fitting[0])
        status = fitting[0][1] if fitting else 500
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 06:00:00 GMT")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = answer  # noqa: N815


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Scripted]]:
    class Mine(Scripted):
        answers: ClassVar[list[tuple[str, int]]] = []
        seen: ClassVar[list[str]] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}", "AWS_ALLOW_HTTP": "true"}
    for name, value in {**env, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r"}.items():
        monkeypatch.setenv(name, value)
    soon = timedelta(milliseconds=1)
    retry = {"max_retries": 2, "backoff": {"init_backoff": soon, "max_backoff": soon, "base": 2}}
    monkeypatch.setattr(remote, "_RETRY", retry)
    yield Mine
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def s3(scripted: type[Scripted]) -> Objects:
    assert scripted.seen == []
    return open_store("s3://bucket", verify=False)


VERSION = Version('{"e_tag":"\\"1\\""}')


def test_a_409_on_create_means_try_again(s3: Objects, scripted: type[Scripted]) -> None:
    scripted.answers += [("PUT", 409), ("HEAD", 404), ("PUT", 409), ("HEAD", 404), ("PUT", 200)]
    s3.create("k", b"")
    assert scripted.seen == ["PUT", "HEAD", "PUT", "HEAD", "PUT"]


def test_a_409_on_replace_means_try_again(s3: Objects, scripted: type[Scripted]) -> None:
    # The client repeats it twice by itself before it tells us.
    scripted.answers += [("PUT", 409)] * 3 + [("HEAD", 200), ("PUT", 200)]
    s3.replace("k", b"", VERSION)
    assert scripted.seen == ["PUT", "PUT", "PUT", "HEAD", "PUT"]


def test_a_409_without_end_is_unavailable(s3: Objects, scripted: type[Scripted]) -> None:
    scripted.answers += [("PUT", 409), ("HEAD", 404)] * 4
    with pytest.raises(Unavailable, match="4 times"):
        s3.create("k", b"")
    scripted.answers += [("PUT", 409)] * 12 + [("HEAD", 200)] * 4
    with pytest.raises(Unavailable, match="4 times"):
        s3.replace("k", b"", VERSION)


def test_a_412_with_the_object_there_is_a_conflict(s3: Objects, scripted: type[Scripted]) -> None:
    scripted.answers += [("PUT", 412), ("HEAD", 200)]
    with pytest.raises(Conflict):
        s3.create("k", b"")
    scripted.answers += [("PUT", 412), ("HEAD", 200)]
    with pytest.raises(Conflict):
        s3.replace("k", b"", Version('{"e_tag":"\\"0\\""}'))
    scripted.answers += [("PUT", 412), ("HEAD", 404)]
    with pytest.raises(Conflict):
        s3.replace("k", b"", VERSION)


def test_errors_of_the_server_are_retried_a_bounded_number_of_times(s3: Objects, scripted: type[Scripted]) -> None:
    scripted.answers += [("GET", 503), ("GET", 500), ("GET", 200)]
    assert s3.get("k") == b""
    with pytest.raises(Unavailable) as caught:
        s3.get("k")
    assert scripted.seen.count("GET") == 6
    assert "k in s3://bucket" in caught.value.what
    assert "\n" not in caught.value.why


@pytest.mark.parametrize("status", [401, 403])
def test_missing_rights_are_said(s3: Objects, scripted: type[Scripted], status: int) -> None:
    scripted.answers += [("GET", status)]
    with pytest.raises(Unavailable, match="Not allowed") as caught:
        s3.get("k")
    assert "credentials" in caught.value.todo


def test_a_missing_bucket_is_not_an_empty_one(s3: Objects, scripted: type[Scripted]) -> None:
    scripted.answers += [("PUT", 404), ("GET", 404)]
    with pytest.raises(Unavailable) as caught:
        s3.put("k", b"")
    assert "bucket" in caught.value.todo
    with pytest.raises(NotFound):
        s3.get("k")


def test_a_store_without_versions_is_refused(memory: Objects) -> None:
    from spotweld.errors import StoreRefused

    with pytest.raises(StoreRefused, match="no version"):
        memory._version({"e_tag": None, "version": None})  # type: ignore[attr-defined]
