"""PyTorch's own checkpoints, ``torch.distributed.checkpoint``: in one process, in all the ways that a CPU has."""

from __future__ import annotations

import os
import tempfile
import warnings
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, AsyncSaveResponse, async_save, save

from checkpoints.contender import LeftOut, Peer, Pending
from checkpoints.states import empty

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoints.states import Training


def _group() -> None:
    """The asynchronous ways want a process group, though it is one of one."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    if not dist.is_initialized():
        with tempfile.NamedTemporaryFile(delete=False) as meeting:
            dist.init_process_group("gloo", init_method=f"file://{meeting.name}", rank=0, world_size=1)


def _read(training: Training, folder: Path) -> None:
    parts = empty(training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(parts, checkpoint_id=folder, no_dist=True)
    training.put(parts)


def sync() -> Peer:
    """``save``."""

    def write(parts: dict[str, Any], folder: Path) -> None:
        save(parts, checkpoint_id=folder, no_dist=True)

    return Peer(write, _read)


def _in_background(way: AsyncCheckpointerType, stager: Any = None) -> Peer:  # noqa: ANN401  absent before torch 2.9
    _group()

    def write(parts: dict[str, Any], folder: Path) -> Pending:
        given = {} if stager is None else {"async_stager": stager}
        found = async_save(parts, checkpoint_id=folder, async_checkpointer_type=way, **given)
        if isinstance(found, AsyncSaveResponse):
            return Pending(found.upload_completion.result, found.staging_completion.result)
        return Pending(found.result)

    def close() -> None:
        if stager is not None:
            stager.close()
        dist.destroy_process_group()

    return Peer(write, _read, close)


def _stager(*, shared: bool, background: bool) -> Any:  # noqa: ANN401  absent before torch 2.9
    try:
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions  # noqa: PLC0415
    except ImportError as error:
        raise LeftOut(f"this PyTorch has no DefaultStager: {error}") from error
    # Pinned memory and copies that do not block need a GPU.
    return DefaultStager(
        StagingOptions(
            use_pinned_memory=False,
            use_shared_memory=shared,
            use_async_staging=background,
            use_non_blocking_copy=False,
        )
    )


def thread() -> Peer:
    """``async_save`` as it comes: a fresh copy in memory, then a thread."""
    return _in_background(AsyncCheckpointerType.THREAD)


def cached() -> Peer:
    """``async_save`` with a stager that keeps its memory."""
    return _in_background(AsyncCheckpointerType.THREAD, _stager(shared=False, background=False))


def process() -> Peer:
    """``async_save`` in another process, which gets a copy in shared memory that is kept."""
    return _in_background(AsyncCheckpointerType.PROCESS, _stager(shared=True, background=False))


def staged() -> Peer:
    """``async_save`` that also copies in a thread; only the next update waits for it."""
    return _in_background(AsyncCheckpointerType.THREAD, _stager(shared=False, background=True))


WAYS: dict[str, Callable[[], Peer]] = {
    "DCP save": sync,
    "DCP async thread": thread,
    "DCP async cached staging": cached,
    "DCP async process": process,
    "DCP async background staging": staged,
}
