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
    DRConfig,
    EditorConfig,
    LSTMConfig,
    MazeConfig,
    MutationConfig,
    NCCConfig,
    PPOConfig,
    ReplayConfig,
    S5Config,
    SFLConfig,
    StudentConfig,
    TaughtConfig,
    TeacherConfig,
    TrainConfig,
)

__all__ = ["PRESETS", "PRESET_HELP"]


def _with_updates(config: TrainConfig, updates: int) -> TrainConfig:
    """Return `config` with as many environment steps as the expected number of cycles with `updates` updates takes."""
    method = config.method
    learning = 1.0
    if method.alternates and method.buffer is not None:
        replay = method.buffer.lot
        learning = replay * ("replay" in method.gradient) + (1 - replay) * ("fresh" in method.gradient)
    return dataclasses.replace(config, total_env_steps=round(updates / learning * config.env_steps_per_cycle))


# --- minutes on a laptop ---

_SMALL = TrainConfig(
    env=MazeConfig(height=7, width=7, n_walls=14, max_steps=64),
    student=StudentConfig(core=LSTMConfig(features=64)),
    ppo=PPOConfig(lr=1e-3, epochs=4, minibatches=4, bootstrap_timeouts=False),
    n_envs=128,
    rollout_steps=64,
    total_env_steps=600_000,
    cycles_per_step=15,
)
_SMALL_BUFFER = BufferConfig(capacity=1024)
_SMALL_TEACHER = TeacherConfig(
    core=LSTMConfig(features=64),
    conv_filters=16,
    ppo=PPOConfig(lr=1e-3, epochs=4, minibatches=4, entropy_coef=0.05),
    editor=EditorConfig(n_walls=14, noise_dim=16),
)
_SMALL_SFL = SFLConfig(capacity=256, candidates=1024, batch=512, steps=256, refresh_every=25)

_CPU13 = dataclasses.replace(
    _SMALL, env=MazeConfig(), rollout_steps=256, total_env_steps=5_000_000, cycles_per_step=8
)  # fmt: skip
_CPU13_TEACHER = dataclasses.replace(_SMALL_TEACHER, editor=EditorConfig())
_CPU13_SFL = dataclasses.replace(_SMALL_SFL, capacity=128, candidates=512, steps=1000)
_EMPTY = MazeConfig(n_walls=0)
_PARALLEL = BufferConfig(replay_prob="parallel")

# --- the reference's configurations ---

_PPO_999 = PPOConfig(lr=3e-4, gamma=0.999, entropy_coef=0.0, bootstrap_timeouts=False)
_PPO_995 = PPOConfig(bootstrap_timeouts=False)
_S5 = StudentConfig(core=S5Config())
_S5_PRE = StudentConfig(core=S5Config(norm="pre"))


def _maze13(method: Any, ppo: PPOConfig, **changes: Any) -> TrainConfig:
    return _with_updates(TrainConfig(method=method, ppo=ppo, **changes), 30_000)


def _replay(n_edits: int | None = None, **buffer: Any) -> ReplayConfig:
    """Robust replay, with mutations ACCEL."""
    mutation = None if n_edits is None else MutationConfig(n_edits=n_edits)
    return ReplayConfig(buffer=BufferConfig(**buffer), mutation=mutation)


def _tuned(ppo: PPOConfig, **changes: Any) -> PPOConfig:
    return dataclasses.replace(ppo, **changes)


# --- the experiments that dcd ran ---


_PVL60 = BufferConfig(score="positive_value_loss")
#: The code behind the published numbers says easy, but takes the parents with the lowest return less value loss.
_DCD_EDITS = MutationConfig(operator="dcd", n_edits=5, parents="hard", n_parents=4)
_MAX_MC25 = BufferConfig(temperature=0.1)
_DCD_PPO = PPOConfig(gae_lambda=0.95, entropy_coef=0.0)
_DCD_PPO_25 = PPOConfig(gae_lambda=0.95, entropy_coef=0.01)
_UNIFORM60 = MazeConfig(sample_n_walls=True)
_WALLS25 = MazeConfig(n_walls=25)

# --- other papers ---

_SFL = TrainConfig(
    method=SFLConfig(), n_envs=256, cycles_per_step=10,
    ppo=PPOConfig(
        lr=2.5e-4, anneal_lr=True, gamma=0.99, gae_lambda=0.95, clip=0.04, entropy_coef=0.0, epochs=4, minibatches=4,
        bootstrap_timeouts=False,
    ),
)  # fmt: skip
_NCC = TrainConfig(
    method=NCCConfig(trials=5), n_envs=256, cycles_per_step=10,
    ppo=PPOConfig(
        lr=1.47e-3, anneal_lr=True, gamma=0.995, gae_lambda=0.98, epochs=1, minibatches=1, max_grad_norm=0.25,
        bootstrap_timeouts=False,
    ),
)  # fmt: skip

