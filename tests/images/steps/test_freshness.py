"""What has to be made again after a change, and what a key from git says of it.

The matrix is the specification of the keys. Each row names a change to one example project and exactly the steps whose
keys must differ after it: ``stage:3-`` is step 3 of that stage and all after it. The last column says whether a key of
``git log -1 --format=%H -- Dockerfile`` would rebuild, once the change is committed; a test with a real git proves it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from spotweld.images.dockerfiles.dockerfile import parse
from spotweld.images.dockerfiles.ignore import read
from spotweld.images.steps.context import Context
from spotweld.images.steps.keys import Step, image_key, step_keys
from spotweld.values.digests import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOCKERFILE = r"""# syntax=docker/dockerfile:1
ARG DEBIAN=bookworm
ARG IDLE=1
FROM debian:${DEBIAN} AS base
ENV PATH=/opt/bin:$PATH
RUN apt-get update && \
    apt-get install -y python3
FROM base AS wheels
WORKDIR /src
COPY requirements.txt setup.* ./
ARG CUDA=12.1
ARG API_TOKEN
COPY LICENSE ./
RUN --mount=type=cache,target=/var/cache pip wheel -r requirements.txt
FROM debian:bookworm AS docs
COPY docs /docs
RUN make -C /docs
FROM base AS trainer
COPY --from=wheels /src/dist /dist
COPY --chown=1000 src /app/src
COPY --from=tools:1 /bin/tool /bin/
ADD https://example.org/data.tar /data/
RUN <<EOF
pip install /dist/*.whl
EOF
COPY <<-'CONFIG' /etc/config
	level=$LEVEL
CONFIG
RUN --mount=type=secret,id=token --mount=type=bind,source=scripts,target=/s /s/finish
ARG LATE=a
LABEL late=$LATE
USER app
CMD ["python", "-m", "app"]
"""
IGNORE = ".dockerignore"
STALE, NEEDLESS = 29, 14
"""How often a key from git keeps an image that is out of date, and how often it rebuilds one that is not."""
ALL = "base:0- wheels:0- trainer:0-"
BASES = {
    "debian:bookworm": Digest("sha256:" + "d" * 64),
    "debian:trixie": Digest("sha256:" + "e" * 64),
    "tools:1": Digest("sha256:" + "7" * 64),
}


class Project:
    """An example project in a folder, and what its build is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.args: dict[str, str] = {}
        self.bases = dict(BASES)
        self.platform = "linux/amd64"
        self.write("Dockerfile", DOCKERFILE)
        self.write(".dockerignore", "# not for images\n*.log\n**/*.tmp\nsrc/data\n!src/data/keep.txt\n**/__pycache__\n")
        for name in (
            "requirements.txt",
            "setup.py",
            "setup.cfg",
            "LICENSE",
            "src/train.py",
            "src/model/net.py",
            "docs/a.md",
        ):
            self.write(name, f"this is {name}\n")
        for name in (
            "src/data/big.bin",
            "src/data/keep.txt",
            "src/noise.log",
            "src/a.tmp",
            "src/__pycache__/x.pyc",
            "README.md",
        ):
            self.write(name, f"this is {name}\n")
        self.write("scripts/finish", "#!/bin/sh\n")
        (folder / "src/latest").symlink_to("train.py")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def edit(self, old: str, new: str, name: str = "Dockerfile") -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def move(self, old: str, new: str) -> None:
        (self.folder / old).rename(self.folder / new)

    def link(self, name: str, target: str) -> None:
        (self.folder / name).unlink()
        (self.folder / name).symlink_to(target)

    def steps(self) -> tuple[Step, ...]:
        file = self.folder / "Dockerfile"
        context = Context(self.folder, read(self.folder, file))
        return step_keys(parse(file.read_text()), context, self.args, self.bases, self.platform)

    def keys(self) -> dict[str, str]:
        return {f"{step.preimage.stage}:{step.number}": step.key for step in self.steps()}


class Row(NamedTuple):
    change: str
    make: Callable[[Project], object]
    again: str
    git_rebuilds: bool


