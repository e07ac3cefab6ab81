"""Sparse variational dropout in JAX, on scikit-learn's 8x8 digits; some seconds.

    python examples/jax/train_digits.py

The training step is one compiled function: gradients of cross-entropy + KL / N by
jax.value_and_grad, Adam written out. Ends with test errors, the five size measures, and
the pruned network as a sparse model for NumPy and SciPy alone. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy

from vdcore import datasets
from vdcore.backends import jax_backend as vd

SIZES = (64, 200, 100, 10)
BATCH = 50
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # of Adam


def make_weights(key):
    """He-normal weights and zero biases, as a plain pytree."""
    keys = jax.random.split(key, len(SIZES) - 1)
    return [
        {
            "W": jax.random.normal(k, (inputs, outputs)) * (2 / inputs) ** 0.5,
            "b": jnp.zeros(outputs),
        }
        for k, inputs, outputs in zip(keys, SIZES[:-1], SIZES[1:], strict=True)
    ]


def scores(params, x, key=None):
    """The network; with a key in training, without one pruned."""
    keys = vd.split(key, len(params))
    for layer, k in zip(params[:-1], keys[:-1], strict=True):
        x = jax.nn.relu(vd.linear(layer["W"], x, layer["b"], key=k))
    return vd.linear(params[-1]["W"], x, params[-1]["b"], key=keys[-1])


def objective(params, x, t, key, kl_weight):
    """Nats per example; a KL weight of 1 / N is the evidence lower bound."""
    log_p = jax.nn.log_softmax(scores(params, x, key))
    return -jnp.take_along_axis(log_p, t[:, None], 1).mean() + kl_weight * vd.kl(params)


@partial(jax.jit, donate_argnums=0)
def train_epoch(state, x, t, key, step_size, kl_weight):
    """One pass over the data, in batches of a random order."""
    key, order_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(x))
    batches = order[: len(x) // BATCH * BATCH].reshape(-1, BATCH)

    def step(state, batch):
        params, m, v, count = state
        step_key = jax.random.fold_in(key, count)
        loss, g = jax.value_and_grad(objective)(
            params, x[batch], t[batch], step_key, kl_weight
        )
        count = count + 1
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        rate = step_size * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        params = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPS), params, m, v
        )
        return (params, m, v, count), loss

    state, losses = jax.lax.scan(step, state, batches)
    return state, losses.mean()


def error_percent(y, t):
    return 100 * float((y.argmax(axis=1) != t).mean())


def positive(text):
    if int(text) < 1:
        message = f"must be at least 1, got {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-e", "--epoch", type=positive, default=200)
    parser.add_argument("-o", "--out", type=Path, default=Path("result/jax_digits"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    train, test = datasets.get_digits()
    x, t, x_test, t_test = map(jnp.asarray, (*train.arrays, *test.arrays))
    key, weights_key = jax.random.split(jax.random.key(args.seed))
    params = vd.init(make_weights(weights_key))
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros, jax.tree.map(jnp.copy, zeros), jnp.asarray(0))

    every = max(1, args.epoch // 10)
    print(f"{'epoch':>5}{'loss':>10}{'test error %':>14}{'sparsity':>10}")
    for epoch in range(1, args.epoch + 1):
        done = (epoch - 1) / args.epoch
        kl_weight = min(1.0, max(0.0, (done - 0.05) / 0.25)) / len(x)
        step_size = 2e-3 * min(1.0, 2 - 2 * done)
        epoch_key = jax.random.fold_in(key, epoch)
        state, loss = train_epoch(state, x, t, epoch_key, step_size, kl_weight)
        if epoch % every == 0 or epoch == args.epoch:
            params = state[0]
            error = error_percent(scores(params, x_test), t_test)
            sparsity = float(vd.sparsity(params))
            print(f"{epoch:5}{float(loss):10.4f}{error:14.2f}{sparsity:10.4f}")

    params = state[0]
    layers = [layer for one in params for layer in (vd.Linear(**one), "relu")][:-1]
    sparse = vd.to_cpu_sparse(layers)
    y = sparse.predict(numpy.asarray(x_test))
    difference = float(abs(y - scores(params, x_test)).max())
    args.out.mkdir(parents=True, exist_ok=True)
    sparse.save(args.out / "model_sparse.npz")
    print(f"\ntest error pruned: {error_percent(y, t_test):.2f} %")
    print(vd.size(params))
    print(f"sparse model: scores within {difference:.1e} of JAX's")


if __name__ == "__main__":
    main()
