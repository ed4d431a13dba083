"""The store slow, flaky, gone and back, and a tier that cannot be read: training goes on and nothing is lost."""

from __future__ import annotations

import shutil
import threading
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests import servers
from tests.proxy import link_to

from spotweld import Checkpointer
from spotweld.checkpoint import events
from spotweld.checkpoint.events import parse_event
from spotweld.checkpoint.restoring import find_newest
from spotweld.errors import Unavailable
from spotweld.store.heads import read_head
from spotweld.store.local import LocalObjects
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Watched
    from spotweld.store.objects import Objects

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

RUN = "r"
SIZE = 300_000


class Training:
    """One that counts what its checkpoints hold in memory, at every step."""

    def __init__(self, folder: Path, store: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.store = folder, store
        self.told = folder / "events.jsonl"
        monkeypatch.setenv("SPOTWELD_EVENTS_FILE", str(self.told))
        self.buffers: set[int] = set()
        self.waiting: set[int] = set()

    def run(
        self,
        total: int,
        *,
        tier: bool = True,
        compress: str = "none",
        at: Callable[[int, Any], object] = lambda _step, _saves: None,
        growing: bool = False,
    ) -> np.ndarray:
        self.told.unlink(missing_ok=True)
        w = np.random.default_rng(1).standard_normal(SIZE).astype("<f4")
        x: dict[str, Any] = {"w": w, "more": []}
        tiers = [f"file:{self.folder}/disk"] if tier else []
        checkpointer = Checkpointer(
            {"x": x}, store=self.store, run=RUN, every=1, tiers=tiers, compress=compress, notices=[]
        )
        for step in checkpointer.steps(total):
            w[step::11] *= np.float32(1.0001)
            if growing:
                x["more"].append(np.zeros(2**18))
                for one in x["more"]:
                    one[:] += 1
            assert checkpointer._session is not None
            saves = checkpointer._session._saves
            if tier:
                saves._saver.wait(10)
                relays = [relay for _, relay in saves._route._relays]
                self.waiting |= {len(relay.reads) for relay in relays}
                self.buffers |= {relay._staging.at_once or 0 for relay in relays}
            at(step, saves)
        return w

    def of(self, kind: type) -> list[Any]:
        return [event for event in map(parse_event, self.told.read_bytes().splitlines()) if isinstance(event, kind)]

    def check(self, w: np.ndarray, total: int, store: Objects | None = None) -> None:
        """The store has the end."""
        store = store or self.store
        head = read_head(store, RUN)
        assert head is not None
        found = find_newest(store, RUN, head.kept)
        assert found is not None
        assert (found.manifest.step, found.damaged) == (total, ())
        assert found.state["x"]["w"].tobytes() == w.tobytes()


@pytest.fixture
def training(tmp_path: Path, store: Watched, monkeypatch: pytest.MonkeyPatch) -> Training:
    monkeypatch.setattr("spotweld.checkpoint.cadence.retry_after", lambda _failures: 0.05)
    monkeypatch.setattr("spotweld.checkpoint.relaying.retry_after", lambda _failures: 0.05)
    return Training(tmp_path, store, monkeypatch)


@pytest.mark.parametrize("tier", [True, False])
def test_steps_go_on_while_the_store_does_not_answer(training: Training, store: Watched, tier: bool) -> None:
    """A call hangs until ten more steps were made, which could not be if a step waited for it."""
    hangs, go_on = threading.Event(), threading.Event()

    def before(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            hangs.set()
            assert go_on.wait(60)

    def at(step: int, _saves: object) -> None:
        if step == 3:
            assert hangs.wait(60)
        if step == 13:
            go_on.set()

    store.before = before
    training.check(training.run(15, tier=tier, at=at), 15)
    if tier:
        assert max(training.waiting) <= 2, "one that is carried, and one that waits"
        assert max(training.buffers) <= 16


def test_steps_go_on_when_the_state_grows_while_the_store_does_not_answer(training: Training, store: Watched) -> None:
    hangs, go_on, waited = threading.Event(), threading.Event(), list[bool]()

    def before(verb: str, key: str) -> None:
        if verb == "create" and "/packs/" in key:
            hangs.set()
            waited.append(go_on.wait(60))

    def at(step: int, _saves: object) -> None:
        if step == 8:
            store.before = before
        if step == 12:
            assert hangs.wait(60)
            go_on.set()

    training.check(training.run(14, tier=False, at=at, growing=True), 14)
    assert all(waited), "training waited for the store"


@pytest.mark.parametrize("compress", ["none", "bytes"])
def test_a_store_that_is_gone_and_back_gets_the_end(training: Training, store: Watched, compress: str) -> None:
    def away(_verb: str, _key: str) -> None:
        raise Unavailable("away")

    def at(step: int, _saves: object) -> None:
        if step == 5:
            store.before = away
        if step == 30:
            store.before = lambda _verb, _key: None

    training.check(training.run(33, at=at, compress=compress), 33)
    assert training.of(events.SaveFailed)
    assert max(training.waiting) <= 3, "one that is carried, one that waits, and the base"


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_tier_that_cannot_be_read_is_given_up(training: Training, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Its writes succeed, and what was written is not there: the state itself still is."""
    real = LocalObjects.read_into

    def broken(self: LocalObjects, key: str, start: int, into: memoryview) -> int:
        if how == "gone":
            shutil.rmtree(self.root / key.rpartition("/")[0], ignore_errors=True)
        count = real(self, key, start, into)
        into[0] ^= 1
        return count

    monkeypatch.setattr(LocalObjects, "read_into", broken)
    training.check(training.run(6), 6)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with servers.seaweed(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["slow", "flaky", "gone"])
@pytest.mark.parametrize("tier", [True, False])
def test_a_real_object_store_in_trouble_gets_everything_in_the_end(
    tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch, trouble: str, tier: bool
) -> None:
    """1 MB/s; every third request refused, cut or its answer lost; or away for some steps."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    url = f"s3://spotweld/{uuid.uuid4().hex}"
    total, begun = 12, threading.Event()
    with link_to(int(s3["AWS_ENDPOINT_URL"].rpartition(":")[2])) as link:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{link.port}")
        training = Training(tmp_path, open_store(url, verify=False), monkeypatch)

        def at(step: int, saves: Any) -> None:  # noqa: ANN401
            if step == 2:
                begun.set()
                link.rate = {"slow": 1e6}.get(trouble, float("inf"))
                link.refused, link.cut, link.lost = (0.1, 0.1, 0.1) if trouble == "flaky" else (0.0, 0.0, 0.0)
                if trouble == "gone":
                    link.away.set()
            if step == 9:
                link.away.clear()
            if trouble == "gone" and 2 < step < 9:
                saves.wait(0.3)  # a step's work, in which the store is away

        w = training.run(total, tier=tier, compress="bytes", at=at)
        assert begun.is_set()
        if trouble == "flaky":
            assert link.harmed > 3
    if tier:
        assert max(training.waiting) <= 3
        assert max(training.buffers) <= 16
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3["AWS_ENDPOINT_URL"])
    training.check(w, total, open_store(url, verify=False))
