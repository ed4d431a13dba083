"""One suite over every store."""

import threading

import pytest

from spotweld.errors import Conflict, NotFound, StoreError, UsageError
from spotweld.store.objects import Objects, Version
from spotweld.store.opening import open_store


def test_what_was_created_is_read(objects: Objects) -> None:
    objects.create("a/b", b"content")
    assert objects.get("a/b") == b"content"
    assert objects.read("a/b")[0] == b"content"


@pytest.mark.parametrize("data", [b"xyz", bytearray(b"xyz"), memoryview(b"xyz"), memoryview(b"wxyz")[1:]])
def test_any_buffer_can_be_written(objects: Objects, data: bytes) -> None:
    objects.create("created", data)
    objects.put("put", data)
    objects.replace("created", data, objects.read("created")[1])
    assert objects.get("created") == objects.get("put") == b"xyz"


def test_a_buffer_may_be_filled_anew_once_it_is_written(objects: Objects) -> None:
    buffer = bytearray(b"first")
    objects.create("k", buffer)
    buffer[:] = b"other"
    assert objects.get("k") == b"first"


def test_an_empty_object_is_an_object(objects: Objects) -> None:
    objects.create("empty", b"")
    assert objects.get("empty") == b""
    assert objects.get("empty", length=1) == b""
    assert [meta.size for meta in objects.list("")] == [0]
    with pytest.raises(Conflict):
        objects.create("empty", b"x")


def test_ranges_end_where_the_object_ends(objects: Objects) -> None:
    objects.create("k", b"0123456789")
    assert objects.get("k", start=3) == b"3456789"
    assert objects.get("k", start=3, length=4) == b"3456"
    assert objects.get("k", length=4) == b"0123"
    assert objects.get("k", start=8, length=100) == b"89"
    assert objects.get("k", start=10) == b""
    assert objects.get("k", start=99, length=1) == b""
    assert objects.get("k", start=2, length=0) == b""


@pytest.mark.parametrize("span", [{}, {"start": 1}, {"length": 1}, {"length": 0}, {"start": 5, "length": 5}])
def test_nothing_is_not_found(objects: Objects, span: dict[str, int]) -> None:
    with pytest.raises(NotFound):
        objects.get("a/missing", **span)
    with pytest.raises(NotFound):
        objects.read("a/missing")


def test_create_takes_a_key_once(objects: Objects) -> None:
    objects.create("k", b"first")
    for _ in range(2):
        with pytest.raises(Conflict):
            objects.create("k", b"second")
    assert objects.get("k") == b"first"


def test_a_replaced_object_cannot_be_created(objects: Objects) -> None:
    objects.create("k", b"1")
    objects.replace("k", b"2", objects.read("k")[1])
    with pytest.raises(Conflict):
        objects.create("k", b"3")
    assert objects.get("k") == b"2"


def test_replace_compares_the_version(objects: Objects) -> None:
    objects.create("k", b"0")
    stale = []
    for turn in range(1, 5):
        data, version = objects.read("k")
        assert data == str(turn - 1).encode()
        objects.replace("k", str(turn).encode(), version)
        stale.append(version)
    for version in stale:
        with pytest.raises(Conflict):
            objects.replace("k", b"stale", version)
    assert objects.get("k", start=0, length=9) == b"4"


def test_replace_needs_the_object(objects: Objects) -> None:
    objects.create("k", b"0")
    first = objects.read("k")[1]
    objects.replace("k", b"1", first)
    second = objects.read("k")[1]
    objects.delete("k")
    for version in (first, second):
        with pytest.raises(Conflict):
            objects.replace("k", b"2", version)
    with pytest.raises(NotFound):
        objects.get("k")


def test_an_old_version_does_not_fit_a_new_object_of_that_name(objects: Objects) -> None:
    objects.create("k", b"old")
    first = objects.read("k")[1]
    objects.replace("k", b"newer", first)
    second = objects.read("k")[1]
    objects.delete("k")
    objects.create("k", b"another")
    for version in (first, second):
        with pytest.raises(Conflict):
            objects.replace("k", b"zombie", version)
    assert objects.get("k") == b"another"


