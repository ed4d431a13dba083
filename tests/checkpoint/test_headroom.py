"""Memory that may still be taken, as kernels say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.checkpoint.headroom import headroom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GB = 10**9
NONE = 9223372036854771712
"""What cgroups of the first version say where there is no limit."""


def machine(root: Path, total: int, available: int, groups: str = "") -> Path:
    write(
        root, "proc/meminfo", f"MemTotal: {total // 1024} kB\nMemFree: 7 kB\nMemAvailable:   {available // 1024} kB\n"
    )
    if groups:
        write(root, "proc/self/cgroup", groups)
    return root


def write(root: Path, name: str, text: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"{text}\n")


def second(root: Path, path: str, limit: object, used: int, idle: int = 0) -> None:
    write(root, f"sys/fs/cgroup/{path}/memory.max", limit)
    write(root, f"sys/fs/cgroup/{path}/memory.current", used)
    write(root, f"sys/fs/cgroup/{path}/memory.stat", f"anon 5\nfile 9\ninactive_file {idle}")


def first(root: Path, path: str, limit: int, used: int, idle: int = 0) -> None:
    write(root, f"sys/fs/cgroup/memory/{path}/memory.limit_in_bytes", limit)
    write(root, f"sys/fs/cgroup/memory/{path}/memory.usage_in_bytes", used)
    write(root, f"sys/fs/cgroup/memory/{path}/memory.stat", f"inactive_file 1\ntotal_inactive_file {idle}")


def near(found: int | None, wanted: float) -> bool:
    return found is not None and abs(found - wanted) <= 2048  # the kernel says KiB


def test_a_tenth_of_the_machine_is_spared(tmp_path: Path) -> None:
    assert near(headroom(machine(tmp_path, 100 * GB, 60 * GB), {}), 50 * GB)
    assert headroom(machine(tmp_path, 100 * GB, 6 * GB), {}) == 0


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert headroom(tmp_path, {}) is None


@pytest.mark.parametrize("ranks", ["4", "0", "", "many"])
def test_processes_of_one_machine_share_it(tmp_path: Path, ranks: str) -> None:
    found = headroom(machine(tmp_path, 100 * GB, 50 * GB), {"LOCAL_WORLD_SIZE": ranks})
    assert near(found, 10 * GB if ranks == "4" else 40 * GB)


@pytest.mark.parametrize(("line", "group"), [("0::/pod/job", second), ("7:cpu,memory:/pod/job", first)])
def test_the_narrowest_group_counts_and_idle_files_do_not(
    tmp_path: Path, line: str, group: Callable[..., None]
) -> None:
    root = machine(tmp_path, 100 * GB, 60 * GB, f"12:pids:/x\n{line}")
    group(root, "pod", 20 * GB, 9 * GB, 3 * GB)
    group(root, "pod/job", 50 * GB, 10 * GB)
    assert headroom(root, {}) == (20 - 9 + 3 - 2) * GB
    group(root, "pod/job", 5 * GB, 4 * GB, 2 * GB)
    assert headroom(root, {}) == 2.5 * GB


def test_a_group_of_a_container_is_mounted_as_the_first(tmp_path: Path) -> None:
    root = machine(tmp_path, 100 * GB, 60 * GB, "0::/../kubepods/of/the/host")
    second(root, ".", 10 * GB, 4 * GB)
    assert headroom(root, {}) == 5 * GB


@pytest.mark.parametrize(("line", "group", "limit"), [("0::/a", second, "max"), ("4:memory:/a", first, NONE)])
def test_a_group_without_a_limit_bounds_nothing(
    tmp_path: Path, line: str, group: Callable[..., None], limit: object
) -> None:
    root = machine(tmp_path, 100 * GB, 60 * GB, line)
    group(root, "a", limit, 4 * GB)
    assert near(headroom(root, {}), 50 * GB)


@given(st.text(), st.text(), st.text())
def test_nonsense_is_no_harm(tmp_path_factory: pytest.TempPathFactory, meminfo: str, groups: str, limit: str) -> None:
    root = tmp_path_factory.mktemp("root")
    for name, text in (("proc/meminfo", meminfo), ("proc/self/cgroup", groups), ("sys/fs/cgroup/memory.max", limit)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    found = headroom(root, {})
    assert found is None or found >= 0


def test_this_machine() -> None:
    found = headroom()
    assert found is None or found >= 0
