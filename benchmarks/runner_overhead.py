"""What `paperloop.run` costs over a bare loop, at about one millisecond a step.

    python -m benchmarks.runner_overhead                  # about half a minute
    python -m benchmarks.runner_overhead --work numpy --step-us 200

Both loops drive the same trainer for the same number of steps and end in the same state, bit for bit; `run` also logs
every 100th step, writes its run folder and saves once at the end. They are measured alternately in one process. What
is reported:

- per step, clocked: the time between the return of a step and the call of the next, summed from the first step to the
  last, less the same of the bare loop, as a fraction of the bare loop's time. Noise in the work itself stays out of it.
  Goal: below 1 %.
- per step, by difference: the whole time from first to last step against the bare loop's. It includes what the first
  cannot see (caches), and all the noise of the work: on a busy machine it says little.
- per run: opening the run folder, git and version records, the final checkpoint with its hashes and fsyncs.

A step's work is calibrated: a small compiled JAX function, or NumPy, repeated until it takes `--step-us`.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import paperloop
from benchmarks.harness import Json, record, table, write_result

GOAL = 0.01


@dataclasses.dataclass(frozen=True)
class WorkConfig:
    """How much a step does: `repeats` products of a `size` x `size` matrix with a vector."""

    size: int = 64
    repeats: int = 10


class NumpyTrainer:
    """A power iteration in NumPy. Clocks the time spent outside its steps, between the first and the last."""

    def __init__(self, config: WorkConfig) -> None:
        self.config = config
        self.matrix = np.random.default_rng(0).normal(size=(config.size, config.size))
        self._restart()

    def _restart(self) -> None:
        self.done, self.first, self.last, self.outside = 0, 0.0, 0.0, 0.0

    def init(self, seed: int) -> Any:
        self._restart()
        return np.random.default_rng(seed).normal(size=self.config.size)

    def step(self, state: Any) -> tuple[Any, Mapping[str, Any]]:
        entered = time.perf_counter()
        if self.done:
            self.outside += entered - self.last
        else:
            self.first = entered
        self.done += 1
        state = self._work(state)
        metrics = self._metrics(state)
        self.last = time.perf_counter()
        return state, metrics

    def progress(self, state: Any) -> Mapping[str, int]:
        return {"steps": self.done}

    def save(self, state: Any, folder: Path) -> None:
        np.save(folder / "state.npy", np.asarray(state))

    def restore(self, folder: Path, like: Any) -> Any:
        return np.load(folder / "state.npy")

    def _work(self, vector: Any) -> Any:
        for _ in range(self.config.repeats):
            vector = self.matrix @ vector
            vector = vector / np.linalg.norm(vector)
        return vector

    def _metrics(self, state: Any) -> Mapping[str, Any]:
        return {"loss": state[0], "norm": state[-1]}


class JaxTrainer(NumpyTrainer):
    """The same, compiled; it waits for the device at every step, so that a step takes as long as its work."""

    def __init__(self, config: WorkConfig) -> None:
        super().__init__(config)
        import jax
        import jax.numpy as jnp

        matrix = jnp.asarray(self.matrix, jnp.float32)

        def body(_: Any, vector: Any) -> Any:
            vector = matrix @ vector
            return vector / jnp.linalg.norm(vector)

        self._compiled = jax.jit(lambda vector: jax.lax.fori_loop(0, config.repeats, body, vector))
        self._compiled_metrics = jax.jit(lambda vector: {"loss": vector[0], "norm": vector[-1]})
        self._block = jax.block_until_ready

    def init(self, seed: int) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(super().init(seed), jnp.float32)

    def _work(self, vector: Any) -> Any:
        return self._block(self._compiled(vector))

    def _metrics(self, state: Any) -> Mapping[str, Any]:
        return self._compiled_metrics(state)


TRAINERS = {"numpy": NumpyTrainer, "jax": JaxTrainer}


def calibrated(work: str, step_us: float) -> NumpyTrainer:
    """Return a trainer of that kind whose step takes about `step_us` microseconds."""
    repeats = 8
    while True:
        trainer = TRAINERS[work](WorkConfig(repeats=repeats))
        took = _seconds_per_step(trainer, 50) * 1e6
        if took >= 0.8 * step_us:
            return TRAINERS[work](WorkConfig(repeats=max(1, round(repeats * step_us / took))))
        repeats = max(repeats + 1, int(min(4.0, 1.1 * step_us / took) * repeats))


def _seconds_per_step(trainer: NumpyTrainer, steps: int) -> float:
    state, _ = trainer.step(trainer.init(0))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(steps):
            state, _ = trainer.step(state)
        times.append((time.perf_counter() - start) / steps)
    return statistics.median(times)


def bare(trainer: NumpyTrainer, steps: int, folder: Path) -> Any:
    state = trainer.init(0)
    for _ in range(steps):
        state, _ = trainer.step(state)
    return state


def with_runner(trainer: NumpyTrainer, steps: int, folder: Path) -> Any:
    return paperloop.run(trainer, folder / "run", steps=steps, seed=0, log_every=100, progress=False)


def timed(loop: Callable[..., Any], trainer: NumpyTrainer, steps: int) -> tuple[Any, dict[str, float]]:
    """Run `loop`; return its state and seconds: in all, first to last step, outside the steps, and around them."""
    with tempfile.TemporaryDirectory() as folder:
        start, cpu = time.perf_counter(), time.process_time()
        state = loop(trainer, steps, Path(folder))
        total, cpu = time.perf_counter() - start, time.process_time() - cpu
    inside = trainer.last - trainer.first
    return state, {
        "total_s": total,
        "cpu_s": cpu,
        "steps_s": inside,
        "outside_s": trainer.outside,
        "around_s": total - inside,
    }


def measure(work: str, steps: int, step_us: float, rounds: int) -> tuple[Json, list[str]]:
    trainer = calibrated(work, step_us)
    for loop in (bare, with_runner):  # imports, compiles, caches
        timed(loop, trainer, 20)
    rows: dict[str, list[dict[str, float]]] = {"bare": [], "run": []}
    equal = True
    for _ in range(rounds):
        state, row = timed(bare, trainer, steps)
        rows["bare"].append(row)
        other, row = timed(with_runner, trainer, steps)
        rows["run"].append(row)
        equal = equal and np.array_equal(np.asarray(state), np.asarray(other))

    pairs = list(zip(rows["bare"], rows["run"], strict=True))
    bare_s = statistics.median(b["steps_s"] for b, _ in pairs)
    clocked = _spread([(r["outside_s"] - b["outside_s"]) / bare_s for b, r in pairs])
    difference = _spread([r["steps_s"] / b["steps_s"] - 1 for b, r in pairs])
    around = _spread([r["around_s"] - b["around_s"] for b, r in pairs])
    step_us = 1e6 * bare_s / steps
    passed = bool(equal and clocked["median"] < GOAL)
    result: Json = {
        "step_us": step_us,
        "steps": steps,
        "rounds": rounds,
        "equal": equal,
        "per_step_clocked": clocked,
        "per_step_difference": difference,
        "per_run_s": around,
        "trials": rows,
        "goal": GOAL,
        "passed": passed,
    }
    cells = [
        work,
        f"{step_us:.0f}",
        f"{clocked['median']:.2%} ({clocked['min']:.2%} .. {clocked['max']:.2%})",
        f"{step_us * clocked['median']:.1f}",
        f"{difference['median']:+.1%} ({difference['min']:+.1%} .. {difference['max']:+.1%})",
        f"{1e3 * around['median']:.0f}",
        "yes" if equal else "NO",
        "met" if passed else "NOT met",
    ]
    return result, cells


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner_overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=tuple(TRAINERS), action="append", help="default: both")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--step-us", type=float, default=1000.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="folder of the result (default: benchmarks/results)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args(arguments)
    result: Json = {"benchmark": "runner_overhead", **record("benchmarks.runner_overhead", arguments), "work": {}}
    rows = []
    for work in args.work or tuple(TRAINERS):
        result["work"][work], cells = measure(work, args.steps, args.step_us, args.rounds)
        rows.append(cells)
    header = ("work", "us/step", "clocked", "us", "by difference", "ms per run", "same state", f"goal < {GOAL:.0%}")
    print(table(rows, header))
    if not args.no_write:
        print("\nwritten:", write_result("runner_overhead", result, args.out).name)
    return 0 if all(part["passed"] for part in result["work"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
