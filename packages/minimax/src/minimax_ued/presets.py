"""Named configurations: the experiments of the papers, and runs that a laptop does in minutes.

`small*` learn 7x7 mazes in about a minute of two CPU cores, `cpu13_*` the full-sized mazes in minutes.

`maze13_*` and `s5_*` are the configurations shipped with the reference implementation (Jiang et al. 2023, minimax
0.2.0): about 30,000 gradient updates of 32 x 256 steps. What a method only looks at costs environment steps too, so
that as many updates take more of them by other methods than by domain randomisation.

`accel60_*` and `plr25_*` are the mazes of Parker-Holder et al. 2022 (60 walls, 20,000 updates) and of Jiang, Dennis et
al. 2021 (25 walls, 250 million steps). There a replay rollout goes to another level after each episode; here a level is
played again and again. `sfl_maze13` and `ncc_maze13` are those of Rutherford et al. 2024 and Monette et al. 2025; the
latter's layer normalisation is not part of our student.

`gpu13_*` are 250 million environment steps of 256 environments, for one GPU.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from minimax_ued.config import (
    BufferConfig,
    CartPoleConfig,
    DistributionConfig,
    EditorConfig,
    LearnableConfig,
    MazeConfig,
    MutationConfig,
    PPOConfig,
    S5Config,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)

__all__ = ["PRESETS", "PRESET_HELP"]


def _with_updates(config: TrainConfig, updates: int) -> TrainConfig:
    """Return `config` with as many environment steps as the expected number of cycles with `updates` updates takes."""
    method = config.method_spec
    learning = 1.0
    if method.alternates:
        replay = config.buffer.replay_prob
        learning = replay * ("replay" in method.gradient) + (1 - replay) * ("fresh" in method.gradient)
    return dataclasses.replace(config, total_env_steps=round(updates / learning * config.env_steps_per_cycle))


# --- minutes on a laptop ---

_SMALL = TrainConfig(
    env=MazeConfig(height=7, width=7, n_walls=14, max_steps=64),
    student=StudentConfig(features=64),
    ppo=PPOConfig(lr=1e-3, epochs=4, minibatches=4, bootstrap_timeouts=False),
    buffer=BufferConfig(capacity=1024),
    n_envs=128,
    rollout_steps=64,
    total_env_steps=600_000,
    cycles_per_step=15,
)
_SMALL_TEACHER = TeacherConfig(
    features=64,
    conv_filters=16,
    ppo=PPOConfig(lr=1e-3, epochs=4, minibatches=4, entropy_coef=0.05),
    editor=EditorConfig(n_walls=14, noise_dim=16),
)
_SMALL_LEARNABLE = LearnableConfig(capacity=256, candidates=1024, batch=512, steps=256, refresh_every=25)

_CPU13 = dataclasses.replace(
    _SMALL,
    env=MazeConfig(),
    buffer=BufferConfig(),
    rollout_steps=256,
    total_env_steps=5_000_000,
    cycles_per_step=8,
)
_CPU13_TEACHER = dataclasses.replace(_SMALL_TEACHER, editor=EditorConfig())
_CPU13_LEARNABLE = dataclasses.replace(_SMALL_LEARNABLE, capacity=128, candidates=512, steps=1000)
_EMPTY = MazeConfig(n_walls=0)

# --- the reference's configurations ---

_PPO_999 = PPOConfig(lr=3e-4, gamma=0.999, entropy_coef=0.0, bootstrap_timeouts=False)
_PPO_995 = PPOConfig(bootstrap_timeouts=False)
_S5 = StudentConfig(arch="s5")
_S5_PRE = StudentConfig(arch="s5", s5=S5Config(norm="pre"))


def _maze13(method: str, ppo: PPOConfig, **changes: Any) -> TrainConfig:
    buffer = {name: changes.pop(name) for name in ("replay_prob", "staleness_coef", "temperature") if name in changes}
    mutation = MutationConfig(n_edits=changes.pop("n_edits", 20))
    env = changes.pop("env", _EMPTY if "accel" in method else MazeConfig())
    config = TrainConfig(method=method, ppo=ppo, env=env, buffer=BufferConfig(**buffer), mutation=mutation, **changes)
    return _with_updates(config, 30_000)


def _tuned(ppo: PPOConfig, **changes: Any) -> PPOConfig:
    return dataclasses.replace(ppo, **changes)


# --- the experiments that dcd ran ---


def _dcd(method: str, ppo: PPOConfig, env: MazeConfig, temperature: float, score: str, **changes: Any) -> TrainConfig:
    return TrainConfig(
        method=method,
        ppo=ppo,
        env=env,
        score=score,
        buffer=BufferConfig(replay_prob=changes.pop("replay_prob", 0.5), staleness_coef=0.3, temperature=temperature),
        # The code behind the published numbers says easy, but takes the parents with the lowest return less value loss.
        mutation=MutationConfig(operator="dcd", n_edits=5, parents="hard", n_parents=4),
        **changes,
    )


_DCD_PPO = PPOConfig(gae_lambda=0.95, entropy_coef=0.0)
_DCD_PPO_25 = PPOConfig(gae_lambda=0.95, entropy_coef=0.01)
_UNIFORM60 = MazeConfig(sample_n_walls=True)
_WALLS25 = MazeConfig(n_walls=25)

# --- other papers ---

_SFL = TrainConfig(
    method="sfl",
    ppo=PPOConfig(
        lr=2.5e-4,
        anneal_lr=True,
        gamma=0.99,
        gae_lambda=0.95,
        clip=0.04,
        entropy_coef=0.0,
        epochs=4,
        minibatches=4,
        bootstrap_timeouts=False,
    ),
    n_envs=256,
    cycles_per_step=10,
)
_NCC = TrainConfig(
    method="ncc",
    ppo=PPOConfig(
        lr=1.47e-3,
        anneal_lr=True,
        gamma=0.995,
        gae_lambda=0.98,
        epochs=1,
        minibatches=1,
        max_grad_norm=0.25,
        bootstrap_timeouts=False,
    ),
    distribution=DistributionConfig(trials=5),
    n_envs=256,
    cycles_per_step=10,
)

# --- one GPU ---

_GPU13 = TrainConfig(
    ppo=PPOConfig(lr=2.5e-4, anneal_lr=True, chunks=4, epochs=4, minibatches=4),
    n_envs=256,
    total_env_steps=250_000_000,
    cycles_per_step=16,
    seeds=3,
)

_CARTPOLE = TrainConfig(
    domain="cartpole",
    cartpole=CartPoleConfig(),
    student=StudentConfig(features=64),
    ppo=PPOConfig(lr=1e-3, epochs=4, minibatches=4, gamma=0.99, gae_lambda=0.95),
    buffer=BufferConfig(capacity=1024),
    mutation=MutationConfig(operator="gaussian", n_edits=3),
    score="positive_value_loss",
    n_envs=64,
    rollout_steps=256,
    total_env_steps=1_000_000,
    cycles_per_step=8,
)

_NAMED: dict[str, tuple[TrainConfig, str]] = {
    "small": (_SMALL, "7x7 mazes, domain randomisation; about a minute of two CPU cores per seed"),
    "small_plr": (dataclasses.replace(_SMALL, method="plr"), "the same by prioritised level replay"),
    "small_robust_plr": (
        dataclasses.replace(_SMALL, method="robust_plr", total_env_steps=1_200_000),
        "the same by robust prioritised level replay, at equal gradient updates",
    ),
    "small_accel": (
        dataclasses.replace(
            _SMALL,
            method="accel",
            env=dataclasses.replace(_SMALL.env, n_walls=0),
            buffer=BufferConfig(capacity=1024, replay_prob=0.8),
            mutation=MutationConfig(n_edits=10),
            total_env_steps=1_200_000,
        ),
        "7x7 mazes by ACCEL, from empty ones",
    ),
    "small_paired": (
        dataclasses.replace(_SMALL, method="paired", teacher=_SMALL_TEACHER, total_env_steps=1_200_000),
        "7x7 mazes by PAIRED",
    ),
    "small_sfl": (
        dataclasses.replace(_SMALL, method="sfl", learnable=_SMALL_LEARNABLE, total_env_steps=1_200_000),
        "7x7 mazes by sampling for learnability",
    ),
    "cpu13_dr": (_CPU13, "13x13 mazes, domain randomisation, a small student; minutes of two CPU cores"),
    "cpu13_parallel_plr": (dataclasses.replace(_CPU13, method="parallel_plr"), "the same by parallel PLR"),
    "cpu13_parallel_accel": (
        dataclasses.replace(_CPU13, method="parallel_accel", env=_EMPTY),
        "the same by parallel ACCEL, from empty mazes",
    ),
    "cpu13_sfl": (
        dataclasses.replace(_CPU13, method="sfl", learnable=_CPU13_LEARNABLE),
        "the same by sampling for learnability",
    ),
    "cpu13_paired": (
        dataclasses.replace(_CPU13, method="paired", teacher=_CPU13_TEACHER),
        "the same by PAIRED, a small teacher",
    ),
    "maze13_dr": (
        _maze13("dr", _PPO_995),
        "13x13 mazes, domain randomisation, as the reference ships it (a GPU run, as all below but cartpole)",
    ),
    "maze13_plr": (
        dataclasses.replace(_maze13("plr", _PPO_999), total_env_steps=245_760_000),
        "prioritised level replay with the reference's constants, gradients on all levels",
    ),
    "maze13_robust_plr": (_maze13("robust_plr", _PPO_999), "the reference's plr, which is robust"),
    "maze13_parallel_plr": (
        _maze13("parallel_plr", _tuned(_PPO_999, gae_lambda=0.95), staleness_coef=0.5),
        "the reference's pplr",
    ),
    "maze13_accel": (_maze13("accel", _PPO_999, replay_prob=0.8, staleness_coef=0.5), "the reference's accel"),
    "maze13_parallel_accel": (
        _maze13("parallel_accel", _tuned(_PPO_999, lr=1e-4, entropy_coef=1e-3), staleness_coef=0.5),
        "the reference's paccel",
    ),
    "maze13_paired": (_maze13("paired", _PPO_995), "the reference's paired: an LSTM teacher of 22.5 M parameters"),
    "s5_dr": (_maze13("dr", _tuned(_PPO_995, lr=3e-5), student=_S5), "the reference's s5_dr"),
    "s5_robust_plr": (
        _maze13(
            "robust_plr",
            _tuned(_PPO_999, lr=1e-4, entropy_coef=1e-3),
            student=_S5_PRE,
            staleness_coef=0.5,
            temperature=0.5,
        ),
        "the reference's s5_plr",
    ),
    "s5_parallel_plr": (
        _maze13(
            "parallel_plr",
            _tuned(_PPO_999, lr=1e-4, entropy_coef=1e-3),
            student=_S5,
            staleness_coef=0.5,
            temperature=0.5,
        ),
        "the reference's s5_pplr",
    ),
    "s5_accel": (
        _maze13("accel", _PPO_995, student=_S5, replay_prob=0.5, temperature=0.1, n_edits=10),
        "the reference's s5_accel",
    ),
    "s5_parallel_accel": (
        _maze13("parallel_accel", _tuned(_PPO_999, lr=3e-5), student=_S5, staleness_coef=0.5, temperature=0.1),
        "the reference's s5_paccel",
    ),
    "s5_paired": (
        _maze13(
            "paired",
            _PPO_995,
            student=_S5,
            teacher=TeacherConfig(arch="s5", conv_filters=32, ppo=PPOConfig(entropy_coef=1e-3)),
        ),
        "the reference's s5_paired",
    ),
    "accel60_dr": (
        _with_updates(_dcd("dr", _DCD_PPO, _UNIFORM60, 0.3, "positive_value_loss"), 20_000),
        "Parker-Holder et al. 2022: domain randomisation, up to 60 walls",
    ),
    "accel60_robust_plr": (
        _with_updates(_dcd("robust_plr", _DCD_PPO, _UNIFORM60, 0.3, "positive_value_loss"), 20_000),
        "Parker-Holder et al. 2022: robust PLR, up to 60 walls",
    ),
    "accel60_accel": (
        _with_updates(_dcd("accel", _DCD_PPO, _EMPTY, 0.3, "positive_value_loss", replay_prob=0.8), 20_000),
        "Parker-Holder et al. 2022: ACCEL from empty mazes",
    ),
    "plr25_dr": (
        _dcd("dr", _DCD_PPO_25, _WALLS25, 0.1, "max_mc", total_env_steps=250_000_000),
        "Jiang, Dennis et al. 2021: domain randomisation, 25 walls",
    ),
    "plr25_robust_plr": (
        _dcd("robust_plr", _DCD_PPO_25, _WALLS25, 0.1, "max_mc", total_env_steps=250_000_000),
        "Jiang, Dennis et al. 2021: robust PLR, 25 walls",
    ),
    "plr25_repaired": (
        _dcd(
            "repaired",
            _DCD_PPO,
            _WALLS25,
            0.1,
            "max_mc",
            replay_prob=0.95,
            teacher=TeacherConfig(ppo=PPOConfig(entropy_coef=0.0, gae_lambda=0.95), editor=EditorConfig(n_walls=25)),
            total_env_steps=500_000_000,
        ),
        "Jiang, Dennis et al. 2021: REPAIRED, 25 walls; our teacher is recurrent, theirs was not",
    ),
    "sfl_maze13": (_with_updates(_SFL, 4578), "Rutherford et al. 2024: sampling for learnability, 256 environments"),
    "ncc_maze13": (_with_updates(_NCC, 4578), "Monette et al. 2025: a learned distribution over levels"),
    "gpu13_dr": (_GPU13, "250 M steps of 256 environments, 3 seeds: domain randomisation"),
    "gpu13_parallel_plr": (dataclasses.replace(_GPU13, method="parallel_plr"), "the same by parallel PLR"),
    "gpu13_parallel_accel": (
        dataclasses.replace(_GPU13, method="parallel_accel", env=_EMPTY),
        "the same by parallel ACCEL, from empty mazes",
    ),
    "gpu13_sfl": (
        dataclasses.replace(_GPU13, method="sfl", learnable=LearnableConfig(candidates=5000, steps=1000)),
        "the same by sampling for learnability",
    ),
    "cartpole_dr": (_CARTPOLE, "CartPole with varied physics, domain randomisation; minutes of two CPU cores"),
    "cartpole_plr": (dataclasses.replace(_CARTPOLE, method="plr"), "the same by prioritised level replay"),
    "cartpole_accel": (
        dataclasses.replace(_CARTPOLE, method="accel", total_env_steps=2_000_000),
        "the same by ACCEL",
    ),
}

#: Name -> configuration; see the module docstring.
PRESETS: dict[str, TrainConfig] = {name: config for name, (config, _) in _NAMED.items()}

#: Name -> one line for help texts.
PRESET_HELP: dict[str, str] = {name: text for name, (_, text) in _NAMED.items()}
