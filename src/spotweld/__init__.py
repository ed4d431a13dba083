"""Spotweld: interruptible machines made dependable.

::

    from spotweld import Checkpointer, Sampler, open_checkpoint
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spotweld.version import VERSION

if TYPE_CHECKING:
    from spotweld.checkpoint.checkpointer import Checkpointer
    from spotweld.checkpoint.opened import open_checkpoint
    from spotweld.checkpoint.sampler import Sampler

__all__ = ["Checkpointer", "Sampler", "__version__", "open_checkpoint"]
__version__ = VERSION


def __getattr__(name: str) -> object:
    """Import the engine only when it is asked for, so that ``import spotweld`` costs next to nothing."""
    if name == "Checkpointer":
        from spotweld.checkpoint.checkpointer import Checkpointer  # noqa: PLC0415

        return Checkpointer
    if name == "Sampler":
        from spotweld.checkpoint.sampler import Sampler  # noqa: PLC0415

        return Sampler
    if name == "open_checkpoint":
        from spotweld.checkpoint.opened import open_checkpoint  # noqa: PLC0415

        return open_checkpoint
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
