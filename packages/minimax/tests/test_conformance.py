"""The contract of `paperloop.Trainer`, on a method that has everything: a level buffer, replay, two seeds."""

import pytest

from minimax_ued.config import BufferConfig, LSTMConfig, MazeConfig, PPOConfig, ReplayConfig, StudentConfig, TrainConfig
from minimax_ued.trainer import UEDTrainer
from paperloop.conformance import check_help, check_trainer

TINY = TrainConfig(
    env=MazeConfig(height=4, width=4, n_walls=2, max_steps=6),
    student=StudentConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2),
    ppo=PPOConfig(lr=1e-2, epochs=2, minibatches=2),
    method=ReplayConfig(buffer=BufferConfig(capacity=12, min_fill=0.3, replay_prob=0.7)),
    n_envs=4,
    rollout_steps=12,
    levels_ahead=2,
    cycles_per_step=3,
    seeds=2,
)


def make(config):
    return UEDTrainer(config)


@pytest.mark.slow
def test_the_trainer_meets_the_contract(tmp_path):
    assert "the same in a fresh process" in check_trainer(make, TINY, folder=tmp_path, kills=0)


@pytest.mark.slow
def test_a_run_that_is_killed_continues_bit_for_bit(tmp_path):
    passed = check_trainer(make, TINY, folder=tmp_path, kills=2)
    assert any("killed -9 2 times" in line for line in passed)


@pytest.mark.parametrize("command", ["train", "evaluate", "levels", "demo", "methods"])
def test_help_waits_for_no_array_library(command):
    check_help("minimax-ued", command)
