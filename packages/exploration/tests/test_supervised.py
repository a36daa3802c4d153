"""Mazes against a plain search, selection against NumPy, and the contract of the trainers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from generalized_exploration import (
    GrowConfig,
    GrowthTrainer,
    RunConfig,
    SelectionTrainer,
    criterion,
    fit,
    reference_losses,
)
from generalized_exploration.config import Digits, Mazes, Reference
from generalized_exploration.outer import editing
from generalized_exploration.outer.families import FAMILIES, make_families
from generalized_exploration.outer.trainer import more_general
from generalized_exploration.supervised import mazes
from generalized_exploration.supervised.networks import MazeNet, VectorNet, forward_flops
from generalized_exploration.supervised.tasks import make_task
from paperloop.conformance import check_help, check_trainer
from paperloop.errors import UserError

TINY = RunConfig(
    task=Mazes(size=5, walls=(0, 8), train=64, holdout=32, test=16),
    arms=("uniform", "reducible_loss", "learning_progress", "disagreement", "uniform_from_reference"),
    steps=8, pool=8, keep=2, reference=Reference(epochs=2, batch=8), members=2, width=4, steps_per_dispatch=2, seeds=2,
)  # fmt: skip
TINY_GROW = GrowConfig(
    arms=("uniform", "learnability"), size=7, capacity=8, batch=2, proposals=2, width=4, steps=8, steps_per_dispatch=2,
    seeds=2,
)  # fmt: skip


def brute_force(maze: np.ndarray, size: int) -> int:
    grid = maze.reshape(size, size)
    queue, seen = [(*map(int, np.argwhere(grid == mazes.AGENT)[0]), 0)], set()
    for row, column, steps in queue:
        if (row, column) in seen or not (0 <= row < size and 0 <= column < size) or grid[row, column] == mazes.WALL:
            continue
        seen.add((row, column))
        if grid[row, column] == mazes.GOAL:
            return steps
        queue += [(row + 1, column, steps + 1), (row - 1, column, steps + 1)]
        queue += [(row, column + 1, steps + 1), (row, column - 1, steps + 1)]
    return -1


def test_distances_are_those_of_a_plain_search():
    rng = np.random.default_rng(0)
    batch = mazes.random_mazes(rng, 150, 6, (0, 20))
    expected = [brute_force(maze, 6) for maze in batch]
    assert min(expected) == -1
    assert max(expected) > 8
    assert mazes.distances(batch, 6).tolist() == expected
    assert jax.vmap(lambda m: editing.distance(m, 6))(jnp.asarray(batch)).tolist() == expected
    np.testing.assert_array_equal(editing.classes_of(jnp.array(expected)), mazes.classes_of(np.array(expected)))


def test_kinds_of_mazes_are_what_they_say():
    rng = np.random.default_rng(0)
    for made in (mazes.trivial(rng, 40, 7), mazes.enclosed(rng, 40, 7), mazes.random_mazes(rng, 40, 7, (3, 9))):
        assert ((made == mazes.AGENT).sum(1) == 1).all()
        assert ((made == mazes.GOAL).sum(1) == 1).all()
    assert (mazes.distances(mazes.trivial(rng, 40, 7), 7) == 1).all()
    assert (mazes.distances(mazes.enclosed(rng, 40, 7), 7) == -1).all()
    walls = (mazes.random_mazes(rng, 400, 7, (3, 9)) == mazes.WALL).sum(1)
    assert (walls.min(), walls.max()) == (3, 9)


def test_classes_are_buckets_of_distance():
    assert mazes.classes_of(np.array([-1, 1, 2, 3, 5, 6, 15, 16, 99])).tolist() == [0, 1, 1, 2, 2, 3, 5, 6, 6]
    assert mazes.CLASSES == 7


@pytest.mark.parametrize("config", [Mazes(size=7, train=4000, holdout=2000, test=50, walls=(0, 12)), Digits()])
def test_a_task_says_what_is_wrong_with_each_example(config):
    task = make_task(config, np.random.default_rng(0))
    classes = task.classes
    expected = config.label_noise * (classes - 1) / classes
    for part in (task.train, task.holdout):
        assert abs(part.corrupted.mean() - expected) < 4 * np.sqrt(0.25 / len(part.y))
    if isinstance(config, Mazes):
        assert task.train.trivial.mean() == pytest.approx(0.2)
        assert task.train.irrelevant.mean() == pytest.approx(0.1)
        right = mazes.classes_of(mazes.distances(task.train.x, 7))
        np.testing.assert_array_equal(task.train.corrupted, right != task.train.y)
    else:
        assert len(task.train.x) == 20_000
        assert len(task.test_x) == 397


def test_networks_are_convolutions_and_their_operations_are_counted():
    net = MazeNet(7, 3, channels=2, width=4)
    maze = jnp.asarray(mazes.random_mazes(np.random.default_rng(0), 3, 7, (2, 9)))
    params = net.init(jax.random.key(0), maze)
    x = jax.nn.one_hot(maze - 1, 3).reshape(3, 7, 7, 3)
    for layer, stride in (("Dense_0", 1), ("Dense_1", 2)):
        weights = params["params"][layer]
        kernel = weights["kernel"].reshape(3, 3, -1, 2)
        x = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + weights["bias"])
    x = x.reshape(3, -1)
    for layer, last in (("Dense_2", False), ("Dense_3", True)):
        x = x @ params["params"][layer]["kernel"] + params["params"][layer]["bias"]
        x = x if last else jax.nn.relu(x)
    np.testing.assert_allclose(net.apply(params, maze), x, rtol=1e-4, atol=1e-5)
    assert forward_flops(net, maze[0]) == 2 * (49 * 27 * 2 + 16 * 18 * 2 + 32 * 4 + 4 * 3)
    assert forward_flops(VectorNet(10, 5), jnp.zeros(64)) == 2 * (64 * 5 + 5 * 10)


def test_fit_selects_what_numpy_selects():
    rng = np.random.default_rng(0)
    data = (jnp.asarray(rng.normal(size=(40, 3)), jnp.float32), jnp.asarray(rng.normal(size=40), jnp.float32))
    reference = jnp.asarray(rng.random(40), jnp.float32)

    def losses(w, batch):
        return (batch[0] @ w - batch[1]) ** 2

    start, key = jnp.zeros(3), jax.random.key(1)
    params, chosen = fit(
        losses, start, data, key, criterion=criterion("reducible_loss"), steps=7, pool=10, keep=3,
        optimiser=optax.sgd(0.1), evidence={"reference_loss": reference},
    )  # fmt: skip
    w = np.zeros(3, np.float32)
    for t in range(7):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, t // 4), 40))
        rows = order[(t % 4) * 10 : (t % 4) * 10 + 10]
        x, y = (np.asarray(part)[rows] for part in data)
        best = rows[np.argsort(-((x @ w - y) ** 2 - np.asarray(reference)[rows]), kind="stable")[:3]]
        assert chosen[t].tolist() == best.tolist()
        x, y = (np.asarray(part)[best] for part in data)
        w = w - 0.1 * 2 * (x * (x @ w - y)[:, None]).mean(0)
    np.testing.assert_allclose(params, w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reference_losses(losses, params, data, batch=16), losses(params, data), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evidence": {"reference_loss": jnp.zeros(3)}}, "reference_loss has shape"),
        ({"keep": 20}, "keep is 20"),
        ({"pool": 50}, "pool 50"),
        ({"criterion": criterion("reducible_loss")}, "needs reference_loss"),
    ],
)
def test_fit_refuses_what_does_not_fit(changes, words):
    arguments = {
        "criterion": criterion("loss"), "steps": 2, "pool": 10, "keep": 3, "optimiser": optax.sgd(0.1),
        "evidence": None,
    }  # fmt: skip
    with pytest.raises(UserError, match=words):
        fit(lambda w, b: (b @ w) ** 2, jnp.zeros(3), jnp.ones((40, 3)), jax.random.key(0), **(arguments | changes))


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (SelectionTrainer, dataclasses.replace(TINY, arms=("uniform", "learning_progress"))),
        (GrowthTrainer, dataclasses.replace(TINY_GROW, arms=("learnability",))),
    ],
)
def test_the_trainers_meet_the_contract(make, config, tmp_path):
    assert len(check_trainer(make, config, folder=tmp_path, kills=1)) >= 5


def test_arms_share_what_they_should_and_start_from_the_reference():
    trainer = SelectionTrainer(TINY)
    state = trainer.init(0)
    for _ in range(TINY.reference.epochs):
        state, _ = trainer.step(state)
    leaves = [jax.tree.leaves(state.arms[name].params) for name in ("uniform", "reducible_loss")]
    assert all(jnp.array_equal(a, b) for a, b in zip(*leaves, strict=True))
    started = jax.tree.leaves(state.arms["uniform_from_reference"].params)
    assert all(jnp.array_equal(a[:, 0], b) for a, b in zip(started, jax.tree.leaves(state.reference[0]), strict=True))
    assert (state.reference_loss > 0).all()
    assert trainer.agents == tuple(name for name in TINY.arms for _ in range(2))
    costs = dict(zip(TINY.arms, [arm.cost(8, 2) for arm in trainer.arms], strict=True))
    assert costs == {
        "uniform": 6, "reducible_loss": 14, "learning_progress": 14, "disagreement": 28, "uniform_from_reference": 6,
    }  # fmt: skip


@pytest.mark.slow
def test_high_loss_chases_wrong_labels_and_the_reducible_loss_learns_sooner():
    task = Digits(label_noise=0.3)
    config = RunConfig(
        task=task, arms=("uniform", "loss", "reducible_loss"), steps=300, steps_per_dispatch=25, seeds=3,
        reference=Reference(epochs=60, batch=32),
    )  # fmt: skip
    trainer = SelectionTrainer(config)
    state = trainer.init(0)
    rows = []
    for _ in range(config.dispatches):
        state, metrics = trainer.step(state)
        rows.append({name: np.asarray(value).reshape(3, 3) for name, value in metrics.items()})
    uniform, loss, reducible = (np.stack([row["accuracy"][arm] for row in rows[60:]]) for arm in range(3))
    assert (rows[-1]["corrupted"][1] > 2 * rows[-1]["corrupted"][0]).all()
    assert loss[-1].max() < uniform[-1].min()
    assert (reducible[1] > uniform[1]).all()


def test_edits_keep_one_agent_and_one_goal():
    maze = editing.empty_maze(jax.random.key(0), 7)
    made = jax.vmap(lambda key: editing.edit(key, maze, 30, 81))(jax.random.split(jax.random.key(1), 50))
    assert ((made == mazes.AGENT).sum(1) == 1).all()
    assert ((made == mazes.GOAL).sum(1) == 1).all()
    assert float((made == mazes.WALL).sum(1).mean()) > 5
    few = jax.vmap(lambda key: editing.edit(key, maze, 30, 3))(jax.random.split(jax.random.key(1), 50))
    assert (few == mazes.WALL).sum(1).max() == 3
    full = jnp.full(49, mazes.WALL, jnp.uint8).at[0].set(mazes.AGENT).at[1].set(mazes.GOAL)
    after = jax.vmap(lambda key: editing.edit(key, full, 1, 81))(jax.random.split(jax.random.key(2), 50))
    assert ((after == mazes.AGENT).sum(1) == 1).all()


def test_families_are_solvable_mostly_and_differ():
    made, labels = make_families(np.random.default_rng(0), 20, 13)
    assert made.shape == (len(FAMILIES), 20, 169)
    walls = dict(zip(FAMILIES, (made == mazes.WALL).sum(-1).mean(1), strict=True))
    assert walls["empty"] == 0
    assert walls["labyrinth"] > 60
    means = dict(zip(FAMILIES, labels.mean(1), strict=True))
    assert means["serpentine"] > means["empty"]
    scattered = {"sparse", "scattered", "dense"}
    for name in FAMILIES.keys() - scattered:
        assert (labels[list(FAMILIES).index(name)] > 0).all(), name


def test_relative_generality():
    def flags(text):
        return jnp.array([letter == "x" for letter in text])

    assert more_general(flags("xx."), flags("x.."))
    assert not more_general(flags("x.."), flags("x.."))
    assert not more_general(flags(".xx"), flags("x.."))


@pytest.mark.parametrize("command", ["run", "grow", "criteria", "demo"])
def test_help_waits_for_no_array_library(command):
    check_help("generalized-exploration", command)


def test_every_wrong_value_is_refused_in_the_words_that_were_typed():
    from generalized_exploration.cli import app
    from paperloop.cli.testing import check_command_errors

    assert check_command_errors(app) > 30


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keep": 9}, "at most RunConfig.pool = 8"),
        ({"arms": ("uniform", "uniform")}, "each once"),
        ({"steps_per_dispatch": 3}, "divisor"),
        ({"pool": 40}, "without replacement from 64"),
        ({"reference": Reference(batch=64)}, "at most 32"),
        ({"task": {"type": "mazes", "size": 5, "walls": (3, 30)}}, "at most 23"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(TINY, **changes)
