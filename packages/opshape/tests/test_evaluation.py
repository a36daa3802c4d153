"""Measuring, loading, exporting and tournaments, on one tiny run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from opshape import load
from opshape.agents.config import PPO, RecurrentLearner, Shaper, Strategy
from opshape.build import make_game, make_trial
from opshape.cli import main
from opshape.config import TrainConfig, TrialShape
from opshape.evaluation.measure import measure
from opshape.evaluation.tournament import cross_play, entrant, exact_tournament
from opshape.games.coin_game import CoinGame
from opshape.games.config import CoinGame as CoinGameSettings
from opshape.games.config import Matrix
from opshape.games.payoffs import PAYOFFS
from opshape.meta.config import Evolution
from opshape.trainer import ShapingTrainer
from paperloop import CheckpointError, UserError, run

CONFIG = TrainConfig(
    trial=TrialShape(steps=4, episodes=3, games=2, co_players=1), shaper=Shaper(width=2),
    co_player=Strategy(name="tit_for_tat"), meta=Evolution(population=4, sigma=1.0), generations=2,
    generations_per_step=1, seeds=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    run(ShapingTrainer(CONFIG), out, steps=2, progress=False)
    return out


def test_a_run_is_evaluated_and_shown(folder, capsys):
    assert main(["evaluate", str(folder), "--co-players", "4", "--blind", "1", "--device", "cpu"]) == 0
    assert "cooperation/CC" in capsys.readouterr().out
    for name in ("evaluation.md", "evaluation.json", "trial.png"):
        assert (folder / "plots" / name).stat().st_size > 100


def test_a_shaper_survives_export_and_acts_as_in_the_run(folder, tmp_path):
    here = load(folder, seed=1)
    there = load(here.export(tmp_path / "shaper.npz"))
    jax.tree.map(np.testing.assert_array_equal, here.params, there.params)

    def act(shaper):
        memory = shaper.start(3)
        memory, p = shaper.probabilities(memory, jnp.full(3, 4))
        memory = shaper.next_episode(memory)
        return p, shaper.act(memory, jnp.array([0, 1, 2]), jax.random.key(0))[1]

    jax.tree.map(np.testing.assert_array_equal, act(here), act(there))
    np.testing.assert_allclose(act(here)[0].sum(-1), 1, atol=1e-6)


def test_damaged_and_foreign_files_are_refused(folder, tmp_path):
    path = load(folder).export(tmp_path / "shaper.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="not an exported shaper, or is damaged"):
        load(path)
    np.savez(tmp_path / "pickled.npz", about=np.array({"a": 1}, object))
    with pytest.raises(CheckpointError, match="not an exported shaper"):
        load(tmp_path / "pickled.npz")
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "nothing.npz")
    with pytest.raises(UserError, match="has the seeds 0 to 1"):
        load(folder, seed=2)


def test_measuring_uses_other_streams_than_training_and_checks_what_it_is_asked():
    trainer = ShapingTrainer(CONFIG)
    vectors = trainer.parameters(trainer.init(0))
    measured = measure(trainer, vectors, seed=0, co_players=2)
    assert measured.own.shape == (2, 2, 3)
    assert np.isclose(measured.statistics["visits"].sum(-1), 4).all()
    with pytest.raises(UserError, match="blind=3 is not between 0 and the 2 games"):
        measure(trainer, vectors, seed=0, blind=3)


def test_a_fair_strategy_cannot_be_beaten_by_more_than_one_round():
    game = make_game(Matrix(name="ipd"))
    trial = make_trial(TrialShape(steps=10, episodes=1, games=2), game)
    played = cross_play([entrant(n, game.payoffs) for n in ("tit_for_tat", "all_d")], trial, trials=2, seed=0)
    np.testing.assert_allclose(played.means, [[-1.0, -2.1], [-1.8, -2.0]], atol=1e-5)
    np.testing.assert_allclose(played.halves, 0, atol=1e-6)
    assert played.text().count("\n") == 3
    with pytest.raises(UserError, match="neither a run folder nor an entrant's name"):
        entrant("nobody", game.payoffs)


def test_runs_enter_tournaments(folder, tmp_path, capsys):
    out = tmp_path / "tournament"
    arguments = [
        "tournament",
        str(folder),
        "all_c",
        "--steps",
        "4",
        "--episodes",
        "2",
        "--trials",
        "2",
        "--out",
        str(out),
    ]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert "| tiny |" in capsys.readouterr().out
    assert (out / "tournament.png").stat().st_size > 1000


def test_the_exact_tournament_of_strategies_is_their_values():
    table = exact_tournament(
        ("tit_for_tat", "all_d"), PAYOFFS["ipd"], gamma=0.96, step=1.0, updates=1, trials=2, seed=0
    )
    np.testing.assert_allclose(table.means, [[-1, -2.04], [-1.92, -2]], atol=1e-4)


def test_an_episode_becomes_a_picture(tmp_path):
    from opshape.evaluation.pictures import draw_episode, episode_states

    config = TrainConfig(
        game=CoinGameSettings(), trial=TrialShape(steps=5, episodes=2, games=2, co_players=1), shaper=Shaper(width=2),
        co_player=RecurrentLearner(width=2, ppo=PPO(minibatches=2)),
    )  # fmt: skip
    trainer = ShapingTrainer(config)
    states = episode_states(trainer, trainer.parameters(trainer.init(0))[0], seed=0, episodes=0)
    with Image.open(draw_episode(CoinGame(), states, tmp_path / "episode.gif")) as image:
        # frames that equal the one before are shown for longer instead
        shown = [image.seek(i) or image.info["duration"] for i in range(image.n_frames)]
        assert sum(shown) == 5 * 150
    with pytest.raises(UserError, match="goes with matrix games only"):
        measure(trainer, trainer.parameters(trainer.init(0)), seed=0, blind=1)
