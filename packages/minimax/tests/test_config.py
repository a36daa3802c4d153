import dataclasses
import itertools
import json
import subprocess
import sys

import pytest

import minimax_ued
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
from minimax_ued.methods import METHODS, Method, register_method
from minimax_ued.presets import PRESET_HELP, PRESETS
from paperloop.errors import UserError


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MazeConfig(view_size=4), ["view_size is 4", "odd"]),
        (lambda: MazeConfig(n_walls=168), ["n_walls is 168", "at most 167"]),
        (lambda: MazeConfig(height=1, width=1, n_walls=0), ["1 x 1", "two cells"]),
        (lambda: MazeConfig(max_steps=0), ["max_steps is 0", "from 1 to"]),
        (lambda: MazeConfig(normalize=1), ["normalize is 1", "True or False"]),
        (lambda: StudentConfig(arch="gru6"), ["arch is 'gru6'", "'lstm'"]),
        (lambda: StudentConfig(features=2.5), ["features is 2.5", "integer"]),
        (lambda: PPOConfig(gamma=1.01), ["gamma is 1.01", "from 0 to 1"]),
        (lambda: PPOConfig(lr=0), ["lr is 0", "above 0"]),
        (lambda: PPOConfig(lr=float("nan")), ["lr is nan", "a number above 0"]),
        (lambda: PPOConfig(epochs=True), ["epochs is True", "integer"]),
        (lambda: BufferConfig(temperature=0), ["temperature is 0"]),
        (lambda: BufferConfig(min_fill=1.5), ["min_fill is 1.5"]),
        (lambda: BufferConfig(prioritization="ranks"), ["prioritization is 'ranks'", "'proportional'"]),
        (lambda: TrainConfig(method="drr"), ["'drr'", 'did you mean "dr"?']),
        (lambda: TrainConfig(n_envs=30, ppo=PPOConfig(minibatches=4)), ["n_envs is 30", "ppo.minibatches = 4", "32"]),
        (lambda: TrainConfig(n_envs=31, devices=2), ["n_envs is 31", "devices = 2", "32"]),
        (lambda: TrainConfig(method="plr", buffer=BufferConfig(capacity=31)), ["buffer.capacity is 31", "n_envs = 32"]),
        (lambda: TrainConfig(method="plr", rollout_steps=100), ["rollout_steps is 100", "250", "finished or scored"]),
        (lambda: BufferConfig(ties="random"), ["ties is 'random'", "'share'"]),
        (lambda: BufferConfig(temperature=0.05), ["BufferConfig.temperature is 0.05", "float32", "0.0954"]),
        (
            lambda: TrainConfig(method="robust_plr", buffer=BufferConfig(replay_prob=0)),
            ["replay_prob is 0", "robust_plr"],
        ),
        (lambda: TrainConfig(seeds=0), ["seeds is 0"]),
        (lambda: TrainConfig(domain="mazes"), ["domain is 'mazes'", "'cartpole'"]),
        (lambda: TrainConfig(population=1), ["population is 1", "from 2 to"]),
        (lambda: TrainConfig(ppo=PPOConfig(chunks=3)), ["rollout_steps is 256", "chunks = 3"]),
        (
            lambda: TrainConfig(method="parallel_accel", buffer=BufferConfig(capacity=95)),
            ["buffer.capacity is 95", "96", "n_envs = 32"],
        ),
        (
            lambda: TrainConfig(method="accel", mutation=MutationConfig(parents="easy", n_parents=5)),
            ["n_parents is 5", "n_envs = 32"],
        ),
        (
            lambda: TrainConfig(method="parallel_accel", mutation=MutationConfig(parents="easy")),
            ["parents is 'easy'", "parallel_accel", "'batch'"],
        ),
        (
            lambda: TrainConfig(
                domain="cartpole", method="paired", rollout_steps=256, cartpole=CartPoleConfig(max_steps=256)
            ),
            ["is paired", "mazes", "'cartpole'"],
        ),
        (lambda: TrainConfig(domain="cartpole", rollout_steps=100), ["rollout_steps is 100", "cartpole.max_steps"]),
        (lambda: S5Config(state=100, blocks=8), ["state is 100", "2 x S5Config.blocks = 16"]),
        (lambda: S5Config(dt_min=1.0), ["dt_min is 1", "dt_max = 0.1"]),
        (lambda: StudentConfig(dtype="float16"), ["dtype is 'float16'", "'bfloat16'"]),
        (lambda: MutationConfig(n_edits=0), ["n_edits is 0", "from 1 to"]),
        (lambda: EditorConfig(budget="none"), ["budget is 'none'", "'first_wall'"]),
        (lambda: TeacherConfig(ppo=PPOConfig(chunks=2)), ["chunks is 2", "whole levels"]),
        (lambda: LearnableConfig(candidates=10), ["candidates is 10", "capacity = 1000"]),
        (lambda: LearnableConfig(batch=3000), ["batch is 3000", "candidates = 25000"]),
        (lambda: DistributionConfig(truncation=0.1), ["truncation is 0.1", "0.00025"]),
        (lambda: DistributionConfig(batch=3000), ["batch is 3000", "capacity = 4000"]),
        (lambda: DistributionConfig(trials=1), ["trials is 1", "from 2 to"]),
        (lambda: TrainConfig(method="sfl", learnable=LearnableConfig(steps=300)), ["steps is 300", "500"]),
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
        TrainConfig(method=method, rollout_steps=100)


