"""A registry server: the distribution API, version 2.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md. Two things that it does not have are made up
for: a condition on moving a tag (compared just before), and, in many servers, the deletion of one tag among several of
an image (see `Distribution.delete`).
"""

from __future__ import annotations

import json
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from spotweld.errors import ImageError, ImageNotFound, RegistryFull, RegistryRefused, RegistryUnavailable
from spotweld.images.registries.distribution_client import ATTEMPTS, Client
from spotweld.images.registries.manifests import (
    KINDS,
    OCI_INDEX,
    checked,
    labels,
    manifest_of,
    read_manifest,
)
from spotweld.images.registries.references import is_digest
from spotweld.images.registries.refusals import Answer, refusal, unreachable
from spotweld.images.registries.registry import Registry, check_expected
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from spotweld.images.registries.manifests import Manifest
    from spotweld.images.registries.registry import Expected

CHUNK = 16 * 2**20
"""Bytes sent in one request, and so what a broken connection costs at most."""
_PIECE = 2**20
_LOOKS = 8
"""Times that tags are deleted before it is given up."""
_BATCH = 16
"""Images that are deleted before it is looked again whether another tag names one of them by now."""
_DELETED = (200, 202)
_ASIDE = "com.spotweld.deleted"
"""The annotation of what tags name while they are being deleted."""
_SHORT = 256
"""Bytes of a manifest that may be that; all but tiny images have more."""
_LOST = (b"BLOB_UPLOAD_", b"invalid hash state")
"""What docker-registry (2.8) says of an upload whose last chunk it took, and could not write to its full disk."""
_STREAMS = 8
"""Tags that are looked at at the same time."""
_ACCEPT = {"Accept": ", ".join(KINDS)}
_BINARY = {"Content-Type": "application/octet-stream"}


