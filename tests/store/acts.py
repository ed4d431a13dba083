"""One write to a store in a folder, as a process that can be killed in the middle: ``python acts.py ACT FOLDER``."""

import sys
from pathlib import Path

from spotweld.store.blobs import put_blob
from spotweld.store.heads import Kept, take_over
from spotweld.store.local import LocalObjects
from spotweld.values.digests import digest

RUN = "digits"
KEPT = tuple(Kept(step, f"manifests/{step}", digest(b""), 0, 0.0) for step in (2, 1))


def create(objects: LocalObjects) -> None:
    objects.create("deep/folder/key", b"new")


def put(objects: LocalObjects) -> None:
    objects.put("reports/status", b"new")


def replace(objects: LocalObjects) -> None:
    objects.replace("object", b"new", objects.read("object")[1])


def delete(objects: LocalObjects) -> None:
    objects.delete("object")


def take(objects: LocalObjects) -> None:
    take_over(objects, RUN, 7)


def publish(objects: LocalObjects) -> None:
    put_blob(objects, "blobs/x", b"new")
    take_over(objects, RUN, 7).publish(KEPT)


ACTS = {act.__name__: act for act in (create, put, replace, delete, take, publish)}

if __name__ == "__main__":
    ACTS[sys.argv[1]](LocalObjects(Path(sys.argv[2])))
