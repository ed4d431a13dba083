"""What is peculiar to Azure: everybody hears everybody's events, and events vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotweld.preemption.azure import EVENTS, NAME, AzureSource, instant, read_events
from spotweld.preemption.metadata_server import Faults, MetadataServer
from spotweld.preemption.notices import Kind, Notice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import HandClock


@pytest.fixture
def source(server: MetadataServer, clock: HandClock) -> Iterator[AzureSource]:
    source = AzureSource(server.url, interval=0, clock=clock)
    yield source
    source.close()


def document(*events: object) -> bytes:
    return msgspec.json.encode({"DocumentIncarnation": 1, "Events": events})


def event(**changes: object) -> dict[str, object]:
    return {
        "EventId": "602d9444",
        "EventType": "Preempt",
        "ResourceType": "VirtualMachine",
        "Resources": ["front", "back_0"],
        "EventStatus": "Scheduled",
        "NotBefore": "Fri, 15 Jan 2027 08:00:30 GMT",
        **changes,
    }


def test_the_name_is_asked_once(source: AzureSource, server: MetadataServer) -> None:
    source.wait(0)
    source.wait(0)
    assert list(server.asked) == [f"GET {NAME}", f"GET {EVENTS}", f"GET {EVENTS}"]


def test_a_name_that_is_no_name_is_asked_again(source: AzureSource, server: MetadataServer, clock: HandClock) -> None:
    server.faults = Faults(body=b"<html>starting</html>")
    assert source.wait(0) is None
    server.faults = Faults()
    server.announce(Kind.TERMINATE, clock.now() + 30)
    assert isinstance(source.wait(0), Notice)


def test_other_machines_events_are_theirs(source: AzureSource, server: MetadataServer, clock: HandClock) -> None:
    server.faults = Faults(neighbours=("other", server.machine + "2"))
    assert source.wait(0) is None
    server.announce(Kind.TERMINATE, clock.now() + 30)
    heard = source.wait(0)
    assert isinstance(heard, Notice)
    assert server.machine in heard.id
    assert source.wait(0) is None


def test_an_event_that_starts_is_still_the_same_notice(
    source: AzureSource, server: MetadataServer, clock: HandClock
) -> None:
    server.announce(Kind.TERMINATE, clock.now() + 30)
    assert isinstance(source.wait(0), Notice)
    clock.sleep(31)
    assert source.wait(0) is None


def test_an_event_first_seen_when_it_has_started_ends_at_an_unknown_time(
    source: AzureSource, server: MetadataServer, clock: HandClock
) -> None:
    server.announce(Kind.TERMINATE, clock.now() - 1)
    heard = source.wait(0)
    assert isinstance(heard, Notice)
    assert heard.deadline is None


def test_reads_the_documented_form() -> None:
    (notice,) = read_events(document(event()), "front", 1.0) or ()
    assert notice == Notice("azure-602d9444", Kind.TERMINATE, "azure", 1_800_000_030.0, 1.0)


def test_names_do_not_distinguish_cases() -> None:
    assert len(read_events(document(event()), "BACK_0", 1.0) or ()) == 1


@pytest.mark.parametrize("kind", ["Freeze", "Reboot", "Redeploy", "Terminate"])
def test_other_kinds_of_event_are_none_of_ours(kind: str) -> None:
    assert read_events(document(event(EventType=kind)), "front", 1.0) == []


def test_a_broken_event_does_not_hide_the_others() -> None:
    broken = [{}, 7, None, event(Resources="front"), event(EventId=3), {"EventType": "Preempt"}]
    assert len(read_events(document(*broken, event()), "front", 1.0) or ()) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"Events": {}}', b'{"Events":' * 6_000])
def test_a_document_that_is_none_says_neither_yes_nor_no(body: bytes) -> None:
    assert read_events(body, "front", 1.0) is None


@given(st.binary() | st.builds(document, st.dictionaries(st.text(), st.none() | st.text() | st.floats())))
def test_no_body_raises(body: bytes) -> None:
    read_events(body, "front", 1.0)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,9} [A-Z][a-z]{2} \d{1,6} \d+:\d+:\d+ (GMT|[+-]\d{1,6})"))
def test_no_time_raises(text: str) -> None:
    instant(text)