def old(project: Project) -> None:
    for path in sorted(project.folder.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)


def elsewhere(project: Project) -> None:
    shutil.copytree(project.folder, project.folder.with_name("other place"), symlinks=True)
    project.folder = project.folder.with_name("other place")


def reverted(project: Project) -> None:
    project.edit("python3", "python3.12")
    project.edit("python3.12", "python3")


def argument(name: str, value: str) -> Callable[[Project], object]:
    return lambda project: project.args.update({name: value})


def carriage_returns(project: Project) -> None:
    # Those in the text of a here-document would be part of it.
    head, mark, tail = DOCKERFILE.partition("RUN <<EOF")
    project.write("Dockerfile", head.replace("\n", "\r\n") + mark + tail)


def escape_moved(project: Project) -> None:
    project.write("Dockerfile", "# escape=`\n" + DOCKERFILE.replace("&& \\\n", "&& `\n"))


def stage_renamed(project: Project) -> None:
    project.edit("AS wheels", "AS builder")
    project.edit("from=wheels", "from=builder")


def other_name(project: Project) -> None:
    project.bases["mirror/debian:12"] = BASES["debian:bookworm"]
    project.edit("FROM debian:${DEBIAN}", "FROM mirror/debian:12")


def base(name: str) -> Callable[[Project], object]:
    return lambda project: project.bases.update({name: Digest("sha256:" + "9" * 64)})


def edit(before: str, after: str, name: str = "Dockerfile") -> Callable[[Project], object]:
    return lambda project: project.edit(before, after, name)


def write(name: str, text: str = "something else\n") -> Callable[[Project], object]:
    return lambda project: project.write(name, text)


