"""minimax-lib's whole training cycles: DR, robust PLR, ACCEL and PAIRED with LSTM or S5, as `minimax_arms.py` says.

Its ExperimentRunner is stepped as its train loop steps it, but waiting for the device, and without environment metrics,
tests, logs and checkpoints. Runs in a virtual environment with the versions minimax-lib was released for, unchanged,
and in one with current jax and two shims (see ../peers.md).
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

from minimax_arms import ARMS, FILL_CYCLES, MIN_FILL, Arm, kinds, measured
from serve import serve


def flags(arm: Arm, args: argparse.Namespace) -> dict[str, Any]:
    """The command line of the released configuration of this arm, without logging, testing and metrics."""
    core = {"recurrent_arch": arm.arch, "recurrent_hidden_dim": 256, "hidden_dim": 32, "n_hidden_layers": 1}
    if arm.arch == "s5":
        core |= {"s5_n_blocks": 2, "s5_n_layers": 2, "s5_layernorm_pos": arm.norm, "s5_activation": "half_glu1"}
    learner = {
        "gae_lambda": 0.98,
        "value_loss_coef": 0.5,
        "n_unroll_update": 5,
        "ppo_n_epochs": args.epochs,
        "ppo_n_minibatches": 1,
        "ppo_clip_eps": 0.2,
        "ppo_clip_value_loss": True,
    }
    student = {"n_conv_filters": 16, "n_scalar_embeddings": 4, "scalar_embed_dim": 5, "entropy_coef": arm.entropy}
    values = {
        "seed": 1,
        "agent_rl_algo": "ppo",
        "n_total_updates": 30000,
        "train_runner": "plr" if arm.replays else arm.method,
        "n_devices": 1,
        "student_model_name": "default_student_cnn",
        "env_name": "Maze",
        "verbose": False,
        "log_interval": 0,
        "from_last_checkpoint": False,
        "checkpoint_interval": 0,
        "archive_interval": 0,
        "archive_init_checkpoint": False,
        "test_interval": 0,
        "n_students": 2 if arm.teacher_filters else 1,
        "n_parallel": args.batch,
        "n_eval": 1,
        "n_rollout_steps": args.length,
        "lr": arm.lr,
        "lr_anneal_steps": 0,
        "max_grad_norm": 0.5,
        "adam_eps": 1e-5,
        "track_env_metrics": False,
        "discount": arm.gamma,
        "n_unroll_rollout": 10,
        "render": False,
        "maze_height": 13,
        "maze_width": 13,
        "maze_n_walls": arm.n_walls,
        "maze_replace_wall_pos": not arm.teacher_filters,
        "maze_sample_n_walls": False,
        "maze_see_agent": False,
        "maze_normalize_obs": True,
        "maze_obs_agent_pos": False,
        "maze_max_episode_steps": 250,
        **{f"student_{k}": v for k, v in (core | learner | student).items()},
    }
    if arm.replays:
        values |= {
            "ued_score": "max_mc",
            "plr_replay_prob": 1.0,  # a buffer that is full enough replays; the shares are put in afterwards
            "plr_buffer_size": 4000,
            "plr_staleness_coef": arm.staleness,
            "plr_temp": arm.temperature,
            "plr_use_score_ranks": True,
            "plr_min_fill_ratio": MIN_FILL,
            "plr_use_robust_plr": True,
            "plr_use_parallel_eval": False,
            "plr_force_unique": True,
        }
    if arm.n_edits:
        values |= {
            "plr_mutation_fn": "default",
            "plr_n_mutations": arm.n_edits,
            "plr_mutation_criterion": "batch",
            "plr_mutation_subsample_size": 4,
        }
    if arm.teacher_filters:
        teacher = {"n_conv_filters": arm.teacher_filters, "scalar_embed_dim": 10, "entropy_coef": arm.teacher_entropy}
        values |= {
            "ued_score": "relative_regret",
            "teacher_discount": arm.gamma,
            "teacher_lr_anneal_steps": 0,
            "teacher_model_name": "default_teacher_cnn",
            **{f"teacher_{k}": v for k, v in (core | learner | teacher).items()},
            "maze_ued_replace_wall_pos": True,
            "maze_ued_fixed_n_wall_steps": True,
            "maze_ued_first_wall_pos_sets_budget": False,
            "maze_ued_noise_dim": 50,
            "maze_ued_n_walls": 60,
            "maze_ued_set_agent_dir": False,
            "maze_ued_normalize_obs": True,
        }
    return values


def experiment(arm: Arm, args: argparse.Namespace) -> Any:
    sys.argv = ["minimax", *(f"--{name}={value}" for name, value in flags(arm, args).items())]
    from minimax.arguments import parser
    from minimax.runners import ExperimentRunner

    a = parser.parse_args()
    return ExperimentRunner(
        train_runner=a.train_runner,
        env_name=a.env_name,
        agent_rl_algo=a.agent_rl_algo,
        student_model_name=a.student_model_name,
        teacher_model_name=a.teacher_model_name,
        train_runner_kwargs=a.train_runner_args,
        env_kwargs=a.env_args,
        ued_env_kwargs=a.ued_env_args,
        student_rl_kwargs=a.student_rl_args,
        teacher_rl_kwargs=a.teacher_rl_args,
        student_model_kwargs=a.student_model_args,
        teacher_model_kwargs=a.teacher_model_args,
        n_devices=1,
    )


def setup(args: argparse.Namespace) -> tuple[dict, Any]:
    arm = ARMS[args.arm]
    runner = experiment(arm, args)
    state = tuple(runner.runner.reset(jax.random.PRNGKey(args.seed)))
    if arm.replays:
        state += (None,)  # what its step returns; without it the second call would compile once more
    seen: dict[str, dict] = {}

    def step(state: tuple, kind: str) -> tuple:
        stats, _, *state = runner.step(state, False)
        jax.block_until_ready((state, stats))
        seen[kind] = stats
        return tuple(state)

    def size(index: int) -> int:
        students = 2 if arm.teacher_filters and index == 1 else 1
        return sum(x.size for x in jax.tree_util.tree_leaves(state[index].params)) // students

    first = step(state, "first")
    holder = {"learn": first, "look": first}
    for _ in range(FILL_CYCLES if arm.replays else 1):  # the second call would show a second compile
        holder["learn"] = step(holder["learn"], "filling")

    def prepare(kind: str) -> Any:
        def once() -> None:
            # The buffer of `first` is too empty to replay, so that a cycle from there looks at fresh levels.
            after = step(holder[kind], kind)
            if kind == "learn":
                holder[kind] = after

        return once

    for kind in kinds(arm):
        prepare(kind)()

    def trial() -> dict:
        result = measured(arm, prepare, {"learn": args.learn, "look": args.look})
        found = {kind: {k: float(v) for k, v in seen[kind].items() if jax.numpy.ndim(v) == 0} for kind in kinds(arm)}
        told = {kind: _told(stats) for kind, stats in found.items()}
        return result | {"stats": told, "walls": walls(holder["learn"][1]) if arm.replays else None}

    info = {"parameters": size(1), "teacher_parameters": size(6) if arm.teacher_filters else 0}
    return info, trial


def walls(train_state: Any) -> float:
    """Mean number of walls of the levels in the buffer."""
    buffer = train_state.plr_buffer
    counts = buffer.levels.wall_map.sum((-1, -2))
    return float((counts * buffer.filled).sum() / buffer.filled.sum())


def _told(stats: dict[str, float]) -> dict[str, Any]:
    """What the check of equal work reads: was there an update, and how random is the policy."""
    entropy = stats.get("entropy", stats.get("entropy_a0", float("-inf")))
    learned = entropy > -1e30  # a skipped update reports -inf
    return {"learned": learned, "entropy": entropy if learned else None, "teacher_entropy": stats.get("entropy_tch")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=tuple(ARMS))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learn", type=int, default=1, help="cycles with an update in one trial")
    parser.add_argument("--look", type=int, default=2, help="cycles without one")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    serve(lambda: setup(args))


if __name__ == "__main__":
    main()
