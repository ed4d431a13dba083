"""SIGKILL at every system call of every write: afterwards the store is old or new, whole, and can be written."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.store.acts import ACTS, KEPT, RUN
from tests.store.traces import NAMES, run

from spotweld.errors import NotFound
from spotweld.store.heads import read_head, take_over
from spotweld.store.local import LocalObjects
from spotweld.store.opening import self_test

KILLED = -9


def prepared(folder: Path) -> LocalObjects:
    """A store with an object that was replaced twice, and a run on its second epoch that has published."""
    objects = LocalObjects(folder)
    objects.create("object", b"oldest")
    for data in (b"older", b"old"):
        objects.replace("object", data, objects.read("object")[1])
    objects.put("reports/status", b"old")
    take_over(objects, RUN, 1)
    take_over(objects, RUN, 2).publish(KEPT[1:])
    return objects


def state(objects: LocalObjects) -> dict[str, object]:
    """All that a reader sees."""
    seen: dict[str, object] = {}
    for meta in objects.list(""):
        try:
            seen[meta.key] = objects.get(meta.key)
        except NotFound:
            seen[meta.key] = "listed, yet not there"
    seen.pop(f"runs/{RUN}/head", None)
    head = read_head(objects, RUN)
    assert head
    return seen | {"head": (head.epoch, head.attempt, head.kept)}


def allowed(act: str) -> list[dict[str, object]]:
    """The states in which an act may leave the prepared store: before, after, and between two writes of its own."""
    old: dict[str, object] = {"object": b"old", "reports/status": b"old", "head": (2, 2, KEPT[1:])}
    taken = old | {"head": (3, 7, KEPT[1:])}
    blob: dict[str, object] = {"blobs/x": b"new"}
    return [
        old,
        *{
            "create": [old | {"deep/folder/key": b"new"}],
            "put": [old | {"reports/status": b"new"}],
            "replace": [old | {"object": b"new"}],
            "delete": [{key: value for key, value in old.items() if key != "object"}],
            "take": [taken],
            "publish": [old | blob, taken | blob, taken | blob | {"head": (3, 7, KEPT)}],
        }[act],
    ]


def kill_everywhere(act: str, tmp_path: Path, every: int, names: tuple[str, ...] = NAMES) -> int:
    """Kill an act at every ``every``-th call of each system call until it survives; how often it was killed."""
    killed = 0
    for name in names:
        for number in counted(every):
            folder = tmp_path / f"{name}-{number}"
            objects = prepared(folder)
            done = run(
                act, folder, "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}"
            )
            left = state(LocalObjects(folder))
            if done.returncode == 0:
                assert left == allowed(act)[-1]
                break
            assert done.returncode == KILLED, done.stderr
            assert left in allowed(act), (name, number)
            killed += 1
            # Whoever comes next can do the whole thing.
            try:
                ACTS[act](objects)
            except Exception as error:  # noqa: BLE001
                assert act == "create", error  # noqa: PT017
                assert objects.get("deep/folder/key") == b"new"
            end = state(objects)
            assert end.pop("head") in {(2, 2, KEPT[1:]), (3, 7, KEPT[1:]), (4, 7, KEPT[1:]), (3, 7, KEPT), (4, 7, KEPT)}
            assert end == {key: value for key, value in allowed(act)[-1].items() if key != "head"}
            self_test(objects)
    return killed


def counted(every: int) -> Iterator[int]:
    number = 1
    while True:
        yield number
        number += every


@pytest.mark.parametrize(
    ("act", "name"), [("publish", "rename"), ("publish", "fsync"), ("replace", "rename"), ("create", "link")]
)
def test_a_kill_leaves_old_or_new(act: str, name: str, tmp_path: Path) -> None:
    assert kill_everywhere(act, tmp_path, 3 if name == "fsync" else 1, (name,)) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("act", list(ACTS))
def test_a_kill_at_any_call_leaves_old_or_new(act: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed = kill_everywhere(act, tmp_path, 1)
    with capsys.disabled():
        sys.stdout.write(f"\n{act}: killed at {killed} points, old or new and whole each time\n")
    assert killed >= 4