# --- one GPU ---

_GPU13 = TrainConfig(
    ppo=PPOConfig(lr=2.5e-4, anneal_lr=True, chunks=4, epochs=4, minibatches=4),
    n_envs=256,
    total_env_steps=250_000_000,
    cycles_per_step=16,
    seeds=3,
)

_CARTPOLE = TrainConfig(
    env=CartPoleConfig(),
    student=StudentConfig(core=LSTMConfig(features=64)),
    ppo=PPOConfig(lr=1e-3, epochs=4, minibatches=4, gamma=0.99, gae_lambda=0.95),
    n_envs=64,
    rollout_steps=256,
    total_env_steps=1_000_000,
    cycles_per_step=8,
)
_CARTPOLE_BUFFER = BufferConfig(score="positive_value_loss", capacity=1024)


def _as(base: TrainConfig, method: Any, **changes: Any) -> TrainConfig:
    return dataclasses.replace(base, method=method, **changes)


def _dcd(updates: int | None, ppo: PPOConfig, env: MazeConfig, method: Any = DRConfig(), **changes: Any) -> TrainConfig:  # noqa: B008
    config = TrainConfig(method=method, ppo=ppo, env=env, **changes)
    return config if updates is None else _with_updates(config, updates)


_PARALLEL_EDITS = _replay(20, replay_prob="parallel")
_OLDER: dict[str, Any] = {"staleness_coef": 0.5}
_LOW_LR = _tuned(_PPO_999, lr=1e-4, entropy_coef=1e-3)
_S5_TEACHER = TeacherConfig(core=S5Config(), conv_filters=32, ppo=PPOConfig(entropy_coef=1e-3))
_TEACHER25 = TeacherConfig(ppo=PPOConfig(entropy_coef=0.0, gae_lambda=0.95), editor=EditorConfig(n_walls=25))
_ACCEL60 = ReplayConfig(buffer=dataclasses.replace(_PVL60, replay_prob=0.8), mutation=_DCD_EDITS)
_REPAIRED25 = TaughtConfig(teacher=_TEACHER25, buffer=dataclasses.replace(_MAX_MC25, replay_prob=0.95))
_GAUSSIAN = MutationConfig(operator="gaussian", n_edits=3)
_SMALL_EMPTY = dataclasses.replace(_SMALL.env, n_walls=0)

