import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from minimax_ued.config import (
    BufferConfig,
    EditorConfig,
    LSTMConfig,
    MazeConfig,
    MutationConfig,
    PPOConfig,
    ReplayConfig,
    StudentConfig,
    TaughtConfig,
    TeacherConfig,
    TrainConfig,
)
from minimax_ued.trainer import UEDTrainer
from paperloop.errors import CheckpointError, UserError
from paperloop.protocol import Trainer

BUFFER = BufferConfig(capacity=12, min_fill=0.3, replay_prob=0.7)
TEACHER = TeacherConfig(
    core=LSTMConfig(features=4),
    conv_filters=2,
    head_width=4,
    ppo=PPOConfig(epochs=1),
    editor=EditorConfig(n_walls=3, noise_dim=2),
)
TINY = TrainConfig(
    env=MazeConfig(height=4, width=4, n_walls=2, max_steps=6),
    student=StudentConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2),
    ppo=PPOConfig(lr=1e-2, epochs=2, minibatches=2),
    method=ReplayConfig(buffer=BUFFER),
    n_envs=4,
    rollout_steps=12,
    levels_ahead=2,
    cycles_per_step=3,
    seeds=2,
)
#: Methods on the same sizes.
METHODS = {
    "dr": TrainConfig().method,
    "parallel_accel": ReplayConfig(
        buffer=dataclasses.replace(BUFFER, replay_prob="parallel"), mutation=MutationConfig()
    ),
    "repaired": TaughtConfig(teacher=TEACHER, buffer=BUFFER),
}


@pytest.fixture(scope="module")
def trainer():
    return UEDTrainer(TINY)


def equal(a, b):
    def data(x):
        return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(data(x), data(y), equal_nan=True) for x, y in pairs)


def test_it_is_a_trainer_that_says_what_it_consumes(trainer):
    assert isinstance(trainer, Trainer)
    assert trainer.donates is True
    state = trainer.init(0)
    trainer.step(state)
    assert jax.tree.leaves(state.params)[0].is_deleted()


def test_steps_save_and_restore(trainer, tmp_path):
    state = trainer.init(0)
    assert trainer.progress(state) == {"cycles": 0, "updates": 0, "env_steps": 0}
    keys = None
    for i in range(4):
        state, metrics = trainer.step(state)
        metrics = jax.device_get(metrics)
        assert keys in (None, set(metrics))
        keys = set(metrics)
        assert all(v.shape == (2,) and v.dtype == np.float32 and np.isfinite(v).all() for v in metrics.values())
        if i == 1:
            trainer.save(state, tmp_path)
    progress = trainer.progress(state)
    assert (progress["cycles"], progress["env_steps"]) == (12, 12 * 48)
    assert 0 < progress["updates"] < 12

    # The same trainer, whose program is compiled already; conformance restores in a fresh process.
    resumed = trainer.restore(tmp_path, trainer.init(1))
    for _ in range(2):
        resumed, _ = trainer.step(resumed)
    assert equal(state, resumed)
    assert not equal(state.params, trainer.init(1).params)
    wider = UEDTrainer(dataclasses.replace(TINY, method=ReplayConfig(buffer=BufferConfig(capacity=16))))
    like = wider.init(0)
    with pytest.raises(CheckpointError, match="buffer"):
        wider.restore(tmp_path, like)


def test_a_checkpoint_of_another_environment_is_refused(trainer, tmp_path):
    class Other(type(trainer.env)):
        pass

    state = trainer.init(0)
    trainer.save(state, tmp_path)
    trainer.restore(tmp_path, state)
    other = UEDTrainer(TINY, env=Other(TINY.env))
    with pytest.raises(UserError, match=r"written with the environment .*\.Maze, while now it is .*Other"):
        other.restore(tmp_path, state)


@pytest.mark.slow
def test_a_run_of_more_seeds_contains_the_run_of_fewer(trainer):
    one = UEDTrainer(dataclasses.replace(TINY, seeds=1)).init(5)
    assert equal(one, jax.tree.map(lambda x: x[:1], trainer.init(5)))


def test_bad_configurations():
    with pytest.raises(UserError, match="'regrets'"):
        UEDTrainer(dataclasses.replace(TINY, method=ReplayConfig(buffer=BufferConfig(score="regrets"))))
    many = 4 * len(jax.devices())
    with pytest.raises(UserError, match=f"devices is {many}"):
        UEDTrainer(
            dataclasses.replace(
                TINY, devices=many, n_envs=2 * many, method=ReplayConfig(buffer=BufferConfig(capacity=2 * many))
            )
        )


TWO_DEVICES = """
import dataclasses, json, sys
import jax, numpy as np
sys.path.insert(0, sys.argv[1])
from test_trainer import METHODS, TINY
from minimax_ued.trainer import UEDTrainer
assert jax.device_count() == 2
method, minibatches = sys.argv[2], int(sys.argv[3])
config = dataclasses.replace(
    TINY,
    method=METHODS[method],
    seeds=1,
    n_envs=8 if method == "dr" else 4,
    ppo=dataclasses.replace(TINY.ppo, lr=1e-3, minibatches=minibatches),
)
results = []
for devices in (1, 2):
    trainer = UEDTrainer(dataclasses.replace(config, devices=devices))
    state = trainer.init(0)
    step = trainer._step.lower(state).compile()
    for _ in range(2):
        state, metrics = step(state)
    assert ("all-reduce" in step.as_text()) is (devices == 2)  # the work was really split
    assert len(jax.tree.leaves(state.params)[0].sharding.device_set) == devices
    assert state.updates[0] > 0
    buffer = () if state.buffer is None else (state.buffer.levels, state.buffer.scores)
    teacher = () if state.teacher is None else state.teacher.params
    results.append(jax.device_get((state.params, teacher, buffer, metrics)))
for a, b in zip(*map(jax.tree.leaves, results)):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("method", "minibatches"), [("dr", 1), ("parallel_accel", 2), ("repaired", 1)])
def test_two_devices_give_the_result_of_one(method, minibatches):
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    here = os.path.dirname(os.path.abspath(__file__))
    run = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, here, method, str(minibatches)],
        env=env, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert run.stdout.strip() == "equal", run.stderr[-3000:]
