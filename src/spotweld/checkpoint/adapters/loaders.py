"""Data loaders that go on inside an epoch: torchdata's ``StatefulDataLoader``, PyTorch's, any iterable."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from spotweld.checkpoint.adapters.ahead import has_workers, start_workers, watch
from spotweld.checkpoint.adapters.plain import from_plain, to_plain
from spotweld.checkpoint.rng import capture_rng, restore_rng
from spotweld.checkpoint.sampler import Sampler
from spotweld.errors import StateMismatch, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class Resumable(Generic[T]):
    """A loader whose position can be saved and restored. Put it into the ``Checkpointer``'s state.

    ::

        loader = Resumable(StatefulDataLoader(dataset, batch_size=32, shuffle=True, num_workers=4))
        batches = loader.batches()
        for step in Checkpointer({"loader": loader, ...}).steps(1000):
            batch = next(batches)

    How it resumes inside an epoch, without repeating or skipping a batch:

    - a loader with a ``state_dict`` of its own, such as ``StatefulDataLoader``: by that.
    - a ``DataLoader`` over our ``Sampler`` (``batch_sampler=sampler``): by the sampler's position.
    - every other loader: the random number generators are set to what they were when the epoch began, and the batches
      that were trained on are loaded again and dropped. Exact even for random augmentation inside workers, as long as
      the loader itself is deterministic; it costs their loading time.

    A resume draws nothing from the global generators that a run without interruptions would not have drawn.

    Args:
        loader: gives the batches of an epoch whenever it is iterated over.
        ahead: how many batches the reader takes before it trains on the first of them.
    """

    def __init__(self, loader: Iterable[T], *, ahead: int = 0) -> None:
        self.loader = loader
        self.epoch = 0
        """Epochs read to their end."""
        base = getattr(loader, "base_dataloader", loader)  # Accelerate's loaders have a state_dict, but no state
        self._stateful = hasattr(base, "state_dict") and hasattr(base, "load_state_dict")
        self._ahead = ahead
        inside = int(base is not loader)  # they take a batch ahead, too
        elsewhere = self._stateful or getattr(base, "num_workers", 0) > 0
        self._watched = None if elsewhere or not ahead + inside else watch(loader, ahead + inside)
        self._count = 0
        self._start: dict[str, Any] | None = None
        self._touched = False
        self._left = False
        self._own: deque[Any] = deque(maxlen=ahead + 1)
        self._loaded: dict[str, Any] | None = None
        self._rests = False

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name == "loader":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[T]:
        """What is left of the epoch that was restored, else a new one, be the former at its end or not."""
        if self._rests:
            self._rests = False
            return iter(())
        if self._loaded is None and self._start is not None:
            self._next_epoch(left=True)
        return self._epoch()

    def _epoch(self) -> Iterator[T]:
        state, self._loaded = self._loaded, None
        iterator = self._begin() if state is None else self._resume(state)
        self._touched = True
        self._remember()
        for batch in iterator:
            self._count += 1
            self._remember()
            yield batch
        self._next_epoch(left=False)
        self._remember()

    @property
    def is_inside(self) -> bool:
        """Whether the position that was restored lies inside an epoch."""
        return self._loaded is not None and self._loaded["start"] is not None

    def rest(self) -> None:
        """Give nothing when somebody iterates next, and stay where it is: others are still in their epoch."""
        self._rests = True

    def batches(self) -> Iterator[T]:
        """The batches from here on, over all epochs without an end.

        Raises:
            UsageError: an epoch had none.
        """
        while True:
            empty = self._loaded is None
            for batch in self:
                empty = False
                yield batch
            if empty:
                raise UsageError("The loader gave no batch")

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it takes to begin this epoch, or the next one, as it was begun."""
        if self._loaded is not None:
            return self._loaded
        state: dict[str, Any] = {"epoch": self.epoch, "count": max(0, self._count - self._ahead), "start": self._start}
        if self._start is None:
            state |= {"marks": self._marks(), "workers": has_workers(self.loader), "left": self._left}
        elif self._watched is not None:
            state["fetches"] = self._watched.kept()
        state["at_end"] = self._start is not None and getattr(self.loader, "end_of_dataloader", False)
        if self._stateful and self._touched:
            state["loader"] = self._own[0] if self._ahead else to_plain(self.loader.state_dict())  # type: ignore[attr-defined]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position, as soon as somebody iterates.

        Raises:
            StateMismatch: it is the position of a loader of another sort.
        """
        if "loader" in state and not self._stateful:
            raise StateMismatch("The loader's position cannot be restored", "the loader had a state_dict at that time")
        self._loaded = dict(state)
        if state["at_end"]:
            # Accelerate looks at that before it is asked for a batch: at the end of an epoch it steps, however many
            # batches have been accumulated.
            accelerated: Any = self.loader
            accelerated.begin()
            accelerated.end_of_dataloader = True

    def _next_epoch(self, *, left: bool) -> None:
        self.epoch, self._count, self._start, self._left = self.epoch + 1, 0, None, left

    def _begin(self) -> Iterator[T]:
        self._start = {"rng": capture_rng(), "marks": self._marks(), "workers": has_workers(self.loader)}
        return iter(self.loader)

    def _resume(self, state: dict[str, Any]) -> Iterator[T]:
        self.epoch, self._count, self._start = state["epoch"], state["count"], state["start"]
        start = self._start or state
        before = capture_rng()
        if start["workers"] and not self._stateful:
            start_workers(self.loader)
        self._set_marks(start["marks"])
        if "loader" in state:
            own: Any = self.loader
            own.load_state_dict(from_plain(state["loader"]))
            getattr(own, "base_dataloader", own).state_dict()  # makes the iterator, which draws, here and not later
            if state.get("left"):
                iter(own)  # an iterator that was left before its end, as it was at that time
            if state["at_end"]:
                own.iteration += 1  # which Accelerate does when it is asked for one more
                restore_rng(before)
                return iter(())
        elif self._start is not None:
            if self._watched is not None:
                self._watched.repeat(state.get("fetches", {}), {})
            iterator = self._skip(self._start)
            restore_rng(before)
            return iterator
        restore_rng(before)
        return self._begin() if self._start is None else iter(self.loader)

    def _skip(self, start: dict[str, Any]) -> Iterator[T]:
        """The epoch that began so, without the batches that were trained on."""
        sampler = getattr(self.loader, "batch_sampler", None)
        if isinstance(sampler, Sampler) and not self._ahead:
            over = sampler.position + self._count == len(sampler)  # the sampler would begin the next epoch
            sampler.load_state_dict({**sampler.state_dict(), "taken": sampler.taken + self._count})
            return iter(()) if over else iter(self.loader)
        restore_rng(start["rng"])
        iterator = iter(self.loader)
        for _ in range(self._count):
            if next(iterator, iterator) is iterator:
                raise StateMismatch("The loader has fewer batches than at that time", f"{self._count} were trained on")
        taken = list(itertools.islice(iterator, self._ahead))
        return itertools.chain(taken, iterator)

    def _remember(self) -> None:
        if self._stateful and self._ahead:
            self._own.append(to_plain(self.loader.state_dict()))  # type: ignore[attr-defined]

    def _marks(self) -> list[dict[str, Any]]:
        """What loaders and samplers carry from epoch to epoch."""
        found: list[dict[str, Any]] = []
        for part in _parts(self.loader):
            marks: dict[str, Any] = {}
            for name in ("epoch", "iteration"):
                if type(vars(part).get(name)) is int:
                    marks[name] = vars(part)[name]
            if hasattr(vars(part).get("generator"), "get_state"):
                marks["generator"] = vars(part)["generator"].get_state()
            if isinstance(part, Sampler):
                marks["sampler"] = part.state_dict()
            found.append(marks)
        return found

    def _set_marks(self, saved: list[dict[str, Any]]) -> None:
        parts = _parts(self.loader)
        if len(parts) != len(saved):
            raise StateMismatch("The loader's position cannot be restored", "it has other samplers than at that time")
        for part, marks in zip(parts, saved, strict=True):
            for name, value in marks.items():
                if name == "generator":
                    _generator(part).set_state(value)
                elif name == "sampler":
                    part.load_state_dict(value)
                else:
                    setattr(part, name, value)


def _generator(part: Any) -> Any:  # noqa: ANN401
    """The sampler's own generator; some make it only when they are iterated over."""
    if vars(part).get("generator") is None:
        import torch  # noqa: PLC0415

        vars(part)["generator"] = torch.Generator()
    return vars(part)["generator"]


def _parts(loader: Any) -> list[Any]:  # noqa: ANN401
    """The loader, what it wraps and its samplers, each once, in a fixed order."""
    found: list[Any] = []
    queue = [loader]
    while queue:
        part = queue.pop(0)
        if hasattr(part, "__dict__") and all(part is not other for other in found):
            found.append(part)
            names = ("loader", "base_dataloader", "batch_sampler", "watched", "sampler")
            queue += [vars(part)[name] for name in names if name in vars(part)]
    return found
