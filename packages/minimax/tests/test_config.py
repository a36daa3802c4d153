import dataclasses
import itertools
import json
import subprocess
import sys

import pytest

import minimax_ued
from minimax_ued.config import (
    SCHEMA,
    BufferConfig,
    CartPoleConfig,
    LSTMConfig,
    MazeConfig,
    MutationConfig,
    NCCConfig,
    PPOConfig,
    ReplayConfig,
    S5Config,
    SFLConfig,
    TaughtConfig,
    TeacherConfig,
    TrainConfig,
)
from minimax_ued.methods import METHODS
from minimax_ued.presets import PRESET_HELP, PRESETS
from paperloop.errors import UserError
from paperloop.settings import from_dict, load_config, save_config, to_dict


def replay(mutation=None, **buffer):
    return ReplayConfig(buffer=BufferConfig(**buffer), mutation=mutation)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MazeConfig(view_size=4), ["view_size is 4", "odd"]),
        (lambda: MazeConfig(n_walls=168), ["n_walls is 168", "at most 167"]),
        (lambda: MazeConfig(height=1, width=1, n_walls=0), ["1 x 1", "two cells"]),
        (lambda: MazeConfig(max_steps=0), ["max_steps is 0", "from 1 to"]),
        (lambda: MazeConfig(sample_n_walls=1), ["sample_n_walls is 1", "True or False"]),
        (lambda: LSTMConfig(features=2.5), ["features is 2.5", "integer"]),
        (lambda: PPOConfig(gamma=1.01), ["gamma is 1.01", "from 0 to 1"]),
        (lambda: PPOConfig(lr=0), ["lr is 0", "above 0"]),
        (lambda: PPOConfig(lr=float("nan")), ["lr is nan", "a number above 0"]),
        (lambda: PPOConfig(epochs=True), ["epochs is True", "integer"]),
        (lambda: BufferConfig(temperature=0), ["temperature is 0"]),
        (lambda: BufferConfig(min_fill=1.5), ["min_fill is 1.5"]),
        (lambda: BufferConfig(replay_prob="paralel"), ["replay_prob is 'paralel'", "'parallel'"]),
        (lambda: BufferConfig(temperature=0.05), ["BufferConfig.temperature is 0.05", "float32", "0.0954"]),
        (lambda: TrainConfig(n_envs=30, ppo=PPOConfig(minibatches=4)), ["n_envs is 30", "ppo.minibatches = 4", "32"]),
        (lambda: TrainConfig(n_envs=31, devices=2), ["n_envs is 31", "devices = 2", "32"]),
        (lambda: TrainConfig(method=replay(capacity=31)), ["method.buffer.capacity is 31", "n_envs = 32"]),
        (
            lambda: TrainConfig(method=replay(), rollout_steps=100),
            ["rollout_steps is 100", "250", "finished or scored"],
        ),
        (lambda: replay(replay_prob=0), ["buffer.replay_prob is 0", "'replayed'"]),
        (lambda: TrainConfig(seeds=0), ["seeds is 0"]),
        (lambda: TrainConfig(ppo=PPOConfig(chunks=3)), ["rollout_steps is 256", "chunks = 3"]),
        (
            lambda: TrainConfig(method=replay(MutationConfig(), capacity=95, replay_prob="parallel")),
            ["buffer.capacity is 95", "96", "n_envs = 32"],
        ),
        (
            lambda: TrainConfig(method=replay(MutationConfig(parents="easy", n_parents=5))),
            ["n_parents is 5", "n_envs = 32"],
        ),
        (
            lambda: replay(MutationConfig(parents="easy"), replay_prob="parallel"),
            ["mutation.parents is 'easy'", "'parallel'", "'batch'"],
        ),
        (lambda: TrainConfig(env=CartPoleConfig(), method=TaughtConfig()), ["env.type is 'cartpole'", "builds mazes"]),
        (lambda: TrainConfig(env=CartPoleConfig(), rollout_steps=100), ["rollout_steps is 100", "env.max_steps"]),
        (lambda: S5Config(state=100, blocks=8), ["state is 100", "2 x S5Config.blocks = 16"]),
        (lambda: S5Config(dt_min=1.0), ["dt_min is 1", "dt_max = 0.1"]),
        (lambda: MutationConfig(n_edits=0), ["n_edits is 0", "from 1 to"]),
        (lambda: TeacherConfig(ppo=PPOConfig(chunks=2)), ["chunks is 2", "whole levels"]),
        (lambda: TaughtConfig(students=3), ["students is 3", "must be 2", "relative_regret"]),
        (lambda: TaughtConfig(students=1, objective="population_regret"), ["students is 1", "at least 2"]),
        (lambda: TaughtConfig(buffer=BufferConfig(replay_prob="parallel")), ["replay_prob is 'parallel'", "teacher"]),
        (lambda: SFLConfig(candidates=10), ["candidates is 10", "capacity = 1000"]),
        (lambda: SFLConfig(batch=3000), ["batch is 3000", "candidates = 25000"]),
        (lambda: NCCConfig(truncation=0.1), ["truncation is 0.1", "0.00025"]),
        (lambda: NCCConfig(batch=3000), ["batch is 3000", "capacity = 4000"]),
        (lambda: NCCConfig(trials=1), ["trials is 1", "from 2 to"]),
        (lambda: TrainConfig(method=SFLConfig(steps=300)), ["method.steps is 300", "500"]),
        (
            lambda: TrainConfig(method=replay(), total_env_steps=300_000),
            ["total_env_steps is 300000", "2000 levels", "no update would be made", "method.buffer.min_fill"],
        ),
        (lambda: CartPoleConfig(success=1.0), ["success is 1.0", "at least 0 and below 1", "longer than T"]),
        (lambda: CartPoleConfig(spread=1.0), ["spread is 1.0", "above 1 and at most 100"]),
    ],
)
def test_a_wrong_value_is_one_sentence_with_field_value_and_range(make, words):
    with pytest.raises(UserError) as error:
        make()
    message = str(error.value)
    assert all(word in message for word in words), message
    assert message.endswith((".", "?"))
    assert "\n" not in message


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_rollout_shorter_than_an_episode_is_refused(method):
    with pytest.raises(UserError, match="rollout_steps is 100"):
        TrainConfig(method=METHODS[method].settings, rollout_steps=100)


