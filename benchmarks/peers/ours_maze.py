"""minimax-ued on the maze: `env` (auto-reset to fresh levels), `step` (no reset), `train` (its whole DR cycle)."""

from __future__ import annotations

import argparse
import os
from typing import Any

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("task", choices=("env", "step", "train"))
parser.add_argument("--batch", type=int, default=256)
parser.add_argument("--length", type=int, default=100)
parser.add_argument("--scans", type=int, default=4)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--ahead", type=int, default=None, help="levels kept ready per environment, where not the default")
parser.add_argument("--levels", type=int, default=2000)
parser.add_argument("--seed", type=int, default=0)


def environment(args: argparse.Namespace) -> tuple[dict, Any]:
    import jax
    from random_policy import make_trial, scan_steps
    from serve import level_statistics

    from minimax_ued.config import MazeConfig
    from minimax_ued.envs import AutoReset
    from minimax_ued.envs.maze import Maze

    env = Maze(MazeConfig())
    auto = AutoReset(env, fresh=True) if args.ahead is None else AutoReset(env, fresh=True, ahead=args.ahead)
    key_stats, key_first, key_reset, key = jax.random.split(jax.random.key(args.seed), 4)
    levels = jax.jit(lambda k: auto.sample_levels(k, args.levels))(key_stats)
    first = jax.jit(lambda k: auto.sample_levels(k, args.batch))(key_first)

    if args.task == "env":
        carry = jax.jit(auto.reset)(key_reset, first)

        def step(key: Any, state: Any, action: Any) -> tuple:
            state, timestep = auto.step(key, state, action)
            return state, auto.observe(state).image, timestep.reward, timestep.done

    else:
        prepared = jax.vmap(env.prepare)(first)
        carry = (prepared, jax.vmap(env.reset)(jax.random.split(key_reset, args.batch), prepared))

        def step(key: Any, state: Any, action: Any) -> tuple:
            level, inner = state
            keys = jax.random.split(key, args.batch)
            inner, timestep = jax.vmap(env.step)(keys, level, inner, action)
            return (level, inner), jax.vmap(env.observe)(level, inner).image, timestep.reward, timestep.done

    run = scan_steps(step, args.batch, args.length)
    trial = make_trial(run, key, carry, args.batch, args.length, args.scans)
    return {"level_statistics": level_statistics(levels.wall_map, levels.agent_pos, levels.goal_pos)}, trial


def train(args: argparse.Namespace) -> tuple[dict, Any]:
    """Whole dispatches of the trainer: levels, rollout, advantages, update, metrics."""
    import jax

    from minimax_ued.config import PPOConfig, TrainConfig
    from minimax_ued.trainer import UEDTrainer

    config = TrainConfig(
        ppo=PPOConfig(epochs=args.epochs, minibatches=1, bootstrap_timeouts=False),
        n_envs=args.batch,
        rollout_steps=args.length,
        cycles_per_step=1,
        devices=args.devices,
    )
    trainer = UEDTrainer(config)
    holder = [trainer.init(args.seed)]

    def trial() -> dict:
        out = []
        for _ in range(args.scans):
            holder[0], metrics = trainer.step(holder[0])
            out.append((metrics["entropy"], metrics["return"] * metrics["episodes"], metrics["episodes"]))
        jax.block_until_ready((holder[0], out))
        entropy, reward, done = (float(sum(column).mean()) for column in zip(*jax.device_get(out), strict=True))
        work = args.scans * args.batch * args.length
        return {"work": work, "entropy": entropy / args.scans, "reward_sum": reward, "episodes": done}

    for _ in range(2):
        trial()
    return {"parameters": sum(x.size for x in jax.tree.leaves(holder[0].params))}, trial


def main() -> None:
    args = parser.parse_args()
    if args.devices > 1:  # before jax starts its backend
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
    from serve import serve

    serve(lambda: train(args) if args.task == "train" else environment(args))


if __name__ == "__main__":
    main()