class Distribution(Registry):
    """The images in one server.

    Args:
        client: talks to it.
    """

    def __init__(self, client: Client) -> None:
        self.url = client.base
        self._client = client
        self._names_go = True
        """Whether, as far as is known, the server deletes a tag by its name."""

    def prepare(self, repositories: Collection[str]) -> bool:
        """See `Registry`. Each repository gets an upload that is given up at once, of which nothing stays."""
        answer = self._client.ask("GET", "/v2/", "")
        if answer.status == 404:
            todo = "Look at the host and the port; a path in front of /v2/ cannot be used."
            raise RegistryRefused(f"{self.url} is no registry", "it does not know /v2/", todo)
        self._expect(answer, 200, "use", "")
        for repository in repositories:
            answer = self._client.ask("POST", f"/v2/{repository}/blobs/uploads/", _push(repository))
            self._expect(answer, 202, "push to", repository)
            if "location" in answer.headers:
                self._client.ask("DELETE", answer.headers["location"], _push(repository), attempts=1)
        return False

    def resolve(self, repository: str, name: str) -> Digest | None:
        answer = self._client.ask("HEAD", _manifest(repository, name), _pull(repository), _ACCEPT)
        if answer.status == 404:
            return None
        self._expect(answer, 200, "read", f"{repository}:{name}")
        found, size = answer.headers.get("docker-content-digest", ""), answer.headers.get("content-length", "")
        # Some servers answer a HEAD without a digest; then the bytes tell. So they do of what may be put aside.
        if is_digest(found) and size.isdecimal() and int(size) > _SHORT:
            return Digest(found)
        manifest = self._read(repository, name)
        return manifest.digest if manifest else None

    def manifest(self, repository: str, name: str) -> Manifest:
        found = self._read(repository, name)
        if found is None:
            known = ", ".join(self.tags(repository)[:8]) or "none"
            raise ImageNotFound(f"There is no image {repository}:{name} in {self.url}", f"its tags are: {known}")
        return found

    def put_manifest(
        self, repository: str, manifest: Manifest, tag: str | None = None, *, expected: Expected = None
    ) -> None:
        if tag is not None and expected is not None:
            check_expected(self.url, repository, tag, expected, self.resolve(repository, tag))
        target = _manifest(repository, tag or manifest.digest)
        answer = self._client.ask(
            "PUT", target, _push(repository), {"Content-Type": manifest.media_type}, manifest.data
        )
        self._expect(answer, 201, "push to", f"{repository}:{tag or manifest.digest}")

    def blob_size(self, repository: str, digest: Digest) -> int | None:
        # Where a storage leads to by itself may be signed for a GET alone.
        answer = self._client.ask("HEAD", _blob(repository, digest), _pull(repository), follow=False)
        if answer.status in {301, 302, 303, 307, 308}:
            with self._client.stream(_blob(repository, digest), _pull(repository), {"Range": "bytes=0-0"}) as found:
                if isinstance(found, HTTPResponse):
                    extent = found.getheader("Content-Range") or ""
                    total = (
                        extent.rpartition("/")[2] if found.status == 206 else found.getheader("Content-Length") or ""
                    )
                    return int(total) if total.isdecimal() else -1
                answer = found
        if answer.status == 404:
            return None
        self._expect(answer, 200, "read", repository)
        size = answer.headers.get("content-length", "")
        return int(size) if size.isdecimal() else -1

    def read_blob(self, repository: str, digest: Digest) -> Iterator[bytes]:
        done, failures = 0, 0
        while True:
            before = done
            try:
                for piece in self._read_from(repository, digest, done):
                    done += len(piece)
                    yield piece
            except (OSError, HTTPException) as error:
                failures = 1 if done > before else failures + 1
                if failures == ATTEMPTS:
                    raise unreachable(self.url, error) from error
                self._client.sleep(0.5 * 2**failures)
            else:
                return

    def write_blob(self, repository: str, digest: Digest, size: int, pieces: Iterable[bytes]) -> None:
        upload = _Upload(self._client, self.url, repository)
        whole = checked(pieces, digest, "what was to be pushed", size)
        last = b""
        try:
            for chunk in _chunks(whole, max(CHUNK, upload.smallest)):
                if last:
                    upload.send(last)
                last = chunk
            upload.finish(last, digest)
        except BaseException as error:
            # A server that does not answer cannot be told either; one that is full needs the space.
            if isinstance(error, RegistryFull) or not isinstance(error, RegistryUnavailable):
                upload.give_up()
            raise
        if upload.lost and self.blob_size(repository, digest) is None:
            raise upload.lost

    def mount(self, repository: str, digest: Digest, source: str) -> bool:
        query = urlencode({"mount": digest, "from": source})
        scope = f"{_push(repository)} {_pull(source)}"
        try:
            answer = self._client.ask("POST", f"/v2/{repository}/blobs/uploads/?{query}", scope)
        except RegistryRefused:
            return False
        if answer.status == 201:
            return True
        if answer.status == 202 and "location" in answer.headers:
            self._client.ask("DELETE", answer.headers["location"], _push(repository), attempts=1)
            return False
        # Whether it is the source that must not be read or the target that must not be written is told by an upload.
        if answer.status in {401, 403, 404}:
            return False
        raise refusal(answer, "push to", f"{self.url} ({repository})")

    def tags(self, repository: str) -> tuple[str, ...]:
        return tuple(sorted(set(self._pages(f"/v2/{repository}/tags/list?n=1000", _pull(repository), "tags"))))

    def repositories(self) -> tuple[str, ...]:
        return tuple(sorted(set(self._pages("/v2/_catalog?n=1000", "registry:catalog:*", "repositories"))))

    def delete(self, repository: str, *tags: str) -> None:
        """See `Registry`.

        Where the server cannot delete a tag by its name, only a manifest with all of its tags: one without other tags
        is deleted so; of one with others, the tags are first moved to an empty index of their own, which is then
        deleted. That takes a request to look at each tag of the repository, one to delete each image, and for each
        further ``_BATCH`` images another look at the tags that stay.

        Raises:
            TagMoved: somebody else moved a tag just then; it is theirs.
        """
        failure: RegistryUnavailable | None = None
        left = tuple(dict.fromkeys(tags))
        for looks in range(_LOOKS):
            listed = self.tags(repository)
            # What is not listed may be there all the same, once: lists may lag behind.
            left = tuple(tag for tag in left if tag in listed or (not looks and self.resolve(repository, tag)))
            if not left:
                return
            # While others write to the repository, docker-registry may delete the manifest and forget the tag, or fail.
            try:
                by_digest = self._delete_by_name(repository, left)
                self._delete_by_digest(repository, by_digest, set(left))
            except RegistryUnavailable as error:
                failure = error
            self._client.sleep(0.05 * looks)
        why = f"{self.url} still lists it after {_LOOKS} deletions"
        todo = "Try again when nobody else writes there."
        raise failure or RegistryUnavailable(f"Cannot delete {repository}:{left[0]}", why, todo)

    def collect(self, older: float) -> int:  # noqa: ARG002  the server's own matter
        return 0

    def _read(self, repository: str, name: str) -> Manifest | None:
        """The manifest under a name; None: there is none, or a deletion that was killed has put its tag aside."""
        answer = self._client.ask("GET", _manifest(repository, name), _pull(repository), _ACCEPT)
        if answer.status == 404:
            return None
        self._expect(answer, 200, "read", f"{repository}:{name}")
        wanted = name if is_digest(name) else answer.headers.get("docker-content-digest", "")
        kind = answer.headers.get("content-type", "").partition(";")[0]
        where = f"{self.url} ({repository}:{name})"
        found = read_manifest(answer.body, where, Digest(wanted) if is_digest(wanted) else None, kind)
        return None if _ASIDE in labels(found) else found

    def _delete_by_name(self, repository: str, tags: Sequence[str]) -> tuple[str, ...]:
        """Delete tags where the server can; those that are left, because it cannot."""
        for at, tag in enumerate(tags):
            if not self._names_go:
                return tuple(tags[at:])
            answer = self._client.ask("DELETE", _manifest(repository, tag), _delete(repository))
            if answer.status in {400, 404, 405}:
                self._names_go = answer.status == 404
                return tuple(tags[at:])
            if answer.status not in _DELETED:
                raise refusal(answer, "delete from", f"{self.url} ({repository}:{tag})")
        return ()

    def _delete_by_digest(self, repository: str, tags: Collection[str], going: Collection[str]) -> None:
        named = self._resolve_all(repository, tags)
        images = list(dict.fromkeys(digest for digest in named.values() if digest is not None))
        # A tag without an image is what a deletion leaves that failed half-way.
        aside = [tag for tag in tags if named[tag] is None]
        for batch in (images[at : at + _BATCH] for at in range(0, len(images), _BATCH)):
            others = [tag for tag in self.tags(repository) if tag not in going]
            needed = set(self._resolve_all(repository, others).values())
            aside += [tag for tag in tags if named[tag] in needed and named[tag] in batch]
            for digest in batch:
                if digest not in needed:
                    self._delete_image(repository, digest)
        if aside:
            self._put_aside(repository, {tag: named[tag] or "absent" for tag in aside})

    def _delete_image(self, repository: str, digest: Digest) -> None:
        answer = self._client.ask("DELETE", _manifest(repository, digest), _delete(repository))
        if answer.status not in {*_DELETED, 404}:
            raise refusal(answer, "delete from", f"{self.url} ({repository})")

    def _resolve_all(self, repository: str, tags: Collection[str]) -> dict[str, Digest | None]:
        if not tags:
            return {}
        with ThreadPoolExecutor(_STREAMS, "image-tags") as pool:
            return dict(zip(tags, pool.map(lambda tag: self.resolve(repository, tag), tags), strict=True))

    def _put_aside(self, repository: str, tags: Mapping[str, Expected]) -> None:
        """Move tags from what they name to an index that nobody else names, and delete that.

        Whoever is killed in between leaves tags that no build and no builder takes for an image: it has no platform.
        """
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        empty = manifest_of({**body, "annotations": {_ASIDE: uuid.uuid4().hex}})
        # Nobody has it yet. Where nothing may be deleted this says so, before any tag has lost its image.
        answer = self._client.ask("DELETE", _manifest(repository, empty.digest), _delete(repository))
        if answer.status in {401, 403, 405}:
            raise refusal(answer, "delete from", f"{self.url} ({repository})")
        try:
            for tag, expected in tags.items():
                self.put_manifest(repository, empty, tag, expected=expected)
        finally:
            self._delete_image(repository, empty.digest)

    def _read_from(self, repository: str, digest: Digest, start: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._client.stream(_blob(repository, digest), _pull(repository), headers) as found:
            if isinstance(found, Answer):
                if found.status == 404:
                    raise ImageNotFound(f"There is no blob {digest} in {self.url}", f"{repository} needs it")
                if found.status == 416 and start:
                    return  # all was there when the connection broke
                raise refusal(found, "read", f"{self.url} ({repository})")
            skip = start if found.status == 200 else 0
            while piece := found.read(_PIECE):
                yield piece[skip:]
                skip = max(0, skip - len(piece))
            if found.length:
                raise HTTPException(f"the connection broke with {found.length} bytes to come")

    def _pages(self, target: str, scope: str, key: str) -> Iterator[str]:
        seen: set[str] = set()
        while target:
            if target in seen:
                raise ImageError(f"Cannot understand the {key} that {self.url} lists", f"{target} leads to itself")
            seen.add(target)
            answer = self._client.ask("GET", target, scope)
            if answer.status == 404 and key == "tags":
                return
            self._expect(answer, 200, f"list the {key} of", "")
            try:
                yield from json.loads(answer.body)[key] or ()
            except (ValueError, TypeError, KeyError) as error:
                raise ImageError(f"Cannot understand the {key} that {self.url} lists", repr(error)) from error
            further = re.match(r'<([^>]+)>\s*;\s*rel="?next', answer.headers.get("link", ""))
            target = further[1] if further else ""

    def _expect(self, answer: Answer, status: int, doing: str, name: str) -> None:
        if answer.status != status:
            raise refusal(answer, doing, f"{self.url} ({name})" if name else self.url)


class _Upload:
    """One blob on its way, in chunks; after a broken connection the server is asked how far it got."""

    def __init__(self, client: Client, url: str, repository: str) -> None:
        self._client, self._where, self._scope = client, f"{url} ({repository})", _push(repository)
        answer = client.ask("POST", f"/v2/{repository}/blobs/uploads/", self._scope)
        if answer.status != 202 or "location" not in answer.headers:
            raise refusal(answer, "push to", self._where)
        self._location = answer.headers["location"]
        self._sent = 0
        self.lost: ImageError | None = None
        """Set where the server no longer knew the upload at its end: it may have been finished before."""
        smallest = answer.headers.get("oci-chunk-min-length", "0")
        self.smallest = int(smallest) if smallest.isdecimal() else 0

    def send(self, chunk: bytes) -> None:
        """Send the next bytes."""
        end, failures = self._sent + len(chunk), 0
        while self._sent < end:
            rest = chunk[len(chunk) - (end - self._sent) :]
            extent = {"Content-Range": f"{self._sent}-{end - 1}"}
            before = self._sent
            try:
                answer = self._client.ask("PATCH", self._location, self._scope, _BINARY | extent, rest, attempts=1)
            except RegistryUnavailable as error:
                failure: ImageError = error
            else:
                if answer.status == 202:
                    self._location, self._sent = answer.headers.get("location", self._location), end
                    return
                if answer.status in {404, 500} and any(sign in answer.body for sign in _LOST):
                    self.give_up()
                    raise self._lost(answer)
                failure = refusal(answer, "push to", self._where)
                # A full server may forget the upload, and would then say that of a next try.
                passing = isinstance(failure, RegistryUnavailable) and not isinstance(failure, RegistryFull)
                if answer.status != 416 and not passing:
                    raise failure
            failures += 1
            if failures == ATTEMPTS:
                raise failure
            self._client.sleep(0.25 * 2**failures)
            self._ask_how_far(failure, end)
            failures = failures if self._sent == before else 0

    def finish(self, last: bytes, digest: Digest) -> None:
        """Send the last bytes, and have the whole taken for the blob ``digest``."""
        target = f"{self._location}{'&' if '?' in self._location else '?'}{urlencode({'digest': digest})}"
        headers = dict(_BINARY)
        if self._sent:
            headers["Content-Range"] = f"{self._sent}-{self._sent + len(last) - 1}"
        answer = self._client.ask("PUT", target, self._scope, headers, last)
        if answer.status in {404, 416}:
            # After a broken connection the first try may have arrived whole.
            self.lost = self._lost(answer)
        elif answer.status != 201:
            raise refusal(answer, "push to", self._where)

    def give_up(self) -> None:
        """Have the server forget what has arrived, if it will."""
        with suppress(ImageError):
            self._client.ask("DELETE", self._location, self._scope, attempts=1)

    def _lost(self, answer: Answer) -> RegistryUnavailable:
        why = f"the server has lost the upload (HTTP {answer.status}), as one does whose disk is full"
        todo = "See whether it has space left, and its own log; then try again."
        return RegistryUnavailable(f"Cannot push to {self._where}", why, todo)

    def _ask_how_far(self, failure: ImageError, end: int) -> None:
        answer = self._client.ask("GET", self._location, self._scope)
        if answer.status != 204:
            raise RegistryUnavailable(failure.what, f"{failure.why}; the upload is lost there", failure.todo)
        self._location = answer.headers.get("location", self._location)
        last = answer.headers.get("range", "").rpartition("-")[2]
        # Nothing at all is told as 0-0, like the first byte alone; the chunk's start is never behind us.
        there = int(last) + 1 if last.isdecimal() and int(last) > 0 else 0
        if not self._sent <= there <= end:
            raise RegistryUnavailable(failure.what, f"the server lost what had arrived ({failure.why})", "Try again.")
        self._sent = there


def _chunks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in chunks of ``size``, the last one shorter."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)


def _manifest(repository: str, name: str) -> str:
    return f"/v2/{repository}/manifests/{quote(name, safe=':')}"


def _blob(repository: str, digest: Digest) -> str:
    return f"/v2/{repository}/blobs/{digest}"


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _push(repository: str) -> str:
    return f"repository:{repository}:pull,push"


def _delete(repository: str) -> str:
    return f"repository:{repository}:pull,push,delete"
