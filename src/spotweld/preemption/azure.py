"""Azure: scheduled events announce a preemption thirty seconds ahead, to every machine that shares its fate.

After "Scheduled Events for Linux VMs" and "Azure Instance Metadata Service" of the Azure documentation.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from spotweld.preemption.metadata_client import LINK_LOCAL, Client
from spotweld.preemption.notices import Kind, Notice
from spotweld.preemption.polled import PolledSource
from spotweld.preemption.reading import read_json

if TYPE_CHECKING:
    from spotweld.values.clocks import Clock

EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_HEADERS = {"Metadata": "true"}
_NAME = re.compile(r"[\w.-]{1,128}")
_FIRST_PATIENCE = 130.0
"""Seconds: the first question switches the service on for the machine, which takes up to two minutes."""


class _Document(msgspec.Struct, frozen=True):
    events: list[msgspec.Raw] = msgspec.field(name="Events")


class _Event(msgspec.Struct, frozen=True, rename="pascal"):
    event_id: str
    event_type: str
    resources: list[str]
    not_before: str = ""


def instant(text: str) -> float | None:
    """``Mon, 19 Sep 2016 18:29:47 GMT`` in seconds since 1970; None if it is no such thing."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def read_events(body: bytes, machine: str, received: float) -> list[Notice] | None:
    """The preemptions of ``machine`` in a scheduled-events document; None if it is garbage.

    An event that has started names no time any more: the end is near and unknown, and saving is still worth a try.
    Azure's names do not distinguish cases.
    """
    document = read_json(body, _Document)
    if document is None:
        return None
    notices = []
    for event in (read_json(raw, _Event) for raw in document.events):
        if event is None or event.event_type != "Preempt":
            continue
        if machine.casefold() in (resource.casefold() for resource in event.resources):
            deadline = instant(event.not_before)
            notices.append(Notice(f"azure-{event.event_id}", Kind.TERMINATE, "azure", deadline, received))
    return notices


class AzureSource(PolledSource):
    """Asks Azure's instance metadata service.

    Args:
        base: of the service.
        interval: seconds between questions; Azure advises one.
        patience: seconds that one question may take, but for the first.
        clock: by which it paces itself and stamps what it hears.
    """

    name = "azure"

    def __init__(
        self, base: str = LINK_LOCAL, *, interval: float = 1.0, patience: float = 5.0, clock: Clock | None = None
    ) -> None:
        super().__init__(interval, clock)
        self._client = Client(base)
        self._patience = patience
        self._machine = ""
        self._awake = False

    def look(self, timeout: float) -> list[Notice] | None:  # noqa: ARG002, there is no change to wait for
        if not self._machine:
            named = self._client.ask("GET", NAME, _HEADERS, self._patience)
            if named is None or named.status != 200:
                return None
            name = named.body.decode(errors="replace").strip()
            # A name that is no name would make this source deaf for good.
            if not _NAME.fullmatch(name):
                return None
            self._machine = name
        answer = self._client.ask("GET", EVENTS, _HEADERS, self._patience if self._awake else _FIRST_PATIENCE)
        if answer is None or answer.status != 200:
            return None
        self._awake = True
        return read_events(answer.body, self._machine, self.clock.now())

    def close(self) -> None:
        super().close()
        self._client.close()
