"""AWS: IMDSv2 tells of a spot interruption two minutes ahead, and of a higher risk at some time before.

After "Spot Instance interruption notices", "EC2 instance rebalance recommendations" and "Use IMDSv2" of the EC2 user
guide. There is no long poll and no event id.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from spotweld.preemption.metadata_client import LINK_LOCAL, Answer, Client
from spotweld.preemption.notices import Kind, Notice
from spotweld.preemption.polled import PolledSource
from spotweld.preemption.reading import read_json
from spotweld.values.digests import digest, hex_of

if TYPE_CHECKING:
    from spotweld.values.clocks import Clock

SESSION = "/latest/api/token"
ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
_TOKEN_LIFE = 21600
"""Seconds asked for a token: the most that AWS gives."""
_TOKEN_USE = 0.9
"""Share of a token's life after which a new one is fetched."""
_LONGEST_TOKEN = 1024
_TAKEN = {"terminate", "stop", "hibernate"}


class _Action(msgspec.Struct, frozen=True):
    action: str
    time: str = ""


class _Rebalance(msgspec.Struct, frozen=True, rename="camel"):
    notice_time: str


def instant(text: str) -> float | None:
    """``2017-09-18T08:22:00Z`` in seconds since 1970; None if it is no such thing."""
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def read_action(body: bytes, received: float) -> Notice | None:
    """The notice in an ``instance-action`` document; None if it is garbage."""
    said = read_json(body, _Action)
    if said is None or said.action not in _TAKEN:
        return None
    name = hex_of(digest(f"{said.action} {said.time}".encode(errors="replace")))[:16]
    return Notice(f"aws-{name}", Kind.TERMINATE, "aws", instant(said.time), received)


def read_rebalance(body: bytes, received: float) -> Notice | None:
    """The notice in a ``recommendations/rebalance`` document; None if it is garbage."""
    said = read_json(body, _Rebalance)
    if said is None:
        return None
    name = hex_of(digest(f"rebalance {said.notice_time}".encode(errors="replace")))[:16]
    return Notice(f"aws-{name}", Kind.REBALANCE, "aws", None, received)


class AwsSource(PolledSource):
    """Asks EC2's instance metadata service.

    Args:
        base: of the service.
        interval: seconds between questions; AWS advises five at most.
        patience: seconds that one question may take.
        clock: by which it paces itself, ages the token and stamps what it hears.
    """

    name = "aws"

    def __init__(
        self, base: str = LINK_LOCAL, *, interval: float = 2.0, patience: float = 2.0, clock: Clock | None = None
    ) -> None:
        super().__init__(interval, clock)
        self._client = Client(base)
        self._patience = patience
        self._token = ""
        self._token_ends = 0.0
        self._risk: list[Notice] = []

    def look(self, timeout: float) -> list[Notice] | None:  # noqa: ARG002, there is no change to wait for
        answer = self._ask(ACTION)
        if answer is None:
            return None
        if answer.status == 200:
            notice = read_action(answer.body, self.clock.now())
            return None if notice is None else [notice, *self._risk]
        risk = self._ask(REBALANCE)
        if risk is not None and risk.status == 404:
            self._risk = []
        elif risk is not None and (notice := read_rebalance(risk.body, self.clock.now())) is not None:
            self._risk = [notice]
        return self._risk

    def _ask(self, path: str) -> Answer | None:
        """An answer of 200 (there is something) or 404 (there is nothing), with a new token if the old one is dead."""
        for _ in range(2):
            token = self._fresh_token()
            if not token:
                return None
            answer = self._client.ask("GET", path, {"X-aws-ec2-metadata-token": token}, self._patience)
            if answer is None or answer.status in {200, 404}:
                return answer
            self._token = ""
            if answer.status != 401:
                return None
        return None

    def _fresh_token(self) -> str:
        if self._token and self.clock.monotonic() < self._token_ends:
            return self._token
        wanted = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIFE)}
        asked = self.clock.monotonic()
        answer = self._client.ask("PUT", SESSION, wanted, self._patience)
        if answer is None or answer.status != 200 or len(answer.body) > _LONGEST_TOKEN:
            return ""
        token = answer.body.decode("ascii", errors="replace").strip()
        life = answer.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        self._token = token if token.isascii() and token.isprintable() else ""
        self._token_ends = asked + _TOKEN_USE * min(int(life) if life.isdecimal() else _TOKEN_LIFE, _TOKEN_LIFE)
        return self._token

    def close(self) -> None:
        super().close()
        self._client.close()
