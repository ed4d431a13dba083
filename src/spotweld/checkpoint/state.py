"""What a program may put into ``Checkpointer(state={...})``: how its values are taken, and put back in place."""

from __future__ import annotations

import ctypes
import sys
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from spotweld.checkpoint.arrays import Kind, Leaf, can_be_filled, leaf_of, writable
from spotweld.checkpoint.devices import DeviceMemory
from spotweld.checkpoint.tree import step_into
from spotweld.errors import StateMismatch, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Saved(msgspec.Struct, frozen=True):
    """An array of a checkpoint whose bytes have not been read yet."""

    number: int
    """Of the leaf."""
    kind: Kind
    dtype: str
    shape: tuple[int, ...]


@runtime_checkable
class Stateful(Protocol):
    """A module, an optimizer, a scheduler, a ``Sampler``, a ``GradScaler``, or anything else with both methods."""

    def state_dict(self) -> Any:  # noqa: ANN401
        """Its state in plain values and arrays."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:  # noqa: ANN401
        """Become what that state says."""
        ...


def check_parts(state: Mapping[str, object]) -> None:
    """See that every part can be restored.

    Raises:
        UsageError: a part is something that cannot be changed in place; the message names it.
    """
    for name in list[object](state):
        if not isinstance(name, str) or not name:
            raise UsageError("The parts of a state are named by strings", f"not by {name!r}")
    for name, part in state.items():
        if isinstance(part, Stateful) or type(part) in {dict, list}:
            continue
        leaf = _array(part, name)
        if leaf is None:
            raise UsageError(
                f"state[{name!r}] cannot be restored in place",
                f"it is a {type(part).__qualname__}",
                "Give an object with state_dict() and load_state_dict(), a tensor, an array, a dict or a list.",
            )


def take(state: Mapping[str, object]) -> dict[str, object]:
    """The values of every part, by name. Nothing is copied yet."""
    return {name: part.state_dict() if isinstance(part, Stateful) else part for name, part in state.items()}


def put_back(state: Mapping[str, object], saved: object) -> None:
    """Make every part what it was. What can be compared is compared before anything is changed.

    Args:
        state: the live parts.
        saved: what ``take`` gave then; its arrays become the program's own.

    Raises:
        StateMismatch: the parts, or a shape or dtype in them, are others than at that time; the message names which.
    """
    fill(state, _compared(state, saved))


def fill(state: Mapping[str, object], parts: Mapping[str, Any]) -> None:
    """Give every part its restored values, which have been seen to fit.

    Args:
        state: the live parts.
        parts: by name; arrays among them may be the live ones, filled already.

    Raises:
        StateMismatch: a part does not accept them.
    """
    for name, part in state.items():
        if isinstance(part, Stateful):
            _load(part, parts[name], name)
        else:
            _refill(part, parts[name])


def places(state: Mapping[str, object], saved: object) -> dict[int, Any]:
    """The live arrays into which a checkpoint can be read directly, by the number of the leaf.

    These are arrays of modules, of optimizers and of the program itself that have the same dtype and shape as then.
    What ``state_dict`` of other objects gives may be anything, and is left alone.

    Args:
        state: the live parts.
        saved: what ``take`` gave then, with ``Saved`` in place of the arrays.

    Raises:
        StateMismatch: as ``put_back``.
    """
    parts = _compared(state, saved)
    torch = sys.modules.get("torch")
    known = (torch.nn.Module, torch.optim.Optimizer) if torch is not None else ()
    found: dict[int, Any] = {}
    for name, part in state.items():
        if isinstance(part, known):
            _match(part.state_dict(), parts[name], found)
        elif not isinstance(part, Stateful):
            _match(part, parts[name], found)
    return _apart(found)


def _compared(state: Mapping[str, object], saved: object) -> dict[str, Any]:
    """What was saved, by part, once it has been seen to fit."""
    if not isinstance(saved, dict) or set(saved) != set(state):
        then = sorted(map(str, saved)) if isinstance(saved, dict) else type(saved).__name__
        raise StateMismatch("The checkpoint has other parts than the program", f"{then} then, {sorted(state)} now")
    for name, part in state.items():
        _compare(part, saved[name], name)
    return saved


def _match(now: Any, then: object, found: dict[int, Any]) -> None:  # noqa: ANN401
    """Collect the arrays of ``now`` that can take what ``then`` has in the same place."""
    if isinstance(then, Saved):
        ours = _array(now, "")
        if ours is None or not ours.size or not can_be_filled(now):
            return
        if (ours.kind, ours.dtype, ours.shape) == (then.kind, then.dtype, then.shape):
            found[then.number] = now
    elif isinstance(now, dict) and isinstance(then, dict):
        for key in now.keys() & then.keys():
            _match(now[key], then[key], found)
    elif isinstance(now, (list, tuple)) and isinstance(then, (list, tuple)):
        for ours, theirs in zip(now, then, strict=False):
            _match(ours, theirs, found)


def _apart(found: dict[int, Any]) -> dict[int, Any]:
    """Of arrays that share memory only the first: two threads must not fill the same bytes."""
    chosen, end = {}, ("", 0)
    for device, start, size, number in sorted((*_span(array), number) for number, array in found.items()):
        if (device, start) >= end:
            chosen[number], end = found[number], (device, start + size)
    return chosen


def _span(array: Any) -> tuple[str, int, int]:  # noqa: ANN401
    """In whose memory an array lies, where there, and how many bytes of it."""
    memory = writable(array)
    if isinstance(memory, DeviceMemory):
        return str(memory.row.device), memory.row.data_ptr(), memory.nbytes
    return "", ctypes.addressof(ctypes.c_char.from_buffer(memory)), memory.nbytes


def _compare(now: object, then: object, path: str) -> None:
    if isinstance(now, Stateful):
        _compare_module(now, then, path)
    elif isinstance(now, dict) and isinstance(then, dict):
        for key in now.keys() & then.keys():
            _compare(now[key], then[key], step_into(path, key))
    elif isinstance(now, list) and isinstance(then, list):
        for at, (ours, theirs) in enumerate(zip(now, then, strict=False)):
            _compare(ours, theirs, f"{path}[{at}]")
    elif _array(now, path) is not None:
        _compare_arrays(now, then, path)
    elif isinstance(now, (dict, list)):
        raise StateMismatch(f"{path} does not fit", f"it was a {type(then).__name__} and is a {type(now).__name__} now")


def _compare_module(part: Stateful, then: object, path: str) -> None:
    """A module casts another dtype silently, so its tensors are compared here.

    Its names are, too: a module finds out by itself that some are missing, but when it has taken over all others.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(part, torch.nn.Module) and isinstance(then, dict):
        now = part.state_dict()
        for key, value in now.items():
            if key in then:
                _compare_arrays(value, then[key], step_into(path, key))
        if now.keys() != then.keys() and _is_strict(part, torch.nn.Module):
            where, names = ("program", now) if now.keys() - then.keys() else ("checkpoint", then)
            name = next(key for key in names if key not in now or key not in then)
            raise StateMismatch(f"{path} does not fit", f"only the {where} has {step_into(path, name)}")


