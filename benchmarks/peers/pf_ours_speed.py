"""policy-finetune's `OfflineTrainer.step` on TD3+BC, one agent or several, for `policy_finetune_speed.py`."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from typing import Any

from pf_work import BATCH, HIDDEN, dataset, versions


def setup(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    import jax
    import numpy as np

    from paperloop_data import EpisodeDataset
    from policy_finetune.config import OfflineConfig
    from policy_finetune.presets import learner as preset
    from policy_finetune.trainers.offline import OfflineTrainer

    flat = dataset()
    truncated = np.zeros(len(flat["rewards"]), bool)
    truncated[999::1000] = True
    data = EpisodeDataset(
        flat["observations"], flat["actions"], flat["rewards"], flat["terminals"], truncated,
        next_observations=flat["next_observations"],
    )  # fmt: skip
    config = preset(args.learner)
    network = replace(config.network, hidden=(HIDDEN, HIDDEN), layer_norm=args.layer_norm)
    config = replace(config, network=network, batch_size=BATCH)
    trainer = OfflineTrainer(
        OfflineConfig(
            # More than any trial takes, in whole dispatches.
            learner=config,
            updates=10**6 * args.block,
            updates_per_step=args.block,
            seeds=args.agents,
            devices=args.devices,
        ),
        data,
        together=args.together,
    )
    holder = {"state": trainer.init(seed=0)}

    def dispatch(times: int) -> dict[str, float]:
        metrics: Any = {}
        for _ in range(times):
            holder["state"], metrics = trainer.step(holder["state"])
        metrics = jax.device_get(metrics)
        return {name: float(np.mean(metrics[name])) for name in ("critic_loss", "actor_loss") if name in metrics}

    dispatch(2)
    per_agent = sum(x.size for x in jax.tree.leaves(holder["state"].learner.params)) // args.agents
    times = -(-args.updates // args.block)

    def trial() -> dict[str, Any]:
        before = trainer.progress(holder["state"])["updates"]
        losses = dispatch(times)
        done = trainer.progress(holder["state"])["updates"] - before
        return {"work": args.agents * done, "updates": done, "stats": losses}

    return {
        "parameters": per_agent,
        "agents": args.agents,
        "devices": args.devices,
        "together": args.together,
        "updates_per_dispatch": args.block,
        "layer_norm": args.layer_norm,
        "packages": versions("jax", "jaxlib", "optax", "policy-finetune"),
    }, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learner", default="td3bc")
    parser.add_argument("--agents", type=int, default=1)
    parser.add_argument("--together", type=int, help="agents side by side; default: the trainer's choice")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--layer-norm", action="store_true")
    parser.add_argument("--block", type=int, default=1000, help="updates a dispatch")
    parser.add_argument("--updates", type=int, default=1000, help="updates of each agent in one trial")
    args = parser.parse_args()
    if args.devices > 1:  # before jax starts its backend
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
    from serve import serve

    serve(lambda: setup(args))


if __name__ == "__main__":
    main()
