"""minimax-lib on the maze: `env` (auto-reset to fresh levels), `step` (no reset), `train` (its DR runner's cycle).

Runs unchanged in a virtual environment with the versions minimax-lib was released for, and in one with current jax and
two shims (see ../peers.md).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import jax

if not hasattr(jax, "tree_map"):  # removed in jax 0.6; minimax-lib calls it
    jax.tree_map = jax.tree_util.tree_map
if not hasattr(jax, "jax"):  # util/rl/rollout_storage.py reaches jax through itself
    jax.jax = jax

from random_policy import make_trial, scan_steps
from serve import level_statistics, serve

SIZE, WALLS = 13, 60
MAZE = {
    "height": SIZE,
    "width": SIZE,
    "n_walls": WALLS,
    "replace_wall_pos": True,
    "sample_n_walls": False,
    "see_agent": False,
    "normalize_obs": True,
    "obs_agent_pos": False,
    "max_episode_steps": 250,
}
#: The command line of the released configuration maze/dr, without logging, testing and environment metrics.
DR = """
--seed=1 --agent_rl_algo=ppo --n_total_updates=30000 --train_runner=dr --n_devices=1
--student_model_name=default_student_cnn --env_name=Maze --verbose=False --log_interval=0 --from_last_checkpoint=False
--checkpoint_interval=0 --archive_interval=0 --archive_init_checkpoint=False --test_interval=0 --n_students=1
--n_eval=1 --lr=0.0001 --lr_anneal_steps=0 --max_grad_norm=0.5 --adam_eps=1e-05 --track_env_metrics=False
--discount=0.995 --n_unroll_rollout=10 --render=False --student_gae_lambda=0.98 --student_entropy_coef=0.001
--student_value_loss_coef=0.5 --student_n_unroll_update=5 --student_ppo_n_minibatches=1 --student_ppo_clip_eps=0.2
--student_ppo_clip_value_loss=True --student_recurrent_arch=lstm --student_recurrent_hidden_dim=256
--student_hidden_dim=32 --student_n_hidden_layers=1 --student_n_conv_filters=16 --student_n_scalar_embeddings=4
--student_scalar_embed_dim=5 --maze_height=13 --maze_width=13 --maze_n_walls=60 --maze_replace_wall_pos=True
--maze_sample_n_walls=False --maze_see_agent=False --maze_normalize_obs=True --maze_obs_agent_pos=False
--maze_max_episode_steps=250
"""


def environment(args: argparse.Namespace) -> tuple[dict, Any]:
    from minimax.envs.maze.maze import Maze

    env = Maze(**MAZE)
    reset_on_done = args.task == "env"

    def one(key: Any, state: Any, action: Any) -> tuple:
        if reset_on_done:
            obs, state, reward, done, _ = env.step(key, state, action)
        else:
            obs, state, reward, done, _ = env.step_env(key, state, action)
        return state, obs["image"], reward, done

    def step(key: Any, state: Any, action: Any) -> tuple:
        return jax.vmap(one)(jax.random.split(key, args.batch), state, action)

    reset = jax.jit(jax.vmap(env.reset_env))
    _, levels = reset(jax.random.split(jax.random.PRNGKey(args.seed + 1), args.levels))
    _, state = reset(jax.random.split(jax.random.PRNGKey(args.seed + 2), args.batch))
    run = scan_steps(step, args.batch, args.length)
    trial = make_trial(run, jax.random.PRNGKey(args.seed), state, args.batch, args.length, args.scans)
    return {"level_statistics": level_statistics(levels.wall_map, levels.agent_pos, levels.goal_pos)}, trial


def train(args: argparse.Namespace) -> tuple[dict, Any]:
    """Its ExperimentRunner, stepped as its train loop steps it, but waiting for the device."""
    sizes = [f"--n_parallel={args.batch}", f"--n_rollout_steps={args.length}", f"--student_ppo_n_epochs={args.epochs}"]
    sys.argv = ["minimax", *DR.split(), *sizes]
    from minimax.arguments import parser
    from minimax.runners import ExperimentRunner

    a = parser.parse_args()
    runner = ExperimentRunner(
        train_runner=a.train_runner,
        env_name=a.env_name,
        agent_rl_algo=a.agent_rl_algo,
        student_model_name=a.student_model_name,
        train_runner_kwargs=a.train_runner_args,
        env_kwargs=a.env_args,
        student_rl_kwargs=a.student_rl_args,
        student_model_kwargs=a.student_model_args,
        n_devices=1,
    )
    holder = [runner.runner.reset(jax.random.PRNGKey(args.seed))]

    def trial() -> dict:
        out = []
        for _ in range(args.scans):
            stats, _, *state = runner.step(holder[0], False)
            holder[0] = tuple(state)
            out.append(stats["entropy"])
        jax.block_until_ready((holder[0], out))
        return {"work": args.scans * args.batch * args.length, "entropy": float(sum(jax.device_get(out))) / len(out)}

    for _ in range(2):
        trial()
    params = holder[0][1].params
    return {"parameters": sum(x.size for x in jax.tree_util.tree_leaves(params))}, trial


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
