"""Receivers of alerts on this machine: a web hook and a mail server."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    """As much of SMTP (RFC 5321) as a message needs; ``user`` and ``password`` are let in."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.password = "p@ss/word"
        self.got: list[tuple[str, str]] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.StreamRequestHandler):
    server: Mail

    def handle(self) -> None:
        self.say("220 here")
        recipient = ""
        while line := self.rfile.readline().decode().strip():
            match line[:4].upper():
                case "EHLO":
                    self.say("250-here\r\n250 AUTH PLAIN")
                case "AUTH":
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

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


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
