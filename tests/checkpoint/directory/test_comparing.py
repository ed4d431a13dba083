"""Two runs' directories, compared by what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.checkpoint.directory.comparing import directory_state
from spotweld.checkpoint.directory.engine import publish
from spotweld.checkpoint.publishing import Publisher
from spotweld.checkpoint.staging import Staging
from spotweld.store.heads import Head, read_head, take_over

if TYPE_CHECKING:
    from conftest import Job
    from spotweld.checkpoint.directory.session import DirectorySession
    from spotweld.values.digests import Digest


def head(job: Job) -> Head:
    found = read_head(job.store, "r")
    assert found is not None
    return found


def saved(job: Job, session: DirectorySession) -> dict[str, Digest]:
    assert session.save("final", None)
    state = directory_state(job.store, "r", head(job).kept)
    assert state is not None
    return state


def differing(one: dict[str, Digest], other: dict[str, Digest]) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def test_bytes_permissions_and_links_count_and_times_do_not(job: Job) -> None:
    session = job.session()
    (job.out / "folder").mkdir()
    for name in ("a", "b", "c"):
        (job.out / name).write_text(name)
    (job.out / "twin").hardlink_to(job.out / "a")
    (job.out / "link").symlink_to("a")
    first = saved(job, session)
    assert set(first) == {"folder", "a", "b", "c", "twin", "link"}
    (job.out / "b").unlink()
    (job.out / "b").write_text("b")
    assert saved(job, session) == first
    (job.out / "a").write_text("A")
    (job.out / "b").chmod(0o600)
    (job.out / "link").unlink()
    (job.out / "link").symlink_to("c")
    (job.out / "new").touch()
    assert differing(saved(job, session), first) == {"a", "twin", "b", "link", "new"}


def test_a_damaged_snapshot_is_passed_over(job: Job) -> None:
    session = job.session()
    (job.out / "a").write_text("1")
    first = saved(job, session)
    (job.out / "a").write_text("2")
    assert saved(job, session) != first
    job.store.put(head(job).kept[0].key, b"damaged")
    assert directory_state(job.store, "r", head(job).kept) == first


def test_other_runs_are_not_of_a_directory(job: Job) -> None:
    publisher = Publisher(job.store, "r", take_over(job.store, "r", 0), job.clock, keep_last=1, keep_every=0)
    publish(publisher, 7, {"dict": [["model", 5]]}, [], Staging(), job.clock)
    assert directory_state(job.store, "r", head(job).kept) is None
    assert directory_state(job.store, "r", ()) is None
