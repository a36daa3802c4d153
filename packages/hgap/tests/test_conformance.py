"""The contract of `paperloop.Trainer` for both trainers, resume of the whole, and the command line."""

import jax
import numpy as np
import pytest

from hgap.config import EMA, FSQ, AutoencoderConfig, Codes, Data, PriorConfig, Residual, TrainConfig, Width, Windows
from hgap.trainer import AutoencoderTrainer, HeldOut, PriorTrainer
from paperloop import CheckpointError, UserError
from paperloop.conformance import check_help, check_trainer
from paperloop.settings import replace_in
from paperloop_data import EpisodeDataset

TINY = TrainConfig(
    windows=Windows(steps=4, held_out=0.2),
    autoencoder=AutoencoderConfig(
        codes=Codes(latent_step=2, per_step=2, quantizer=EMA(codes=8, size=4)), size=Width(width=16, heads=2, blocks=1),
        updates=40, batch=8,
    ),
    prior=PriorConfig(size=Width(width=16, heads=2, blocks=1, dropout=0.1), updates=40, batch=8),
    updates_per_step=2,
    seeds=2,
)  # fmt: skip


def motion(episodes=5, steps=12, seed=0):
    rng = np.random.default_rng(seed)
    ends = np.zeros(episodes * steps, bool)
    ends[steps - 1 :: steps] = True
    return EpisodeDataset(
        observations=rng.standard_normal((episodes * steps, 3)), actions=rng.uniform(-1, 1, (episodes * steps, 2)),
        rewards=np.zeros(episodes * steps), terminated=np.zeros_like(ends), truncated=ends,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "motion.npz"
    motion().save(path)
    return Data(path=str(path), model=TINY)


def make_autoencoder(config):
    return AutoencoderTrainer(config)


def make_prior(config):
    first = AutoencoderTrainer(config)
    return PriorTrainer(config, first.init(0).learned.weights, first.data)


def test_the_autoencoder_meets_the_contract(data, tmp_path):
    other = replace_in(data, {"model.autoencoder.codes.quantizer.codes": 16})
    assert len(check_trainer(make_autoencoder, data, folder=tmp_path, steps=2, kills=0, other_config=other)) >= 5


def test_the_prior_meets_the_contract(data, tmp_path):
    assert len(check_trainer(make_prior, data, folder=tmp_path, steps=2, kills=0)) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_autoencoder, make_prior])
def test_a_killed_run_resumes_bit_for_bit(make, data, tmp_path):
    check_trainer(make, data, folder=tmp_path, kills=2)


@pytest.mark.parametrize("quantizer", [Residual(stages=2, codes=8, size=4), FSQ(levels=(4, 3))])
def test_other_quantizers_train_by_the_same_interface(data, quantizer):
    config = replace_in(data, {"model.seeds": 1})
    codes = Codes(latent_step=2, per_step=2, quantizer=quantizer)
    config = Data(
        path=config.path, model=TrainConfig(windows=TINY.windows, prior=TINY.prior, updates_per_step=2,
        autoencoder=AutoencoderConfig(codes=codes, size=TINY.autoencoder.size, updates=40, batch=8)),
    )  # fmt: skip
    trainer = AutoencoderTrainer(config)
    assert trainer.model.tokens == config.model.tokens == 2 * 2 * quantizer.depth
    before = jax.device_get(trainer.init(0).learned.weights)
    state, metrics = trainer.step(trainer.init(0))
    assert all(np.isfinite(value).all() for value in metrics.values())
    after = jax.device_get(state.learned.weights)
    assert np.abs(before.encoder["params"]["Dense_0"]["kernel"] - after.encoder["params"]["Dense_0"]["kernel"]).max()
    assert float(HeldOut(trainer, windows=8)(state, 0)["perplexity"][0]) >= 1


def test_the_prior_of_another_autoencoder_is_refused(data, tmp_path):
    first = AutoencoderTrainer(data)
    right = PriorTrainer(data, first.init(0).learned.weights, first.data)
    other = PriorTrainer(data, first.init(1).learned.weights, first.data)
    right.save(right.init(0), tmp_path)
    right.restore(tmp_path, right.init(0))
    with pytest.raises(CheckpointError, match="prior of another autoencoder"):
        other.restore(tmp_path, other.init(0))


def test_a_checkpoint_for_other_data_is_refused(data, tmp_path):
    path = tmp_path / "other.npz"
    motion(seed=1).save(path)
    there = AutoencoderTrainer(data)
    (tmp_path / "saved").mkdir()
    there.save(there.init(0), tmp_path / "saved")
    here = AutoencoderTrainer(replace_in(data, {"path": str(path)}))
    with pytest.raises(CheckpointError, match="other data"):
        here.restore(tmp_path / "saved", here.init(0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"windows.steps": 5}, "latent_step is 2; it must be a divisor of"),
        ({"updates_per_step": 3}, "updates_per_step is 3; it must be a divisor of"),
        ({"prior.size.width": 6}, "width is 6; it must be a multiple of"),
        ({"autoencoder.codes.quantizer.codes": 1}, "codes is 1; it must be at least 2"),
        ({"fraction": 0.0}, "fraction is 0.0; it must be above 0"),
    ],
)
def test_bad_settings_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        replace_in(TINY, changes)


@pytest.mark.parametrize("command", ["make-policies", "make-data", "convert", "train", "plan", "evaluate", "demo"])
def test_help_waits_for_no_array_library(command):
    check_help("hgap", command)


def test_every_wrong_value_is_refused_in_the_words_that_were_typed():
    from hgap.cli import app
    from paperloop.cli.testing import check_command_errors

    assert check_command_errors(app) > 30
