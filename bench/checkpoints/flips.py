"""What becomes of a checkpoint in which one bit has been turned over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from checkpoints.measuring import Listing, digest, files, listing
from checkpoints.states import KINDS, Training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoints.contender import Contender


class Flip(msgspec.Struct, frozen=True):
    """How it ended."""

    outcome: str
    """``silent``: wrong values were loaded, and nothing said so; ``refused``; ``former``: the checkpoint before was
    loaded instead; ``unharmed``."""
    said: str = ""


def flip(kind: str, open_: Callable[[Training], Contender], read: Callable[[Training], object]) -> Flip:
    """Save twice, flip a bit in the middle of the largest file of the second checkpoint, restore.

    Args:
        kind: of the state.
        open_: starts the contender.
        read: restores its newest checkpoint.
    """
    training = Training(KINDS[kind])
    chosen = open_(training)
    saved = []
    for _ in range(2):
        training.step()
        chosen.after_step()
        saved.append(digest(training.parts()))
        before = listing(chosen.newest())
        chosen.begin()
        while chosen.finished() is None:
            training.step()
            chosen.after_step()
    turn_over(max(_new(chosen.newest(), before), key=lambda file: file.stat().st_size))
    chosen.close()
    fresh = Training(KINDS[kind], fresh=True)
    try:
        read(fresh)
    except Exception as error:  # noqa: BLE001  whatever it says
        return Flip("refused", f"{type(error).__name__}: {error}"[:200])
    found = digest(fresh.parts())
    return Flip("unharmed" if found == saved[1] else "former" if found == saved[0] else "silent")


def turn_over(file: Path) -> None:
    """Flip the lowest bit of the byte in the middle."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        (byte,) = opened.read(1)
        opened.seek(-1, 1)
        opened.write(bytes([byte ^ 1]))


def _new(folder: Path, before: Listing) -> list[Path]:
    return [file for file in files(folder) if before.get((now := file.stat()).st_ino) != (now.st_size, now.st_mtime_ns)]
