"""The twin in tables: closed forms, the transition table against MiniGrid, planning, and the ranking of methods."""

import itertools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cascade_explore.config import FourRooms, MultiRoom
from cascade_explore.envs.families import make_layouts
from cascade_explore.envs.layouts import four_rooms, from_minigrid, key_corridor, multi_room, reachable
from cascade_explore.reports.tabular import tabular_report
from cascade_explore.tabular import tree
from cascade_explore.tabular.rooms import explore, make_rooms, plan

pytest.importorskip("minigrid")


@pytest.mark.parametrize(("depth", "agents"), [(6, 8), (5, 10), (8, 10), (3, 1)])
def test_planning_in_the_tree_needs_what_the_closed_forms_say(depth, agents):
    rng = np.random.default_rng(0)
    leaves = 2**depth
    assert tree.simulate(depth, agents, "cascade", rng=rng) == tree.cascade_deployments(leaves, agents)
    assert tree.simulate(depth, agents, "identical", rng=rng) == tree.identical_deployments(leaves, agents) == leaves


def test_agents_that_choose_alone_need_what_monte_carlo_found():
    # 2,000 runs of an independent program: mean and standard deviation.
    for leaves, agents, mean, sd in ((64, 8, 9.97, 0.48), (32, 10, 4.92, 0.41), (256, 10, 28.18, 0.52)):
        assert abs(tree.independent_deployments(leaves, agents) - mean) < 3 * sd / np.sqrt(2000) + 0.005
    rng = np.random.default_rng(1)
    runs = [tree.simulate(5, 10, "independent", rng=rng) for _ in range(300)]
    assert abs(np.mean(runs) - tree.independent_deployments(32, 10)) < 3 * np.std(runs) / np.sqrt(300)


def test_one_deployment_sees_the_expected_number_of_new_leaves():
    draws = np.array(list(itertools.product(range(4), repeat=3)))
    assert tree.expected_new(4, 3) == pytest.approx(np.mean([len(set(d)) for d in draws]))
    assert tree.independent_deployments(2, 1) == pytest.approx(2.0)
    assert tree.independent_deployments(1, 5) == pytest.approx(1.0)


def test_the_table_of_four_rooms_is_minigrids():
    env = gymnasium.make("MiniGrid-FourRooms-v0", max_steps=10**6).unwrapped
    env.reset(seed=0)
    layout = from_minigrid(env)
    rooms = jax.device_get(make_rooms(layout))
    assert rooms.reachable.sum() == 3120
    rng, state = np.random.default_rng(0), int(rooms.start)
    for action in rng.choice(3, 2000, p=[0.2, 0.2, 0.6]):
        env.step(int(action))
        state = rooms.true[state, action]
        x, y = env.agent_pos
        assert state == (x * env.height + y) * 4 + env.agent_dir
        assert rooms.reachable[state, action]


def test_planning_equals_a_search_of_all_plans():
    rng = np.random.default_rng(0)
    model, reward = rng.integers(0, 5, (5, 3)), rng.random((5, 3))
    q = plan(jnp.array(model), jnp.array(reward, jnp.float32), horizon=4, gamma=0.9)
    for state, first in itertools.product(range(5), range(3)):
        best = -np.inf
        for rest in itertools.product(range(3), repeat=3):
            at, total = state, 0.0
            for t, action in enumerate((first, *rest)):
                total += 0.9**t * reward[at, action]
                at = model[at, action]
            best = max(best, total)
        assert float(q[state, first]) == pytest.approx(best, abs=1e-5)


def test_the_cascade_covers_more_than_agents_that_plan_alone():
    settings = {"agents": 6, "deployments": 4, "steps": 50, "goals": 5}
    ends = {}
    for method in ("cascade", "population", "identical"):
        found = [
            explore(make_rooms(four_rooms(s, size=13)), jax.random.key(s), method=method, **settings)  # type: ignore
            for s in range(3)
        ]
        coverage = np.array([one.coverage for one in found])
        assert (np.diff(coverage, axis=1) >= 0).all()
        assert ((coverage > 0) & (coverage <= 1)).all()
        ends[method] = coverage
    np.testing.assert_allclose(ends["cascade"][:, 0], ends["population"][:, 0])  # the first deployment is random
    assert (ends["cascade"][:, -1] > 1.2 * ends["population"][:, -1]).all()
    assert (ends["population"][:, -1] > ends["identical"][:, -1]).all()


def test_the_study_is_reported_in_a_folder_that_need_not_be_there(tmp_path, capsys):
    tabular_report(tmp_path / "new", layouts=1, agents=2, deployments=2, seed=0, rooms_only="four_rooms")
    said = capsys.readouterr().out
    assert "| 64 | 8 | 8 | 9.99 | 64 |" in said
    assert "| four rooms |" in said
    assert {"tabular.json", "coverage.png", "who-went-where.png"} <= {p.name for p in (tmp_path / "new").iterdir()}


@pytest.mark.parametrize(
    ("family", "kinds"), [(four_rooms, {}), (multi_room, {4: 3}), (key_corridor, {4: 6, 5: 1, 6: 1})]
)
def test_layouts_are_connected_and_hold_what_they_should(family, kinds):
    options = {four_rooms: {}, multi_room: {"rooms": 4, "size": 5}, key_corridor: {"rows": 3, "size": 4}}[family]
    for seed in range(50):
        layout = family(seed, **options)
        free = reachable(layout)
        assert layout.cells[layout.start][0] == 1
        objects = layout.cells[..., 0]
        for kind, count in kinds.items():
            assert (objects == kind).sum() == count
        wanted = objects == (6 if family is key_corridor else 8)
        assert wanted.sum() == 1
        assert free[wanted].all()
        assert not free[0].any()
        assert not free[:, -1].any()


def test_layouts_of_settings_differ_by_seed():
    first, second = make_layouts(FourRooms(layouts=2))
    assert (first.cells != second.cells).any()
    (again,) = make_layouts(FourRooms(layout_seed=1))
    np.testing.assert_array_equal(second.cells, again.cells)
    assert len(make_layouts(MultiRoom(layouts=3, rooms=6))) == 3
