"""JAX: pytrees of immutable arrays, which are replaced and not filled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spotweld.errors import StateMismatch, UnsupportedState

_PLAIN = (bool, int, float, str, bytes)


class JaxState:
    """Holds pytrees as attributes that the training loop replaces. Put it into the ``Checkpointer``'s state.

    ::

        state = JaxState(params=params, opt_state=optimizer.init(params), key=jax.random.key(0))
        for step in Checkpointer({"train": state}).steps(1000):
            state.params, state.opt_state, loss = update(state.params, state.opt_state, batch)

    A pytree is any nesting that JAX knows: dicts, lists, tuples, named tuples (optax), dataclasses and ``PyTreeNode``
    (Flax), ``nnx.State``, your own registered classes. Only the leaves are stored; the structure is that of the live
    tree, so what is in it when the program resumes must have the same paths, shapes and dtypes. Leaves are JAX arrays
    of every dtype (bfloat16, float8 and int4 too), typed random keys, NumPy arrays, and plain numbers and texts.

    A restored array has the live array's sharding and device. Arrays that are sharded over several devices of this
    process are saved as a whole, so the number of devices may change between attempts.

    Args:
        parts: the pytrees.
    """

    def __init__(self, **parts: Any) -> None:  # noqa: ANN401
        vars(self).update(parts)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - only for type checkers: the attributes are free
        msg = f"{type(self).__name__} has no part {name!r}"
        raise AttributeError(msg)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The leaves of every part by their path.

        Raises:
            UnsupportedState: a leaf has no value here: traced, abstract, deleted, or partly in another process.
        """
        return {
            name: {path: _save(leaf, f"{name}{path}") for path, leaf in _leaves(part)}
            for name, part in vars(self).items()
        }

    def load_state_dict(self, state: dict[str, dict[str, Any]]) -> None:
        """Replace every part by one of the same structure with the saved leaves. All is compared before that.

        Raises:
            StateMismatch: a path, shape or dtype differs; the message names the first.
        """
        _same_names(state, vars(self), "")
        made: dict[str, Any] = {}
        for name, part in vars(self).items():
            live = _leaves(part)
            _same_names(state[name], dict(live), name)
            leaves = [_load(leaf, state[name][path], f"{name}{path}") for path, leaf in live]
            made[name] = jax.tree.unflatten(jax.tree.structure(part), leaves)
        vars(self).update(made)


def _leaves(tree: object) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _same_names(then: dict[str, Any], now: dict[str, Any], name: str) -> None:
    for other in [*then, *now]:
        if other not in now or other not in then:
            where = "the checkpoint" if other in then else "the program"
            raise StateMismatch(f"{name}{other} does not fit", f"only {where} has it")


def _save(leaf: Any, path: str) -> Any:  # noqa: ANN401
    if isinstance(leaf, jax.Array):
        _check(leaf, path)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return {"key": str(jax.random.key_impl(leaf)), "bits": np.asarray(jax.random.key_data(leaf))}
        saved = _bits(np.asarray(leaf))
        return {"weak": True, **saved} if leaf.weak_type else saved
    if isinstance(leaf, (np.ndarray, np.generic)):
        return _bits(np.asarray(leaf)) if _is_foreign(leaf.dtype) else leaf
    if type(leaf) in _PLAIN:
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise UnsupportedState(f"{path} cannot be saved", "it is abstract: a shape and a dtype without values")
    raise UnsupportedState(f"{path} cannot be saved", f"it is a {type(leaf).__module__}.{type(leaf).__qualname__}")


def _check(array: jax.Array, path: str) -> None:
    if isinstance(array, jax.core.Tracer):
        raise UnsupportedState(f"{path} cannot be saved", "it is traced: its value is known only outside of jit")
    if array.is_deleted():
        raise UnsupportedState(
            f"{path} cannot be saved",
            "its buffer was deleted or donated",
            "Put what the step returned into the state, not what it was given.",
        )
    if not array.is_fully_addressable:
        raise UnsupportedState(f"{path} cannot be saved", "parts of it lie on devices of other processes")


def _is_foreign(dtype: np.dtype[Any]) -> bool:
    """Whether it is one of ml_dtypes, which NumPy alone cannot name."""
    return dtype.type.__module__ != "numpy"


def _bits(array: np.ndarray) -> dict[str, Any]:
    """An array with its dtype's name; of a dtype that is foreign to NumPy the bits, as unsigned integers."""
    bits = array.view(f"u{array.dtype.itemsize}") if _is_foreign(array.dtype) else array
    return {"dtype": array.dtype.name, "bits": bits}


def _load(leaf: Any, saved: Any, path: str) -> Any:  # noqa: ANN401
    if _is_number(leaf) and _is_number(saved) and isinstance(leaf, np.generic) != isinstance(saved, np.generic):
        return saved  # a best loss that began as `inf`, and is the mean of something now
    if isinstance(leaf, jax.Array):
        _check(leaf, path)
        return _load_array(leaf, saved, path)
    if isinstance(leaf, (np.ndarray, np.generic)):
        return _load_numpy(leaf, saved, path)
    if type(leaf) in {bool, int, float} and isinstance(saved, dict) and not saved["bits"].shape:
        return _made(saved, jnp.dtype(saved["dtype"]))  # a number that jit has made an array: Flax's `TrainState.step`
    if type(saved) is not type(leaf):
        raise StateMismatch(f"{path} does not fit", f"it was {_told(saved)} and is {_told(leaf)} now")
    return saved


def _is_number(value: object) -> bool:
    return type(value) in {bool, int, float} or isinstance(value, np.generic)


def _load_array(leaf: jax.Array, saved: Any, path: str) -> jax.Array:  # noqa: ANN401
    if _told(saved) != _told(leaf):
        raise StateMismatch(f"{path} does not fit", f"it was {_told(saved)} and is {_told(leaf)} now")
    if "key" in saved:
        made = jax.random.wrap_key_data(jnp.array(saved["bits"]), impl=saved["key"])
    else:
        made = _made(saved, leaf.dtype)
    return jax.device_put(made, leaf.sharding) if leaf.committed else made


def _made(saved: dict[str, Any], dtype: Any) -> jax.Array:  # noqa: ANN401
    # A copy in any case: JAX may otherwise keep the array's own memory, and overwrite it if the result is donated.
    array = np.array(saved["bits"]).view(dtype)
    if saved.get("weak"):
        # The one public way to a weak type and given bits: what is set takes the type of where it is set.
        return jnp.full(array.shape, array.dtype.type(0).item()).at[...].set(array)
    return jnp.array(array)


def _load_numpy(leaf: Any, saved: Any, path: str) -> Any:  # noqa: ANN401
    if _told(saved) != _told(leaf):
        raise StateMismatch(f"{path} does not fit", f"it was {_told(saved)} and is {_told(leaf)} now")
    if not isinstance(saved, dict):
        return saved
    array = np.array(saved["bits"]).view(leaf.dtype)
    return array if isinstance(leaf, np.ndarray) else array[()]


def _told(value: Any) -> str:  # noqa: ANN401
    """A leaf, live or saved, in words that are equal if the one can become the other."""
    if isinstance(value, dict) and "key" in value:
        return f"a key of {value['key']} {list(value['bits'].shape[:-1])}"
    if isinstance(value, dict):
        return f"{value['dtype']} {list(value['bits'].shape)}"
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"a key of {jax.random.key_impl(value)} {list(value.shape)}"
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return f"{value.dtype.name} {list(value.shape)}"
    return f"a {type(value).__name__}"
