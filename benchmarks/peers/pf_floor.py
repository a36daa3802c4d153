"""The hardware's floor for `policy_finetune_speed.py`: the matrix products of an update, and nothing else.

Multiplies [256, 256] matrices, the shape that nearly all of an update's arithmetic has, by NumPy's BLAS or by XLA, and
counts how many updates' worth of multiplications that makes.
"""

from __future__ import annotations

import argparse
from typing import Any

from pf_work import BATCH, HIDDEN, macs_per_update, versions
from serve import serve


def setup(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, HIDDEN)).astype(np.float32)
    w = np.linalg.qr(rng.normal(size=(HIDDEN, HIDDEN)))[0].astype(np.float32)  # keeps the numbers' size
    if args.by == "xla":
        import jax

        start, matrix = jax.numpy.asarray(x), jax.numpy.asarray(w)
        many = jax.jit(lambda y, m: jax.lax.fori_loop(0, args.products, lambda _, z: z @ m, y))

        def run() -> Any:
            return jax.block_until_ready(many(start, matrix))
    else:

        def run() -> Any:
            y, z = x, np.empty_like(x)
            for _ in range(args.products):
                np.matmul(y, w, out=z)
                y, z = z, (np.empty_like(x) if y is x else y)
            return y

    run()
    macs = args.products * BATCH * HIDDEN * HIDDEN

    def trial() -> dict[str, Any]:
        size = float(np.abs(np.asarray(run())).max())
        return {"work": macs / macs_per_update(), "gflop": 2 * macs / 1e9, "stats": {"largest": size}}

    return {"macs_per_update": macs_per_update(), "by": args.by, "packages": versions("numpy", "jax", "jaxlib")}, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("by", choices=("blas", "xla"))
    parser.add_argument("--products", type=int, default=5000)
    args = parser.parse_args()
    serve(lambda: setup(args))


if __name__ == "__main__":
    main()
