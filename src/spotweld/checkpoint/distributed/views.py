"""The live state of a rank: the arrays that it holds parts of, and the plain values around them."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

import msgspec

from spotweld.checkpoint.arrays import Leaf, leaf_of
from spotweld.checkpoint.distributed.planning import Box, Item, View
from spotweld.checkpoint.tree import Node, flatten, step_into
from spotweld.errors import UnsupportedState
from spotweld.values.digests import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Seen(msgspec.Struct, frozen=True):
    """A state, not yet copied."""

    node: Node
    """Its tree; leaf ``i`` is item ``i``."""
    leaves: tuple[Leaf, ...]
    """What this rank holds of each item, in memory of the program's."""
    view: View


def look(values: Mapping[str, object]) -> Seen:
    """Walk the values of all parts.

    Raises:
        UnsupportedState: they hold something that cannot be stored.
    """
    whole: dict[int, Any] = {}
    leaves: list[Leaf] = []
    pairs = [[name, flatten(_local(value, name, whole), name, leaves)] for name, value in values.items()]
    node = {"dict": pairs}
    items = tuple(_item(leaf, whole.get(id(leaf.source))) for leaf in leaves)
    return Seen(node, tuple(leaves), View(digest(msgspec.json.encode(node)), items))


def paths(values: object, path: str = "") -> Iterator[str]:
    """The names of the items in the order of their numbers."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from paths(value, step_into(path, key) if path else str(key))
    elif isinstance(values, (list, tuple, deque)):
        for at, value in enumerate(values):
            yield from paths(value, f"{path}[{at}]")
    elif is_sharded(values) or leaf_of(values, path) is not None:
        yield path


def is_sharded(value: object) -> bool:
    """Whether it is a ``DTensor``."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def box_of(tensor: Any, path: str) -> Box | None:  # noqa: ANN401
    """What this rank holds of a ``DTensor``; None: it is not in its mesh.

    Raises:
        UnsupportedState: it is a sum that has not been taken yet.
    """
    if tensor.device_mesh.get_coordinate() is None:
        return None
    if any(placement.is_partial() for placement in tensor.placements):
        raise UnsupportedState(f"{path} cannot be saved", f"it is a DTensor placed as {tensor.placements}")
    (chunk,) = tensor.__create_chunk_list__()  # the protocol that torch.distributed.checkpoint asks, too
    return Box(tuple(chunk.offsets), tuple(chunk.sizes))


def local_of(tensor: Any) -> Any:  # noqa: ANN401
    """The plain tensor with what this rank holds, sharing its memory."""
    import torch  # noqa: PLC0415

    with torch.no_grad():
        return tensor.to_local()


def _local(value: Any, path: str, whole: dict[int, Any]) -> Any:  # noqa: ANN401
    """The same value with the local tensors in the place of the ``DTensor``s, which are noted in ``whole``."""
    if is_sharded(value):
        box = box_of(value, path)
        local = local_of(value)
        whole[id(local)] = (local, tuple(value.shape), box)
        return local
    if type(value) in {dict, OrderedDict}:
        copy = type(value)((key, _local(one, step_into(path, key), whole)) for key, one in value.items())
        if hasattr(value, "_metadata"):
            copy._metadata = value._metadata  # noqa: SLF001
        return copy
    if type(value) in {list, tuple, deque}:
        items = (_local(one, f"{path}[{at}]", whole) for at, one in enumerate(value))
        return deque(items, value.maxlen) if type(value) is deque else type(value)(items)
    return value


def _item(leaf: Leaf, whole: tuple[object, tuple[int, ...], Box | None] | None) -> Item:
    if whole is None:
        return Item(leaf.kind, leaf.dtype, leaf.shape, False, Box((0,) * len(leaf.shape), leaf.shape))
    _, shape, box = whole
    return Item(leaf.kind, leaf.dtype, shape, True, box)
