"""The levels that a run trains on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import (
    BufferConfig,
    EditorConfig,
    LSTMConfig,
    ReplayConfig,
    SFLConfig,
    StudentConfig,
    TaughtConfig,
    TeacherConfig,
)
from minimax_ued.evaluation.kept import KeptLevels, find_kept
from minimax_ued.levels.held_out import held_out_levels
from minimax_ued.presets import PRESETS
from minimax_ued.trainer import UEDTrainer

N = 40
STUDENT = StudentConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2)


@pytest.fixture(scope="module")
def trainer():
    config = dataclasses.replace(
        PRESETS["small"],
        method=ReplayConfig(buffer=BufferConfig(capacity=N, temperature=1.0, staleness_coef=0.0)),
        n_envs=4,
        seeds=2,
        student=STUDENT,
    )
    return UEDTrainer(config)


@pytest.fixture(scope="module")
def filled(trainer):
    """A state whose buffers hold stored levels: all N of the first seed, 3 of the second."""
    state = trainer.init(0)
    levels = jax.tree.map(lambda x: jnp.asarray(x[:N]), held_out_levels("maze7"))
    count = jnp.array([N, 3])[:, None, None]
    slots = jnp.arange(N)
    content = state.buffer.replace(
        levels=jax.tree.map(lambda x: jnp.broadcast_to(x, (2, 1, *x.shape)), levels),
        scores=jnp.where(slots < count, N - slots.astype(jnp.float32), -jnp.inf),  # the first is the best
        filled=slots < count,
    )
    return state.replace(buffer=content, cycles=jnp.full(2, 30, jnp.uint32)), levels


def test_expectations_are_under_the_replay_distribution(trainer, filled):
    state, levels = filled
    metrics = jax.device_get(KeptLevels(trainer)(state, 0))
    walls = np.asarray(levels.wall_map).sum((1, 2))
    for i, n in enumerate((N, 3)):
        weights = 1 / np.arange(1, n + 1)  # by rank, temperature 1
        expected = (weights / weights.sum() * walls[:n]).sum()
        np.testing.assert_allclose(metrics["n_walls"][i], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["solvable"], 1, rtol=1e-5)
    np.testing.assert_array_equal(metrics["kept"], [N, 3])


@pytest.mark.slow
def test_what_other_methods_train_on():
    def state_of(method):
        config = dataclasses.replace(PRESETS["small"], method=method, n_envs=4, student=STUDENT)
        trainer = UEDTrainer(config)
        return trainer, trainer.init(0)

    dr, state = state_of(PRESETS["small"].method)
    assert find_kept(dr, state) is None
    assert KeptLevels(dr)(state, 0) == {}
    sfl, state = state_of(SFLConfig(capacity=20, candidates=40, batch=40))
    empty = find_kept(sfl, state)
    assert not np.asarray(empty.weights).any()
    assert all(np.isfinite(value).all() for value in KeptLevels(sfl)(state, 0).values())
    teacher = TeacherConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2, editor=EditorConfig(n_walls=12))
    paired, state = state_of(TaughtConfig(teacher=teacher))
    built = find_kept(paired, state)
    np.testing.assert_allclose(np.asarray(built.weights).sum(-1), 1, rtol=1e-5)
    assert len(np.unique(np.asarray(built.levels.wall_map[0]), axis=0)) > 10  # the noise makes them different
