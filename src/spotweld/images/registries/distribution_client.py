"""Talking HTTP to a registry: credentials, redirects, patience, and what its refusals mean.

https://distribution.github.io/distribution/spec/auth/token/ (tokens) and
https://github.com/opencontainers/distribution-spec/blob/main/spec.md (errors). The user's credentials are sent to the
registry itself and to the token server that it names, and to nobody else: what lies elsewhere is fetched without them.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
import urllib.request
import weakref
from contextlib import contextmanager, suppress
from email.utils import mktime_tz, parsedate_tz
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, unquote, urlencode, urljoin, urlsplit

import msgspec
from msgspec.structs import replace

from spotweld.errors import ImageError, RegistryRefused, RegistryUnavailable
from spotweld.images.registries.credentials import Credentials
from spotweld.images.registries.refusals import Answer, is_final, is_full, refusal, unreachable
from spotweld.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_T = TypeVar("_T")
ATTEMPTS = 4
_LARGEST = 8 * 2**20
"""Bytes of an answer that is no blob."""
_HOPS = 6
"""Requests for one thing, with those that are sent elsewhere and those that lack a token."""
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_PAUSE = 60.0
_CHALLENGE = re.compile(
    r'(?<![^\s,])(bearer|basic)(?=[\s,]|$)|([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.IGNORECASE
)
"""A way in that is known here, or what is said of one (https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)."""


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class Client:
    """Requests to one registry, from any thread.

    Args:
        base: ``http://HOST[:PORT]`` or ``https://HOST[:PORT]``.
        credentials: looks them up for a repository (empty: for none), when the registry first asks for them.
        patience: seconds for connecting, and for any silence.
        sleep: waits before a next attempt.
    """

    def __init__(
        self,
        base: str,
        credentials: Callable[[str], Credentials | None],
        *,
        patience: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base = base
        self.sleep = sleep
        self._credentials = credentials
        self._patience = patience
        self._lock = threading.Lock()
        self._idle: dict[str, list[HTTPConnection]] = {}
        self._authorizations: dict[str, str] = {}
        self._origin = _origin(base)
        self._user: str | None = None
        weakref.finalize(self, _close, self._idle)

    def ask(
        self,
        method: str,
        target: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        attempts: int = ATTEMPTS,
        *,
        follow: bool = True,
    ) -> Answer:
        """The answer, whatever its status, but for one that asks for other credentials or for patience.

        A GET or HEAD that is sent elsewhere is followed; nobody else is shown credentials.

        Args:
            method: of HTTP.
            target: a path with its query, or a whole URL.
            scope: what the request needs a token for, such as ``repository:NAME:pull,push``; several with spaces.
            headers: to send along.
            body: to send along.
            attempts: how often to try where the registry does not answer or is busy.
            follow: whether to go where a GET or HEAD is sent, rather than to return that answer.

        Raises:
            RegistryUnavailable: it does not answer.
            RegistryRefused: it asks for credentials that nobody has.
        """
        url = _joined(self.base, target)
        follow = follow and method in {"GET", "HEAD"}
        return self._patiently(
            lambda: self._authorized(method, url, scope, headers or {}, body, follow=follow), attempts
        )

    @contextmanager
    def stream(self, target: str, scope: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse | Answer]:
        """The answer to a GET, to be read inside the block; an ``Answer`` if it is not 200 or 206.

        Raises:
            RegistryUnavailable: the registry does not answer. What breaks while the answer is read is raised as it is.
            RegistryRefused: it asks for credentials that nobody has.
        """
        url = _joined(self.base, target)
        found = self._patiently(lambda: self._followed(url, scope, headers), ATTEMPTS)
        if isinstance(found, Answer):
            yield found
            return
        last, connection, response = found
        try:
            yield response
        finally:
            self._give_back(last, connection, response)

    def _patiently(self, attempt: Callable[[], _T | Answer], attempts: int) -> _T | Answer:
        for left in reversed(range(attempts)):
            pause = 0.5 * 2 ** (attempts - 1 - left)
            try:
                found = attempt()
            except (OSError, HTTPException) as error:
                if left == 0 or is_final(error):
                    raise unreachable(self.base, error) from error
            else:
                if left == 0 or not isinstance(found, Answer) or found.status not in _AGAIN or is_full(found):
                    return found
                pause = _pause(found.headers, pause)
            self.sleep(pause)
        raise AssertionError  # pragma: no cover  the last attempt returned or raised

    def _followed(
        self, url: str, scope: str, headers: Mapping[str, str]
    ) -> tuple[str, HTTPConnection, HTTPResponse] | Answer:
        """What a GET leads to: 200 or 206, still to be read, with the URL where it is; or an answer to give up at."""
        for left in reversed(range(_HOPS)):
            sent = dict(headers)
            if _origin(url) == self._origin and (known := self._authorizations.get(scope)):
                sent["Authorization"] = known
            connection, response = self._send("GET", url, sent, b"")
            if response.status in {200, 206}:
                return url, connection, response
            try:
                answer = _read(response)
            finally:
                self._give_back(url, connection, response)
            if left and answer.status in _REDIRECTS and "location" in answer.headers:
                url = _joined(url, answer.headers["location"])
            elif left and answer.status == 401 and _origin(url) == self._origin:
                self._authorize(answer, scope, sent.get("Authorization"))
            else:
                break
        return replace(answer, user=self._user)

    def _authorized(
        self, method: str, url: str, scope: str, headers: Mapping[str, str], body: bytes, *, follow: bool
    ) -> Answer:
        asked = False
        for left in reversed(range(_HOPS)):
            ours = _origin(url) == self._origin
            known = self._authorizations.get(scope) if ours else None
            sent = {**headers, "Authorization": known} if known else dict(headers)
            answer = self._exchange(method, url, sent, body)
            if left and follow and answer.status in _REDIRECTS and "location" in answer.headers:
                url = _joined(url, answer.headers["location"])
            elif left and answer.status == 401 and ours and not asked:
                self._authorize(answer, scope, known)
                asked = True
            else:
                break
        return replace(answer, user=self._user)

    def _authorize(self, answer: Answer, scope: str, shown: str | None) -> None:
        """Get what the registry asks for with a 401, other than what it has been shown.

        Raises:
            RegistryRefused: nobody has it.
        """
        ways = _ways(answer.headers.get("www-authenticate", ""))
        credentials = self._credentials(_repository(scope))
        self._user = credentials.user if credentials else None
        answer = replace(answer, user=self._user)
        if "realm" in ways.get("bearer", {}):
            value = "Bearer " + self._token(ways["bearer"], scope, credentials)
        elif credentials is None or "basic" not in ways:
            raise refusal(answer, "use", self.base)
        else:
            value = credentials.basic
        if value == shown:
            raise refusal(answer, "use", self.base)
        self._authorizations[scope] = value

    def _token(self, asked: Mapping[str, str], scope: str, credentials: Credentials | None) -> str:
        realm = asked["realm"]
        if credentials and self.base.startswith("https:") and not realm.startswith("https:"):
            why = f"it wants the credentials to be sent to {realm} in the clear"
            raise RegistryRefused(f"{self.base} is not to be trusted", why, "Ask whoever runs the registry.")
        wanted = [("service", asked["service"])] if "service" in asked else []
        wanted += [("scope", part) for part in scope.split()]
        if credentials and credentials.token:
            wanted = [("service", asked.get("service", "")), ("scope", scope), ("grant_type", "refresh_token")]
            wanted += [("client_id", "spotweld"), ("refresh_token", credentials.token)]
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._exchange("POST", realm, form, urlencode(wanted).encode())
        else:
            sent = {"Authorization": credentials.basic} if credentials else {}
            answer = self._exchange("GET", f"{realm}{'&' if '?' in realm else '?'}{urlencode(wanted)}", sent, b"")
        if answer.status != 200:
            raise refusal(replace(answer, user=self._user), "log in to", self.base)
        try:
            found = msgspec.json.decode(answer.body, type=_Token)
        except msgspec.DecodeError as error:
            raise ImageError(f"Cannot understand the token server {realm}", str(error)) from error
        return found.token or found.access_token

    def _exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        connection, response = self._send(method, url, headers, body)
        try:
            return _read(response)
        finally:
            self._give_back(url, connection, response)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[HTTPConnection, HTTPResponse]:
        sent = {"User-Agent": f"spotweld/{VERSION}", **headers}
        if body or method in {"POST", "PUT", "PATCH"}:
            sent["Content-Length"] = str(len(body))
        parts = urlsplit(url)
        path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        while True:
            connection, used = self._take(url)
            try:
                if parts.scheme == "http" and connection.host != parts.hostname:
                    connection.request(method, url, body=body or None, headers=_proxy_login(url) | sent)
                else:
                    connection.request(method, path, body=body or None, headers=sent)
                return connection, connection.getresponse()
            except BaseException as error:
                connection.close()
                # An idle connection that the other side has closed meanwhile says nothing about the registry. Only for
                # a PATCH nobody knows what has arrived.
                if not (used and method != "PATCH" and isinstance(error, (ConnectionError, HTTPException))):
                    raise

    def _take(self, url: str) -> tuple[HTTPConnection, bool]:
        with self._lock:
            if idle := self._idle.get(_origin(url)):
                return idle.pop(), True
        return _connection(url, self._patience), False

    def _give_back(self, url: str, connection: HTTPConnection, response: HTTPResponse) -> None:
        if response.isclosed() and connection.sock is not None:
            with self._lock:
                self._idle.setdefault(_origin(url), []).append(connection)
        else:
            connection.close()


def _close(idle: dict[str, list[HTTPConnection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


def _ways(challenges: str) -> dict[str, dict[str, str]]:
    """What a registry asks for: each way in by its name, with what is said of it."""
    ways: dict[str, dict[str, str]] = {}
    said: dict[str, str] = {}
    for way, name, quoted, plain in _CHALLENGE.findall(challenges):
        if way:
            said = ways.setdefault(way.lower(), {})
        else:
            said.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
    return ways


def _pause(headers: Mapping[str, str], least: float) -> float:
    """Seconds to wait, as a busy registry says: a number of them, or until a date by its own clock."""
    said = headers.get("retry-after", "")
    with suppress(ValueError, OverflowError):
        until, now = parsedate_tz(said), parsedate_tz(headers.get("date", ""))
        seconds = float(mktime_tz(until) - mktime_tz(now)) if until and now else float(said)
        return min(max(least, seconds), _LONGEST_PAUSE)
    return least


def _repository(scope: str) -> str:
    """The one that a request is about; of two, where a blob is to go."""
    kind, _, rest = scope.partition(" ")[0].partition(":")
    return rest.rpartition(":")[0] if kind == "repository" else ""


def _joined(base: str, target: str) -> str:
    try:
        url = urljoin(base, target)
        urlsplit(url)
    except ValueError as error:
        raise RegistryUnavailable(f"Cannot follow the registry {base} to {target[:200]}", str(error)) from error
    return url


def _origin(url: str) -> str:
    """Whom a URL leads to, written in one way: some registries write the usual port in what they send elsewhere."""
    parts = urlsplit(url)
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    host = parts.netloc.lower()
    return f"{parts.scheme}://{host.removesuffix(usual) if usual else host}"


def _connection(url: str, patience: float) -> HTTPConnection:
    """A connection to the host of ``url``, through the user's proxy if there is one for it."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RegistryUnavailable(f"Cannot follow the registry to {url[:200]}", "it is no web address")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    if (through := _proxy(parts.scheme)) and not urllib.request.proxy_bypass(f"{parts.hostname}:{port}"):
        if context is None:
            return HTTPConnection(through.hostname or "", through.port or 80, timeout=patience)
        tunnel = HTTPSConnection(through.hostname or "", through.port or 80, timeout=patience, context=context)
        tunnel.set_tunnel(parts.hostname, port, _proxy_login(url))
        return tunnel
    if context is None:
        return HTTPConnection(parts.hostname, port, timeout=patience)
    return HTTPSConnection(parts.hostname, port, timeout=patience, context=context)


def _proxy(scheme: str) -> SplitResult | None:
    """The user's for such URLs."""
    proxy = urllib.request.getproxies().get(scheme)
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def _proxy_login(url: str) -> dict[str, str]:
    """What shows the proxy for ``url`` who the user is, where its own URL says so."""
    through = _proxy(urlsplit(url).scheme)
    if through is None or through.username is None:
        return {}
    login = Credentials(unquote(through.username), unquote(through.password or ""))
    return {"Proxy-Authorization": login.basic}


def _read(response: HTTPResponse) -> Answer:
    body = response.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise HTTPException(f"an answer of more than {_LARGEST} bytes")
    headers = {name.lower(): value for name, value in response.getheaders()}
    # Of all headers that matter here, this one alone may come several times.
    headers["www-authenticate"] = ", ".join(response.headers.get_all("WWW-Authenticate", ()))
    return Answer(response.status, headers, body)