_NAMED: dict[str, tuple[TrainConfig, str]] = {
    "small": (_SMALL, "7x7 mazes, domain randomisation; about a minute of two CPU cores per seed"),
    "small_plr": (
        _as(_SMALL, ReplayConfig(learns_from="all", buffer=_SMALL_BUFFER)), "the same by prioritised level replay"),
    "small_robust_plr": (
        _as(_SMALL, ReplayConfig(buffer=_SMALL_BUFFER), total_env_steps=1_200_000),
        "the same by robust prioritised level replay, at equal gradient updates"),
    "small_accel": (
        _as(_SMALL, _replay(10, capacity=1024, replay_prob=0.8), env=_SMALL_EMPTY, total_env_steps=1_200_000),
        "7x7 mazes by ACCEL, from empty ones"),
    "small_paired": (
        _as(_SMALL, TaughtConfig(teacher=_SMALL_TEACHER), total_env_steps=1_200_000), "7x7 mazes by PAIRED"),
    "small_sfl": (
        _as(_SMALL, _SMALL_SFL, total_env_steps=1_200_000), "7x7 mazes by sampling for learnability"),
    "cpu13_dr": (_CPU13, "13x13 mazes, domain randomisation, a small student; minutes of two CPU cores"),
    "cpu13_parallel_plr": (_as(_CPU13, ReplayConfig(buffer=_PARALLEL)), "the same by parallel PLR"),
    "cpu13_parallel_accel": (
        _as(_CPU13, _PARALLEL_EDITS, env=_EMPTY), "the same by parallel ACCEL, from empty mazes"),
    "cpu13_accel": (
        _as(_CPU13, _replay(20, replay_prob=0.8, temperature=1.0), env=_EMPTY),
        "the same by ACCEL, from empty mazes; its walls pass 50 in 60 million steps"),
    "cpu13_sfl": (_as(_CPU13, _CPU13_SFL), "the same by sampling for learnability"),
    "cpu13_paired": (_as(_CPU13, TaughtConfig(teacher=_CPU13_TEACHER)), "the same by PAIRED, a small teacher"),
    "maze13_dr": (
        _maze13(DRConfig(), _PPO_995),
        "13x13 mazes, domain randomisation, as the reference ships it (a GPU run, as all below but cartpole)"),
    "maze13_plr": (
        dataclasses.replace(_maze13(ReplayConfig(learns_from="all"), _PPO_999), total_env_steps=245_760_000),
        "prioritised level replay with the reference's constants, gradients on all levels"),
    "maze13_robust_plr": (_maze13(ReplayConfig(), _PPO_999), "the reference's plr, which is robust"),
    "maze13_parallel_plr": (
        _maze13(_replay(replay_prob="parallel", **_OLDER), _tuned(_PPO_999, gae_lambda=0.95)), "the reference's pplr"),
    "maze13_accel": (_maze13(_replay(20, replay_prob=0.8, **_OLDER), _PPO_999, env=_EMPTY), "the reference's accel"),
    "maze13_parallel_accel": (
        _maze13(_replay(20, replay_prob="parallel", **_OLDER), _LOW_LR, env=_EMPTY), "the reference's paccel"),
    "maze13_paired": (
        _maze13(TaughtConfig(), _PPO_995), "the reference's paired: an LSTM teacher of 22.5 M parameters"),
    "s5_dr": (_maze13(DRConfig(), _tuned(_PPO_995, lr=3e-5), student=_S5), "the reference's s5_dr"),
    "s5_robust_plr": (_maze13(_replay(temperature=0.5, **_OLDER), _LOW_LR, student=_S5_PRE), "the reference's s5_plr"),
    "s5_parallel_plr": (
        _maze13(_replay(replay_prob="parallel", temperature=0.5, **_OLDER), _LOW_LR, student=_S5),
        "the reference's s5_pplr"),
    "s5_accel": (
        _maze13(_replay(10, temperature=0.1), _PPO_995, student=_S5, env=_EMPTY), "the reference's s5_accel"),
    "s5_parallel_accel": (
        _maze13(_replay(20, replay_prob="parallel", temperature=0.1, **_OLDER), _tuned(_PPO_999, lr=3e-5), student=_S5,
                env=_EMPTY),
        "the reference's s5_paccel"),
    "s5_paired": (_maze13(TaughtConfig(teacher=_S5_TEACHER), _PPO_995, student=_S5), "the reference's s5_paired"),
    "accel60_dr": (
        _dcd(20_000, _DCD_PPO, _UNIFORM60), "Parker-Holder et al. 2022: domain randomisation, up to 60 walls"),
    "accel60_robust_plr": (
        _dcd(20_000, _DCD_PPO, _UNIFORM60, ReplayConfig(buffer=_PVL60)),
        "Parker-Holder et al. 2022: robust PLR, up to 60 walls"),
    "accel60_accel": (
        _dcd(20_000, _DCD_PPO, _EMPTY, _ACCEL60), "Parker-Holder et al. 2022: ACCEL from empty mazes"),
    "plr25_dr": (
        _dcd(None, _DCD_PPO_25, _WALLS25, total_env_steps=250_000_000),
        "Jiang, Dennis et al. 2021: domain randomisation, 25 walls"),
    "plr25_robust_plr": (
        _dcd(None, _DCD_PPO_25, _WALLS25, ReplayConfig(buffer=_MAX_MC25), total_env_steps=250_000_000),
        "Jiang, Dennis et al. 2021: robust PLR, 25 walls"),
    "plr25_repaired": (
        _dcd(None, _DCD_PPO, _WALLS25, _REPAIRED25, total_env_steps=500_000_000),
        "Jiang, Dennis et al. 2021: REPAIRED, 25 walls; our teacher is recurrent, theirs was not"),
    "sfl_maze13": (_with_updates(_SFL, 4578), "Rutherford et al. 2024: sampling for learnability, 256 environments"),
    "ncc_maze13": (_with_updates(_NCC, 4578), "Monette et al. 2025: a learned distribution over levels"),
    "gpu13_dr": (_GPU13, "250 M steps of 256 environments, 3 seeds: domain randomisation"),
    "gpu13_parallel_plr": (_as(_GPU13, ReplayConfig(buffer=_PARALLEL)), "the same by parallel PLR"),
    "gpu13_parallel_accel": (
        _as(_GPU13, _PARALLEL_EDITS, env=_EMPTY), "the same by parallel ACCEL, from empty mazes"),
    "gpu13_sfl": (_as(_GPU13, SFLConfig(candidates=5000, steps=1000)), "the same by sampling for learnability"),
    "cartpole_dr": (_CARTPOLE, "CartPole with varied physics, domain randomisation; minutes of two CPU cores"),
    "cartpole_plr": (
        _as(_CARTPOLE, ReplayConfig(learns_from="all", buffer=_CARTPOLE_BUFFER)),
        "the same by prioritised level replay"),
    "cartpole_accel": (
        _as(_CARTPOLE, ReplayConfig(buffer=_CARTPOLE_BUFFER, mutation=_GAUSSIAN), total_env_steps=2_000_000),
        "the same by ACCEL"),
}  # fmt: skip

#: Name -> configuration; see the module docstring.
PRESETS: dict[str, TrainConfig] = {name: config for name, (config, _) in _NAMED.items()}

#: Name -> one line for help texts.
PRESET_HELP: dict[str, str] = {name: text for name, (_, text) in _NAMED.items()}
