"""One alert on its way to one receiver.

What went wrong is said without the URL, which is a secret, and without the words of the other side: they may repeat
it.
"""

from __future__ import annotations

import smtplib
import ssl
import urllib.error
import urllib.request
from email.message import EmailMessage
from email.utils import formatdate
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from spotweld.costs.alerts import json_body, slack_body, subject, text
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPMessage
    from typing import IO

    from spotweld.costs.alerts import Alert
    from spotweld.project.nouns import Receiver

PATIENCE = 10.0
"""Seconds that a receiver may take for each answer."""

_PORTS = {"http": 80, "https": 443, "smtp": 587, "smtps": 465}
_HERE = {"localhost", "127.0.0.1", "::1"}
"""Hosts on the way to which nobody listens."""
_SAME = frozenset({307, 308})
"""Redirects that ask for the same request again (RFC 9110, 15.4.8 and 15.4.9)."""


def send(receiver: Receiver, alert: Alert, at: float, environ: Mapping[str, str]) -> str:
    """Send it once.

    A web hook gets the alert's id as ``Idempotency-Key``, an e-mail as its ``Message-ID``.

    Args:
        receiver: who.
        alert: what.
        at: when it was noticed, seconds since 1970 UTC; the date of an e-mail.
        environ: has the URL.

    Returns:
        What went wrong; empty: it was taken.
    """
    url = environ.get(receiver.variable, "")
    if not url:
        return f"{receiver.variable} is not set here"
    try:
        parts = urlsplit(url)
        schemes = ("smtp", "smtps") if receiver.email else ("http", "https")
        if parts.scheme not in schemes or not parts.hostname or _port(parts) < 1:
            return f"{receiver.variable} does not hold a URL that begins with {schemes[0]}:// or {schemes[1]}://"
        if receiver.email:
            return _mail(receiver, alert, at, parts)
        if "@" in parts.netloc:
            return f"{receiver.variable} holds a URL with a user, which web hooks do not have"
        return _post(url, alert, slack_body(alert) if receiver.slack else json_body(alert))
    except urllib.error.HTTPError as error:
        error.close()
        return "it redirects elsewhere" if 300 <= error.code < 400 else f"it answered {error.code}"
    except smtplib.SMTPRecipientsRefused:
        return "the server does not take e-mail for this address"
    except smtplib.SMTPResponseException as error:
        return f"the server answered {error.smtp_code}"
    except (OSError, HTTPException) as error:
        return _said(error)
    except ValueError:
        # Its words may hold the URL.
        return f"{receiver.variable} holds a URL that cannot be used"


def _post(url: str, alert: Alert, body: bytes) -> str:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"spotweld/{VERSION}",
        "Idempotency-Key": alert.id,
    }
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - checked by `send`
    with urllib.request.build_opener(_SameHost).open(request, timeout=PATIENCE):
        return ""


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Nobody else gets the secret in the URL, nor the figures."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if code not in _SAME or _origin(urlsplit(newurl)) != _origin(urlsplit(req.full_url)):
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)
        return urllib.request.Request(newurl, req.data, req.headers, method="POST")  # noqa: S310 - of the same scheme


def _mail(receiver: Receiver, alert: Alert, at: float, parts: SplitResult) -> str:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    message = EmailMessage()
    message["From"] = user if "@" in user else receiver.email
    message["To"] = receiver.email
    message["Subject"] = subject(alert)
    message["Date"] = formatdate(at)
    message["Message-ID"] = f"<{alert.id}@spotweld>"
    message.set_content(text(alert) + "\n")
    host, port = parts.hostname or "", _port(parts)
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if parts.scheme == "smtps":
        server = smtplib.SMTP_SSL(host, port, "localhost", timeout=PATIENCE, context=context)
    else:
        server = smtplib.SMTP(host, port, "localhost", timeout=PATIENCE)
    try:
        server.ehlo()
        if parts.scheme == "smtp" and server.has_extn("starttls"):
            server.starttls(context=context)
        elif user and parts.scheme == "smtp" and host not in _HERE:
            return "it offers no STARTTLS, and a password is not sent in the clear"
        if user:
            server.login(user, password)
        server.send_message(message)
    finally:
        # Not `quit`: whatever becomes of the farewell, the message was taken or it was not.
        server.close()
    return ""


def _port(parts: SplitResult) -> int:
    return _PORTS[parts.scheme] if parts.port is None else parts.port


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _said(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"it did not answer within {PATIENCE:.0f} seconds"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "its certificate is not one that this machine trusts"
    if isinstance(reason, OSError) and reason.strerror:
        return f"it cannot be reached: {reason.strerror}"
    return f"it cannot be reached ({type(reason).__name__})"
