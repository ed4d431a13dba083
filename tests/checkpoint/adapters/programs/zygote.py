"""Imports a framework, which takes seconds, and forks a process for every run: ``zygote.py MODULE...``.

Reads one JSON object a line: ``{"argv": [...], "environ": {...}, "folder": "..."}``, where ``argv[0]`` is a program in
this folder, or the text of one. Answers with the process's number, then with its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def run(argv: list[str], environ: dict[str, str], folder: str) -> None:
    os.chdir(folder)
    os.environ.update(environ)
    for number, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = argv
    if argv[0].isidentifier():
        importlib.import_module(argv[0]).main()
    else:
        exec(compile(argv[0], "example", "exec"), {"__name__": "__main__"})


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin.buffer:
        pid = os.fork()
        if not pid:
            run(**json.loads(line))
            return
        print(pid, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
