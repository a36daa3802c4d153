"""Training: chunks and devices change nothing, every combination runs, bad settings are refused."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from opshape.agents.config import MFOS, PPO, Alignment, GoodShepherd, RecurrentLearner, Reinforce, Shaper, TableLearner
from opshape.config import PRESETS, TrainConfig, TrialShape
from opshape.games.config import CoinGame, InTheMatrix, Matrix
from opshape.meta.config import CoAla, Evolution, Genetic, MetaPPO
from opshape.trainer import ShapingTrainer
from paperloop import UserError
from paperloop.settings import replace_in

SHAPE = TrialShape(steps=4, episodes=2, games=2, co_players=2)
TABLE = TableLearner(ppo=PPO(minibatches=2))
TINY = TrainConfig(
    trial=SHAPE, shaper=Shaper(width=2), co_player=TABLE, meta=Evolution(population=4), generations=2,
    generations_per_step=2,
)  # fmt: skip


@functools.cache
def after(config):
    trainer = ShapingTrainer(config)
    state, metrics = trainer.step(trainer.init(0))
    return jax.device_get((trainer.parameters(state), metrics))


def test_chunks_change_nothing():
    whole = after(TINY)
    halves = after(replace_in(TINY, {"meta.chunk": 2}))
    jax.tree.map(np.testing.assert_array_equal, whole, halves)


def test_a_seed_is_the_same_alone_and_next_to_others():
    alone, three = after(TINY)[0], after(replace_in(TINY, {"seeds": 3}))[0]
    np.testing.assert_allclose(alone[0], three[0], atol=1e-6)
    assert np.abs(three[0] - three[1]).max() > 1e-3


CASES = {
    "good shepherd, reinforce": {"shaper": GoodShepherd(layers=(4,)), "co_player": Reinforce()},
    "mfos, averaging, genetic": {"shaper": MFOS(width=2, mix="avg"), "meta": Genetic(population=4)},
    "attention, alignment": {
        "shaper": Shaper(width=8, mix="att"),
        "co_player": Alignment(ppo=PPO(lr=0.1, minibatches=2)),
    },
    "ppo": {"meta": MetaPPO()},
    "coala": {"meta": CoAla()},
    "coin game": {"game": CoinGame(), "co_player": RecurrentLearner(width=2, ppo=PPO(lr=0.01, minibatches=2))},
    "in the matrix, ppo": {
        "game": InTheMatrix(),
        "co_player": RecurrentLearner(width=2, ppo=PPO(lr=0.01, minibatches=2)),
    },
}


SLOW = ("ppo", "attention, alignment", "coin game")  # other cases, and other tests, run their parts


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES])
def test_every_part_trains(case):
    config = TrainConfig(
        **{"trial": SHAPE, "shaper": Shaper(width=2), "co_player": TABLE, "meta": Evolution(population=4),
           "generations": 1, "generations_per_step": 1, **CASES[case]}
    )  # fmt: skip
    parameters, metrics = after(config)
    assert np.isfinite(parameters).all()
    assert all(np.isfinite(value).all() for value in metrics.values())


@pytest.mark.slow
def test_two_devices_equal_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, numpy as np, jax\n"
        "from opshape.trainer import ShapingTrainer\n"
        "from paperloop.settings import from_dict\n"
        "from opshape.config import TrainConfig\n"
        "config = from_dict(TrainConfig, eval(sys.argv[1]))\n"
        "trainer = ShapingTrainer(config)\n"
        "state, metrics = trainer.step(trainer.init(0))\n"
        "np.save(sys.argv[2], jax.device_get(trainer.parameters(state)))\n"
    )
    from paperloop.settings import to_dict

    found = []
    for devices in (1, 2):
        config = to_dict(replace_in(TINY, {"devices": devices, "trial.steps": 20, "meta.sigma": 1.0}))
        out = tmp_path / f"{devices}.npy"
        environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
        subprocess.run([sys.executable, script, repr(config), out], env=environment, check=True)
        found.append(np.load(out))
    np.testing.assert_allclose(*found, atol=1e-5)
    assert np.abs(found[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trial.steps": 5, "trial.games": 1}, r"co_player.ppo.minibatches is 2; it must be a divisor of .* = 5"),
        ({"meta.population": 5}, "meta.population is 5; it must be even"),
        ({"meta.chunk": 3}, "meta.chunk is 3; it must be a divisor of"),
        ({"trial.episodes": 0}, "trial.episodes is 0; it must be at least 1"),
        ({"trial.steps": 0}, "trial.steps is 0; it must be at least 1"),
        ({"shaper.mix": "att", "shaper.width": 8, "trial.games": 1}, "trial.games is 1; it must be at least 2"),
        ({"shaper.mix": "att"}, "shaper.width is 2; it must be a multiple of 8"),
        ({"co_player.ppo.gamma": 1.0}, "co_player.ppo.gamma is 1.0; it must be"),
        ({"game.type": "coin_game"}, "co_player.type is 'table'; it must be recurrent, reinforce or alignment"),
        ({"generations": 3}, "generations_per_step is 2; it must be a divisor of"),
        ({"devices": 3}, "devices is 3; it must be a divisor of"),
        ({"game.name": "custom"}, "game.payoffs is None; it must be given"),
        ({"co_player.type": "strategy", "co_player.name": "tft"}, "no strategy 'tft'"),
    ],
)
def test_bad_settings_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        replace_in(TINY, changes)


def test_payoffs_that_are_not_what_they_are_called_give_a_warning():
    with pytest.warns(UserWarning, match="are called ipd, but are of the class chicken"):
        Matrix(name="ipd", payoffs=(3, 3, 1, 4, 4, 1, 0, 0))


def test_more_devices_than_there_are_are_refused():
    if len(jax.devices()) >= 2:
        pytest.skip("there are two devices")
    with pytest.raises(UserError, match="devices is 2, but JAX sees 1"):
        ShapingTrainer(replace_in(TINY, {"devices": 2}))


def test_presets_name_their_help():
    from opshape.config import PRESET_HELP

    assert PRESETS.keys() == PRESET_HELP.keys()


def test_a_generation_without_any_finite_candidate_stops_the_run_and_single_ones_are_left_out():
    from opshape.meta.base import report
    from opshape.play.arena import Scores

    own = jnp.array([[1.0, 3.0], [jnp.nan, 1.0], [0.0, 2.0], [jnp.inf, 0.0]])
    found = report(jnp.arange(4.0)[:, None], Scores(own, -jnp.nan_to_num(own)))
    assert found.metrics["reward"] == 1.5
    assert found.metrics["nonfinite_candidates"] == 2
    assert found.best == 0
    nothing = report(jnp.zeros((2, 1)), Scores(jnp.full((2, 2), jnp.nan), jnp.zeros((2, 2)))).metrics
    assert all(np.isnan(nothing[name]) for name in ("reward", "co_player_reward", "best_reward"))


def test_memory_that_does_not_suffice_is_answered_with_a_chunk(monkeypatch):
    trainer = ShapingTrainer(TINY)

    def exhausted(state):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(trainer, "_step", exhausted)
    with pytest.raises(UserError, match=r"do not fit into memory: .* with meta\.chunk"):
        trainer.step(None)
