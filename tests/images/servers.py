"""A real registry server (Debian's docker-registry) on 127.0.0.1."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.servers import free_ports, process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@contextmanager
def docker_registry(
    folder: Path,
    *,
    data: Path | None = None,
    more: Mapping[str, Any] | None = None,
    delete: bool = True,
    tls: Mapping[str, str] | None = None,
    port: int = 0,
) -> Iterator[str]:
    """Run it until the block ends; yields its URL. ``folder/registry.log`` has its log.

    Args:
        folder: for its configuration and log.
        data: where it keeps its blobs; by default below ``folder``.
        more: top-level keys of its configuration.
        delete: whether it deletes.
        tls: its ``certificate`` and ``key``, if it is to speak TLS.
        port: where it listens; by default a free one.
    """
    port = port or free_ports(1)[0]
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(data or folder / "registry")},
            "delete": {"enabled": delete},
        },
        "http": {"addr": f"127.0.0.1:{port}", **({"tls": dict(tls)} if tls else {})},
        **(more or {}),
    }
    path = folder / f"registry-{port}.yml"
    path.write_text(json.dumps(config))
    where = f"127.0.0.1:{port}"
    # Plain HTTP to a server that speaks TLS is answered too, so this tells in both cases that it is up.
    with process(["docker-registry", "serve", str(path)], f"http://{where}/v2/", folder / "registry.log"):
        yield f"{'https' if tls else 'http'}://{where}"


HTPASSWD = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
"""me:secret, in the only form that the server takes (bcrypt, cost 4)."""


@contextmanager
def registry_with_login(folder: Path, **more: Any) -> Iterator[str]:  # noqa: ANN401  docker_registry's
    """`docker_registry` that serves nobody but ``me:secret``; yields its URL."""
    (folder / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    with docker_registry(folder, more={"auth": auth, **more.pop("more", {})}, **more) as url:
        yield url


@contextmanager
def registry_with_tokens(folder: Path, rights: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """`docker_registry` that takes tokens of a server of our own; yields its URL.

    https://distribution.github.io/distribution/spec/auth/jwt/

    Args:
        folder: for keys, configuration and log.
        rights: what each account may do; the password of each is ``secret``.
    """
    made = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=tokens"
    subprocess.run(made.split(), cwd=folder, check=True, capture_output=True)
    handler = type("Tokens", (_Tokens,), {"folder": folder, "rights": dict(rights)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="tokens")
    thread.start()
    try:
        realm = f"http://127.0.0.1:{server.server_address[1]}/token"
        token = {"realm": realm, "service": "test", "issuer": "tests", "rootcertbundle": str(folder / "cert.pem")}
        with docker_registry(folder, more={"auth": {"token": token}}) as url:
            yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Tokens(http.server.BaseHTTPRequestHandler):
    folder: Path
    rights: Mapping[str, Sequence[str]]

    def do_GET(self) -> None:
        shown = base64.b64decode(self.headers.get("Authorization", "").partition(" ")[2]).decode()
        user, _, password = shown.partition(":")
        if password != "secret":
            self.send_response(401)
            self.end_headers()
            return
        access = []
        for scope in parse_qs(urlsplit(self.path).query).get("scope", []):
            kind, name, actions = scope.split(":")
            allowed = [action for action in actions.split(",") if action in self.rights[user] or kind == "registry"]
            access.append({"type": kind, "name": name, "actions": allowed})
        body = json.dumps({"token": self._token(user, access)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _token(self, user: str, access: object) -> str:
        certificate = ssl.PEM_cert_to_DER_cert((self.folder / "cert.pem").read_text())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(certificate).decode()]}
        now = int(time.time())
        claims = {"iss": "tests", "aud": "test", "sub": user, "access": access, "jti": uuid.uuid4().hex}
        claims |= {"iat": now - 60, "nbf": now - 60, "exp": now + 600}
        signed = f"{_packed(json.dumps(head).encode())}.{_packed(json.dumps(claims).encode())}"
        sign = ["openssl", "dgst", "-sha256", "-sign", str(self.folder / "key.pem")]
        done = subprocess.run(sign, input=signed.encode(), check=True, capture_output=True)
        return f"{signed}.{_packed(done.stdout)}"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
