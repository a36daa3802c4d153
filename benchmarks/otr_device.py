"""How far labelling on one device is from what its memory allows: a million transitions, one demonstration.

    python -m benchmarks.otr_device                       # on JAX's default device: a GPU where there is one
    python -m benchmarks.otr_device --steps 50000 --pairs 4 --rounds 2 --no-write

Contestants, in turn in one process: the JAX back end with its kernels in float32 and in bfloat16 on all episodes (1000
steps of 17 dimensions each, as in `benchmarks.otr_labels`), and ott-jax, one jitted call an episode, on the first
`--pairs` of them. What is timed is `otr.transport`: from arrays on the host to expected costs on the host.

Equal means: on the first `--pairs` episodes float32 differs from the compiled CPU path (from ott-jax where numba is
absent) by less than 5e-6, bfloat16 by less than 1e-4.

The floor: each of the 100 iterations reads every kernel twice, once for the rows and once for the columns; that many
bytes, at the bandwidth of a plain copy measured on the same device in the same run. A pass that does both at once has
half of it, and a device whose caches hold a kernel of 4 MB can be below both. The goal is a second of solver time for a
million transitions on a GPU; no goal is set on a CPU, where `otr label` takes the compiled path by default.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Comparison, InProcess, Json, alternate, record, table, write_result
from benchmarks.otr_labels import LENGTH, PEER, TOLERANCE, WIDTH, ours, paths, peer

NAME = "otr_device"
ITERATIONS = 100
GOAL_S = 1.0  # for a million transitions, on a GPU
#: Kernel type -> (bytes of a cell, largest difference of expected costs that passes).
KERNELS = {"float32": (4, TOLERANCE), "bfloat16": (2, 1e-4)}


def bandwidth(size: int) -> float:
    """Bytes per second that a copy of `size` bytes reads and writes on JAX's default device, best of ten."""
    import jax
    import jax.numpy as jnp

    step = jax.jit(lambda x: x + 1.0, donate_argnums=0)
    x = jax.block_until_ready(step(jnp.zeros(size // 4, jnp.float32)))
    best = np.inf
    for _ in range(10):
        begun = time.perf_counter()
        x = jax.block_until_ready(step(x))
        best = min(best, time.perf_counter() - begun)
    return 2 * size / best


def floor_s(pairs: int, length: int, cell_bytes: int, rate: float) -> float:
    """Seconds that reading the kernels of all iterations twice takes at `rate` bytes per second."""
    return ITERATIONS * 2 * pairs * length * length * cell_bytes / rate


def measure(steps: int, pairs: int, length: int, rounds: int) -> tuple[Json, str]:
    """Run all contestants; returns the result and its table."""
    import jax

    from otr import SinkhornConfig, transport

    rng = np.random.default_rng(0)
    centre = rng.normal(size=WIDTH)
    demo = paths(rng, 1, length, centre)[0]
    episodes = paths(rng, max(1, steps // length), length, centre)
    some = episodes[:pairs]
    found: dict[str, np.ndarray] = {}
    contestants = [
        InProcess(kernel, ours(kernel, episodes, demo, found, backend="jax", kernel_dtype=kernel)) for kernel in KERNELS
    ]
    contestants.append(InProcess(PEER, peer(some, demo, found)))

    def check(comparison: Comparison) -> Json:
        try:
            import numba  # noqa: F401

            truth = transport(list(some), [demo], solver=SinkhornConfig(backend="numba")).expected_costs[0]
        except ImportError:
            truth = found.get(PEER)
        if truth is None:
            return {"equal": None}
        out: Json = {name: float(abs(found[name][: truth.size] - truth).max()) for name in KERNELS}
        return out | {"equal": all(out[name] < allowed for name, (_, allowed) in KERNELS.items())}

    comparison, checks = alternate(contestants, rounds, check)
    assert checks is not None
    device = jax.devices()[0]
    on_gpu = device.platform == "gpu"
    rate = bandwidth(1 << 30 if on_gpu else 1 << 28)
    rows, measured = [], {}
    for name in comparison.trials:
        seconds = len(episodes) / comparison.rate(name)
        row: Json = {"all_pairs_s": seconds}
        cells = [name, f"{1e3 / comparison.rate(name):.2f}", f"{seconds:.2f}"]
        if name in KERNELS:
            row["floor_s"] = floor_s(len(episodes), length, KERNELS[name][0], rate)
            row["share_of_floor"] = row["floor_s"] / seconds
            row["million_s"] = seconds * 1e6 / (len(episodes) * length)
            cells += [f"{row['floor_s']:.2f}", f"{row['share_of_floor']:.0%}"]
            cells.append(f"{checks[name]:.1e}" if name in checks else "")
        else:
            cells += ["", "", ""]
        if PEER in comparison.trials and name != PEER:
            row["of_peer"] = comparison.ratio(name, PEER)
        rows.append([*cells, str(row.get("of_peer", ""))])
        measured[name] = row
    million = measured.get("float32", {}).get("million_s")
    passed = checks["equal"] is not False and (not on_gpu or (million is not None and million <= GOAL_S))
    equal = {True: "equal", False: "NOT EQUAL", None: "not compared"}[checks["equal"]]
    header = ("", "ms/pair", f"s for {len(episodes)} pairs", "floor s", "of floor", "max |dEbar|", "of ott-jax, wall")
    goal = f"; goal {GOAL_S:g} s for a million transitions {'met' if passed else 'NOT met'}" if on_gpu else ""
    text = (
        f"{len(episodes)} episodes of {length} steps against one demonstration on {device.device_kind}, which copies "
        f"{rate / 1e9:.0f} GB/s; expected costs are {equal}{goal}\n{table(rows, header)}"
    )
    result = {
        "device": device.device_kind,
        "platform": device.platform,
        "episodes": len(episodes),
        "length": length,
        "peer_pairs": len(some),
        "rounds": rounds,
        "bandwidth_bytes_per_s": rate,
        "measured": measured,
        "trials": comparison.trials,
        "skipped": comparison.skipped,
        "checks": checks,
        "passed": passed,
    }
    return result, text


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.otr_device", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=64, help="episodes that the peer solves")
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder of the result (default: benchmarks/results)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args(arguments)
    result, text = measure(args.steps, args.pairs, args.length, args.rounds)
    print(text)
    if not args.no_write:
        head = {"benchmark": NAME, **record(f"benchmarks.{NAME}", arguments, ["otr", "ott-jax", "jax"])}
        print("written:", write_result(f"{NAME}-{result['platform']}", head | result, args.out))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
