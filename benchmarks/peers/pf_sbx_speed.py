"""sbx's `TD3.train` on a replay buffer that is full, for `policy_finetune_speed.py`. Its environment is never stepped.

It has no BC term, climbs the minimum of its two critics, and moves its targets at every update. Sampling from its NumPy
buffer is part of `train`, and of the time.
"""

from __future__ import annotations

import argparse
from typing import Any

from pf_work import ACT, BATCH, HIDDEN, OBS, ROWS, dataset, versions
from serve import serve


def setup(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    import gymnasium
    import jax
    import numpy as np
    from sbx import TD3  # ty: ignore[import-not-found]
    from stable_baselines3.common.logger import Logger  # ty: ignore[import-not-found]

    class Sizes(gymnasium.Env):
        """An environment of Hopper's sizes that nobody steps."""

        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACT,), np.float32)

        def reset(self, **options: Any) -> Any:
            return np.zeros(OBS, np.float32), {}

    model = TD3(
        "MlpPolicy", Sizes(), buffer_size=ROWS, batch_size=BATCH, policy_delay=2, learning_rate=3e-4,
        policy_kwargs={"net_arch": [HIDDEN, HIDDEN]}, seed=0,
    )  # fmt: skip
    model.set_logger(Logger(None, []))
    data, buffer = dataset(), model.replay_buffer
    buffer.observations[:, 0], buffer.next_observations[:, 0] = data["observations"], data["next_observations"]
    buffer.actions[:, 0], buffer.rewards[:, 0] = data["actions"], data["rewards"]
    buffer.dones[:, 0], buffer.full = data["terminals"], True

    def updates() -> int:
        return int(model.policy.qf_state.step)

    def run(times: int) -> None:
        for _ in range(times):
            model.train(args.block, BATCH)
        jax.block_until_ready((model.policy.qf_state.params, model.policy.actor_state.params))

    run(2)
    count = sum(
        x.size for state in (model.policy.actor_state, model.policy.qf_state) for x in jax.tree.leaves(state.params)
    )
    times = -(-args.updates // args.block)

    def trial() -> dict[str, Any]:
        before, actor = updates(), int(model.policy.actor_state.step)
        run(times)
        logged = model.logger.name_to_value
        losses = {name: float(logged[f"train/{name}"]) for name in ("critic_loss", "actor_loss")}
        done = updates() - before
        return {
            "work": done,
            "updates": done,
            "actor_updates": int(model.policy.actor_state.step) - actor,
            "stats": losses,
        }

    packages = versions("sbx-rl", "stable-baselines3", "jax", "jaxlib", "flax", "optax", "torch")
    return {"parameters": count, "updates_per_dispatch": args.block, "packages": packages}, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", type=int, default=50, help="gradient_steps of one call")
    parser.add_argument("--updates", type=int, default=1000, help="updates in one trial")
    args = parser.parse_args()
    serve(lambda: setup(args))


if __name__ == "__main__":
    main()
