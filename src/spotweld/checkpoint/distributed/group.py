"""How the ranks of a process group agree: a few small collectives, and errors that reach every rank.

Nothing is pickled: ranks exchange bytes. The groups are gloo's and our own, so that they work beside NCCL, and so that
the training thread and the thread that saves never share one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from spotweld.errors import SpotweldError, Unexpected, catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch.distributed import ProcessGroup

T = TypeVar("T")

_LONG = 7 * 24 * 3600
"""Seconds that a rank waits for another one. Only the death of a rank may end the wait, and is noticed at once."""


class PeerLost(Exception):
    """A rank is gone, so the group cannot go on."""


class Group(Protocol):
    """All ranks call the same methods in the same order."""

    rank: int
    size: int

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over all ranks."""
        ...

    def tell(self, data: bytes) -> bytes:
        """Rank 0's bytes, at every rank; the others' are ignored."""
        ...

    def gather(self, data: bytes) -> list[bytes]:
        """Every rank's bytes by rank, at every rank."""
        ...

    def collect(self, data: bytes) -> list[bytes]:
        """Every rank's bytes by rank, at rank 0; none at the others."""
        ...


class TorchGroup:
    """Over a gloo group of ``torch.distributed``.

    Args:
        process_group: one with tensors on the CPU.
    """

    def __init__(self, process_group: ProcessGroup) -> None:
        import torch  # noqa: PLC0415 - heavy; whoever has a process group has it already
        import torch.distributed as dist  # noqa: PLC0415

        self._torch, self._dist, self._group = torch, dist, process_group
        self.rank, self.size = dist.get_rank(process_group), dist.get_world_size(process_group)
        self._first = dist.get_global_rank(process_group, 0)

    def largest(self, values: Sequence[float]) -> list[float]:
        vector = self._torch.tensor(values, dtype=self._torch.float64)
        self._guard(lambda: self._dist.all_reduce(vector, op=self._dist.ReduceOp.MAX, group=self._group))
        return [float(value) for value in vector.tolist()]

    def tell(self, data: bytes) -> bytes:
        (size,) = self.largest([len(data) if self.rank == 0 else 0])
        buffer = self._buffer(data if self.rank == 0 else b"", int(size))
        self._guard(lambda: self._dist.broadcast(buffer, src=self._first, group=self._group))
        return bytes(buffer.numpy()[: int(size)])

    def gather(self, data: bytes) -> list[bytes]:
        sizes = self._sizes(data)
        mine = self._buffer(data, max(sizes))
        every = [self._torch.empty_like(mine) for _ in sizes]
        self._guard(lambda: self._dist.all_gather(every, mine, group=self._group))
        return [bytes(one.numpy()[:size]) for one, size in zip(every, sizes, strict=True)]

    def collect(self, data: bytes) -> list[bytes]:
        sizes = self._sizes(data)
        mine = self._buffer(data, max(sizes))
        every = [self._torch.empty_like(mine) for _ in sizes] if self.rank == 0 else None
        self._guard(lambda: self._dist.gather(mine, every, dst=self._first, group=self._group))
        return [bytes(one.numpy()[:size]) for one, size in zip(every or [], sizes if every else [], strict=True)]

    def _sizes(self, data: bytes) -> list[int]:
        sizes = [0.0] * self.size
        sizes[self.rank] = float(len(data))
        return [int(size) for size in self.largest(sizes)]

    def _buffer(self, data: bytes, size: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - torch is imported late
        buffer = self._torch.zeros(max(1, size), dtype=self._torch.uint8)
        if data:
            buffer[: len(data)] = self._torch.frombuffer(bytearray(data), dtype=self._torch.uint8)
        return buffer

    def _guard(self, call: Callable[[], object]) -> None:
        try:
            call()
        except RuntimeError as error:
            raise PeerLost(_first_words(error)) from error


def _first_words(error: RuntimeError) -> str:
    """Without the place in gloo's source, and the advice."""
    return str(error).strip().rpartition("] ")[2].partition(". ")[0].partition("\n")[0][:120]


def gloo_groups(process_group: ProcessGroup | None, count: int) -> list[TorchGroup]:
    """New groups of ours with the ranks of ``process_group``; every one of its ranks calls this."""
    from datetime import timedelta  # noqa: PLC0415

    import torch.distributed as dist  # noqa: PLC0415

    ranks = None if process_group is None else dist.get_process_group_ranks(process_group)
    patience = timedelta(seconds=_LONG)
    local = process_group is not None
    return [
        TorchGroup(dist.new_group(ranks, timeout=patience, backend="gloo", use_local_synchronization=local))
        for _ in range(count)
    ]


class Trouble(msgspec.Struct, frozen=True):
    """An error on its way to the other ranks."""

    code: str
    what: str
    why: str = ""
    todo: str = ""


def trouble_of(error: Exception) -> Trouble:
    """The error as a value."""
    if isinstance(error, SpotweldError):
        return Trouble(error.code, error.what, error.why, error.todo)
    return Trouble(Unexpected.code, type(error).__name__, str(error))


def error_of(trouble: Trouble) -> SpotweldError:
    """The value as an error again."""
    return catalogue().get(trouble.code, SpotweldError)(trouble.what, trouble.why, trouble.todo)


def together(group: Group, call: Callable[[], T]) -> T:
    """What ``call`` gives here, once it has succeeded on every rank.

    Raises:
        SpotweldError: what it raised on the first rank where it failed, so that all ranks decide alike.
        PeerLost: a rank is gone.
    """
    failure: Exception | None = None
    try:
        result = call()
    except PeerLost:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must hear of it
        failure = error
    told = group.gather(msgspec.json.encode(None if failure is None else trouble_of(failure)))
    for rank, data in enumerate(told):
        trouble = msgspec.json.decode(data, type=Trouble | None)
        if trouble is not None:
            if isinstance(failure, SpotweldError) and rank == group.rank:
                raise failure
            if failure is not None and rank == group.rank:
                raise error_of(trouble) from failure
            raise error_of(msgspec.structs.replace(trouble, what=f"Rank {rank}: {trouble.what}"))
    return result


def by_first(group: Group, call: Callable[[], bytes]) -> bytes:
    """What ``call``, which only rank 0 makes, gives; at every rank.

    Raises:
        Exception: what it raised there.
        PeerLost: a rank is gone.
    """
    answer = b""
    failure: Exception | None = None
    if group.rank == 0:
        try:
            answer = b"+" + call()
        except PeerLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must hear of it
            failure, answer = error, b"-" + msgspec.json.encode(trouble_of(error))
    told = group.tell(answer)
    if told[:1] == b"+":
        return told[1:]
    raise failure or error_of(msgspec.json.decode(told[1:], type=Trouble))
