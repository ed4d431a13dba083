"""A Flax model under optax with bfloat16 weights, dropout keys and a loss scale: ``flaxed``."""

from __future__ import annotations

import hashlib
import sys

import fate
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from spotweld import Checkpointer, Sampler
from spotweld.checkpoint.adapters.jax import JaxState


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs):  # noqa: ANN001, ANN204
        hidden = nn.relu(nn.Dense(16, param_dtype=jnp.bfloat16)(inputs))
        hidden = nn.Dropout(0.3, deterministic=False)(hidden)
        return nn.Dense(2)(hidden)


@jax.jit
def update(train, key, inputs, labels):  # noqa: ANN001, ANN201
    key, drop = jax.random.split(key)

    def loss_of(params):  # noqa: ANN001, ANN202
        logits = train.apply_fn({"params": params}, inputs, rngs={"dropout": drop})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradients = jax.value_and_grad(loss_of)(train.params)
    return train.apply_gradients(grads=gradients), key, loss


def main() -> None:
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(50, 8)).astype(np.float32), rng.integers(0, 2, 50)
    net = Net()
    params = net.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, inputs[:1])["params"]
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.01, 40)))
    train = TrainState.create(apply_fn=net.apply, params=params, tx=optimizer)
    sampler = Sampler(len(inputs), 8, seed=3)
    state = JaxState(train=train, key=jax.random.key(2))
    for step in Checkpointer({"train": state, "sampler": sampler}, every=2).steps(40):
        batch = sampler.next()
        state.train, state.key, loss = update(state.train, state.key, inputs[batch], labels[batch])
        fate.tell(step, float(loss).hex())
        fate.step_done(step)
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves((state.train, jax.random.key_data(state.key))):
        digest.update(np.asarray(leaf).tobytes())
    sys.stdout.write(digest.hexdigest())
