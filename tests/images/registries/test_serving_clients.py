"""A served layout and real clients: our own from several processes at once, a killed server, skopeo."""

from __future__ import annotations

import subprocess
import threading
from typing import TYPE_CHECKING

from tests.images.registries.asking import Asking, asking, elsewhere, leftovers, patient
from tests.images.samples import add_image, at, noise

from spotweld.images.registries.copying import verify
from spotweld.images.registries.layouts import Layout
from spotweld.images.registries.serving import reachable

if TYPE_CHECKING:
    from pathlib import Path


def test_two_that_serve_one_layout_lose_no_tag(layout: Layout) -> None:
    def push(host: str, name: str) -> None:
        registry = patient(host, [])
        for number in range(8):
            add_image(registry, "a", f"{name}-{number}", [b"shared", f"{name}{number}".encode()])

    with reachable(layout) as one, reachable(Layout(layout.folder)) as two:
        threads = [threading.Thread(target=push, args=pair) for pair in ((one, "a"), (two, "b"), (one, "c"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(layout.tags("a")) == {f"{name}-{number}" for name in "abc" for number in range(8)}
    assert all(verify(at(layout, "a", tag)) == () for tag in layout.tags("a"))


def test_a_killed_server_leaves_what_had_arrived_whole(layout: Layout) -> None:
    with elsewhere(layout) as (ask, served):
        image = add_image(patient(ask.host, []), "a", "v1", [b"layer"])
        where = ask.begin()
        assert ask("PATCH", where, noise(1, 50_000)).status == 202
        served.kill()
    assert leftovers(layout)
    again = Layout(layout.folder)
    assert verify(at(again, "a", "v1")) == ()
    assert again.resolve("a", "v1") == image.digest
    with asking(again) as ask:
        assert ask("GET", where).code == "BLOB_UPLOAD_UNKNOWN"
        add_image(patient(ask.host, []), "a", "v2", [b"other"])
        assert not leftovers(layout)


def skopeo(*words: str) -> None:
    subprocess.run(["skopeo", "--insecure-policy", *words], check=True, timeout=60, capture_output=True)


def test_skopeo_copies_to_it_and_from_it(ask: Asking, tmp_path: Path) -> None:
    source = Layout(tmp_path / "source")
    image = add_image(source, "a", "v1", [noise(1, 100_000), b"small"])
    there = f"docker://{ask.host}/team/project/image:v1"
    skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", f"{source.url}:a:v1", there)
    assert ask.layout.resolve("team/project/image", "v1") == image.digest
    assert verify(at(ask.layout, "team/project/image", "v1")) == ()
    skopeo("copy", "--preserve-digests", "--src-tls-verify=false", there, f"oci:{tmp_path}/back:x")
    assert Layout(tmp_path / "back").resolve("", "x") == image.digest
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", there, f"docker://{ask.host}/team/other:v2")
    skopeo("delete", "--tls-verify=false", there)
    assert ask.layout.tags("team/project/image") == ()
    assert ask.layout.resolve("team/other", "v2") == image.digest
