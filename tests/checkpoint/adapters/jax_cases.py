"""Pytrees of JAX come back bit for bit, where they were, or are refused with their place. See ``test_jax.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from spotweld import Checkpointer
from spotweld.checkpoint.adapters.jax import JaxState
from spotweld.errors import StateMismatch, UnsupportedState
from spotweld.store.opening import open_store

if TYPE_CHECKING:
    from pathlib import Path


class Pair(NamedTuple):
    first: Any
    second: Any


class Node(flax.struct.PyTreeNode):
    weight: Any
    function: Any = flax.struct.field(pytree_node=False)


def bits(leaf: object) -> tuple[Any, ...]:
    if isinstance(leaf, jax.Array):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return ("key", str(leaf.dtype), np.asarray(jax.random.key_data(leaf)).tobytes())
        return (str(leaf.dtype), leaf.shape, leaf.weak_type, np.asarray(leaf).tobytes())
    if isinstance(leaf, (np.ndarray, np.generic)):
        return (type(leaf), str(leaf.dtype), leaf.tobytes())
    return (type(leaf), leaf)


def resumed(before: JaxState, after: JaxState) -> JaxState:
    """What comes of ``after`` when a run that ended with ``before`` is resumed."""
    store = open_store("memory:", verify=False)
    for state in (before, after):
        for _ in Checkpointer({"jax": state}, store=store, every=1, notices=()).steps(1):
            pass
    return after


FLOATS = ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "complex64"]
WHOLE = ["int32", "uint8", "int4", "uint4", "bool"]


@pytest.mark.parametrize("dtype", FLOATS + WHOLE)
@pytest.mark.parametrize("shape", [(), (3, 2), (0, 4)])
def test_every_dtype_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(0).integers(0, 4, shape)
    array = jnp.array(drawn, dtype) * (jnp.array(-0.3, dtype) if dtype in FLOATS else jnp.array(1, dtype))
    after = resumed(JaxState(part={"a": array}), JaxState(part={"a": jnp.zeros(shape, dtype)}))
    assert bits(after.part["a"]) == bits(array)


@pytest.mark.parametrize("number", [0.5, 3, 1j])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_weak_types_stay_weak(number: complex, shape: tuple[int, ...]) -> None:
    array = jnp.full(shape, number)
    assert array.weak_type
    after = resumed(JaxState(a=array), JaxState(a=jnp.full(shape, type(number)(0))))
    assert bits(after.a) == bits(array)


def test_bits_that_arithmetic_would_not_keep_come_back() -> None:
    nans = jnp.array(np.array([0x7FC00001, 0xFF800001, 0x80000000, 1], np.uint32).view(np.float32))
    weak = jnp.full(4, 0.0).at[:].set(nans)
    half = jax.lax.bitcast_convert_type(jnp.array([0x7FC1, 0xFF81, 0x8000, 1], jnp.uint16), jnp.bfloat16)
    zeros = JaxState(a=jnp.zeros(4), b=jnp.zeros(4, jnp.bfloat16), c=jnp.full(4, 0.0))
    after = resumed(JaxState(a=nans, b=half, c=weak), zeros)
    assert [bits(after.a), bits(after.b), bits(after.c)] == [bits(nans), bits(half), bits(weak)]


def test_every_structure_and_sort_of_leaf_comes_back() -> None:
    def tree(seed: int) -> dict[str, Any]:
        key = jax.random.key(seed)
        params = {"w": jax.random.normal(key, (4, 3)), "b": jnp.full(3, seed, jnp.bfloat16)}
        return {
            "node": Node(weight=params, function=len),
            "pair": Pair([jnp.asarray(seed + 0.5)], (None, {"x": seed})),
            "optax": optax.chain(optax.clip(1.0), optax.adamw(1e-3)).init(params),
            "keys": [key, jax.random.split(key, 3), jax.random.PRNGKey(seed), jax.random.key(seed, impl="rbg")],
            "numpy": [
                np.full(2, seed),
                np.float32(seed),
                np.full(2, seed, ml_dtypes.bfloat16),
                ml_dtypes.bfloat16(seed),
            ],
            "plain": [seed, seed / 3, f"{seed}", bytes([seed]), bool(seed)],
        }

    before, after = JaxState(**tree(1)), JaxState(**tree(0))
    structure = jax.tree.structure(vars(after))
    wanted = [bits(leaf) for leaf in jax.tree.leaves(vars(before))]
    resumed(before, after)
    assert [bits(leaf) for leaf in jax.tree.leaves(vars(after))] == wanted
    assert jax.tree.structure(vars(after)) == structure


def test_a_number_that_jit_made_an_array_comes_back_as_one() -> None:
    stepped = jax.jit(lambda step: step + 1)(0)
    after = resumed(JaxState(step=stepped), JaxState(step=0))
    assert bits(after.step) == bits(stepped)


@pytest.mark.parametrize(("first", "later"), [(np.inf, np.float64(0.5)), (np.float64(np.inf), 0.5), (0, np.int64(3))])
def test_a_number_may_become_a_numpy_scalar_and_back(first: object, later: object) -> None:
    state = JaxState(best=first)
    state.load_state_dict(JaxState(best=later).state_dict())
    assert type(state.best) is type(later)
    assert state.best == later


def test_a_restored_array_may_be_donated() -> None:
    after = resumed(JaxState(a=jnp.arange(1000.0)), JaxState(a=jnp.zeros(1000)))
    double = jax.jit(lambda a: a * 2, donate_argnums=0)
    np.testing.assert_array_equal(np.asarray(double(double(after.a))), np.arange(1000.0) * 4)


def test_what_has_no_value_is_refused_with_its_place() -> None:
    gone = jnp.ones(3)
    gone.delete()
    for leaf, why in (
        (gone, "deleted or donated"),
        (jax.ShapeDtypeStruct((2,), jnp.float32), "abstract"),
        (len, "builtin"),
    ):
        with pytest.raises(UnsupportedState, match=why) as error:
            JaxState(params={"layer": [leaf]}).state_dict()
        assert "params['layer'][0]" in str(error.value)
    with pytest.raises(UnsupportedState, match="traced"):
        jax.jit(lambda a: JaxState(a=a).state_dict() and a)(jnp.ones(2))


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ({"a": jnp.zeros((2, 1))}, r"tree\['a'\] does not fit: it was float32 \[2\] and is float32 \[2, 1\]"),
        ({"a": jnp.zeros(2, jnp.bfloat16)}, "is bfloat16"),
        ({"a": jnp.zeros(2), "b": jnp.zeros(1)}, r"tree\['b'\] does not fit: only the program has it"),
        ({}, r"tree\['a'\] does not fit: only the checkpoint has it"),
        ({"a": jax.random.key(0)}, "is a key of"),
        ({"a": "text"}, "is a str now"),
        ({"a": np.zeros(2, np.float64)}, r"is float64 \[2\]"),
    ],
)
def test_another_tree_is_refused_and_nothing_changed(now: dict[str, Any], why: str) -> None:
    saved = JaxState(other=jnp.ones(1), tree={"a": jnp.ones(2)}).state_dict()
    state = JaxState(other=jnp.zeros(1), tree=now)
    with pytest.raises(StateMismatch, match=why):
        state.load_state_dict(saved)
    assert state.tree is now
    assert state.other[0] == 0


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="no part 'b'"):
        _ = JaxState(a=1).b


@pytest.mark.slow
def test_a_sharded_array_comes_back_sharded_on_as_many_devices_as_there_are(tmp_path: Path) -> None:
    code = """if True:
        import sys, jax, jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from spotweld import Checkpointer
        from spotweld.checkpoint.adapters.jax import JaxState
        spread = NamedSharding(Mesh(np.array(jax.devices()), ("x",)), PartitionSpec("x"))
        last = jax.devices()[-1]
        fresh = len(jax.devices()) == 4
        state = JaxState(a=jax.device_put((jnp.arange(8.0) if fresh else jnp.zeros(8)), spread),
                         b=jax.device_put(jnp.full(2, float(fresh)), last), c=jnp.full(2, float(fresh)))
        for _ in Checkpointer({"s": state}, store=sys.argv[1], every=1, notices=()).steps(1):
            pass
        assert state.a.sharding == spread and state.b.devices() == {last} and not state.c.committed
        assert len(state.a.addressable_shards) == len(jax.devices())
        print(state.a.tolist(), state.b.tolist(), state.c.tolist())
    """
    for devices in (4, 2):
        environ = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_PLATFORMS": "cpu",
        }
        done = subprocess.run(
            [sys.executable, "-c", code, f"file:{tmp_path}"], env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.split("\n")[0] == f"{[float(n) for n in range(8)]} [1.0, 1.0] [1.0, 1.0]"
