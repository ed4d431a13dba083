"""The seam to whatever keeps images: blobs by digest, manifests by digest, and tags that move.

The order is the same everywhere: what a manifest names is there before the manifest, and a tag moves last, in one
step. So whoever is killed leaves the old image under the tag, and every blob that had arrived.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, TypeAlias

from spotweld.errors import TagMoved
from spotweld.images.registries.manifests import Manifest, checked, labelled, labels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from spotweld.values.digests import Digest

Expected: TypeAlias = "Digest | Literal['absent'] | None"
"""What a tag must name for it to be moved: a digest, nothing at all, or (None) whatever it does."""


UNTOUCHED = 86_400.0
"""Seconds for which blobs stay that nobody names: a build in progress has them, or will look for them."""


class Registry(ABC):
    """Repositories of images.

    Every method may raise ``RegistryUnavailable`` (worth a retry) and ``RegistryRefused`` (it is not), and may be
    called from any thread.
    """

    url: str

    @abstractmethod
    def prepare(self, repositories: Collection[str]) -> bool:
        """Make it ready to be written to, and see that it is; whether something had to be made.

        Any number of processes may do so at once, and each may be killed.

        Args:
            repositories: where images will be written.

        Raises:
            ImageDamaged: it is there, and cannot be read.
        """

    @abstractmethod
    def resolve(self, repository: str, name: str) -> Digest | None:
        """The digest of the manifest under a tag or a digest; None: there is none."""

    @abstractmethod
    def manifest(self, repository: str, name: str) -> Manifest:
        """The manifest under a tag or a digest.

        Raises:
            ImageNotFound: there is none.
            ImageDamaged: its bytes are not those of its digest.
        """

    @abstractmethod
    def put_manifest(
        self, repository: str, manifest: Manifest, tag: str | None = None, *, expected: Expected = None
    ) -> None:
        """Keep a manifest under its digest and, in one step, move ``tag`` to it. Durable when it returns.

        A layout compares with ``expected`` and moves in that one step. The distribution API knows no condition, so
        there it is compared just before.

        Raises:
            ImageDamaged: something that it names is not there.
            TagMoved: the tag does not name ``expected``.
        """

    @abstractmethod
    def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Its bytes (-1: it is there, and the server does not say); None: the repository has no such blob."""

    @abstractmethod
    def read_blob(self, repository: str, digest: Digest) -> Iterator[bytes]:
        """The bytes as they lie there; `blob` also checks them.

        Raises:
            ImageNotFound: there is none.
        """

    @abstractmethod
    def write_blob(self, repository: str, digest: Digest, size: int, pieces: Iterable[bytes]) -> None:
        """Keep a blob; it is there whole or not at all. Durable when it returns.

        Raises:
            ImageDamaged: the pieces are not the blob.
        """

    @abstractmethod
    def mount(self, repository: str, digest: Digest, source: str) -> bool:
        """Have a blob of the repository ``source`` in this one too, without moving it; False: move it."""

    @abstractmethod
    def tags(self, repository: str) -> tuple[str, ...]:
        """All tags, sorted; none where there is no such repository."""

    @abstractmethod
    def repositories(self) -> tuple[str, ...]:
        """All repositories, sorted. A server may also name those that hold no tag any more."""

    @abstractmethod
    def delete(self, repository: str, *tags: str) -> None:
        """Remove tags, and no other ones; nothing happens to those that are not there. Many at once cost least."""

    @abstractmethod
    def collect(self, older: float) -> int:
        """Give back the space of blobs that no image needs; the bytes. Servers do that by themselves: 0.

        Args:
            older: seconds for which nobody has touched the blobs, so that no copy in progress loses any.
        """

    def used(self, repository: str, digest: Digest) -> float | None:  # noqa: ARG002  for those that know
        """When a blob or manifest was last written or asked for, seconds since 1970; None: nobody knows."""
        return None

    def blob(self, repository: str, digest: Digest, size: int | None = None) -> Iterator[bytes]:
        """A blob's bytes. Use nothing of them before the last has come without an error.

        Raises:
            ImageNotFound: there is none.
            ImageDamaged: they are not those of its digest.
        """
        return checked(self.read_blob(repository, digest), digest, f"{self.url} ({repository})", size)

    def tag(self, repository: str, name: str, tag: str, *, expected: Expected = None) -> None:
        """Give the image ``name`` (a tag or a digest) the tag ``tag`` too.

        Raises:
            ImageNotFound: there is no such image.
            TagMoved: the tag does not name ``expected``.
        """
        self.put_manifest(repository, self.manifest(repository, name), tag, expected=expected)

    def labels(self, repository: str, name: str) -> dict[str, str]:
        """The image's annotations.

        Raises:
            ImageNotFound: there is no such image.
        """
        return labels(self.manifest(repository, name))

    def label(self, repository: str, tag: str, added: Mapping[str, str]) -> Digest:
        """Add annotations to the image under ``tag``, and move the tag to what comes out.

        Its blobs stay the same, its digest does not; other tags go on naming the image without them.

        Returns:
            The new digest, or the old one where all of ``added`` was there.

        Raises:
            ImageNotFound: there is no such image.
            TagMoved: somebody else moved the tag meanwhile.
        """
        old = self.manifest(repository, tag)
        if labels(old).items() >= added.items():
            return old.digest
        new = labelled(old, added)
        self.put_manifest(repository, new, tag, expected=old.digest)
        return new.digest


def check_expected(url: str, repository: str, tag: str, expected: Expected, found: Digest | None) -> None:
    """Refuse to move a tag that names something else than was expected.

    Raises:
        TagMoved: it does.
    """
    if expected is None or found == (None if expected == "absent" else expected):
        return
    why = f"it names {found or 'nothing'} instead of {'nothing' if expected == 'absent' else expected}"
    todo = "See who else builds this image. To take the tag over, tag the new image by its digest."
    raise TagMoved(f"The tag {repository}:{tag} in {url} was moved by somebody else", why, todo)
