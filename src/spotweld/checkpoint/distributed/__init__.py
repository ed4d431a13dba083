"""Checkpoints of a process group: every rank stores its own part, one rank publishes the whole.

::

    from spotweld.checkpoint.distributed import DistributedCheckpointer, SpotweldReader, SpotweldWriter, load
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spotweld.checkpoint.distributed.checkpointer import DistributedCheckpointer
    from spotweld.checkpoint.distributed.reading import SpotweldReader, load
    from spotweld.checkpoint.distributed.writing import SpotweldWriter

__all__ = ["DistributedCheckpointer", "SpotweldReader", "SpotweldWriter", "load"]

_WHERE = {
    "DistributedCheckpointer": "checkpointer",
    "SpotweldReader": "reading",
    "SpotweldWriter": "writing",
    "load": "reading",
}


def __getattr__(name: str) -> object:
    """Import what is asked for, so that the engine does not import ``torch.distributed`` for nothing."""
    if name in _WHERE:
        import importlib  # noqa: PLC0415

        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
