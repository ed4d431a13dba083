"""Images on a host: what is forgotten, and what is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.images.busybox import add_busybox

from spotweld.images.containers.fetching import Fetched, HostImages
from spotweld.images.containers.pinning import Pinned
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.manifests import Manifest, labelled

if TYPE_CHECKING:
    from pathlib import Path


def test_an_image_stays_that_is_used_under_another_digest(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "registry")
    old = add_busybox(layout, "x/box", "old")
    new = labelled(old, {"org.opencontainers.image.revision": "2"})
    layout.put_manifest("x/box", new, "new")

    def fetch(manifest: Manifest) -> tuple[HostImages, Fetched]:
        host = HostImages(tmp_path / "host", "vfs")
        pinned = Pinned("box", layout.url, "x/box", manifest.digest)
        return host, host.fetch(pinned, {}, lambda _: None)[0]

    before, _ = fetch(old)
    os.close(before._lock)  # its machine ends
    os.utime(before._mark(old.digest), (1, 1))
    machine, image = fetch(new)
    root = machine.unpack(image, tmp_path / "disk")
    assert (root / "marker").read_text() == "old"
    assert [mark.stem for mark in before._marks.glob("*.json")] == [new.digest.partition(":")[2]]
    assert image.id in str(list(machine._storage.rglob("*")))
    os.close(machine._lock)
    os.utime(machine._mark(new.digest), (1, 1))
    last, _ = fetch(add_busybox(layout, "x/box", "last"))
    os.close(last._lock)
    assert image.id not in str(list(last._storage.rglob("*")))
