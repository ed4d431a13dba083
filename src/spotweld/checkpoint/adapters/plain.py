"""States of frameworks, which hold a few more types than the engine takes, as plain values and back.

Only types of this closed list are made anew when a checkpoint is read, none of which runs foreign code. Text and
numbers of a subclass (an enum's members, for example) lose it: they compare and hash the same.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_TAG = "spotweld.type"
_VALUE = "value"


def to_plain(value: Any) -> Any:  # noqa: ANN401
    """The value with what the engine refuses put into words. What is not known here is left to the engine to refuse."""
    kind = type(value)
    if kind in {dict, OrderedDict, Counter}:
        content: Any = kind({_key(key): to_plain(item) for key, item in value.items()})
        if kind is OrderedDict and hasattr(value, "_metadata"):
            content._metadata = value._metadata  # noqa: SLF001 - PyTorch's, of a module's state_dict
        return content
    if kind in {list, tuple}:
        return kind(to_plain(item) for item in value)
    if kind is defaultdict:
        return defaultdict(value.default_factory, {_key(key): to_plain(item) for key, item in value.items()})
    if kind in {set, frozenset}:
        return kind(map(_key, value))
    if kind is deque:
        return deque(map(to_plain, value), value.maxlen)
    if isinstance(value, PurePath):
        return _tagged("path", str(value))
    return _of_torch(value) if "torch" in sys.modules else _base(value)


def from_plain(value: Any) -> Any:  # noqa: ANN401
    """What ``to_plain`` was given.

    Raises:
        KeyError: a type that this version does not know.
    """
    kind = type(value)
    if kind in {list, tuple}:
        return kind(from_plain(item) for item in value)
    if kind is deque:
        return deque(map(from_plain, value), value.maxlen)
    if kind is defaultdict:
        return defaultdict(value.default_factory, {key: from_plain(item) for key, item in value.items()})
    if kind not in {dict, OrderedDict}:
        return value
    if kind is dict and value.keys() == {_TAG, _VALUE}:
        return _MAKERS[value[_TAG]](from_plain(value[_VALUE]))
    content: Any = kind((key, from_plain(item)) for key, item in value.items())
    if kind is OrderedDict and hasattr(value, "_metadata"):
        content._metadata = value._metadata  # noqa: SLF001
    return content


def _key(value: Any) -> Any:  # noqa: ANN401
    """What dicts and sets can hold: nothing that would have to be put into words."""
    return tuple(map(_key, value)) if type(value) is tuple else _base(value)


def _tagged(kind: str, value: object) -> dict[str, object]:
    return {_TAG: kind, _VALUE: value}


def _of_torch(value: Any) -> Any:  # noqa: ANN401
    import torch  # noqa: PLC0415

    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, torch.dtype):
        return _tagged("torch.dtype", str(value).removeprefix("torch."))
    if isinstance(value, torch.device):
        return _tagged("torch.device", str(value))
    return _base(value)


def _base(value: Any) -> Any:  # noqa: ANN401
    for base in (str, int, float):
        if isinstance(value, base) and type(value) is not bool and not hasattr(value, "dtype"):
            return base(value) if base is not str else str.__str__(value)
    return value


def _torch_dtype(name: str) -> object:
    import torch  # noqa: PLC0415

    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise KeyError(name)
    return dtype


def _torch_device(name: str) -> object:
    import torch  # noqa: PLC0415

    return torch.device(name)


_MAKERS: dict[str, Callable[[Any], object]] = {
    "path": Path,
    "torch.dtype": _torch_dtype,
    "torch.device": _torch_device,
}
