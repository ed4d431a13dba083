"""One suite over every source that can both announce and withdraw, against the real server or a real file."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from spotweld.preemption.aws import AwsSource
from spotweld.preemption.azure import AzureSource
from spotweld.preemption.files import FileSource, clear_notice, write_notice
from spotweld.preemption.gcp import GcpSource
from spotweld.preemption.metadata_server import Faults, MetadataServer
from spotweld.preemption.notices import Kind, Notice, Source, Withdrawal
from spotweld.preemption.polled import LONGEST_PAUSE, news, pause
from spotweld.preemption.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import HandClock

CLOUDS = {"aws": AwsSource, "gcp": GcpSource, "azure": AzureSource}
LEAD = 30.0


class Stage(NamedTuple):
    source: Source
    announce: Callable[[], object]
    withdraw: Callable[[], object]


@pytest.fixture(params=["aws", "gcp", "azure", "file"])
def stage(request: pytest.FixtureRequest, server: MetadataServer, tmp_path: Path, clock: HandClock) -> Iterator[Stage]:
    deadline = clock.now() + LEAD
    if request.param == "file":
        path = tmp_path / "notice"
        notice = Notice("drill", Kind.TERMINATE, "aws", deadline, clock.now() - 5)
        yield Stage(
            FileSource(path, interval=0, clock=clock), lambda: write_notice(path, notice), lambda: clear_notice(path)
        )
        return
    source = CLOUDS[request.param](server.url, interval=0, clock=clock)
    yield Stage(source, lambda: server.announce(Kind.TERMINATE, deadline), server.withdraw)
    source.close()


def test_silence_says_nothing(stage: Stage) -> None:
    assert [stage.source.wait(0) for _ in range(3)] == [None] * 3


def test_an_announcement_is_heard_once_with_its_deadline(stage: Stage, clock: HandClock) -> None:
    stage.source.wait(0)
    stage.announce()
    heard = stage.source.wait(5)
    assert isinstance(heard, Notice)
    assert (heard.kind, heard.deadline, heard.received) == (Kind.TERMINATE, clock.now() + LEAD, clock.now())
    clock.sleep(3)
    assert [stage.source.wait(0) for _ in range(3)] == [None] * 3


def test_an_announcement_from_before_is_heard_too(stage: Stage) -> None:
    stage.announce()
    assert isinstance(stage.source.wait(5), Notice)


def test_a_withdrawal_names_the_notice_and_it_may_come_again(stage: Stage) -> None:
    stage.announce()
    heard = stage.source.wait(5)
    assert isinstance(heard, Notice)
    stage.withdraw()
    assert stage.source.wait(5) == Withdrawal(heard.id, heard.source)
    assert stage.source.wait(0) is None
    stage.announce()
    assert stage.source.wait(5) == heard


def test_a_source_that_was_closed_says_nothing_and_may_be_closed_again(stage: Stage) -> None:
    stage.announce()
    closing = threading.Thread(target=stage.source.close)
    closing.start()
    closing.join()
    stage.source.close()
    assert stage.source.wait(30) is None


def test_the_watcher_hears_all_of_them(stage: Stage, clock: HandClock) -> None:
    changes: list[Notice | None] = []
    changed = threading.Semaphore(0)

    def note(notice: Notice | None) -> None:
        changes.append(notice)
        changed.release()

    with Watcher([stage.source], clock=clock, on_change=note) as watcher:
        stage.announce()
        assert changed.acquire(timeout=20)
        assert watcher.current() == changes[0]
        assert watcher.remaining() == LEAD
        stage.withdraw()
        assert changed.acquire(timeout=20)
        assert watcher.current() is None
    assert [notice is None for notice in changes] == [False, True]


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, server: MetadataServer, clock: HandClock) -> Iterator[Source]:
    source = CLOUDS[request.param](server.url, interval=0, patience=0.2, clock=clock)
    source.wait(0)
    yield source
    source.close()


@pytest.mark.parametrize(
    "faults",
    [
        Faults(status=500),
        Faults(status=503, body=b"<html>busy</html>"),
        Faults(status=403),
        Faults(body=b""),
        Faults(body=b"\xff\xfe{["),
        Faults(body=b'{"action": "ter'),
        Faults(body=b'{"a":' * 12_000),
        Faults(body=b"TRUE" * 100_000),
        Faults(stall=60),
    ],
    ids=["500", "503", "403", "empty", "garbage", "truncated", "deep", "huge", "stall"],
)
def test_a_sick_service_is_not_believed_and_is_heard_again_when_well(
    cloud: Source, server: MetadataServer, clock: HandClock, faults: Faults
) -> None:
    server.faults = faults
    assert [cloud.wait(0) for _ in range(2)] == [None] * 2
    server.faults = Faults()
    server.announce(Kind.TERMINATE, clock.now() + LEAD)
    assert isinstance(cloud.wait(0), Notice)
    server.faults = faults
    assert [cloud.wait(0) for _ in range(2)] == [None] * 2  # nor does it take anything back


def test_redirects_are_not_followed(cloud: Source, server: MetadataServer) -> None:
    with MetadataServer() as elsewhere:
        server.faults = Faults(redirect=elsewhere.url + "/latest/meta-data/spot/instance-action")
        assert cloud.wait(0) is None
        assert not elsewhere.asked


def test_proxies_are_not_used(cloud: Source, server: MetadataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with MetadataServer() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        asked = len(server.asked)
        cloud.wait(0)
        assert len(server.asked) > asked
        assert not proxy.asked


@pytest.mark.parametrize("name", CLOUDS)
def test_close_hangs_up_on_a_service_that_stalls(name: str, server: MetadataServer) -> None:
    server.faults = Faults(stall=600)
    source = CLOUDS[name](server.url, patience=600)
    waiting = threading.Thread(target=source.wait, args=(600,))
    waiting.start()
    while not server.asked:
        waiting.join(0.01)
    source.close()
    waiting.join(20)
    assert not waiting.is_alive()


@pytest.mark.parametrize("name", CLOUDS)
def test_errors_make_it_ask_less_and_less_often(name: str, server: MetadataServer, clock: HandClock) -> None:
    server.faults = Faults(status=500)
    source = CLOUDS[name](server.url, interval=1.0, clock=clock)
    asked = []
    for _ in range(20):
        before = len(server.asked)
        source.wait(0)
        asked.append(len(server.asked) - before)
        clock.sleep(1.0)
    source.close()
    # At 0 s, then after 2, 4 and 8 more.
    assert [second for second, questions in enumerate(asked) if questions] == [0, 2, 6, 14]


def test_one_good_answer_ends_the_reserve(server: MetadataServer, clock: HandClock) -> None:
    source = AwsSource(server.url, interval=1.0, clock=clock)
    for status in (500, 500, None, 500):
        clock.sleep(LONGEST_PAUSE)
        server.faults = Faults(status=status)
        source.wait(0)
    server.asked.clear()
    clock.sleep(pause(1.0, 1))
    source.wait(0)
    source.close()
    assert server.asked


def test_the_pause_grows_to_a_limit_that_is_shorter_than_any_lead() -> None:
    assert [pause(2.0, failures) for failures in (0, 1, 2, 3, 10_000)] == [2.0, 4.0, 8.0, 15.0, 15.0]
    assert pause(60.0, 5) == 60.0
    assert LONGEST_PAUSE < LEAD


def test_a_new_notice_is_told_before_the_old_one_is_withdrawn() -> None:
    old = Notice("old", Kind.TERMINATE, "aws", 1.0, 0.0)
    new = Notice("new", Kind.TERMINATE, "aws", 2.0, 0.0)
    assert list(news({"old": old}, [new])) == [new, Withdrawal("old", "aws")]
