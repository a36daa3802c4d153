"""jaxued on the maze: `env` (auto-reset to fresh levels), `step` (no reset), `train` (its examples/maze_dr.py).

Runs in jaxued's virtual environment with its source tree on PYTHONPATH (see ../peers.md).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from random_policy import make_trial, scan_steps
from serve import level_statistics, serve

SIZE, WALLS = 13, 60


def environment(args: argparse.Namespace) -> tuple[dict, Any]:
    from jaxued.environments.maze import Maze, make_level_generator
    from jaxued.wrappers import AutoResetWrapper

    sample = make_level_generator(SIZE, SIZE, WALLS)
    maze = Maze(max_height=SIZE, max_width=SIZE, agent_view_size=5, normalize_obs=True)
    env = AutoResetWrapper(maze, sample) if args.task == "env" else maze
    params = env.default_params

    def step(key: Any, state: Any, action: Any) -> tuple:
        keys = jax.random.split(key, args.batch)
        obs, state, reward, done, _ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
        return state, obs.image, reward, done

    levels = jax.jit(jax.vmap(sample))(jax.random.split(jax.random.PRNGKey(args.seed + 1), args.levels))
    first = jax.vmap(sample)(jax.random.split(jax.random.PRNGKey(args.seed + 2), args.batch))
    keys = jax.random.split(jax.random.PRNGKey(args.seed + 3), args.batch)
    _, state = jax.jit(jax.vmap(env.reset_to_level, (0, 0, None)))(keys, first, params)
    run = scan_steps(step, args.batch, args.length)
    trial = make_trial(run, jax.random.PRNGKey(args.seed), state, args.batch, args.length, args.scans)
    return {"level_statistics": level_statistics(levels.wall_map, levels.agent_pos, levels.goal_pos)}, trial


def train(args: argparse.Namespace) -> tuple[dict, Any]:
    """The example's own rollout, advantage and update functions, joined as its train_step joins them."""
    dr = _load_example()
    import optax
    from jaxued.environments.maze import Maze, make_level_generator
    from jaxued.wrappers import AutoResetWrapper

    sample = make_level_generator(SIZE, SIZE, WALLS)
    env = AutoResetWrapper(Maze(max_height=SIZE, max_width=SIZE, agent_view_size=5, normalize_obs=True), sample)
    params_env, envs, steps = env.default_params, args.batch, args.length
    network = dr.ActorCritic(env.action_space(params_env).n)
    key_net, key_level, key_reset, key = jax.random.split(jax.random.PRNGKey(args.seed), 4)
    carry = dr.ActorCritic.initialize_carry((envs,))
    levels = jax.vmap(sample)(jax.random.split(key_level, envs))
    obs, state = jax.jit(jax.vmap(env.reset_to_level, (0, 0, None)))(
        jax.random.split(key_reset, envs), levels, params_env
    )
    one = jax.tree_util.tree_map(lambda x: x[None], obs)
    params = jax.jit(network.init)(key_net, (one, jnp.zeros((1, envs), bool)), carry)
    train_state = dr.TrainState.create(
        apply_fn=network.apply,
        params=params,
        tx=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-4, eps=1e-5)),
        update_count=0,
        last_hstate=carry,
        last_obs=obs,
        last_env_state=state,
    )

    @jax.jit
    def cycle(key: Any, ts: Any) -> tuple:
        (key, ts, hstate, obs, state, last_value), (o, a, r, d, lp, v, _) = dr.sample_trajectories_rnn(
            key, env, params_env, ts, ts.last_hstate, ts.last_obs, ts.last_env_state, envs, steps
        )
        adv, target = dr.compute_gae(0.995, 0.98, last_value, v, r, d)
        batch = (o, a, d, lp, v, target, adv)
        (key, ts), losses = dr.update_actor_critic_rnn(
            key, ts, ts.last_hstate, batch, envs, steps, 1, args.epochs, 0.2, 1e-3, 0.5
        )
        ts = ts.replace(update_count=ts.update_count + 1, last_hstate=hstate, last_obs=obs, last_env_state=state)
        _, (_, _, entropy) = losses
        return key, ts, (entropy[0, 0], r.sum(), d.sum())

    return _cycles(cycle, key, train_state, params, args)


def _cycles(cycle: Any, key: Any, state: Any, params: Any, args: argparse.Namespace) -> tuple[dict, Any]:
    holder = [key, state]

    def trial() -> dict:
        out = []
        for _ in range(args.scans):
            holder[0], holder[1], numbers = cycle(*holder)
            out.append(numbers)
        jax.block_until_ready((holder, out))
        entropy, reward, done = (float(sum(column)) / len(out) for column in zip(*jax.device_get(out), strict=True))
        work = args.scans * args.batch * args.length
        return {"work": work, "entropy": entropy, "reward_sum": reward * len(out), "episodes": done * len(out)}

    for _ in range(2):
        trial()
    return {"parameters": sum(x.size for x in jax.tree_util.tree_leaves(params))}, trial


def _load_example() -> types.ModuleType:
    """Import examples/maze_dr.py, with stand-ins for what it imports but the cycle does not need.

    distrax does not import on current jax; the example uses three methods of its categorical distribution.
    """
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))
    distrax = types.ModuleType("distrax")
    distrax.Categorical = _Categorical
    sys.modules["distrax"] = distrax
    path = Path(os.environ["PEER_SOURCE"]) / "examples" / "maze_dr.py"
    spec = importlib.util.spec_from_file_location("maze_dr", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Categorical:
    """sample, log_prob and entropy of a categorical distribution over the last axis of `logits`."""

    def __init__(self, logits: Any) -> None:
        self.logits = jax.nn.log_softmax(logits)

    def sample(self, seed: Any) -> Any:
        return jax.random.categorical(seed, self.logits)

    def log_prob(self, value: Any) -> Any:
        return jnp.take_along_axis(self.logits, value[..., None], axis=-1)[..., 0]

    def entropy(self) -> Any:
        return -(jnp.exp(self.logits) * self.logits).sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("env", "step", "train"))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--levels", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(lambda: train(args) if args.task == "train" else environment(args))


if __name__ == "__main__":
    main()