def test_the_names_of_methods_are_those_of_the_literature():
    for name, method in METHODS.items():
        assert method.settings.name == name
        assert from_dict(TrainConfig, to_dict(TrainConfig(method=method.settings))).method == method.settings
    own = ReplayConfig(learns_from="all", mutation=MutationConfig())
    assert (own.gradient, own.explores, own.parts) == ({"fresh", "replay"}, True, 1)


def test_a_setting_of_another_member_is_refused_by_name():
    with pytest.raises(UserError, match="capacity") as error:
        from_dict(TrainConfig, {"method": {"type": "dr", "capacity": 4}})
    assert "sfl" in str(error.value) or "unknown" in str(error.value)


def test_runs_of_before_are_refused_with_the_reason(tmp_path):
    save_config(PRESETS["small"], tmp_path / "config.json", schema=1)
    with pytest.raises(UserError, match="schema 1, and TrainConfig of this version has schema 2"):
        load_config(TrainConfig, tmp_path, SCHEMA)


def test_derived_numbers():
    config = PRESETS["maze13_dr"]
    assert config.steps_per_rollout == 32 * 256
    assert config.total_cycles == 30_000
    odd = dataclasses.replace(config, total_env_steps=8192 * 16 + 1)
    assert (odd.num_steps, odd.total_cycles) == (2, 32)


def test_presets_are_the_published_settings():
    dr, plr = PRESETS["maze13_dr"], PRESETS["maze13_robust_plr"]
    assert (dr.ppo.lr, dr.ppo.gamma, dr.ppo.entropy_coef, dr.ppo.epochs, dr.ppo.minibatches) == (
        1e-4,
        0.995,
        1e-3,
        5,
        1,
    )
    assert (plr.ppo.lr, plr.ppo.gamma, plr.ppo.entropy_coef, plr.ppo.gae_lambda) == (3e-4, 0.999, 0.0, 0.98)
    assert (plr.method.buffer.replay_prob, plr.method.buffer.staleness_coef, plr.method.buffer.temperature) == (
        0.5,
        0.3,
        0.3,
    )
    assert (plr.method.buffer.capacity, plr.method.buffer.score, plr.method.name) == (4000, "max_mc", "robust_plr")
    assert dr.env == MazeConfig() == plr.env
    assert all(dataclasses.replace(config) == config for config in PRESETS.values())


def test_a_configuration_is_plain_data():
    for config in PRESETS.values():
        assert json.loads(json.dumps(dataclasses.asdict(config))) == dataclasses.asdict(config)
        hash(config)


def test_environment_steps_count_every_rollout():
    def per_cycle(method):
        method = METHODS[method].settings if isinstance(method, str) else method
        return TrainConfig(method=method).env_steps_per_cycle / (32 * 256)

    assert [per_cycle(m) for m in ("dr", "plr", "robust_plr", "minimax")] == [1, 1, 1, 1]
    assert [per_cycle(m) for m in ("parallel_plr", "parallel_accel", "paired", "repaired")] == [2, 3, 2, 2]
    assert per_cycle(replay(MutationConfig(), replay_prob=0.8)) == pytest.approx(1.8)
    assert per_cycle(TaughtConfig(objective="population_regret", students=4)) == 4
    assert per_cycle("sfl") == pytest.approx(1 + 25_000 * 2000 / 100 / 8192)
    assert per_cycle("ncc") == pytest.approx(1 + 5 * (4000 + 32) / 32)


def test_every_preset_says_what_it_is():
    assert set(PRESETS) == set(PRESET_HELP)
    assert {config.method.name for config in PRESETS.values()} >= set(METHODS) - {"minimax", "population_paired"}
    updates = {name: PRESETS[f"maze13_{name}"].total_cycles for name in ("dr", "parallel_plr", "parallel_accel")}
    assert set(updates.values()) == {30_000}
    assert PRESETS["maze13_robust_plr"].total_cycles == 60_000  # half of the cycles replay
    assert PRESETS["maze13_accel"].total_cycles == pytest.approx(37_500, rel=0.001)  # four fifths do


def test_configuration_needs_no_jax():
    code = "import sys, minimax_ued.config; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_needs_no_jax_and_its_names_come_on_first_use():
    code = "import sys, minimax_ued; from minimax_ued import PRESETS, METHODS, presets; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert sorted(itertools.chain(*minimax_ued._HOME.values())) == sorted(minimax_ued.__all__) == dir(minimax_ued)
    for name in minimax_ued.__all__:
        assert getattr(minimax_ued, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Mazes'"):
        _ = minimax_ued.Mazes
