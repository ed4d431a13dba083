"""``Checkpointer`` for a process group: the same loop on every rank."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint import events
from spotweld.checkpoint.checkpointer import Checkpointer
from spotweld.checkpoint.distributed.crew import Crew
from spotweld.checkpoint.distributed.group import by_first, gloo_groups, together
from spotweld.checkpoint.distributed.sessions import Follower, Leader
from spotweld.checkpoint.distributed.views import is_sharded
from spotweld.checkpoint.events import EventFile
from spotweld.checkpoint.generators import with_generators
from spotweld.checkpoint.session import patiently
from spotweld.checkpoint.state import check_parts
from spotweld.errors import UsageError
from spotweld.preemption.detect import sources_here
from spotweld.preemption.watcher import Watcher
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.distributed import ProcessGroup

    from spotweld.checkpoint.distributed.group import Group
    from spotweld.store.objects import Objects


class DistributedCheckpointer(Checkpointer):
    """Makes the training loop of a process group resume where it was, on as many ranks or on others.

    ::

        torch.distributed.init_process_group()
        fully_shard(model)
        checkpointer = DistributedCheckpointer({"model": model, "optimizer": optimizer, "sampler": sampler})
        for step in checkpointer.steps(1000):
            batch = sampler.next()[rank::ranks]
            ...

    Every rank makes the same calls. Sharded tensors (``DTensor``: FSDP2, tensor parallelism) are saved in parallel,
    each rank its own part; what is replicated is saved once. The random number generators are kept per rank. A
    notice to one rank moves all ranks at the same step's edge.

    Args:
        state: as for ``Checkpointer``; what is in it and is not sharded must be the same on every rank.
        per_rank: more of it, of which every rank has its own, such as a ``Sampler`` of its own.
        process_group: the ranks; the default group.
        groups: for tests: two ways for the ranks to meet, for the training thread and for the one that saves.
        options: as for ``Checkpointer``. Rank 0's count; ``staging_memory`` is that of each rank. ``tiers`` are those
            that every rank reaches; others are left out.

    Raises:
        UsageError: an argument makes no sense, or there is no process group.
    """

    def __init__(
        self,
        state: Mapping[str, object],
        *,
        per_rank: Mapping[str, object] | None = None,
        process_group: ProcessGroup | None = None,
        groups: Callable[[], tuple[Group, Group]] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self._shared = with_generators(state)
        check_parts({name: part for name, part in self._shared.items() if not is_sharded(part)})
        super().__init__(per_rank or {}, **options)
        self._groups = groups or (lambda: _groups(process_group))

    def _open(self, total: int) -> Leader | Follower:  # type: ignore[override]
        self._pid = os.getpid()
        training, saving = self._groups()
        run = self._settings.run
        asked = msgspec.json.decode(by_first(training, lambda: msgspec.json.encode([run, total])))
        together(training, lambda: _check_alike([run, total], asked))
        self._tell = EventFile(self._settings.events if training.rank == 0 else None)
        self._tell.write(events.Start(self._clock.now(), total, os.getpid()))
        sources = sources_here(os.environ) if self._sources is None else self._sources
        self._watcher = Watcher(sources, clock=self._clock)
        self._watcher.start()
        atexit.register(self.close)
        objects = together(training, self._opened)
        crew = Crew(self._shared, self._state, training)
        if training.rank == 0:
            session: Leader | Follower = Leader(
                crew, saving, self._settings, objects, self._watcher, self._tell, self._clock, self._tell_risk
            )
        else:
            session = Follower(crew, saving, self._settings, objects, self._watcher, self._clock, self._tell_risk)
        self._session = session  # type: ignore[assignment]
        return session

    def _opened(self) -> Objects:
        if self._objects is None:
            url = self._settings.store
            self._objects = patiently(lambda: open_store(url), self._clock)
        return self._objects


def _groups(process_group: ProcessGroup | None) -> tuple[Group, Group]:
    import torch.distributed as dist  # noqa: PLC0415

    if not dist.is_available() or not dist.is_initialized():
        todo = "Call torch.distributed.init_process_group() first, or use Checkpointer."
        raise UsageError("There is no process group", "DistributedCheckpointer saves together with others", todo)
    first, second = gloo_groups(process_group, 2)
    return first, second


def _check_alike(ours: list[object], theirs: list[object]) -> None:
    if ours != theirs:
        raise UsageError("The ranks do not run the same", f"run and steps are {ours} here and {theirs} on rank 0")
