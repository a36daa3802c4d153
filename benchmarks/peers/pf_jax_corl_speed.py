"""JAX-CORL's `TD3BC.update_n_times`, jitted as its script does, for `policy_finetune_speed.py`.

Its file is imported unchanged, with empty modules in the place of d4rl, distrax, gym and wandb. Its critics have
LayerNorm, and its learning rates stay at its own 1e-3.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from typing import Any

from pf_work import BATCH, HIDDEN, dataset, versions
from serve import serve


class Anything(types.ModuleType):
    """A module whose every attribute exists."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def setup(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    for name in ("d4rl", "distrax", "gym", "wandb"):
        sys.modules[name] = Anything(name)
    sys.path.insert(0, os.path.join(os.environ["PEER_SOURCE"], "algos"))
    sys.argv = sys.argv[:1]  # it reads its configuration from the command line when it is imported
    import td3bc  # ty: ignore[import-not-found]

    # Its import sets a flag for GPUs, which not every CPU build of XLA knows.
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        os.environ.pop("XLA_FLAGS", None)
    import jax

    config = td3bc.TD3BCConfig(batch_size=BATCH, hidden_dims=(HIDDEN, HIDDEN), n_jitted_updates=args.block)
    flat = dataset()
    data = td3bc.Transition(
        observations=jax.numpy.asarray(flat["observations"]),
        actions=jax.numpy.asarray(flat["actions"]),
        rewards=jax.numpy.asarray(flat["rewards"]),
        next_observations=jax.numpy.asarray(flat["next_observations"]),
        dones=jax.numpy.asarray(flat["terminals"].astype("float32")),
    )
    key = jax.random.PRNGKey(0)
    holder = {"state": td3bc.create_td3bc_train_state(key, data.observations[0], data.actions[0], config), "key": key}
    update = jax.jit(td3bc.TD3BC().update_n_times, static_argnums=(3,))

    def run(times: int) -> dict[str, float]:
        info: Any = {}
        for _ in range(times):
            holder["key"], key = jax.random.split(holder["key"])
            holder["state"], info = update(holder["state"], data, key, config)
        jax.block_until_ready(holder["state"])
        return {name: float(value) for name, value in info.items()}

    run(2)
    state: Any = holder["state"]
    count = sum(x.size for part in (state.actor, state.critic) for x in jax.tree.leaves(part.params))
    times = -(-args.updates // args.block)

    def trial() -> dict[str, Any]:
        before: Any = holder["state"]
        losses = run(times)
        after: Any = holder["state"]
        done = int(after.critic.step - before.critic.step)
        actor = int(after.actor.step - before.actor.step)
        return {"work": done, "updates": done, "actor_updates": actor, "stats": losses}

    packages = versions("jax", "jaxlib", "flax", "optax")
    return {"parameters": count, "layer_norm": True, "updates_per_dispatch": args.block, "packages": packages}, trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", type=int, default=8, help="n_jitted_updates, its default")
    parser.add_argument("--updates", type=int, default=1000, help="updates in one trial")
    args = parser.parse_args()
    serve(lambda: setup(args))


if __name__ == "__main__":
    main()
