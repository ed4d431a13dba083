"""What a process asked of the file system, and whether a power cut at its end could have undone it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec

NAMES = ("write", "fsync", "link", "rename", "mkdir", "unlink", "rmdir", "unlinkat")
_LINE = re.compile(r"\d+\s+(?P<name>\w+)\((?P<args>.*)\)\s+= \d+")
_QUOTED = re.compile(r'"([^"]*)"')
_HANDLE = re.compile(r"\d+<([^>]*)>")


class Step(msgspec.Struct, frozen=True):
    name: str
    paths: tuple[str, ...]


def run(act: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one of `acts` under strace."""
    script = Path(__file__).with_name("acts.py")
    command = ["strace", "-f", "-qq", *options, sys.executable, "-B", str(script), act, str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=dict(os.environ))


def record(act: str, folder: Path, log: Path) -> list[Step]:
    """The steps of an act that ends well, in order."""
    done = run(act, folder, "-y", "-s", "0", "-o", str(log), "-e", f"trace={','.join(NAMES)}")
    assert done.returncode == 0, done.stderr
    steps = []
    for line in log.read_text().splitlines():
        found = _LINE.fullmatch(line)
        if found:
            paths = _HANDLE.match(found["args"])
            steps.append(Step(found["name"], (paths[1],) if paths else tuple(_QUOTED.findall(found["args"]))))
    return steps


def undone_by_a_power_cut(steps: list[Step]) -> list[str]:
    """What was visible at some time without being durable: empty if all is well.

    Bytes are durable after an fsync of their file, and must be so before the file gets its lasting name or a pointer
    names it. A name is durable after an fsync of its folder, and must be so before anything is named below it, before
    its folder moves, before a predecessor is removed, and at the end.
    """
    wrong = []
    dirty: set[str] = set()
    known: set[str] = set()
    unsafe: dict[str, str] = {}
    for step in steps:
        path = step.paths[0]
        match step.name:
            case "write":
                dirty.add(path)
                if path not in known:
                    unsafe[path] = str(Path(path).parent)
                known.add(path)
            case "fsync":
                dirty.discard(path)
                unsafe = {name: folder for name, folder in unsafe.items() if folder != path}
            case "link" | "rename":
                target = step.paths[1]
                named = {path, target.replace("/@", "/")}
                early = {one for one in dirty if one in named or one.startswith(f"{path}/")}
                wrong += [f"{one} got a name before its bytes were durable" for one in early]
                wrong += [f"{one} moved before it was durable" for one, folder in unsafe.items() if folder == path]
                wrong += [
                    f"{target} stands in {one}, which is not durable" for one in unsafe if target.startswith(f"{one}/")
                ]
                if step.name == "rename":
                    unsafe.pop(path, None)
                unsafe[target] = str(Path(target).parent)
                known.add(target)
            case "mkdir":
                unsafe[path] = str(Path(path).parent)
            case "unlink":
                unsafe.pop(path, None)
                wrong += [f"{path} removed while {one} was not durable" for one in unsafe]
    return wrong + [f"the name {one} is not durable" for one in unsafe]
