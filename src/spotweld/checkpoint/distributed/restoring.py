"""From a stored state to the live one, on however many ranks: each fills what it holds, in place.

Nothing of the size of the state is allocated beside it: bytes go from the store into the program's own tensors. Should
one of them prove to be damaged, an older checkpoint is read over all of them.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from spotweld.checkpoint.arrays import Kind, leaf_of
from spotweld.checkpoint.distributed.fetching import Transfer
from spotweld.checkpoint.distributed.planning import Box, overlap
from spotweld.checkpoint.distributed.shards import Stored
from spotweld.checkpoint.distributed.views import box_of, is_sharded, local_of
from spotweld.checkpoint.tree import step_into
from spotweld.errors import StateMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def fit(
    state: Mapping[str, object], live: Mapping[str, Any], saved: object, ready: Mapping[int, object]
) -> tuple[dict[str, Any], list[Transfer]]:
    """The saved parts around the tensors of the live ones, and what has to be fetched into those.

    Args:
        state: the program's parts.
        live: their values now (``checkpoint.state.take``).
        saved: ``Layout.parts``.
        ready: the values of those leaves that are no tensors, by number.

    Raises:
        StateMismatch: they are other parts, or a shape or a dtype in them differs. Nothing has been changed.
    """
    if not isinstance(saved, dict) or set(saved) != set(state):
        then = sorted(map(str, saved)) if isinstance(saved, dict) else type(saved).__name__
        raise StateMismatch("The checkpoint has other parts than the program", f"{then} then, {sorted(state)} now")
    fitter = _Fitter(ready)
    fitted = {}
    for name, part in state.items():
        values = live[name]
        if _is_optimizer(part) and isinstance(values, dict) and isinstance(saved[name], dict):
            values = {**values, "state": _with_moments(part, values, saved[name])}
        fitted[name] = fitter.fit(saved[name], values, name)
    return fitted, fitter.transfers


class _Fitter:
    def __init__(self, ready: Mapping[int, object]) -> None:
        self._ready = ready
        self.transfers: list[Transfer] = []

    def fit(self, saved: Any, live: Any, path: str) -> Any:  # noqa: ANN401
        if isinstance(saved, Stored):
            return self._array(saved, live, path)
        if isinstance(saved, dict):
            inside = live if isinstance(live, dict) else {}
            for key, value in saved.items():
                saved[key] = self.fit(value, inside.get(key), step_into(path, key))
            return saved
        if isinstance(saved, (list, tuple, deque)):
            among = [*live] if isinstance(live, (list, tuple)) else []
            among += [None] * (len(saved) - len(among))
            items = [self.fit(value, among[at], f"{path}[{at}]") for at, value in enumerate(saved)]
            return deque(items, saved.maxlen) if isinstance(saved, deque) else type(saved)(items)
        if _is_array(live, path):
            raise StateMismatch(f"{path} does not fit", f"it was a {type(saved).__name__} and is an array now")
        return saved

    def _array(self, saved: Stored, live: Any, path: str) -> Any:  # noqa: ANN401
        if saved.leaf in self._ready:
            value = self._ready[saved.leaf]
            if _is_array(live, path):
                _compare(saved, live, path)
            return value
        import torch  # noqa: PLC0415

        if not _is_array(live, path):
            live = torch.empty(saved.shape, dtype=getattr(torch, saved.dtype))
        _compare(saved, live, path)
        if is_sharded(live):
            box, local = box_of(live, path), local_of(live)
        else:
            box, local = Box((0,) * len(saved.shape), saved.shape), live.detach()
        for shard in saved.shards:
            part = overlap(box, shard.box) if box is not None else None
            if box is not None and part is not None:
                self.transfers.append(Transfer(shard, part, _narrowed(local, box, part)))
        return live


def _is_array(live: object, path: str) -> bool:
    """Whether it keeps its kind. A number, a NumPy scalar or bytes become what was saved, as for a single process."""
    if is_sharded(live):
        return True
    leaf = leaf_of(live, path)
    return leaf is not None and leaf.kind in {Kind.TORCH, Kind.NUMPY}


def _compare(saved: Stored, live: Any, path: str) -> None:  # noqa: ANN401
    leaf = leaf_of(local_of(live) if is_sharded(live) else live, path)
    dtype, shape = (leaf.dtype, tuple(live.shape)) if leaf else (type(live).__name__, ())
    if (dtype, shape) != (saved.dtype, saved.shape):
        why = f"it was {saved.dtype} {list(saved.shape)} and is {dtype} {list(shape)} now"
        raise StateMismatch(f"{path} does not fit", why)


def _narrowed(local: Any, box: Box, part: Box) -> Any:  # noqa: ANN401
    """The part of a tensor that holds ``box``."""
    for at, (start, length) in enumerate(zip(part.offsets, part.shape, strict=True)):
        local = local.narrow(at, start - box.offsets[at], length)
    return local


def _with_moments(part: Any, values: dict[Any, Any], saved: dict[Any, Any]) -> dict[Any, Any]:  # noqa: ANN401
    """An optimizer's state with what its first step will make: what is as large as its parameter is sharded like it."""
    import torch  # noqa: PLC0415

    parameters = [parameter for group in part.param_groups for parameter in group["params"]]
    # By their numbers or, as `torch.distributed.checkpoint.state_dict` has it, by their names; in the same order.
    known_as = dict(zip(_parameters_in(saved.get("param_groups")), parameters, strict=False))
    state = {key: dict(entries) if isinstance(entries, dict) else entries for key, entries in values["state"].items()}
    then = saved.get("state")
    for key, entries in then.items() if isinstance(then, dict) else ():
        if key not in known_as or not isinstance(entries, dict):
            continue
        like, known = known_as[key].detach(), state.setdefault(key, {})
        for name, stored in entries.items():
            alike = isinstance(stored, Stored) and stored.shape == tuple(like.shape)
            # A count of steps is plain beside a sharded scalar, too.
            if alike and (stored.sharded or (is_sharded(like) and like.shape)) and name not in known:
                known[name] = torch.empty_like(like, dtype=getattr(torch, stored.dtype))
    return state


def _parameters_in(groups: object) -> Iterator[int | str]:
    """What the groups of a saved optimizer call their parameters."""
    for group in groups if isinstance(groups, list) else ():
        match group:
            case {"params": [*params]}:
                yield from (one for one in params if isinstance(one, (int, str)))


def _is_optimizer(part: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(part, torch.optim.Optimizer)
