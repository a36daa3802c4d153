"""Updates of explorers, one measured trial per line: `python cascade_updates.py sheeprl|floor|AGENTS UPDATES`.

A trial is UPDATES updates of world model, ensemble and actor-critics on CartPole's vectors, at the same sizes:
sheeprl's Plan2Explore on DreamerV3, which trains one explorer and one task policy, or ours with AGENTS explorers.
sheeprl's own command prepares everything; in the place of its function for one update stands one that answers the
trials with it.
`floor` multiplies matrices of the shape that imagination has, UPDATES times, and counts floating-point operations.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serve import serve

BATCH, LENGTH, HORIZON, HEADS, UNITS, LAYERS, GROUPS, CLASSES = 8, 16, 10, 5, 128, 2, 8, 8

COMMAND = f"""exp=p2e_dv3_exploration env=gym env.id=CartPole-v1 env.num_envs=1 env.sync_env=True
    env.capture_video=False fabric.accelerator=cpu fabric.precision=32-true algo=p2e_dv3
    algo.name=p2e_dv3_exploration algo.total_steps=110 algo.learning_starts=64 algo.per_rank_batch_size={BATCH}
    algo.per_rank_sequence_length={LENGTH} algo.replay_ratio=0.5 algo.horizon={HORIZON} algo.ensembles.n={HEADS}
    algo.dense_units={UNITS} algo.mlp_layers={LAYERS}
    algo.world_model.recurrent_model.recurrent_state_size={UNITS}
    algo.world_model.transition_model.hidden_size={UNITS} algo.world_model.representation_model.hidden_size={UNITS}
    algo.world_model.stochastic_size={GROUPS} algo.world_model.discrete_size={CLASSES} algo.cnn_keys.encoder=[]
    algo.cnn_keys.decoder=[] algo.mlp_keys.encoder=[vector] algo.mlp_keys.decoder=[vector] metric.log_every=10
    buffer.memmap=False buffer.size=1000 checkpoint.save_last=False algo.run_test=False"""


def sheeprl(updates: int) -> None:
    """Let its command make the agent and a batch, and measure its `train` on them."""
    import torch
    from sheeprl.algos.p2e_dv3 import p2e_dv3_exploration as exploration
    from sheeprl.cli import run

    train = exploration.train

    def measured(*args: Any, **kwargs: Any) -> None:
        def once() -> None:
            train(*args, **kwargs)

        def trial() -> dict[str, Any]:
            for _ in range(updates):
                once()
            return {"work": 2 * updates}  # an explorer and a task policy

        def setup() -> tuple[dict[str, Any], Any]:
            for _ in range(5):
                once()
            modules = {"world_model": args[1], "actor": args[2], "critic": args[3], "ensemble": kwargs["ensembles"]}
            count = {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}
            return {"parameters": count, "threads": torch.get_num_threads(), "starts": BATCH * LENGTH}, trial

        serve(setup)
        os._exit(0)  # the rest of its command is not needed

    exploration.train = measured
    os.chdir(tempfile.mkdtemp())
    sys.argv[1:] = COMMAND.split()
    with contextlib.redirect_stdout(sys.stderr):  # its command prints its settings
        run()


def floor(products: int) -> tuple[dict[str, Any], Any]:
    """Products of [128 starts x 10 agents, 128] with [128, 128] matrices."""
    import jax
    import jax.numpy as jnp

    rows = 10 * BATCH * LENGTH
    many = jax.jit(lambda x, w: jax.lax.fori_loop(0, products, lambda _, y: y @ w, x))
    x, w = jnp.ones((rows, UNITS)), jnp.eye(UNITS)
    many(x, w).block_until_ready()

    def trial() -> dict[str, Any]:
        many(x, w).block_until_ready()
        return {"work": 2 * products * rows * UNITS**2}

    return {}, trial


def ours(agents: int, updates: int) -> tuple[dict[str, Any], Any]:
    """The trainer itself: a deployment of random actions, then its training."""
    import jax

    from cascade_explore.config import Actor, Cascade, Gym, TrainConfig, WorldModel
    from cascade_explore.trainer import ExploreTrainer

    actor = Actor(horizon=HORIZON, starts=BATCH * LENGTH, units=UNITS, layers=LAYERS)
    config = TrainConfig(
        env=Gym(id="CartPole-v1"), explorer=Cascade(agents=agents, actor=actor), deployments=1,
        env_steps=agents * LENGTH * 4, envs=1, updates=100 * updates, updates_per_step=updates,
        world=WorldModel(deter=UNITS, hidden=UNITS, units=UNITS, layers=LAYERS, groups=GROUPS, classes=CLASSES,
                         heads=HEADS, batch=BATCH, length=LENGTH),
    )  # fmt: skip
    trainer = ExploreTrainer(config)
    state = [trainer.init(0)]
    for _ in range(2):
        state[0], _ = jax.block_until_ready(trainer.step(state[0]))

    def trial() -> dict[str, Any]:
        state[0], metrics = jax.block_until_ready(trainer.step(state[0]))
        return {"work": agents * updates, "finite": bool(sum(float(v[0]) for v in metrics.values()) < float("inf"))}

    one = jax.tree.map(lambda x: x[0], (state[0].world, state[0].agents, state[0].ensemble))

    def size(tree: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    count = {
        "world_model": size(one[0]), "actor": size(one[1].actors) // agents, "critic": size(one[1].critics) // agents,
        "ensemble": size(one[2]),
    }  # fmt: skip
    return {"parameters": count, "starts": BATCH * LENGTH}, trial


if __name__ == "__main__":
    who, count = sys.argv[1], int(sys.argv[2])
    if who == "sheeprl":
        sheeprl(count)
    else:
        serve(lambda: floor(count) if who == "floor" else ours(int(who), count))
