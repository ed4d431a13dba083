"""Imports a framework, which takes seconds, and forks the processes of every run: ``zygote.py MODULE...``.

Reads one JSON object a line: ``{"argv": [...], "environ": {...}, "folder": "...", "ranks": n}``, where ``argv[0]`` is a
program in this folder, or the text of one. Answers with the last process's number, then with the exit status: of the
first process that failed, or 0.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import time

_PATIENCE = 30.0


def run(argv: list[str], environ: dict[str, str], folder: str, rank: int) -> None:
    os.chdir(folder)
    os.environ.update(environ)
    more = f".{rank}" if rank else ""
    for number, name in ((1, f"stdout{more}.txt"), (2, f"stderr{more}.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = argv
    if argv[0].isidentifier():
        importlib.import_module(argv[0]).main()
    else:
        exec(compile(argv[0], "example", "exec"), {"__name__": "__main__"})


def together(ranks: int, rank: int, port: int) -> dict[str, str]:
    """What whoever starts several processes tells each of them."""
    if ranks == 1:
        return {}
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in told.items()}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait(pids: list[int]) -> int:
    """Until all have ended; those that outlive another's failure are killed after a while."""
    left, failed, give_up = set(pids), 0, float("inf")
    while left:
        for pid in list(left):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                left.remove(pid)
                failed = failed or os.waitstatus_to_exitcode(status)
        if failed and give_up == float("inf"):
            give_up = time.monotonic() + _PATIENCE
        if time.monotonic() > give_up:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    return failed


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        ranks, port, pids = asked.pop("ranks"), free_port(), []
        for rank in range(ranks):
            pids.append(os.fork())
            if not pids[-1]:
                asked["environ"] |= together(ranks, rank, port)
                run(**asked, rank=rank)
                return
        print(pids[-1], file=answers, flush=True)
        print(wait(pids), file=answers, flush=True)


if __name__ == "__main__":
    main()
