"""What is peculiar to GCP: the long poll."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from spotweld.preemption.gcp import PREEMPTED, GcpSource
from spotweld.preemption.metadata_server import Faults, MetadataServer
from spotweld.preemption.notices import Kind, Notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import HandClock


@pytest.fixture
def source(server: MetadataServer, clock: HandClock) -> Iterator[GcpSource]:
    source = GcpSource(server.url, interval=1.0, clock=clock)
    yield source
    source.close()


def test_the_long_poll_hears_at_once_what_happens_meanwhile(
    source: GcpSource, server: MetadataServer, clock: HandClock
) -> None:
    assert source.wait(50) is None
    clock.sleep(1)
    heard: list[object] = []
    waiting = threading.Thread(target=lambda: heard.append(source.wait(50)))
    waiting.start()
    while len(server.asked) < 2:
        waiting.join(0.01)
    assert not heard
    server.announce(Kind.TERMINATE, clock.now() + 30)
    waiting.join()
    assert heard == [Notice("gcp-preempted", Kind.TERMINATE, "gcp", clock.now() + 30, clock.now())]
    plain, long = server.asked
    assert plain == f"GET {PREEMPTED}"
    assert "wait_for_change=true&last_etag=" in long
    assert long.endswith("&timeout_sec=50")


def test_the_end_is_as_far_away_as_was_asked_for(server: MetadataServer, clock: HandClock) -> None:
    source = GcpSource(server.url, lead=120.0, clock=clock)
    server.announce(Kind.TERMINATE, clock.now() + 30)
    heard = source.wait(0)
    source.close()
    assert isinstance(heard, Notice)
    assert heard.deadline == clock.now() + 120


def test_a_server_that_does_not_wait_is_asked_once_an_interval(
    source: GcpSource, server: MetadataServer, clock: HandClock
) -> None:
    server.faults = Faults(early=True)
    source.wait(50)
    for _ in range(5):
        clock.sleep(0.5)
        source.wait(0)
    assert len(server.asked) == 3
    clock.sleep(1)
    server.announce(Kind.TERMINATE, clock.now() + 30)
    assert isinstance(source.wait(50), Notice)


def test_without_an_etag_it_asks_without_waiting(source: GcpSource, server: MetadataServer, clock: HandClock) -> None:
    server.faults = Faults(without_etag=True)
    for _ in range(3):
        source.wait(50)
        clock.sleep(1)
    assert list(server.asked) == [f"GET {PREEMPTED}"] * 3


def test_only_google_is_believed(source: GcpSource, server: MetadataServer) -> None:
    server.faults = Faults(body=b"TRUE")  # without Google's header: some captive portal
    assert source.wait(0) is None
