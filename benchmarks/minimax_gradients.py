"""What the gradients that minimax-ued derives by hand save over automatic ones, in CPU-seconds of this process.

    python -m benchmarks.minimax_gradients               # some minutes
    python -m benchmarks.minimax_gradients --rounds 1 --small

- LSTM-256 over 256 x 32 steps, next to a plain scan of its steps;
- the first product of a teacher over 61 x 32 maps of 13x13, each edited in one cell, next to the same product taken
  densely.

Both sides of a pair are measured alternately, after one warm-up, and must give the same gradients up to rounding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Json, record, table, write_result
from minimax_ued.nets.edited_maps import edited_map_product
from minimax_ued.nets.recurrent.lstm import LSTMCarry, LSTMParams, lstm_sequence


def plain_sequence(params: LSTMParams, carry: LSTMCarry, inputs: Any, resets: Any) -> tuple[LSTMCarry, Any]:
    """The LSTM as a scan of its steps, differentiated automatically; the inputs are projected outside of it."""

    def body(carry: LSTMCarry, step: Any) -> tuple[LSTMCarry, Any]:
        projected, reset = step
        keep = (~reset)[:, None].astype(projected.dtype)
        i, f, g, o = jnp.split(projected + (keep * carry.hidden) @ params.recurrent_kernel, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * (keep * carry.cell) + jax.nn.sigmoid(i) * jnp.tanh(g)
        carry = LSTMCarry(cell, jax.nn.sigmoid(o) * jnp.tanh(cell))
        return carry, carry.hidden

    return jax.lax.scan(body, carry, (inputs @ params.input_kernel + params.bias, resets))


def dense_product(images: Any, kernel: Any, bias: Any, weights: Any) -> Any:
    """What `edited_map_product` computes, densely."""
    steps, n, height, width, _ = images.shape
    windows = [images[:, :, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3)]
    features = jax.nn.relu(jnp.concatenate(windows, -1) @ kernel.reshape(-1, kernel.shape[-1]) + bias)
    return features.reshape(steps, n, -1) @ weights


def lstm_pair(small: bool) -> dict[str, Callable[[], Any]]:
    """Return the gradients of the LSTM by its weights and inputs, by hand and automatically."""
    steps, batch, width, units = (16, 4, 8, 8) if small else (256, 32, 149, 256)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return jnp.asarray(rng.normal(size=shape) * 0.05, jnp.float32)

    params = LSTMParams(normal(width, 4 * units), normal(units, 4 * units), normal(4 * units))
    carry, inputs = LSTMCarry(normal(batch, units), normal(batch, units)), normal(steps, batch, width)
    resets = jnp.asarray(rng.random((steps, batch)) < 0.01)

    def gradient(run: Any) -> Callable[[], Any]:
        function = jax.jit(jax.grad(lambda p, x, resets: (run(p, carry, x, resets)[1] ** 2).sum(), (0, 1)))
        return lambda: function(params, inputs, resets)

    return {"by hand": gradient(lstm_sequence), "automatic": gradient(plain_sequence)}


def map_pair(small: bool) -> dict[str, Callable[[], Any]]:
    """Return the gradients of a teacher's first product by its weights, from the changes and densely."""
    steps, batch, side, filters, outputs = (8, 2, 5, 4, 8) if small else (61, 32, 13, 128, 1024)
    rng = np.random.default_rng(0)
    images = np.zeros((steps, batch, side + 2, side + 2, 3), np.float32)
    for t in range(1, steps):
        images[t] = images[t - 1]
        images[t, np.arange(batch), rng.integers(side + 2, size=batch), rng.integers(side + 2, size=batch)] = 1.0
    shapes = ((3, 3, 3, filters), (filters,), (side * side * filters, outputs))
    weights = [jnp.asarray(rng.normal(size=shape) * 0.05, jnp.float32) for shape in shapes]

    def gradient(run: Any) -> Callable[[], Any]:
        function = jax.jit(jax.grad(lambda maps, *w: (run(maps, *w) ** 2).sum(), (1, 2, 3)))
        return lambda: function(jnp.asarray(images), *weights)

    return {"from changes": gradient(edited_map_product), "dense": gradient(dense_product)}


def measure(pair: dict[str, Callable[[], Any]], rounds: int) -> Json:
    """Return the CPU-seconds of each side by round, and how far the gradients are apart, relative to their size."""
    first, second = (jax.tree.leaves(jax.block_until_ready(run())) for run in pair.values())
    apart = max(float(abs(a - b).max() / abs(b).max()) for a, b in zip(first, second, strict=True))
    seconds: dict[str, list[float]] = {name: [] for name in pair}
    for _ in range(rounds):
        for name, run in pair.items():
            begun = time.process_time()
            jax.block_until_ready(run())
            seconds[name].append(time.process_time() - begun)
    return {"cpu_seconds": seconds, "apart": apart}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minimax_gradients", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs; nothing is written")
    options = parser.parse_args(arguments)
    pairs = {"LSTM": lstm_pair(options.small), "first product of a teacher": map_pair(options.small)}
    found = {name: measure(pair, options.rounds) for name, pair in pairs.items()}
    rows = [
        [name, side, f"{np.median(values):.3f}", f"{min(values):.3f} .. {max(values):.3f}"]
        for name, one in found.items()
        for side, values in one["cpu_seconds"].items()
    ]
    print(table(rows, ["gradient", "", "CPU-seconds, median", "range"]))
    same = all(one["apart"] < 1e-3 for one in found.values())
    print("the gradients agree" if same else "THE GRADIENTS DIFFER")
    if not options.small:
        given = sys.argv[1:] if arguments is None else list(arguments)
        about = record("benchmarks.minimax_gradients", given, ["minimax-ued"])
        write_result("minimax_gradients", {"benchmark": "minimax_gradients", **about, **found})
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
