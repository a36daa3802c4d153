"""Tasks: labels, places found again from actions, the walker's rewards, and learning in a frozen model."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cascade_explore.config import Actor, Cascade, FourRooms, LabelConfig, TrainConfig, WorldModel
from cascade_explore.tasks.labels import describe, find_label, label_rows
from cascade_explore.tasks.planar import TASKS
from cascade_explore.tasks.trainer import TaskTrainer, TrueReturn, first_episodes
from cascade_explore.trainer import ExploreTrainer, make_env
from paperloop import CheckpointError, UserError, run

ACTOR = Actor(horizon=3, starts=4, units=8, layers=1)
TINY = TrainConfig(
    env=FourRooms(layouts=2, max_steps=12), explorer=Cascade(agents=3, share=0.5, actor=ACTOR), deployments=4,
    world=WorldModel(deter=8, groups=2, classes=3, hidden=8, units=8, layers=1, heads=2, batch=2, length=6),
    env_steps=96, envs=2, updates=4, updates_per_step=2,
)  # fmt: skip
GRID = make_env(TINY)


@pytest.fixture(scope="module")
def trainer():
    return ExploreTrainer(TINY)


def test_places_are_found_again_from_actions(trainer):
    """Their histogram is that of the visits which the environment itself counted, agent by agent."""
    state = trainer.step(trainer.init(0))[0]
    rows = jax.tree.map(lambda x: np.asarray(x[0, 0]), state.replay)
    found = describe(rows, GRID)
    visits = np.zeros(state.visits.shape[2:], int)
    agent = np.repeat(np.arange(3), 2)[:, None]
    np.add.at(visits, (agent, found["layout"], found["place"][..., 0], found["place"][..., 1]), 1)
    np.testing.assert_array_equal(visits, state.visits[0, 0])
    corner = find_label("at:1,1", GRID)(found)
    assert corner.sum() == visits[:, :, 1, 1].sum()
    rows = rows._replace(observation=1 - rows.observation)
    with pytest.raises(UserError, match="none of the environment's layouts"):
        describe(rows, GRID)


@pytest.mark.parametrize(
    ("name", "message"), [("at:1", "is not a cell"), ("at:99,1", "below 19"), ("at:0,0", "reached")]
)
def test_cells_that_cannot_be_reached_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        find_label(name, GRID)


def test_the_walkers_rewards_are_dm_controls():
    suite = pytest.importorskip("dm_control.suite.walker")
    rewards = pytest.importorskip("dm_control.utils.rewards")
    rng = np.random.default_rng(0)
    rows = {"height": rng.uniform(0, 1.6, 200), "upright": rng.uniform(-1, 1, 200),
            "speed": rng.uniform(-3, 10, 200), "spin": rng.uniform(-8, 8, 200)}  # fmt: skip
    for name, speed in (("stand", 0), ("walk", 1), ("run", 8)):
        task = suite.PlanarWalker(move_speed=speed)
        for i, reward in enumerate(TASKS["walker"][name](rows)):
            physics = SimpleNamespace(
                torso_height=lambda i=i: rows["height"][i], torso_upright=lambda i=i: rows["upright"][i],
                horizontal_velocity=lambda i=i: rows["speed"][i],
            )  # fmt: skip
            assert reward == pytest.approx(task.get_reward(physics), abs=1e-9)
    flip = rewards.tolerance(rows["spin"], (5, np.inf), margin=5, value_at_margin=0, sigmoid="linear")
    np.testing.assert_allclose(TASKS["walker"]["flip"](rows), flip, atol=1e-9)


def test_the_cheetahs_rewards_are_dm_controls():
    suite = pytest.importorskip("dm_control.suite.cheetah")
    speed, spin = np.linspace(-12, 12, 49), np.linspace(-6, 6, 49)
    rows, tasks = {"speed": speed, "spin": spin}, TASKS["cheetah"]
    rewards = [suite.Cheetah().get_reward(SimpleNamespace(speed=lambda v=v: v)) for v in speed]
    np.testing.assert_allclose(tasks["run"](rows), rewards, atol=1e-9)
    for forward, backward in (("run", "run_backward"), ("flip", "flip_backward")):
        np.testing.assert_allclose(tasks[backward](rows), tasks[forward](rows)[::-1])  # the range is symmetric
    np.testing.assert_allclose(tasks["flip"](rows), np.clip(spin / 5, 0, 1))


def test_a_task_is_learned_on_a_model_that_stays_as_it_is(trainer, tmp_path):
    run(trainer, tmp_path / "run", steps=1, progress=False)
    file = tmp_path / "mine.py"
    file.write_text("def look_up(rows):\n    return (rows['observation'][..., -1] == 3).astype('float32')\n")
    tasks = ("reward", f"{file}:look_up", "at:2,2")
    asked = LabelConfig(run=str(tmp_path / "run"), tasks=tasks, actor=ACTOR, updates=4, updates_per_step=2)
    trainer = TaskTrainer(asked)
    assert trainer.filled == 1
    up = np.asarray(trainer.data.reward[..., 1])
    rows = jax.device_get(trainer.data)
    np.testing.assert_array_equal(up, (rows.observation[..., -1] == 3) & ~rows.first)
    assert up[:, 0].any()
    before = jax.device_get(trainer.frozen)
    state = run(trainer, tmp_path / "run" / "tasks", steps=2, progress=False)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(trainer.frozen))
    halves = trainer.init(0)
    for _ in range(2):
        halves, metrics = trainer.step(halves)
    jax.tree.map(
        np.testing.assert_array_equal, *(jax.device_get((s.heads, s.agents)) for s in (state, halves))
    )  # fmt: skip
    assert metrics["reward_loss"].shape == (1,)
    trainer.checksum = trainer.checksum + 1
    with pytest.raises(CheckpointError, match="another world model"):
        trainer.restore(next((tmp_path / "run" / "tasks" / "checkpoints").glob("*/payload")), halves)
    found = TrueReturn(trainer, 3).returns(state, 0)
    assert found.shape == (1, 3, 3)
    assert (found[:, 1] <= 12).all()


def test_labels_that_cannot_be_are_refused(tmp_path):
    rows = {"first": np.array([[True, False]]), "reward": np.array([[5.0, 1.0]])}
    np.testing.assert_array_equal(label_rows("reward", find_label("reward", GRID), rows), [[0.0, 1.0]])
    for label, message in (
        (lambda r: r["reward"][:, :1], "shape"),
        (lambda r: r["reward"] * np.nan, "finite"),
        (lambda r: r["reward"] * 1j, "fails: TypeError"),
        (lambda r: r["colour"], "fails: KeyError: 'colour'; rows hold first, reward"),
    ):
        with pytest.raises(UserError, match=message):
            label_rows("mine", label, rows)
    with pytest.raises(UserError, match="is not a run folder"):
        TaskTrainer(LabelConfig(run=str(tmp_path / "absent")))
    with pytest.raises(UserError, match="no file"):
        find_label(str(tmp_path / "absent.py:f"), GRID)
    (tmp_path / "there.py").write_text("x = 1\n")
    with pytest.raises(UserError, match="no function"):
        find_label(f"{tmp_path / 'there.py'}:f", GRID)
    with pytest.raises(UserError, match="is not a task"):
        find_label("fly", GRID)


def test_only_the_first_episode_of_a_stream_counts():
    first = np.array([[True, False, True, False], [True, False, False, False]])
    np.testing.assert_array_equal(first_episodes(first), [[True, True, False, False], [True] * 4])
