"""The contract of `paperloop.Trainer`, and the command line."""

import pytest

from opshape.agents.config import PPO, Shaper, TableLearner
from opshape.config import TrainConfig, TrialShape
from opshape.meta.config import Evolution
from opshape.trainer import ShapingTrainer
from paperloop.conformance import check_help, check_trainer

TINY = TrainConfig(
    trial=TrialShape(steps=4, episodes=3, games=2, co_players=1),
    shaper=Shaper(width=2),
    co_player=TableLearner(ppo=PPO(minibatches=2)),
    meta=Evolution(population=4, chunk=2),
    generations=24,
    generations_per_step=2,
    seeds=2,
)


def make(config):
    return ShapingTrainer(config)


@pytest.mark.parametrize("kills", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_trainer_meets_the_contract(tmp_path, kills):
    passed = check_trainer(make, TINY, folder=tmp_path, kills=kills)
    assert len(passed) >= 5


@pytest.mark.parametrize("command", ["train", "evaluate", "play", "tournament", "export", "demo"])
def test_help_waits_for_no_array_library(command):
    check_help("opshape", command)


def test_every_wrong_value_is_refused_in_the_words_that_were_typed():
    from opshape.cli import app
    from paperloop.cli.testing import check_command_errors

    assert check_command_errors(app) > 50
