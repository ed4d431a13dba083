"""GCP: the metadata server holds the line until ``instance/preempted`` changes.

After "Query VM metadata" (waiting for changes, ETags) and "Spot VMs" of the Compute Engine documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.preemption.metadata_client import LINK_LOCAL, Client
from spotweld.preemption.notices import Kind, Notice
from spotweld.preemption.polled import PolledSource

if TYPE_CHECKING:
    from spotweld.values.clocks import Clock

PREEMPTED = "/computeMetadata/v1/instance/preempted"
_HEADERS = {"Metadata-Flavor": "Google"}
_LONGEST_POLL = 60.0


class GcpSource(PolledSource):
    """Asks Compute Engine's metadata server.

    Args:
        base: of the service.
        lead: seconds from the notice to the end: 30, or what the machine's ``preemptionNoticeDuration`` asked for.
        interval: seconds between questions at least, for a server that does not wait.
        patience: seconds that an answer may be late.
        clock: by which it paces itself and stamps what it hears.
    """

    name = "gcp"

    def __init__(
        self,
        base: str = LINK_LOCAL,
        *,
        lead: float = 30.0,
        interval: float = 1.0,
        patience: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(interval, clock)
        self._client = Client(base)
        self._lead = lead
        self._patience = patience
        self._etag = ""

    def look(self, timeout: float) -> list[Notice] | None:
        path, longest = PREEMPTED, self._patience
        seconds = int(min(timeout, _LONGEST_POLL))
        if self._etag and seconds >= 1:
            path += f"?wait_for_change=true&last_etag={self._etag}&timeout_sec={seconds}"
            longest += seconds
        answer = self._client.ask("GET", path, _HEADERS, longest)
        self._etag = ""
        if answer is None or answer.status != 200 or answer.headers.get("metadata-flavor") != "Google":
            return None
        said = answer.body.strip().upper()
        if said not in {b"TRUE", b"FALSE"}:
            return None
        etag = answer.headers.get("etag", "")
        self._etag = etag if etag.isascii() and etag.isalnum() else ""
        if said == b"FALSE":
            return []
        # The server says nothing that would tell two preemptions of one machine apart, and there is never a second.
        now = self.clock.now()
        return [Notice("gcp-preempted", Kind.TERMINATE, "gcp", now + self._lead, now)]

    def close(self) -> None:
        super().close()
        self._client.close()
