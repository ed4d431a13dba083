"""Asking a cloud's metadata service: no proxy, no redirect, no name lookup, little patience, small answers."""

from __future__ import annotations

import socket
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPConnection

LINK_LOCAL = "http://169.254.169.254"
"""Where AWS, GCP (``metadata.google.internal``) and Azure all answer. Never taken from DNS: a name can be forged."""
LARGEST = 64 * 1024
"""Bytes of a body; whatever says more than that is no metadata service."""


class Answer(msgspec.Struct, frozen=True):
    """What the service answered, whole."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


class Client:
    """One question at a time, each on a connection of its own.

    Args:
        base: ``http://HOST[:PORT]``.
    """

    def __init__(self, base: str) -> None:
        self._host = base.removeprefix("http://").rstrip("/")
        self._socket: socket.socket | None = None
        self._closed = False

    def ask(self, method: str, path: str, headers: Mapping[str, str], patience: float) -> Answer | None:
        """The answer, redirects and errors included; None if none came, or a broken or an oversized one.

        Args:
            method: of HTTP.
            path: with its query.
            headers: to send along.
            patience: seconds for connecting, for any silence, and until the last part of the body.
        """
        # Not at the top: it pulls in email and ssl, which a process with no metadata service should not pay for.
        from http.client import HTTPConnection, HTTPException  # noqa: PLC0415

        try:
            with closing(HTTPConnection(self._host, timeout=patience)) as connection:
                return self._exchange(connection, method, path, headers, time.monotonic() + patience)
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            self._socket = None

    def _exchange(
        self, connection: HTTPConnection, method: str, path: str, headers: Mapping[str, str], end: float
    ) -> Answer | None:
        connection.connect()
        self._socket = connection.sock
        if self._closed:
            return None
        connection.request(method, path, headers=dict(headers))
        with connection.getresponse() as response:
            body = bytearray()
            while time.monotonic() < end:
                part = response.read1(LARGEST + 1 - len(body))
                body += part
                if len(body) > LARGEST:
                    return None
                if not part or response.isclosed():
                    whole = not response.length
                    named = {name.lower(): value for name, value in response.getheaders()}
                    return Answer(response.status, named, bytes(body)) if whole else None
        return None

    def close(self) -> None:
        """Hang up, also on a question that another thread is asking; it gets None."""
        self._closed = True
        held = self._socket
        if held is not None:
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
