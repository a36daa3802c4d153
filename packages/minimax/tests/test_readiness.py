"""A run that cannot replay is refused before anything is compiled, and one that did not says so."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from minimax_ued.config import (
    BufferConfig,
    EditorConfig,
    MazeConfig,
    StudentConfig,
    TeacherConfig,
    TrainConfig,
)
from minimax_ued.methods import METHODS
from minimax_ued.presets import PRESETS
from minimax_ued.support.readiness import count_levels, cycles_before_replay, waits_for_replay
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import UserError

REPLAYING = sorted(name for name, method in METHODS.items() if method.curator == "buffer")
SMALL = dataclasses.replace(PRESETS["small"], n_envs=16, cycles_per_step=5)  # 512 levels before the first replay


def run(method, cycles, **changes):
    config = dataclasses.replace(SMALL, method=method, teacher=PRESETS["small_paired"].teacher, **changes)
    return dataclasses.replace(config, total_env_steps=round(cycles * config.env_steps_per_cycle))


@pytest.mark.parametrize("method", REPLAYING)
def test_a_run_too_short_for_its_first_replay_is_refused(method):
    parts = METHODS[method].parts
    waiting = -(-512 // (16 * parts))
    assert cycles_before_replay(run(method, 10_000)) == waiting
    dispatch = 5
    short = waiting // dispatch * dispatch
    with pytest.raises(UserError, match="total_env_steps is") as error:
        run(method, short)
    outcome = "no level would be replayed" if method == "plr" else "no update would be made"
    assert outcome in str(error.value)
    assert "holds 512 levels" in str(error.value)
    run(method, short + dispatch)
    # What the message advises is the smallest run that is not refused.
    least = int(str(error.value).split("total_env_steps above ")[1].split(",")[0])
    dataclasses.replace(run(method, 10_000), total_env_steps=least + 1)
    with pytest.raises(UserError, match=f"above {least},"):
        dataclasses.replace(run(method, 10_000), total_env_steps=least)


def test_what_needs_no_replay_may_be_short():
    for method in sorted(set(METHODS) - set(REPLAYING)):
        changes = {"sfl": PRESETS["small_sfl"].learnable}
        dataclasses.replace(
            SMALL, method=method, learnable=changes.get(method, SMALL.learnable), total_env_steps=1,
            teacher=PRESETS["small_paired"].teacher,
        )  # fmt: skip
    never = dataclasses.replace(SMALL.buffer, replay_prob=0)
    assert not waits_for_replay(dataclasses.replace(SMALL, method="plr", buffer=never, total_env_steps=1))


@pytest.mark.parametrize("name", sorted(name for name, config in PRESETS.items() if waits_for_replay(config)))
def test_presets_replay_for_most_of_their_run(name):
    config = PRESETS[name]
    assert cycles_before_replay(config) < 0.2 * config.total_cycles


def test_levels_are_counted_as_they_can_be_listed():
    def listed(height, width, walls):
        cells = range(height * width)
        return sum(
            4 * sum(1 for agent, goal in itertools.permutations(set(cells) - set(chosen), 2))
            for n in walls
            for chosen in itertools.combinations(cells, n)
        )

    for walls in (range(1), range(3, 4), range(6), range(1, 3)):
        assert count_levels(2, 3, walls, 10**9) == listed(2, 3, walls)
    assert count_levels(2, 3, range(1), 100) == 6 * 5 * 4
    assert count_levels(255, 255, range(30_000, 30_001), 2**31) >= 2**31  # at once, without the binomial


@pytest.mark.parametrize("method", ["robust_plr", "parallel_accel", "plr"])
def test_a_buffer_larger_than_the_space_of_levels_is_refused(method):
    """2 x 2 cells without walls are 4 x 3 x 4 = 48 mazes."""
    config = TrainConfig(method=method, env=MazeConfig(height=2, width=2, n_walls=0, max_steps=8), n_envs=4,
                         buffer=BufferConfig(capacity=96, min_fill=0.5))  # fmt: skip
    with pytest.raises(UserError, match=r"49 different levels .* only 48 such mazes of 2 x 2"):
        dataclasses.replace(config, buffer=BufferConfig(capacity=98, min_fill=0.5))
    dataclasses.replace(config, buffer=BufferConfig(capacity=98, min_fill=0.5, deduplicate=False))
    dataclasses.replace(config, buffer=BufferConfig(capacity=98, min_fill=0.5), domain="own")


def test_a_teacher_builds_other_mazes_than_the_generator():
    """Of 1 x 3 cells a teacher with up to one wall builds 4 (3 x 2 + 3 x 2) = 48 mazes, the generator 24 without."""
    config = TrainConfig(
        method="repaired", env=MazeConfig(height=1, width=3, n_walls=0, max_steps=8), n_envs=4,
        teacher=TeacherConfig(editor=EditorConfig(n_walls=1)), buffer=BufferConfig(capacity=48, min_fill=1.0),
    )  # fmt: skip
    with pytest.raises(UserError, match="only 48 such mazes"):
        dataclasses.replace(config, buffer=BufferConfig(capacity=49, min_fill=1.0))
    with pytest.raises(UserError, match="only 24 such mazes"):
        dataclasses.replace(config, method="robust_plr")


def state(filled, updates):
    """What of a state is looked at: bool[seeds, students, N] and the counts of updates."""
    words = np.array([[n, 0] for n in updates], np.uint32)
    return SimpleNamespace(buffer=SimpleNamespace(filled=np.array(filled, bool)), updates=words)


def test_a_run_that_made_no_update_says_so():
    config = TrainConfig(
        method="robust_plr", env=MazeConfig(height=1, width=2, n_walls=0, max_steps=6), n_envs=1, rollout_steps=6,
        student=StudentConfig(features=4, head_width=4, conv_filters=2), cycles_per_step=1,
        buffer=BufferConfig(capacity=3, min_fill=0.6, replay_prob=0.5), seeds=2,
    )  # fmt: skip
    trainer = UEDTrainer(config)
    one, two = [[1, 0, 0]], [[1, 0, 1]]
    assert trainer.final_notes(state([two, two], [3, 1])) == ()
    assert trainer.final_notes(state([one, one], [0, 0])) == (
        "No update was made in 2 of 2 seeds: the level buffer holds 1 levels, and replay begins at 2; train longer, or "
        "lower buffer.min_fill or buffer.capacity.",
    )
    # Ready in time for no lot: seed 1 has made no update.
    assert trainer.final_notes(state([two, two], [3, 0])) == (
        "No update was made in 1 of 2 seeds: no cycle drew a replay (buffer.replay_prob is 0.5); train longer.",
    )
    plain = UEDTrainer(dataclasses.replace(config, method="plr"))
    assert plain.final_notes(state([one, two], [5, 5]))[0].startswith(
        "No level was replayed in 1 of 2 seeds: the level buffer"
    )
    # All students of a teacher must be ready.
    pair = dataclasses.replace(
        config, method="repaired", seeds=1, env=dataclasses.replace(config.env, width=4),
        teacher=TeacherConfig(editor=EditorConfig(n_walls=1)),
    )  # fmt: skip
    assert (
        UEDTrainer(pair)
        .final_notes(state([[two[0], one[0]]], [0]))[0]
        .startswith("No update was made: the level buffer")
    )
    assert UEDTrainer(dataclasses.replace(config, method="dr")).final_notes(SimpleNamespace(buffer=None)) == ()
