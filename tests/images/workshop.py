"""A builder that runs nothing, and a project to build with it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from spotweld.errors import BuildFailed
from spotweld.images.builders.builder import Builder, Outcome, Solve, Solved, Step, ignore, sure_of_it
from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.registries.manifests import OCI_CONFIG, OCI_MANIFEST, digest_of, manifest_of
from spotweld.images.registries.opening import open_registry
from spotweld.project.reading import load_project
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from spotweld.images.builders.builder import Hear, Sure, Tell
    from spotweld.project.nouns import Project
    from spotweld.store.objects import Objects
    from spotweld.values.digests import Digest

CHAIN = """\
name: NAME
store: file:store
images:
  base: {context: base, lifetime: persistent}
  stack: {context: stack, bases: {base: base}}
  trainer: {context: trainer, bases: {stack: stack}, args: {MODE: fast}}
  tool: {context: tool}
jobs: {train: {command: "true"}}
"""
FILES = {
    "base/Dockerfile": "FROM scratch\nCOPY tree /\nRUN make base\n",
    "base/tree": "bytes\n",
    "stack/Dockerfile": "FROM base\nRUN install numpy\nENV A=1\nRUN install torch\n",
    "trainer/Dockerfile": "FROM stack\nARG MODE\nRUN prepare\nCOPY train.py /\nRUN check\nCMD train\n",
    "trainer/train.py": "print(1)\nprint(2)\nprint(3)\n",
    "tool/Dockerfile": "FROM scratch\nCOPY tool /\nRUN one\n",
    "tool/tool": "tool\n",
}


class Double(Builder):
    """Pretends to run instructions: an instruction's result is the text of all before it, and lies in the cache.

    Attributes:
        ran: the instructions that were run, in order.
        solves: what was asked for.
        hook: is called before each instruction, when it ran, when its result was sent, and before and after the push;
            it may raise.
    """

    name = "double"

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.solves: list[Solve] = []
        self.seconds: dict[str, float] = {}
        self.hook: Callable[[str], None] = lambda _: None

    def version(self) -> str:
        return "1"

    def solve(self, solve: Solve, tell: Tell = ignore, hear: Hear = ignore, sure: Sure = sure_of_it) -> Solved:
        self.solves.append(solve)
        document = parse(solve.dockerfile.read_text(), str(solve.dockerfile))
        steps: list[Step] = []
        host, _, repository = solve.cache.partition("/")
        cache = open_registry(host)
        digests = {name: pinned.partition("@")[2] for name, pinned in solve.bases.items()}
        so_far = ""
        for number, stage in enumerate(document.stages):
            so_far = json.dumps([digests.get(stage.base, stage.base), solve.args])
            hit = True
            for place, one in enumerate(stage.instructions):
                if place == 0:
                    continue
                so_far += one.text
                if one.word == "COPY" and not one.flag("from"):
                    so_far += "".join((solve.context / source).read_text() for source in one.arguments[:-1])
                self.hook(one.text)
                tag = digest_of(so_far.encode()).partition(":")[2][:40]
                hit = hit and cache.resolve(repository, tag) is not None
                if not hit:
                    self.ran.append(one.text)
                    self.hook(f"ran {one.text}")
                hear(f"doing {one.text}")
                if "fail" in one.text:
                    tell(Step(number, place, one.text, Outcome.FAILED, 1.0))
                    raise BuildFailed(f"{one.text}: failed", "exit status 7", "the build's last lines:\nno")
                if not hit:
                    push(f"{solve.cache}:{tag}", so_far)
                    self.hook(f"sent {one.text}")
                took = 0.5 if hit else self.seconds.get(one.text, 3.0)
                steps.append(Step(number, place, one.text, Outcome.HIT if hit else Outcome.RAN, took, tag=tag))
                tell(steps[-1])
        sure()
        self.hook("push")
        digest = push(solve.image, so_far)
        self.hook("pushed")
        return Solved(tuple(steps), 1.0, digest)


def push(image: str, content: str) -> Digest:
    """Send an image that consists of ``content``; gives its manifest's digest."""
    host, _, rest = image.partition("/")
    repository, _, tag = rest.rpartition(":")
    registry = open_registry(host)
    parts = []
    for kind, data in (
        (OCI_CONFIG, json.dumps({"config": content})),
        ("application/vnd.oci.image.layer.v1.tar", content),
    ):
        digest = digest_of(data.encode())
        registry.write_blob(repository, digest, len(data.encode()), [data.encode()])
        parts.append({"mediaType": kind, "digest": digest, "size": len(data.encode())})
    manifest = manifest_of({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1:]})
    registry.put_manifest(repository, manifest, tag)
    return manifest.digest


class Shop:
    """A project in a folder, a store and a builder."""

    def __init__(self, folder: Path, registry: str = "") -> None:
        self.folder = folder
        self.builder = Double()
        self.objects: Objects = open_store(f"file:{folder}/store")
        for name, text in FILES.items():
            self.write(name, text)
        lines = f"registries: {{persistent: '{registry}', ephemeral: '{registry}'}}\n" if registry else ""
        self.write("spotweld.yaml", CHAIN.replace("NAME", f"demo-{uuid.uuid4().hex[:8]}") + lines)

    @property
    def project(self) -> Project:
        return load_project(self.folder / "spotweld.yaml")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))
