"""Fetching public price lists over HTTP: patient with a busy server, impatient with a silent one."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING

from spotweld.errors import ProviderError
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Get = Callable[[str], bytes]
    """The body of what lies at a URL."""

LARGEST = 32 * 2**20
"""Bytes of an answer."""
_PAUSES = (1.0, 4.0, 16.0)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


def get(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    patience: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> bytes:
    """What lies at a public URL.

    Args:
        url: http or https. Errors quote it, so it holds no secret.
        headers: such as a key; a server that another one names instead of itself does not get them.
        patience: seconds for connecting, and for any silence.
        sleep: waits before a next attempt.

    Raises:
        ProviderError: it refuses, or does not answer whole, in four attempts.
    """
    if not url.startswith(("https://", "http://")):
        raise ProviderError("a price list cannot be fetched", f"no web address: {url[:80]}", "fetch it by hand")
    request = urllib.request.Request(url, headers={"User-Agent": f"spotweld/{VERSION}"})  # noqa: S310 - checked above
    for name, value in (headers or {}).items():
        request.add_unredirected_header(name, value)
    pauses = iter(_PAUSES)
    while True:
        again = True
        try:
            with urllib.request.urlopen(request, timeout=patience) as answer:  # noqa: S310 - checked above
                content: bytes = answer.read(LARGEST + 1)
            if len(content) <= LARGEST:
                return content
            why, again = f"more than {LARGEST} bytes", False
        except urllib.error.HTTPError as error:
            why, again = f"{error.code} {error.reason}", error.code in _AGAIN
            error.close()
        except (OSError, HTTPException) as error:
            why = str(error) or type(error).__name__
        pause = next(pauses, None)
        if pause is None or not again:
            raise ProviderError("a price list cannot be fetched", f"{url[:120]}: {why}", "try again later")
        sleep(pause)