def test_put_overwrites_and_changes_the_version(objects: Objects) -> None:
    objects.put("k", b"a" * 1000)
    stale = objects.read("k")[1]
    objects.put("k", b"b")
    assert objects.get("k") == b"b"
    with pytest.raises(Conflict):
        objects.replace("k", b"c", stale)
    objects.replace("k", b"c", objects.read("k")[1])
    stale = objects.read("k")[1]
    objects.put("k", b"d")
    assert objects.get("k") == b"d"
    with pytest.raises(Conflict):
        objects.replace("k", b"e", stale)


def test_delete_is_final_and_may_be_repeated(objects: Objects) -> None:
    objects.create("plain", b"1")
    objects.create("replaced", b"1")
    objects.replace("replaced", b"2", objects.read("replaced")[1])
    for key in ("plain", "replaced", "never"):
        objects.delete(key)
        objects.delete(key)
        with pytest.raises(NotFound):
            objects.get(key)
    assert list(objects.list("")) == []
    objects.create("replaced", b"again")
    assert objects.get("replaced") == b"again"


def test_a_listing_is_ordered_and_takes_any_prefix(objects: Objects) -> None:
    keys = ["a-b", "a/b", "a/c/d", "a.b", "ab", "b", "runs/1/head", "runs/10/head"]
    for key in keys:
        objects.create(key, key.encode())
    objects.replace("runs/1/head", b"longer than before", objects.read("runs/1/head")[1])
    found = {
        prefix: [meta.key for meta in objects.list(prefix)] for prefix in ("", "a", "a/", "a/c", "runs/1", "z", "b/")
    }
    assert found[""] == sorted(keys)
    assert found["a"] == ["a-b", "a.b", "a/b", "a/c/d", "ab"]
    assert found["a/"] == ["a/b", "a/c/d"]
    assert found["a/c"] == ["a/c/d"]
    assert found["runs/1"] == ["runs/1/head", "runs/10/head"]
    assert found["z"] == found["b/"] == []
    sizes = {meta.key: meta.size for meta in objects.list("runs/")}
    assert sizes == {"runs/1/head": 18, "runs/10/head": 12}
    assert all(meta.modified > 1.7e9 for meta in objects.list(""))


def test_odd_keys_are_keys(objects: Objects) -> None:
    keys = ["100%41 a+b&c=d?#é;:@!$'()*,~.json", ".hidden/..x/x..", "x" * 200, "日本/🙂"]
    for key in keys:
        objects.create(key, key.encode())
        assert objects.get(key) == key.encode()
    assert [meta.key for meta in objects.list("")] == sorted(keys)


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b", "a\\b", "a\nb", "a.~b", "\ud800"]
)
def test_bad_keys_are_refused(objects: Objects, key: str) -> None:
    writes = (
        lambda: objects.put(key, b""),
        lambda: objects.create(key, b""),
        lambda: objects.replace(key, b"", Version("v")),
    )
    for verb in (lambda: objects.get(key), lambda: objects.read(key), lambda: objects.delete(key), *writes):
        with pytest.raises(UsageError):
            verb()


def test_a_large_object_survives(objects: Objects) -> None:
    data = bytes(range(256)) * 40_000
    objects.create("large", data)
    assert objects.get("large") == data
    assert objects.get("large", start=9_999_990, length=20) == data[9_999_990:10_000_010]


def test_one_of_several_creators_wins(objects: Objects, url: str) -> None:
    winners: list[int] = []

    def race(number: int) -> None:
        mine = objects if url.startswith("memory:") else open_store(url, verify=False)
        barrier.wait()
        try:
            mine.create("k", str(number).encode())
        except Conflict:
            return
        winners.append(number)

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert objects.get("k") == str(winners[0]).encode()


def test_no_update_is_lost_among_threads(objects: Objects) -> None:
    objects.create("counter", b"0")
    errors: list[StoreError] = []

    def count() -> None:
        done = 0
        while done < 10:
            data, version = objects.read("counter")
            try:
                objects.replace("counter", str(int(data) + 1).encode(), version)
            except Conflict:
                continue
            except StoreError as error:
                errors.append(error)
                return
            done += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert objects.get("counter") == b"40"
