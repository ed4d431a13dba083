"""Answers to the distribution API's requests about a layout; see `spotweld.images.registries.serving`."""

from __future__ import annotations

import ipaddress
import json
import re
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from spotweld.errors import (
    ImageDamaged,
    ImageError,
    ImageNotFound,
    RegistryFull,
    RegistryRefused,
    SpotweldError,
    UsageError,
)
from spotweld.images.registries.bodies import CutOff, Malformed, body
from spotweld.images.registries.manifests import LARGEST, read_manifest
from spotweld.images.registries.references import check_digest, check_repository, check_tag, is_digest
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spotweld.images.registries.layouts import Layout
    from spotweld.images.registries.manifests import Manifest
    from spotweld.images.registries.uploads import Upload, Uploads

_ROUTES = {
    "base": re.compile(r"/v2/?"),
    "catalog": re.compile(r"/v2/_catalog"),
    "tags": re.compile(r"/v2/(.+)/tags/list"),
    "uploads": re.compile(r"/v2/(.+)/blobs/uploads/?"),
    "upload": re.compile(r"/v2/(.+)/blobs/uploads/([^/]+)"),
    "blob": re.compile(r"/v2/(.+)/blobs/([^/]+)"),
    "manifest": re.compile(r"/v2/(.+)/manifests/([^/]+)"),
}
_EXTENT = re.compile(r"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_BINARY = "application/octet-stream"


class _Refusal(Exception):
    """An answer that is no success: the status, and what the specification calls it."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "spotweld"
    sys_version = ""
    timeout = 600.0  # of silence; builders compress while they send
    disable_nagle_algorithm = True

    def __init__(self, layout: Layout, uploads: Uploads, *rest: Any) -> None:  # noqa: ANN401  socketserver's
        self._layout, self._uploads = layout, uploads
        super().__init__(*rest)

    def _serve(self) -> None:
        self._answered = False
        self._body = body(self.rfile, self.headers)
        try:
            try:
                self._route()
            except (_Refusal, SpotweldError) as error:
                if self._answered:
                    raise CutOff("an error in the middle of an answer") from error
                # Who sends and is answered too early may hear of a broken connection only.
                for _ in self._body if getattr(error, "status", 0) != 413 else ():
                    pass
                self._refuse(error if isinstance(error, _Refusal) else _refusal(error))
            for _ in self._body if not self.close_connection else ():
                pass
        except Malformed as error:
            self.close_connection = True
            if not self._answered:
                self._refuse(_Refusal(400, "UNSUPPORTED", str(error)))
        except ConnectionError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  http.server's names

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What the standard library refuses: a request that it cannot read, or an unknown method."""
        self.close_connection = True
        self.request_version = "HTTP/1.1"
        known = {501: 405, 505: 400}
        self._refuse(_Refusal(known.get(int(code), int(code)), "UNSUPPORTED", message or "it cannot be understood"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write no log."""

    def _route(self) -> None:
        target = urlsplit(self.path) if self.path.startswith("/") else _absolute(self.path)
        hosts = [*self.headers.get_all("Host", []), *([target.netloc] if target.netloc else [])]
        if not self.headers.get_all("Host") or not all(_is_here(host) for host in hosts):
            raise _Refusal(403, "DENIED", "only this machine itself is served, under its loopback address")
        if self.headers.get("Origin"):
            raise _Refusal(403, "DENIED", "web pages are not served")
        try:
            self._query = dict(parse_qsl(target.query, keep_blank_values=True, max_num_fields=20))
        except ValueError as error:
            raise _Refusal(400, "UNSUPPORTED", "the query has too many fields") from error
        path = unquote(target.path)
        for kind, pattern in _ROUTES.items():
            if found := pattern.fullmatch(path):
                verb = "GET" if self.command == "HEAD" else self.command
                answer = getattr(self, f"_{kind}_{verb.lower()}", None)
                if answer is None:
                    raise _Refusal(405, "UNSUPPORTED", f"{self.command} is not supported here")
                if found.groups():
                    _check("NAME_INVALID", check_repository, found[1])
                answer(*found.groups())
                return
        raise _Refusal(404, "UNSUPPORTED", "there is nothing under this path")

    def _base_get(self) -> None:
        self._json(200, {})

    def _catalog_get(self) -> None:
        shown = self._page([name for name in self._layout.repositories() if name], "/v2/_catalog")
        self._json(200, {"repositories": shown[0]}, **shown[1])

    def _tags_get(self, repository: str) -> None:
        tags = self._layout.tags(repository)
        if not tags:
            raise _Refusal(404, "NAME_UNKNOWN", f"there is no repository {repository}")
        shown = self._page(tags, f"/v2/{repository}/tags/list")
        self._json(200, {"name": repository, "tags": shown[0]}, **shown[1])

    def _blob_get(self, repository: str, name: str) -> None:
        digest = _digest(name)
        with self._layout.open_blob(repository, digest) as file:
            size = self._layout.blob_size(repository, digest) or 0
            start, end = 0, size
            if (
                self.command == "GET"
                and (wanted := _RANGE.fullmatch(self.headers.get("Range", "")))
                and any(wanted.groups())
            ):
                first, last = wanted.groups()
                start = int(first) if first else max(0, size - int(last))
                end = min(size, int(last) + 1) if first and last else size
                if start >= end:
                    raise _Refusal(416, "SIZE_INVALID", f"it has {size} bytes", Content_Range=f"bytes */{size}")
            more = {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if (start, end) != (0, size) else {}
            self._head(206 if more else 200, end - start, _BINARY, **more, **_named(digest), Accept_Ranges="bytes")
            if self.command == "GET" and end > start:
                sent = self.connection.sendfile(file, start, end - start)
                if sent < end - start:
                    raise CutOff("the file has become shorter")

    def _uploads_post(self, repository: str) -> None:
        mounted = self._query.get("mount")
        if mounted and self._layout.mount(repository, _digest(mounted), self._query.get("from", "")):
            self._created(repository, Digest(mounted))
            return
        wanted = _digest(self._query["digest"]) if "digest" in self._query else None
        upload = self._uploads.begin(repository)
        with self._uploads.taken(repository, upload.name):
            upload.add(self._body)
            if wanted:
                self._finish(upload, wanted)
                return
        self._head(202, 0, **_progress(upload))

    def _upload_get(self, repository: str, name: str) -> None:
        with self._uploads.taken(repository, name) as upload:
            self._head(204, None, **_progress(_known(upload)))

    def _upload_patch(self, repository: str, name: str) -> None:
        with self._uploads.taken(repository, name) as found:
            upload = _known(found)
            if not self._fits(upload):
                return
            upload.add(self._body)
            self._head(202, 0, **_progress(upload))

    def _upload_put(self, repository: str, name: str) -> None:
        with self._uploads.taken(repository, name) as found:
            upload = _known(found)
            digest = _digest(self._query.get("digest", ""))
            if not self._fits(upload):
                return
            upload.add(self._body)
            self._finish(upload, digest)

    def _upload_delete(self, repository: str, name: str) -> None:
        with self._uploads.taken(repository, name) as upload:
            self._uploads.end(_known(upload))
            self._head(204, None)

    def _manifest_get(self, repository: str, name: str) -> None:
        _check_name(name)
        try:
            found = self._layout.manifest(repository, name)
        except ImageNotFound as error:
            raise _Refusal(404, "MANIFEST_UNKNOWN", str(error)) from error
        except ImageDamaged as error:
            # To a builder that looks for its cache it is a miss; what it sends then mends it.
            raise _Refusal(404, "MANIFEST_UNKNOWN", str(error)) from error
        self._layout.blob_size(repository, found.digest)  # from now on it is young: a builder uses it
        self._send(200, found.data, found.media_type, **_named(found.digest))

    def _manifest_put(self, repository: str, name: str) -> None:
        _check_name(name)
        data = bytearray()
        for piece in self._body:
            data += piece
            if len(data) > LARGEST:
                self.close_connection = True
                raise _Refusal(413, "MANIFEST_INVALID", f"a manifest has at most {LARGEST} bytes")
        manifest = self._read(bytes(data), Digest(name) if is_digest(name) else None)
        try:
            self._layout.put_manifest(repository, manifest, None if is_digest(name) else name)
        except ImageDamaged as error:
            code = "MANIFEST_BLOB_UNKNOWN" if "cannot be kept" in error.what else "UNKNOWN"
            raise _Refusal(400 if code != "UNKNOWN" else 500, code, str(error)) from error
        self._head(201, 0, Location=f"/v2/{repository}/manifests/{manifest.digest}", **_named(manifest.digest))

    def _manifest_delete(self, repository: str, name: str) -> None:
        _check_name(name)
        if is_digest(name):
            gone = self._layout.delete_image(repository, Digest(name)) > 0
        else:
            gone = self._layout.resolve(repository, name) is not None
            self._layout.delete(repository, name)
        if not gone:
            raise _Refusal(404, "MANIFEST_UNKNOWN", f"there is no image {repository}:{name}")
        self._head(202, 0)

    def _read(self, data: bytes, wanted: Digest | None) -> Manifest:
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip()
        try:
            return read_manifest(data, "the request", wanted, kind)
        except ImageError as error:
            raise _Refusal(400, "MANIFEST_INVALID", str(error)) from error

    def _fits(self, upload: Upload) -> bool:
        """Whether the request goes on where the upload is; if not, it is answered, and the upload stays."""
        said = self.headers.get("Content-Range")
        if said is None:
            return True
        extent = _EXTENT.fullmatch(said)
        length = self.headers.get("Content-Length")
        if extent and int(extent[1]) == upload.size and length in {None, str(int(extent[2]) - int(extent[1]) + 1)}:
            return True
        for _ in self._body:
            pass
        self._refuse(_Refusal(416, "BLOB_UPLOAD_INVALID", f"{upload.size} bytes have arrived", **_progress(upload)))
        return False

    def _finish(self, upload: Upload, digest: Digest) -> None:
        if not upload.keep(digest):
            raise _Refusal(400, "DIGEST_INVALID", f"the {upload.size} bytes that arrived are not {digest}")
        self._uploads.end(upload)
        self._created(upload.repository, digest)

    def _page(self, names: Sequence[str], path: str) -> tuple[list[str], dict[str, str]]:
        """What the request wants to see of a sorted list, and how it finds the rest."""
        after, count = self._query.get("last", ""), self._query.get("n", "1000000")
        if not re.fullmatch("[0-9]{1,9}", count):
            raise _Refusal(400, "UNSUPPORTED", "n is not a number")
        left = [name for name in names if name > after]
        shown = left[: int(count)]
        more = f'<{path}?n={count}&last={quote(shown[-1], safe="")}>; rel="next"' if 0 < len(shown) < len(left) else ""
        return shown, {"Link": more} if more else {}

    def _created(self, repository: str, digest: Digest) -> None:
        self._head(201, 0, Location=f"/v2/{repository}/blobs/{digest}", **_named(digest))

    def _refuse(self, refusal: _Refusal) -> None:
        said = {"code": refusal.code, "message": " ".join(str(refusal).split())}
        self._json(refusal.status, {"errors": [said]}, **refusal.headers)

    def _json(self, status: int, value: object, **headers: str) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", **headers)

    def _send(self, status: int, data: bytes, kind: str, **headers: str) -> None:
        self._head(status, len(data), kind, **headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, size: int | None, kind: str = "", **headers: str) -> None:
        self._answered = True
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if size is not None:
            self.send_header("Content-Length", str(size))
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _refusal(error: SpotweldError) -> _Refusal:
    text = str(error)
    match error:
        case RegistryFull():
            return _Refusal(507, "UNKNOWN", f"{text} (no space left)")
        case RegistryRefused():
            return _Refusal(405, "DENIED", text)
        case ImageNotFound():
            return _Refusal(404, "BLOB_UNKNOWN", text)
        case ImageDamaged():
            return _Refusal(500, "UNKNOWN", text)
    return _Refusal(503, "UNAVAILABLE", text)


def _absolute(target: str) -> Any:  # noqa: ANN401  a SplitResult
    with suppress(ValueError):
        found = urlsplit(target)
        if found.scheme in {"http", "https"} and found.netloc:
            return found
    raise _Refusal(400, "UNSUPPORTED", "the request names no path")


def _is_here(host: str) -> bool:
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    return False


def _check(code: str, check: Any, text: str) -> None:  # noqa: ANN401
    try:
        check(text)
    except UsageError as error:
        raise _Refusal(400, code, str(error)) from error


def _check_name(name: str) -> None:
    if not is_digest(name):
        _check("MANIFEST_INVALID", check_tag, name)


def _digest(text: str) -> Digest:
    _check("DIGEST_INVALID", check_digest, text)
    return Digest(text)


def _named(digest: Digest) -> dict[str, str]:
    return {"Docker-Content-Digest": digest, "Etag": f'"{digest}"'}


def _known(upload: Upload | None) -> Upload:
    if upload is None:
        raise _Refusal(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload, or it has ended")
    return upload


def _progress(upload: Upload) -> dict[str, str]:
    where = f"/v2/{upload.repository}/blobs/uploads/{upload.name}"
    return {"Location": where, "Range": f"0-{max(0, upload.size - 1)}", "Docker-Upload-UUID": upload.name}
