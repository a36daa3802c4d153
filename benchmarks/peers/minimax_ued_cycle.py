"""minimax-ued's whole training cycles: DR, robust PLR, ACCEL and PAIRED with LSTM or S5, as `minimax_arms.py` says."""

from __future__ import annotations

import argparse
import os
from typing import Any

from minimax_arms import ARMS, FILL_CYCLES, MIN_FILL, Arm, kinds, measured


def configuration(arm: Arm, args: argparse.Namespace) -> Any:
    """The same settings as the released configuration of the peer; time-outs end an episode as they do there."""
    from minimax_ued.config import (
        BufferConfig,
        LSTMConfig,
        MazeConfig,
        MutationConfig,
        PPOConfig,
        ReplayConfig,
        S5Config,
        StudentConfig,
        TaughtConfig,
        TeacherConfig,
        TrainConfig,
    )

    def learner(entropy: float) -> PPOConfig:
        return PPOConfig(lr=arm.lr, gamma=arm.gamma, entropy_coef=entropy, epochs=args.epochs, bootstrap_timeouts=False)

    core = S5Config(norm=arm.norm) if arm.arch == "s5" else LSTMConfig()
    method: Any = TrainConfig().method
    if arm.replays:
        buffer = BufferConfig(
            replay_prob=1.0,  # a buffer that is full enough replays; the shares are put in afterwards
            staleness_coef=arm.staleness,
            temperature=arm.temperature,
            min_fill=MIN_FILL,
        )
        method = ReplayConfig(buffer=buffer, mutation=MutationConfig(n_edits=arm.n_edits) if arm.n_edits else None)
    if arm.teacher_filters:
        ppo = learner(arm.teacher_entropy)
        method = TaughtConfig(teacher=TeacherConfig(core=core, conv_filters=arm.teacher_filters, ppo=ppo))
    return TrainConfig(
        env=MazeConfig(n_walls=arm.n_walls),
        student=StudentConfig(core=core),
        ppo=learner(arm.entropy),
        method=method,
        n_envs=args.batch,
        rollout_steps=args.length,
        cycles_per_step=1,
        devices=args.devices,
    )


def setup(args: argparse.Namespace) -> tuple[dict, Any]:
    import jax
    import jax.numpy as jnp

    from minimax_ued.trainer import UEDTrainer

    arm = ARMS[args.arm]
    trainer = UEDTrainer(configuration(arm, args))
    seen: dict[str, Any] = {}

    def step(state: Any, kind: str) -> Any:
        state, metrics = trainer.step(state)
        jax.block_until_ready((state, metrics))
        seen[kind] = metrics
        return state

    def copied(state: Any) -> Any:
        return jax.block_until_ready(jax.tree.map(jnp.copy, state))

    def size(tree: Any) -> int:
        return sum(x.size for x in jax.tree.leaves(tree))

    first = step(trainer.init(args.seed), "first")
    holder = {"learn": copied(first)}
    for _ in range(FILL_CYCLES if arm.replays else 1):
        holder["learn"] = step(holder["learn"], "filling")

    def prepare(kind: str) -> Any:
        # The buffer of `first` is too empty to replay, so that a cycle from there looks at fresh levels. A step
        # consumes its state, so it is given a copy.
        state = holder["learn"] if kind == "learn" else copied(first)

        def once() -> None:
            after = step(state, kind)
            if kind == "learn":
                holder["learn"] = after

        return once

    for kind in kinds(arm):
        prepare(kind)()

    def told(metrics: Any) -> dict[str, Any]:
        learned = float(metrics["learn"].mean()) > 0
        return {"learned": learned, "entropy": float(metrics["entropy"].mean()) if learned else None}

    def walls() -> float:
        content = holder["learn"].buffer  # [seeds, students, capacity, ...], one of the first two each
        levels = jax.tree.map(lambda x: x[0, 0][content.filled[0, 0]], content.levels)
        return float(jax.vmap(trainer.env.level_metrics)(levels)["n_walls"].mean())

    def trial() -> dict:
        result = measured(arm, prepare, {"learn": args.learn, "look": args.look})
        return result | {
            "stats": {kind: told(seen[kind]) for kind in kinds(arm)},
            "walls": walls() if arm.replays else None,
        }

    info = {
        "parameters": size(first.params) // trainer.config.n_students,
        "teacher_parameters": size(first.teacher.params) if arm.teacher_filters else 0,
    }
    return info, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=tuple(ARMS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learn", type=int, default=1, help="cycles with an update in one trial")
    parser.add_argument("--look", type=int, default=2, help="cycles without one")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.devices > 1:  # before jax starts its backend
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
    from serve import serve

    serve(lambda: setup(args))


if __name__ == "__main__":
    main()