# fmt: off
MATRIX = [
    # What cannot change the result. A key from git rebuilds for most of what touches the Dockerfile.
    Row("comment added", edit("FROM base AS wheels", "# the wheels\nFROM base AS wheels"), "", True),
    Row("comment inside a continuation", edit("update && \\\n", "update && \\\n  # then\n"), "", True),
    Row("blank lines", edit("WORKDIR", "\n\nWORKDIR"), "", True),
    Row("command wrapped elsewhere", edit("&& \\\n    apt-get", "\\\n && \\\n apt-get"), "", True),
    Row("instruction in small letters", edit("WORKDIR", "workdir"), "", True),
    Row("AS in small letters", edit("FROM base AS wheels", "FROM base as wheels"), "", True),
    Row("carriage returns", carriage_returns, "", True),
    Row("escape directive, nothing escaped otherwise", escape_moved, "", True),
    Row("stage renamed everywhere", stage_renamed, "renamed", True),
    Row("COPY as a JSON list", edit("COPY LICENSE ./", 'COPY ["LICENSE", "./"]'), "", True),
    Row("mount's fields swapped", edit("type=cache,target=/var/cache", "target=/var/cache,type=cache"), "", True),
    Row("files' times", old, "", False),
    Row("checkout elsewhere", elsewhere, "", False),
    Row("file that nothing copies", write("README.md"), "", False),
    Row("new file that nothing copies", write("NEWS.md"), "", False),
    Row("ignored file", write("src/a.tmp"), "", False),
    Row("ignored file, new", write("src/model/b.tmp"), "", False),
    Row("file in an ignored folder", write("src/data/big.bin"), "", False),
    Row("folder ignored at any depth", write("src/model/__pycache__/y.pyc"), "", False),
    Row("comment in the ignore file", edit("# not for", "# never for", ".dockerignore"), "", False),
    Row("change and its revert", reverted, "", False),
    Row("unused stage's instruction", edit("make -C /docs", "make -C /docs all"), "", True),
    Row("unused stage's file", write("docs/a.md"), "", False),
    Row("unused stage's file gone", lambda p: (p.folder / "docs/a.md").unlink(), "", False),
    Row("undeclared argument given", argument("NOBODY", "1"), "", False),
    Row("argument above FROM that nothing uses", argument("IDLE", "2"), "", False),
    Row("argument given with its default", argument("CUDA", "12.1"), "", False),
    Row("unused declaration added", edit("USER app", "ARG MORE=1\nUSER app"), "", True),
    Row("proxy given, not declared", argument("HTTP_PROXY", "http://p:1"), "", False),
    Row("base that nothing uses moved", base("debian:trixie"), "", False),
    Row("base by another name, same digest", other_name, "", True),
    Row("file that the group may write", lambda p: (p.folder / "src/train.py").chmod(0o664), "", False),
    Row("folder that the group may write", lambda p: (p.folder / "src/model").chmod(0o2775), "", False),
    # What can change it. A key from git does not see what is outside the Dockerfile.
    Row("instruction changed", edit("python3", "python3.12"), "base:2- wheels:0- trainer:0-", True),
    Row("space inside quotes", edit("apt-get update", "echo 'a  b'"), "base:2- wheels:0- trainer:0-", True),
    Row("instruction added", edit("WORKDIR /src", "WORKDIR /src\nRUN true"), "wheels:2- trainer:1-", True),
    Row("instruction removed", edit("COPY LICENSE ./\n", ""), "wheels:5- trainer:1-", True),
    Row("copied file", write("src/train.py"), "trainer:2-", False),
    Row("copied file, deep", write("src/model/net.py"), "trainer:2-", False),
    Row("new file in a copied folder", write("src/new.py"), "trainer:2-", False),
    Row("copied file gone", lambda p: (p.folder / "src/model/net.py").unlink(), "trainer:2-", False),
    Row("empty folder in a copied folder", lambda p: (p.folder / "src/empty").mkdir(), "trainer:2-", False),
    Row("copied file renamed", lambda p: p.move("src/train.py", "src/main.py"), "trainer:2-", False),
    Row("copied by pattern", write("setup.cfg"), "wheels:2- trainer:1-", False),
    Row("new file for a pattern", write("setup.toml"), "wheels:2- trainer:1-", False),
    Row("file made executable", lambda p: (p.folder / "src/train.py").chmod(0o755), "trainer:2-", False),
    Row("file closed to others", lambda p: (p.folder / "src/train.py").chmod(0o600), "trainer:2-", False),
    Row("folder closed to others", lambda p: (p.folder / "src/model").chmod(0o700), "trainer:2-", False),
    Row("bind mount's file opened", lambda p: (p.folder / "scripts/finish").chmod(0o646), "trainer:7-", False),
    Row("link's target", lambda p: p.link("src/latest", "model/net.py"), "trainer:2-", False),
    Row("file kept by a negation", write("src/data/keep.txt"), "trainer:2-", False),
    Row("rule without ** does not reach into folders", write("src/noise.log"), "trainer:2-", False),
    Row("rule removed that hid nothing", edit("*.log\n", "", ".dockerignore"), "", False),
    Row("rule removed that hid files", edit("src/data\n", "", ".dockerignore"), "trainer:2-", False),
    Row("negation added", edit("**/__pycache__", "!src/data/big.bin\n**/__pycache__", IGNORE), "trainer:2-", False),
    Row("the Dockerfile's own ignore file", write("Dockerfile.dockerignore", "*.log\n"), "trainer:2-", False),
    Row("argument that RUN sees", argument("CUDA", "12.4"), "wheels:6- trainer:1-", False),
    Row("its default", edit("CUDA=12.1", "CUDA=12.4"), "wheels:6- trainer:1-", True),
    Row("private argument", argument("API_TOKEN", "hunter2"), "wheels:6- trainer:1-", False),
    Row("argument that a label replaces", argument("LATE", "b"), "trainer:9-", False),
    Row("argument above FROM", argument("DEBIAN", "trixie"), ALL, False),
    Row("ENV", edit("/opt/bin", "/opt/sbin"), "base:1- wheels:0- trainer:0-", True),
    Row("quoted reference", edit("PATH=/opt/bin:$PATH", "PATH='/opt/bin:$PATH'"), "base:1- wheels:0- trainer:0-", True),
    Row("base moved", base("debian:bookworm"), ALL, False),
    Row("platform", lambda p: setattr(p, "platform", "linux/arm64"), ALL, False),
    Row("image that is copied from moved", base("tools:1"), "trainer:3-", False),
    Row("other stage to copy from", edit("--from=wheels", "--from=base"), "trainer:1-", True),
    Row("file of a stage that is copied from", write("requirements.txt"), "wheels:2- trainer:1-", False),
    Row("owner", edit("--chown=1000", "--chown=1001"), "trainer:2-", True),
    Row("mode flag", edit("--chown=1000", "--chown=1000 --chmod=755"), "trainer:2-", True),
    Row("URL", edit("data.tar", "data2.tar"), "trainer:4-", True),
    Row("what is behind the URL, resolved", base("https://example.org/data.tar"), "trainer:4-", False),
    Row("here-document", edit("/dist/*.whl", "/dist/a.whl"), "trainer:5-", True),
    Row("here-document of COPY", edit("level=", "LEVEL="), "trainer:6-", True),
    Row("here-document's quotes", edit("<<-'CONFIG'", "<<-CONFIG"), "trainer:6-", True),
    Row("bind mount's file", write("scripts/finish", "#!/bin/bash\n"), "trainer:7-", False),
    Row("bind mount's new file", write("scripts/more", "x"), "trainer:7-", False),
    Row("cache mount's target", edit("/var/cache", "/cache"), "wheels:6- trainer:1-", True),
    Row("secret's name", edit("id=token", "id=other"), "trainer:7-", True),
    Row("USER", edit("USER app", "USER root"), "trainer:10-", True),
    Row("WORKDIR", edit("WORKDIR /src", "WORKDIR /source"), "wheels:1- trainer:1-", True),
    Row("SHELL added", edit("WORKDIR /src", 'SHELL ["/bin/bash", "-c"]\nWORKDIR /src'), "wheels:1- trainer:1-", True),
    Row("CMD", edit('"-m", ', ""), "trainer:11-", True),
    Row("syntax directive", edit("dockerfile:1", "dockerfile:1.4"), ALL, True),
]
# fmt: on


