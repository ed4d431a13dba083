"""Raise a counter by compare-and-swap: ``python counting.py FOLDER TIMES``; prints the values that it wrote."""

import sys
from pathlib import Path

from spotweld.errors import Conflict
from spotweld.store.local import LocalObjects


def count(objects: LocalObjects, times: int) -> list[int]:
    wrote: list[int] = []
    while len(wrote) < times:
        data, version = objects.read("counter")
        try:
            objects.replace("counter", str(int(data) + 1).encode(), version)
        except Conflict:
            continue
        wrote.append(int(data) + 1)
    return wrote


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, count(LocalObjects(Path(sys.argv[1])), int(sys.argv[2])))))
