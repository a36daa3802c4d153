"""A few updates by the original code of IQL (ikostrikov/implicit_q_learning), from given weights on given batches.

    PEER_SOURCE=<tree> python pf_iql_steps.py IN.npz OUT.npz float32|float64

`learner._update_jit` is called once per batch, on models with the given weights; the file format is that of
`pf_torch_steps.py`. Three shims let code of January 2022 run on current jax: `jax.tree_multimap`; a `jax.jit` that
overlooks the static argument "distribution" of a function (of sampling actions) that has no such argument; and making
its `Model` directly, as `Model.create` unpacks a pair that flax no longer returns.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import jax
import numpy as np
import optax

LR, TAU, TEMPERATURE = 3e-4, 0.005, 3.0


def main() -> None:
    given, answer, dtype = sys.argv[1:]
    jax.config.update("jax_enable_x64", dtype == "float64")
    if not hasattr(jax, "tree_multimap"):
        jax.tree_multimap = jax.tree.map  # ty: ignore[missing-attribute]
    jit = jax.jit

    def tolerant(*arguments: Any, static_argnames: Any = (), **options: Any) -> Any:
        names = [static_argnames] if isinstance(static_argnames, str) else static_argnames
        return jit(*arguments, static_argnames=[name for name in names if name != "distribution"], **options)

    jax.jit = tolerant  # ty: ignore[invalid-assignment]
    sys.path.insert(0, os.environ["PEER_SOURCE"])
    import learner  # ty: ignore[import-not-found]
    import policy  # ty: ignore[import-not-found]
    import value_net  # ty: ignore[import-not-found]
    from common import Batch, Model  # ty: ignore[import-not-found]

    data = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in np.load(given).items()}

    def dense(prefix: str, number: int) -> dict[str, Any]:
        return {"kernel": data[f"{prefix}/{number}/w"], "bias": data[f"{prefix}/{number}/b"]}

    def mlp(prefix: str, layers: int) -> dict[str, Any]:
        return {f"Dense_{i}": dense(prefix, i) for i in range(layers)}

    def model(definition: Any, params: Any, tx: Any = None) -> Model:
        params = jax.tree.map(jax.numpy.asarray, params)
        return Model(step=1, apply_fn=definition, params=params, tx=tx, opt_state=tx.init(params) if tx else None)

    hidden = (256, 256)
    actor_def = policy.NormalTanhPolicy(
        hidden, data["action"].shape[-1], log_std_scale=1e-3, log_std_min=-5.0, state_dependent_std=False,
        tanh_squash_distribution=False,
    )  # fmt: skip
    # As its Learner builds them: Adam with a cosine schedule for the actor.
    schedule = optax.cosine_decay_schedule(-LR, int(data["actor_lr_steps"]))
    cosine = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(schedule))
    actor = model(
        actor_def, {"MLP_0": mlp("actor", 2), "Dense_0": dense("actor", 2), "log_stds": data["log_std"]}, cosine
    )
    twins = {f"Critic_{i}": {"MLP_0": mlp(f"critic/{i}", 3)} for i in range(2)}
    critic = model(value_net.DoubleCritic(hidden), twins, optax.adam(LR))
    target = model(value_net.DoubleCritic(hidden), twins)
    value = model(value_net.ValueCritic(hidden), {"MLP_0": mlp("value", 3)}, optax.adam(LR))

    discount, expectile = float(data["discount"]), float(data["expectile"])
    losses: dict[str, list[float]] = {"critic": [], "actor": [], "value": []}
    rng = jax.random.PRNGKey(0)  # for dropout, which is off
    for i in range(len(data["obs"])):
        batch = Batch(
            data["obs"][i], data["action"][i], data["reward"][i], 1 - data["terminal"][i], data["next_obs"][i]
        )
        rng, actor, critic, value, target, info = learner._update_jit(
            rng, actor, critic, value, target, batch, discount, TAU, expectile, TEMPERATURE
        )
        for name, seen in losses.items():
            seen.append(float(info[f"{name}_loss"]))

    def undense(prefix: str, number: int, layer: Any) -> dict[str, Any]:
        return {f"{prefix}/{number}/w": layer["kernel"], f"{prefix}/{number}/b": layer["bias"]}

    out: dict[str, Any] = {f"loss/{name}": np.array(seen) for name, seen in losses.items()}
    for number, layer in enumerate(
        (actor.params["MLP_0"]["Dense_0"], actor.params["MLP_0"]["Dense_1"], actor.params["Dense_0"])
    ):
        out |= undense("actor", number, layer)
    out["log_std"] = actor.params["log_stds"]
    for layer in range(3):
        out |= undense("value", layer, value.params["MLP_0"][f"Dense_{layer}"])
        for i in range(2):
            out |= undense(f"critic/{i}", layer, critic.params[f"Critic_{i}"]["MLP_0"][f"Dense_{layer}"])
            out |= undense(f"target/critic/{i}", layer, target.params[f"Critic_{i}"]["MLP_0"][f"Dense_{layer}"])
    np.savez(answer, **jax.device_get(out))


if __name__ == "__main__":
    main()
