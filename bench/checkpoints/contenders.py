"""Everybody who takes part, by the names that tables give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoints import dcp, orbax, plain
from checkpoints.contender import Contender, Peer, PeerSaves
from checkpoints.ours import Ours
from checkpoints.s3 import BUCKET, uploaded
from checkpoints.states import size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoints.states import Training

OURS = "spotweld"
CHANGED = "spotweld of the changed part"
SMALL = "spotweld compressed"
TIGHT = "spotweld in little memory"
BUDGET = 0.28
"""Of the state: what the last one's copy may use, so that all that a save takes is less than 0.3 of it."""
PEERS: dict[str, Callable[[], Peer]] = {
    "torch.save": plain.torch_save,
    "safetensors": plain.safetensors,
    **dcp.WAYS,
    "Orbax async": orbax.asynchronous,
    "fork and write": plain.fork,
    "ZipNN": plain.zipnn,
    "zstd-3 of the whole": plain.zstd,
}
BEST = ("DCP async cached staging", "DCP async background staging")
"""The peers that are also measured by cadence and over S3."""
TURNS = (OURS, "torch.save", "safetensors", *BEST, "fork and write")
"""Those that the goals compare: they take turns with the first state. Each of the others does all its saves at once."""
SAME = frozenset(dcp.WAYS) - {"DCP save"}
"""Their files are those of ``DCP save``, so they are restored as those are."""
WHOLE = ("torch.save", "DCP save", *BEST, "ZipNN")
"""The peers that are measured with frozen weights: all of them write everything."""


def contender(name: str, training: Training, folder: Path, *, remote: bool = False, keep: int = 1) -> Contender:
    """Start a contender on a training; ours restores what lies there.

    Args:
        name: who.
        training: whose state.
        folder: where files go.
        remote: checkpoints are kept in the S3 server that the environment names.
        keep: how many checkpoints ours keeps.
    """
    if name in {OURS, CHANGED, SMALL, TIGHT}:
        url = f"s3://{BUCKET}/{folder.name}" if remote else ""
        compress = "bytes" if name == SMALL else "auto"
        memory = int(BUDGET * size(training.parts())) if name == TIGHT else None
        return Ours(
            training, folder, url=url, whole=name != CHANGED, keep=keep, compress=compress, staging_memory=memory
        )
    return PeerSaves(peer(name, remote=remote), training, folder)


def restore(name: str, training: Training, folder: Path, *, remote: bool = False) -> Callable[[], None]:
    """Restore a contender's newest checkpoint, as a program that has just started does; gives what ends it all."""
    if name in {OURS, SMALL}:
        return contender(name, training, folder, remote=remote).close
    chosen = peer(name, remote=remote)
    newest = max(folder.glob("save-*"), key=lambda found: int(found.name.rpartition("-")[2]))
    chosen.read(training, newest)
    return chosen.close


def peer(name: str, *, remote: bool = False) -> Peer:
    """A peer; what it writes is uploaded if asked for."""
    return uploaded(PEERS[name]()) if remote else PEERS[name]()