def _is_strict(part: Any, plain: Any) -> bool:  # noqa: ANN401
    """The module takes the very names that it gives: nothing of PyTorch's own saving and loading was changed."""
    ways = ("load_state_dict", "_load_from_state_dict", "state_dict", "_save_to_state_dict")
    hooks = ("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_state_dict_pre_hooks", "_state_dict_hooks")
    return all(
        all(getattr(getattr(one, way), "__func__", None) is getattr(plain, way) for way in ways)
        and not any(getattr(one, hook, None) for hook in hooks)
        for one in part.modules()
    )


def _compare_arrays(now: object, then: object, path: str) -> None:
    ours = _array(now, path)
    theirs = then if isinstance(then, Saved) else _array(then, path)
    if ours is None:
        return
    if theirs is None or (ours.kind, ours.dtype, ours.shape) != (theirs.kind, theirs.dtype, theirs.shape):
        was = f"{theirs.dtype} {list(theirs.shape)}" if theirs else type(then).__name__
        raise StateMismatch(f"{path} does not fit", f"it was {was} and is {ours.dtype} {list(ours.shape)} now")
    if not _writable(now):
        raise StateMismatch(f"{path} cannot be restored in place", "the array is read-only")


def _load(part: Stateful, saved: object, name: str) -> None:
    try:
        part.load_state_dict(saved)
    except StateMismatch as error:
        raise StateMismatch(f"{name}: {error.what}", error.why, error.todo) from error
    except Exception as error:
        raise StateMismatch(f"{name} does not accept its saved state", f"{type(error).__name__}: {error}") from error


def _refill(now: Any, then: Any) -> Any:  # noqa: ANN401
    """Give ``now`` the content of ``then``; arrays and containers that both have keep their identity."""
    if now is then:
        return now
    if type(now) is type(then) and type(now) in {dict, Counter, defaultdict}:
        content = {key: _refill(now.get(key), value) for key, value in then.items()}
        now.clear()
        now.update(content)
        return now
    if type(now) is set and type(then) is set:
        now.clear()
        now.update(then)
        return now
    if type(now) is deque and type(then) is deque and now.maxlen == then.maxlen:
        now.clear()
        now.extend(then)  # a window that moves on: what is in it has no place of its own
        return now
    if type(now) is list and type(then) is list:
        now[:] = [_refill(now[at] if at < len(now) else None, value) for at, value in enumerate(then)]
        return now
    if _array(now, "") is not None:
        _copy_into(now, then)
        return now
    return then


def _copy_into(now: Any, then: Any) -> None:  # noqa: ANN401
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(now, torch.Tensor):
        for axis, step in enumerate(now.stride()):
            # Expanded: the same memory again and again, which PyTorch refuses to write to.
            if step == 0 and now.shape[axis] > 1:
                now, then = now.narrow(axis, 0, 1), then.narrow(axis, 0, 1)
        with torch.no_grad():
            now.copy_(then)
    else:
        now[...] = then


def _array(value: object, path: str) -> Leaf | None:
    """The leaf of a tensor or of an array, which can be filled in place; None for everything else."""
    numpy = sys.modules.get("numpy")
    if isinstance(value, bytes) or (numpy is not None and isinstance(value, numpy.generic)):
        return None
    return leaf_of(value, path)


def _writable(array: Any) -> bool:  # noqa: ANN401
    flags = getattr(array, "flags", None)
    return flags is None or bool(flags.writeable)
