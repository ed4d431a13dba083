"""Receivers of alerts on this machine: a web hook and a mail server."""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Hook(ThreadingHTTPServer):
    """Keeps what is posted to it. Answers ``status``, and sends on to ``elsewhere`` if that is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.elsewhere = ""
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.got: list[tuple[str, str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ids(self) -> list[str]:
        return [known for _, known, _ in self.got]


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, self.headers["Idempotency-Key"], body))
        self.server.may_answer.wait()
        status = self.server.status
        if self.server.elsewhere:
            self.server.status = 200
        self.send_response(status)
        if self.server.elsewhere and self.path != "/moved":
            self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


class Mail(socketserver.ThreadingTCPServer):
    """As much of SMTP (RFC 5321) as a message needs; who knows the password is let in.

    Args:
        tls: how it encrypts; None: it does not.
        at_once: from the first byte on (RFC 8314); otherwise when STARTTLS asks for it (RFC 3207).
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, tls: ssl.SSLContext | None = None, *, at_once: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.tls = tls
        self.at_once = at_once
        self.password = "p@ss/word"
        self.heard: list[bool] = []
        """Of each password, whether it came encrypted."""
        self.got: list[tuple[str, str]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        with suppress(OSError):
            self.talk()

    def talk(self) -> None:
        if self.server.at_once:
            self.encrypt()
        self.say("220 here")
        recipient = ""
        while line := self.rfile.readline().decode().strip():
            match line[:4].upper():
                case "EHLO":
                    may = self.server.tls is not None and not self.is_encrypted
                    self.say(f"250-here\r\n{'250-STARTTLS' if may else '250-8BITMIME'}\r\n250 AUTH PLAIN")
                case "STAR":
                    self.say("220 go on")
                    self.encrypt()
                case "AUTH":
                    self.server.heard.append(self.is_encrypted)
                    _, _, password = base64.b64decode(line.split()[2]).decode().split("\0")
                    self.say("235 come in" if password == self.server.password else f"535 {password} is wrong")
                case "RCPT":
                    recipient = line
                    self.say("250 known")
                case "DATA":
                    self.say("354 go on")
                    message = ""
                    while (part := self.rfile.readline().decode()) != ".\r\n":
                        message += part
                    self.server.got.append((recipient, message))
                    self.say("250 taken")
                case _:
                    self.say("250 fine")

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        # The server closes the socket that it accepted, and encryption has made another one of it.
        self.request.close()

    @property
    def is_encrypted(self) -> bool:
        return isinstance(self.request, ssl.SSLSocket)

    def encrypt(self) -> None:
        assert self.server.tls is not None
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for 127.0.0.1, signed by itself: how to serve with it, and the file to trust it by."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, secret = folder / "trusted.pem", folder / "secret.pem"
    trusted.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, secret)
    return context, trusted


Server = TypeVar("Server", Hook, Mail)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
