"""The levels that a run trains on: numbers, files and pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from minimax_ued.config import BufferConfig, EditorConfig, LearnableConfig, StudentConfig, TeacherConfig
from minimax_ued.exhibits.snapshots import LevelSnapshots, draw_timeline, find_curriculum, top_levels
from minimax_ued.levels.files import load_levels
from minimax_ued.levels.held_out import held_out_levels
from minimax_ued.presets import PRESETS
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError

N = 40
STUDENT = StudentConfig(features=4, head_width=4, conv_filters=2)


@pytest.fixture(scope="module")
def trainer():
    config = dataclasses.replace(
        PRESETS["small"],
        method="robust_plr",
        n_envs=4,
        seeds=2,
        student=STUDENT,
        buffer=BufferConfig(capacity=N, temperature=1.0, staleness_coef=0.0),
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
    return state.replace(buffer=content, cycles=jnp.array([[30, 0]] * 2, jnp.uint32)), levels


def test_expectations_are_under_the_replay_distribution(trainer, filled):
    state, levels = filled
    metrics = jax.device_get(LevelSnapshots(trainer)(state, 0))
    walls = np.asarray(levels.wall_map).sum((1, 2))
    for i, n in enumerate((N, 3)):
        weights = 1 / np.arange(1, n + 1)  # by rank, temperature 1
        expected = (weights / weights.sum() * walls[:n]).sum()
        np.testing.assert_allclose(metrics["n_walls"][i], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["solvable"], 1, rtol=1e-5)
    np.testing.assert_array_equal(metrics["kept"], [N, 3])


def test_files_hold_the_most_likely_levels(trainer, filled, tmp_path):
    state, levels = filled
    snapshots = LevelSnapshots(trainer, tmp_path / "plots")
    snapshots(trainer.init(0), 0)  # nothing is kept yet: nothing is drawn
    assert not (tmp_path / "plots").exists()
    snapshots(state, 0)
    step = 30 // trainer.config.cycles_per_step
    assert {file.name for file in (tmp_path / "plots").iterdir()} == {f"buffer-{step}.npz", f"buffer-{step}.png"}
    kept = load_levels(tmp_path / "plots" / f"buffer-{step}.npz")
    np.testing.assert_array_equal(kept.wall_map, levels.wall_map[:16])
    with Image.open(tmp_path / "plots" / f"buffer-{step}.png") as picture:
        one_row = picture.size[1]
    later = state.replace(cycles=state.cycles * 5)
    snapshots(later, 0)
    drawn = draw_timeline(tmp_path / "plots", tmp_path / "timeline.png")
    with Image.open(drawn) as picture:  # two moments, a row each; a snapshot is two rows
        assert picture.size[1] == one_row
    assert draw_timeline(tmp_path, tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()


def test_top_levels_are_those_that_are_kept(trainer, filled):
    state, _ = filled
    found = find_curriculum(trainer, state)
    shown, weights = top_levels(found, 16, run=1)
    assert len(weights) == len(shown.agent_dir) == 3
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    assert (np.diff(weights) < 0).all()


@pytest.mark.slow
def test_what_other_methods_train_on():
    def state_of(method, **changes):
        config = dataclasses.replace(PRESETS["small"], method=method, n_envs=4, student=STUDENT, **changes)
        trainer = UEDTrainer(config)
        return trainer, trainer.init(0)

    dr, state = state_of("dr")
    assert find_curriculum(dr, state) is None
    with pytest.raises(UserError, match="'dr'"):
        LevelSnapshots(dr)
    sfl, state = state_of("sfl", learnable=LearnableConfig(capacity=20, candidates=40, batch=40))
    empty = find_curriculum(sfl, state)
    assert not np.asarray(empty.weights).any()
    assert all(np.isfinite(value).all() for value in LevelSnapshots(sfl)(state, 0).values())
    teacher = TeacherConfig(features=4, head_width=4, conv_filters=2, editor=EditorConfig(n_walls=12))
    paired, state = state_of("paired", teacher=teacher)
    built = find_curriculum(paired, state)
    np.testing.assert_allclose(np.asarray(built.weights).sum(-1), 1, rtol=1e-5)
    assert len(np.unique(np.asarray(built.levels.wall_map[0]), axis=0)) > 10  # the noise makes them different
