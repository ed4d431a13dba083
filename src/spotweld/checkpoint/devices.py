"""Accelerators: what lies in their memory, how it gets out of it, and how it gets back.

A GPU does what it is asked for later, in the order of its streams, and a copy between its memory and this machine's is
as fast as the bus only where this machine's memory is pinned. So before a state is read or filled, all is waited for
that its devices were asked to do; staging memory is pinned; and what is copied for one chunk is asked for together and
waited for once. All of this goes through what PyTorch has for every sort of accelerator
(https://docs.pytorch.org/docs/stable/accelerator.html).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

_AT_ONCE = {"mps"}
"""Accelerators whose copies are done when they come back: they share this machine's memory, and have one stream."""


class DeviceMemory:
    """Bytes in an accelerator's memory, with as much of a ``memoryview`` as it takes to fill them.

    What is put there is only asked for, until ``finish`` has returned.

    Args:
        row: the bytes, as a tensor of ``uint8``.
    """

    def __init__(self, row: torch.Tensor) -> None:
        self.row = row
        self.nbytes = row.nbytes

    def __len__(self) -> int:
        return self.nbytes

    def __getitem__(self, part: slice) -> DeviceMemory:
        return DeviceMemory(self.row[part])

    def __setitem__(self, part: slice, data: memoryview) -> None:
        import torch  # noqa: PLC0415

        self.row[part].copy_(torch.frombuffer(data, dtype=torch.uint8), non_blocking=_later(self.row.device))


Place: TypeAlias = memoryview | DeviceMemory
"""Where bytes are wanted."""


def is_accelerator(device: torch.device) -> bool:
    """PyTorch knows how to wait for it; what it does not know copies at once."""
    import torch  # noqa: PLC0415

    accelerator = torch.accelerator.current_accelerator()
    return accelerator is not None and accelerator.type == device.type


def is_on_device(array: Any) -> bool:  # noqa: ANN401
    """It is a tensor in an accelerator's memory."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor) and not (array.is_cpu or array.is_meta)


def wait_for(arrays: Iterable[Any]) -> None:
    """Wait until the accelerators that hold some of these arrays have done all that they were asked for."""
    for device in _devices(arrays):
        if is_accelerator(device):
            import torch  # noqa: PLC0415

            torch.accelerator.synchronize(device)


def ask(row: torch.Tensor, into: memoryview) -> None:
    """Have bytes copied from an accelerator's memory; they are there once ``finish`` has returned."""
    import torch  # noqa: PLC0415

    torch.frombuffer(into, dtype=torch.uint8).copy_(row, non_blocking=_later(row.device))


def finish(arrays: Iterable[Any]) -> None:
    """Wait for all copies that this thread has asked for, from or to the accelerators that hold these arrays."""
    for device in _devices(arrays):
        if _later(device):
            import torch  # noqa: PLC0415

            torch.accelerator.current_stream(device).synchronize()


def pinned(size: int) -> memoryview | None:
    """Memory that accelerators copy from and to at the speed of the bus; None: no more of it is to be had."""
    import torch  # noqa: PLC0415

    try:
        return memoryview(torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy())  # type: ignore[arg-type]
    except RuntimeError:
        return None


def _devices(arrays: Iterable[Any]) -> set[torch.device]:
    return {array.device for array in arrays if is_on_device(array)}


def _later(device: torch.device) -> bool:
    """A copy may come back before it is done."""
    return device.type not in _AT_ONCE and is_accelerator(device)