def expected(text: str, after: dict[str, str]) -> set[str]:
    marks = dict(mark.split(":") for mark in text.split())
    return {
        name
        for name in after
        if (stage := name.split(":")[0]) in marks and int(name.split(":")[1]) >= int(marks[stage].rstrip("-"))
    }


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row.change)
def test_exactly_the_needed_steps_change(row: Row, tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    before = project.keys()
    row.make(project)
    after = project.keys()
    if row.again == "renamed":
        assert list(before.values()) == list(after.values())
        return
    known = set(before.values())
    assert {name for name, key in after.items() if key not in known} == expected(row.again, after)
    moved = image_key(project.steps(), project.platform) != image_key(Project(tmp_path / "new").steps(), "linux/amd64")
    assert moved is bool(row.again)


@pytest.mark.slow
def test_a_key_from_git_is_wrong_for_half_of_them(tmp_path: Path) -> None:
    """It answers what the table says, which is why it is not the key."""

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return subprocess.check_output(["git", *who, *words], cwd=project.folder, text=True)

    stale = needless = 0
    for number, row in enumerate(MATRIX):
        project = Project(tmp_path / f"project{number}")
        git("init", "-q")
        git("add", "-A")
        git("commit", "-q", "-m", "before")
        before = git("log", "-1", "--format=%H", "--", "Dockerfile")
        row.make(project)
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", "after")
        rebuilds = git("log", "-1", "--format=%H", "--", "Dockerfile") != before
        assert rebuilds is row.git_rebuilds, row.change
        needed = row.again not in {"", "renamed"}
        stale += needed and not rebuilds
        needless += rebuilds and not needed
    assert (stale, needless) == (STALE, NEEDLESS)


def test_a_comment_counts_where_the_dockerfile_itself_is_copied(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.edit("COPY docs /docs\nRUN make -C /docs", "COPY . /all")
    project.edit("--from=wheels /src/dist", "--from=docs /all")
    before = project.keys()
    project.edit("USER app", "# who\nUSER app")
    after = project.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"docs:1"} | {name for name in after if name.startswith("trainer:") and name != "trainer:0"}
