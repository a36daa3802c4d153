"""How many environment steps a second the training cycle makes, phase by phase, and what the hardware would allow.

    python -m benchmarks.minimax_throughput                     # 32, 256, 1024, 4096 environments; 32 and 256 on a CPU
    python -m benchmarks.minimax_throughput --envs 1024 --variant chunks --minutes 9

Robust prioritised level replay with the LSTM-256 student on 13x13 mazes, 256 steps, 5 epochs x 1 minibatch. Everything
is compiled and warmed up before it is timed, and every timing waits for the device. Each row has

- the whole cycle with an update, as `UEDTrainer.step` does it, several cycles fused into one dispatch;
- its phases, each a program of its own: choosing levels, rollout, score and buffer, update. They need not add up to the
  cycle, where the compiler can fuse across them;
- two floors. Arithmetic: the floating-point operations of the network at the rate at which this device multiplies large
  matrices. Dependency: the bare recurrence, nothing else, over as many dependent steps as the
  rollout and the epochs take.

Variants: `plain`; `chunks`, sequences cut into four for learning, a quarter of the dependent steps; `s5`, state-space
layers, learned from by an associative scan.

Rows are kept in the result file: with `--minutes` the command stops before it would take longer, and called again it
continues with the rows that are missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Json, record, table, write_result
from minimax_ued.config import BufferConfig, LSTMConfig, PPOConfig, ReplayConfig, S5Config, StudentConfig, TrainConfig

NAME = "minimax_throughput"
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunks": {"chunks": 4},
    "s5": {"core": S5Config()},
}
SIZES = {"cpu": (32, 256), "gpu": (32, 256, 1024, 4096)}
#: Forward passes that an update costs per epoch: one forward, two backward.
PASSES = 3
#: Inputs of the recurrent core: 3 x 3 x 16 of the view and 5 of the direction.
CORE_INPUTS = 149


def configuration(n_envs: int, variant: str, cycles: int, changes: Json | None = None) -> TrainConfig:
    """The released robust-PLR settings at another number of environments; always replays, so that all cycles learn."""
    settings = VARIANTS[variant]
    config = TrainConfig(
        method=ReplayConfig(buffer=BufferConfig(capacity=max(4000, 4 * n_envs), replay_prob=1.0, min_fill=1e-6)),
        student=StudentConfig(core=settings.get("core", LSTMConfig())),
        ppo=PPOConfig(chunks=settings.get("chunks", 1), bootstrap_timeouts=False),
        n_envs=n_envs,
        cycles_per_step=cycles,
    )
    return dataclasses.replace(config, **(changes or {}))


def multiplications(config: TrainConfig) -> int:
    """Multiply-adds of one forward pass of the student for one step (facts of its layers, biases left out)."""
    student, recurrent = config.student, config.student.core
    hidden = recurrent.features
    encoder = 9 * 3 * student.conv_filters * (config.env.view_size - 2) ** 2
    inputs = student.conv_filters * (config.env.view_size - 2) ** 2 + student.direction_embedding
    if recurrent.type == "lstm":
        core = 4 * hidden * (inputs + hidden)
    elif recurrent.type == "gru":
        core = 3 * hidden * (inputs + hidden)
    else:  # input layer; each layer: B and C, complex with half the states, and the gate
        core = inputs * hidden + recurrent.layers * (2 * hidden * recurrent.state + hidden * hidden)
    heads = 2 * hidden * student.head_width + student.head_width * 8
    return encoder + core + heads


def timed(function: Callable[[], Any], repeats: int, at_least: float = 0.0) -> float:
    """Median seconds of one call that waits for the device, after two calls that do not count."""
    import jax

    for _ in range(2):
        jax.block_until_ready(function())
    seconds: list[float] = []
    while len(seconds) < repeats or sum(seconds) < at_least:
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def matrix_rate(repeats: int, edge: int) -> float:
    """Multiply-adds per second of this device on products of large square matrices."""
    import jax
    import jax.numpy as jnp

    a, b = (jax.random.normal(jax.random.key(i), (edge, edge)) for i in range(2))
    product = jax.jit(jnp.dot)
    return edge**3 / timed(lambda: product(a, b), repeats, at_least=0.2)


def bare_recurrence(config: TrainConfig, repeats: int) -> tuple[float, float]:
    """Seconds of the recurrence alone: forward over the rollout's steps, and forward and backward over the learner's.

    An LSTM cell without anything around it; for other cores None is known that is as plain, and the floor is left out.
    """
    import jax
    import jax.numpy as jnp

    hidden, chunks = config.student.core.features, config.ppo.chunks
    keys = jax.random.split(jax.random.key(0), 3)
    weights = (
        jax.random.normal(keys[0], (CORE_INPUTS, 4 * hidden)) * 0.05,
        jax.random.normal(keys[1], (hidden, 4 * hidden)) * 0.05,
    )

    def run(weights: Any, inputs: Any) -> Any:
        into, recurrent = weights

        def cell(state: Any, x: Any) -> Any:
            h, c = state
            gates = jnp.dot(x, into, preferred_element_type=jnp.float32) + jnp.dot(
                h, recurrent, preferred_element_type=jnp.float32
            )
            i, f, g, o = jnp.split(gates, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((inputs.shape[1], hidden))
        return jax.lax.scan(cell, (zero, zero), inputs)[0][0].sum()

    shape = (config.rollout_steps, config.n_envs, CORE_INPUTS)
    inputs = jax.random.normal(keys[2], shape)
    cut = inputs.reshape(shape[0] // chunks, shape[1] * chunks, shape[2])
    forward, both = jax.jit(run), jax.jit(jax.grad(run))
    return timed(lambda: forward(weights, inputs), repeats), timed(lambda: both(weights, cut), repeats)


def phases(trainer: Any, state: Any, repeats: int) -> dict[str, float]:
    """Seconds of each phase of one cycle from `state`, as a program of its own."""
    import jax
    import jax.numpy as jnp

    from minimax_ued.envs import AutoReset
    from minimax_ued.learning.gae import generalized_advantages
    from minimax_ued.learning.ppo import Batch, ppo_update
    from minimax_ued.learning.rollout import rollout
    from minimax_ued.replay.buffer import LevelBuffer
    from minimax_ued.replay.scores import get_score

    config, env = trainer.config, trainer.env
    n = config.n_envs
    auto = AutoReset(env, fresh=False, ahead=config.levels_ahead)
    buffer = LevelBuffer(config.method.buffer, env.level_hash, env.same_level)
    score = get_score(config.method.buffer.score)
    params, opt_state, content = jax.tree.map(lambda x: x[0, 0], (state.params, state.opt_state, state.buffer))
    key = jax.random.key(1)

    @jax.jit
    def choose(key: Any, content: Any) -> Any:
        return buffer.sample(key, content, n)

    @jax.jit
    def play(params: Any, key: Any, levels: Any) -> Any:
        return rollout(auto, trainer.student, params, key, levels, steps=config.rollout_steps, chunks=config.ppo.chunks)

    @jax.jit
    def keep(content: Any, levels: Any, slots: Any, trajectory: Any) -> Any:
        advantages, targets = generalized_advantages(
            trajectory.rewards,
            trajectory.values,
            trajectory.last_value,
            terminated=trajectory.terminated,
            truncated=trajectory.truncated,
            gamma=config.ppo.gamma,
            gae_lambda=config.ppo.gae_lambda,
        )
        seen = content.max_returns[slots]
        scores, best = score(trajectory.rewards, trajectory.dones, trajectory.values, advantages, seen)
        content = buffer.insert(content, levels, scores, best, slots, jnp.zeros(n, jnp.int32))
        return content, Batch.from_trajectory(trajectory, advantages, targets)

    @jax.jit
    def learn(params: Any, opt_state: Any, batch: Any, key: Any) -> Any:
        return ppo_update(config.ppo, trainer.student, params, opt_state, batch, key, lr=config.ppo.lr)

    _, slots, levels = choose(key, content)
    trajectory = play(params, key, levels)
    _, batch = keep(content, levels, slots, trajectory)
    return {
        "choose levels": timed(lambda: choose(key, content), repeats),
        "rollout": timed(lambda: play(params, key, levels), repeats),
        "score and buffer": timed(lambda: keep(content, levels, slots, trajectory), repeats),
        "update": timed(lambda: learn(params, opt_state, batch, key), repeats),
    }


def measure(config: TrainConfig, repeats: int, edge: int) -> Json:
    """One row: the cycle, its phases and the floors."""
    import jax

    from minimax_ued.trainer import UEDTrainer

    start = time.perf_counter()
    trainer = UEDTrainer(config)
    holder = [trainer.init(0)]

    def dispatch() -> Any:
        holder[0], metrics = trainer.step(holder[0])
        return metrics["learn"]

    if config.cycles_per_step == 1:
        jax.block_until_ready(dispatch())  # the first cycle fills the buffer and learns nothing
    cycle = timed(dispatch, repeats) / config.cycles_per_step
    learned = float(dispatch().mean())
    setup = time.perf_counter() - start
    steps = config.steps_per_rollout
    flops = 2 * multiplications(config) * (1 + PASSES * config.ppo.epochs)
    rate = matrix_rate(repeats, edge)
    row: Json = {
        "n_envs": config.n_envs,
        "learned": learned,
        "cycle_s": cycle,
        "steps_per_s": steps / cycle,
        "phases_s": phases(trainer, holder[0], repeats),
        "flop_per_step": flops,
        "matrix_flop_per_s": 2 * rate,
        "arithmetic_floor_s": steps * flops / (2 * rate),
        "wall_s": time.perf_counter() - start,
        "setup_and_cycles_s": setup,
    }
    if config.student.core.type == "lstm":
        forward, both = bare_recurrence(config, repeats)
        row["dependency_floor_s"] = forward + config.ppo.epochs * both
    return row


def report(rows: Json) -> str:
    """The table of all rows."""
    lines = []
    for row in rows.values():
        floors = [row["arithmetic_floor_s"], row.get("dependency_floor_s")]
        floor = max(x for x in floors if x is not None)
        lines.append(
            [
                row["variant"],
                f"{row['n_envs']:,}",
                f"{row['steps_per_s']:,.0f}",
                f"{1e3 * row['cycle_s']:,.1f}",
                *(f"{1e3 * seconds:,.1f}" for seconds in row["phases_s"].values()),
                *("" if x is None else f"{1e3 * x:,.1f}" for x in floors),
                f"{row['cycle_s'] / floor:.1f}x",
            ]
        )
    header = (
        "variant",
        "envs",
        "steps/s",
        "cycle ms",
        "choose",
        "rollout",
        "score+buffer",
        "update",
        "arithmetic floor",
        "dependency floor",
        "over the floor",
    )
    return table(lines, header)


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.minimax_throughput", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--envs", type=int, action="append", help="environments; may be repeated (default: see above)")
    parser.add_argument("--variant", choices=tuple(VARIANTS), action="append", help="default: plain, on a GPU all")
    parser.add_argument("--cycles", type=int, help="cycles fused into one dispatch (default: 1 on a CPU, 8 on a GPU)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="start no further row after so many minutes")
    parser.add_argument("--again", action="store_true", help="measure rows anew that are in the result file")
    parser.add_argument("--out", type=Path, help="folder of the result (default: benchmarks/results)")
    args = parser.parse_args(arguments)
    began = time.monotonic()
    import jax

    device = jax.devices()[0]
    kind = "cpu" if device.platform == "cpu" else "gpu"
    name = f"{NAME}_{kind}"
    path = (args.out or harness.RESULTS) / f"{name}.json"
    rows: Json = json.loads(path.read_text())["rows"] if path.exists() else {}
    origin = record(f"benchmarks.{NAME}", arguments, ["minimax-ued"])
    cycles = args.cycles or {"cpu": 1, "gpu": 8}[kind]
    variants = args.variant or {"cpu": ["plain"], "gpu": list(VARIANTS)}[kind]
    for variant in variants:
        for n_envs in args.envs or SIZES[kind]:
            label = f"{variant}-{n_envs}"
            same = rows.get(label, {}).get("origin", {})
            if not args.again and same.get("device") == device.device_kind and same.get("git") == origin["git"]:
                continue
            if args.minutes is not None and time.monotonic() - began >= 60 * args.minutes:
                print("Out of time: the same command continues with the rows that are missing.", file=sys.stderr)
                print(report(rows))
                return 0
            row = measure(configuration(n_envs, variant, cycles), args.repeats, {"cpu": 2048, "gpu": 8192}[kind])
            rows[label] = {"variant": variant, **row, "origin": {**origin, "device": device.device_kind}}
            write_result(name, {"benchmark": name, "rows": rows}, args.out)
            print(f"{label}: {row['steps_per_s']:,.0f} steps/s after {row['wall_s']:.0f} s", file=sys.stderr)
    print(report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