def test_dr_needs_no_room_in_the_buffer():
    TrainConfig(method="dr", buffer=BufferConfig(capacity=1))


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
    assert (plr.buffer.replay_prob, plr.buffer.staleness_coef, plr.buffer.temperature) == (0.5, 0.3, 0.3)
    assert (plr.buffer.capacity, plr.score, plr.method) == (4000, "max_mc", "robust_plr")
    assert dr.env == MazeConfig() == plr.env
    assert all(dataclasses.replace(config) == config for config in PRESETS.values())


def test_a_configuration_is_plain_data():
    for config in PRESETS.values():
        assert json.loads(json.dumps(dataclasses.asdict(config))) == dataclasses.asdict(config)
        hash(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gradient": frozenset()}, "trains on nothing"),
        ({"gradient": frozenset({"new", "replay"}), "curator": "buffer"}, "gradient 'new', but the sources are fresh"),
        ({"curator": "bufer"}, "curator 'bufer', but the curators are none"),
        ({"students": 0}, "0 students"),
        ({"gradient": frozenset({"replay"})}, "keeps none"),
        ({"parallel": True}, "curator='buffer'"),
        ({"mutates": True, "curator": "learnable"}, "curator='buffer'"),
        ({"gradient": frozenset({"mutation"})}, "only ever scored"),
        ({"teacher": True}, "objective exactly if"),
        ({"objective": "neg_return"}, "objective exactly if"),
        ({"teacher": True, "objective": "neg_return", "curator": "distribution"}, "goes with no curator"),
        ({"students": 2}, "several students"),
    ],
)
def test_a_method_that_makes_no_sense_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Method(**{"name": "x", "gradient": frozenset({"fresh"}), "summary": "", "reference": ""} | changes)


def test_methods_of_the_users_own():
    mine = Method(name="mine_alone", gradient=frozenset({"fresh"}), summary="", reference="")
    try:
        assert register_method(mine) is mine
        assert register_method(mine) is mine  # the same once more, as when a notebook's cell runs again
        assert TrainConfig(method="mine_alone").method_spec == mine
        with pytest.raises(UserError, match="'mine_alone' already"):
            register_method(dataclasses.replace(mine, mutates=True, curator="buffer"))
    finally:
        del METHODS["mine_alone"]
    with pytest.raises(UserError, match='did you mean "accel"'):
        TrainConfig(method="acell")


def test_environment_steps_count_every_rollout():
    def per_cycle(method, **changes):
        return TrainConfig(method=method, **changes).env_steps_per_cycle / (32 * 256)

    assert [per_cycle(m) for m in ("dr", "plr", "robust_plr", "minimax")] == [1, 1, 1, 1]
    assert [per_cycle(m) for m in ("parallel_plr", "parallel_accel", "paired", "repaired")] == [2, 3, 2, 2]
    assert per_cycle("accel", buffer=BufferConfig(replay_prob=0.8)) == pytest.approx(1.8)
    assert per_cycle("population_paired", population=4) == 4
    assert per_cycle("sfl") == pytest.approx(1 + 25_000 * 2000 / 100 / 8192)
    assert per_cycle("ncc") == pytest.approx(1 + 5 * (4000 + 32) / 32)


def test_every_preset_says_what_it_is():
    assert set(PRESETS) == set(PRESET_HELP)
    assert {config.method for config in PRESETS.values()} >= set(METHODS) - {"minimax", "population_paired"}
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
