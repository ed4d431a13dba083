import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spotweld.errors import StoreRefused, Unavailable, UsageError
from spotweld.store import opening
from spotweld.store.objects import Objects
from spotweld.store.opening import open_store, self_test
from spotweld.testing.stores import Call, Fault, FaultyObjects


def test_an_honest_store_opens_and_stays_empty(url: str) -> None:
    assert list(open_store(url).list("")) == []


def test_two_may_open_at_once(url: str) -> None:
    failed: list[Exception] = []

    def opens() -> None:
        try:
            open_store(url)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=opens) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list(open_store(url, verify=False).list("")) == []


@pytest.mark.parametrize(("verb", "why"), [("create", "If-None-Match"), ("replace", "If-Match")])
def test_a_liar_is_refused_by_name(memory: Objects, verb: str, why: str) -> None:
    liar = FaultyObjects(memory, lambda call: Fault.UNCONDITIONAL if call.verb == verb else None)
    with pytest.raises(StoreRefused, match=why) as caught:
        self_test(liar)
    assert "memory:" in caught.value.what
    assert "single-writer" in caught.value.todo
    assert list(memory.list("")) == []


@pytest.mark.parametrize("verb", ["create", "replace"])
def test_a_store_that_refuses_everything_is_refused(memory: Objects, verb: str) -> None:
    class Refusing(FaultyObjects):
        def create(self, key: str, data: bytes) -> None:  # type: ignore[override]
            memory.create(key, b"something else" if verb == "create" else data)
            if verb == "create":
                memory.create(key, data)

        def replace(self, key: str, data: bytes, _: str) -> None:  # type: ignore[override]
            memory.create(key, data)

    with pytest.raises(StoreRefused, match="whose condition held"):
        self_test(Refusing(memory, lambda _: None))
    assert list(memory.list("")) == []


def test_a_conflict_with_its_own_retry_is_no_lie(memory: Objects) -> None:
    self_test(FaultyObjects(memory, lambda call: Fault.RETRIED if call.verb in {"create", "replace"} else None))


def test_a_silent_store_is_unavailable_after_one_try(memory: Objects) -> None:
    silent = FaultyObjects(memory, lambda _: Fault.NO_ANSWER)
    with pytest.raises(Unavailable):
        self_test(silent)
    assert silent.calls == [Call(1, "create", silent.calls[0].key)]


def test_a_single_writer_is_not_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "self_test", lambda _: pytest.fail("tested"))
    open_store(f"file:{tmp_path}?single-writer=true")
    open_store(f"file:{tmp_path}", verify=False)
    with pytest.raises(pytest.fail.Exception):
        open_store(f"file:{tmp_path}?single-writer=false")


def test_every_form_of_a_file_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (
        f"file:{tmp_path}/a",
        f"file://{tmp_path}/a",
        f"file://localhost{tmp_path}/a",
        "file:a",
        "file:./b/../a",
    ):
        assert open_store(url, verify=False).url == f"file:{tmp_path}/a", url
    assert open_store("file:a%20b", verify=False).url == f"file:{tmp_path}/a%20b"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "no scheme"),
        ("/tmp/x", "file:/tmp/x"),
        ("store", "file:store"),
        ("flie:/tmp/x", "file:/absolute"),
        ("S3://bucket", "s3://bucket/prefix"),
        ("gcs://bucket", "gs://bucket/prefix"),
        ("azure://x", "az://container"),
        ("ftp://x/y", "memory:"),
        ("s3:bucket", "no bucket"),
        ("s3://", "no bucket"),
        ("s3:///prefix", "no bucket"),
        ("gs://bucket/a/../b", "plain prefix"),
        ("az://container/a//b", "plain prefix"),
        ("file:", "no folder"),
        ("file://", "no host"),
        ("file://host/path", "'host'"),
        ("file:/x%00y", "no folder"),
        ("file:/x?single-writer=maybe", "single-writer"),
        ("file:/x?region=eu", "single-writer"),
    ],
)
def test_a_url_that_names_no_store_is_a_usage_error(url: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert says in f"{caught.value} {caught.value.todo}"


def test_missing_settings_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="Account must be specified") as caught:
        open_store("az://container")
    assert "AZURE_" in caught.value.todo


def test_a_store_in_a_folder_does_not_load_obstore(tmp_path: Path) -> None:
    lines = "import sys; from spotweld.store.opening import open_store; from spotweld.store import heads, blobs"
    lines += f"; open_store('file:{tmp_path}'); sys.exit('obstore' in sys.modules)"
    subprocess.run([sys.executable, "-c", lines], check=True)
