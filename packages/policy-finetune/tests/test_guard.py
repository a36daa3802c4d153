"""The collapse detector: synthetic episodes in, orders out."""

import numpy as np

from policy_finetune.config import GuardConfig
from policy_finetune.envs.pool import EnvState
from policy_finetune.trainers.guard import Guard

ON = GuardConfig(episodes=3, drop=0.5, max_returns=2)


def env(agents=1, gained=0.0, step=0):
    return EnvState(
        np.zeros(agents, np.int32), np.full(agents, step, np.int32), np.zeros((agents, 5, 1), np.float32),
        np.zeros((agents, 2), np.float32), np.full(agents, gained),
    )  # fmt: skip


def episodes(*gains, agent=0, length=7):
    return [(agent, float(g), length) for g in gains]


def test_collapse_orders_the_policy_home_and_not_before():
    guard = Guard(ON, [False])
    state, orders = guard.watch(guard.init(1), episodes(100, 110, 90), learning=False)
    assert orders is None  # the start is 100, the floor 50
    state, orders = guard.watch(state, episodes(40, 60), learning=True)
    assert orders is None  # two episodes are too few
    state, orders = guard.watch(state, episodes(30), learning=True)
    assert orders["go_home"].tolist() == [True]
    assert orders["remember"].tolist() == [False]
    assert state.returned.tolist() == [1]
    state, orders = guard.watch(state, episodes(30, 30), learning=True)
    assert orders is None  # too few episodes since the return
    state, orders = guard.watch(state, episodes(30), learning=True)
    assert orders["go_home"].tolist() == [True]
    state, orders = guard.watch(state, episodes(1, 1, 1, 1), learning=True)
    assert orders is None  # it has returned twice, as often as it may
    assert guard.metrics(state, env())["returned"].tolist() == [2.0]


def test_the_scale_of_a_collapse_is_the_distance_to_random():
    for random_return, falls in ((0.0, True), (-300.0, False)):  # floors: -150 and -200
        guard = Guard(ON, [False], random_return=random_return)
        state, _ = guard.watch(guard.init(1), episodes(-100, -100, -100), learning=False)
        state, orders = guard.watch(state, episodes(-160, -160, -160), learning=True)
        assert (orders is not None) == falls


def test_without_a_warm_up_the_first_episodes_are_the_start():
    guard = Guard(ON, [False])
    state, orders = guard.watch(guard.init(1), episodes(100, 100), learning=True)
    assert orders is None
    state, orders = guard.watch(state, episodes(100, 20, 20, 20), learning=True)
    assert orders["go_home"].tolist() == [True]


def test_episodes_of_uniform_actions_are_not_the_start():
    guard = Guard(ON, [True])
    state, _ = guard.watch(guard.init(1), episodes(5, 5, 5), learning=False, uniform=[True] * 3)
    assert guard.metrics(state, env())["return"].tolist() == [5.0]  # they are logged
    state, orders = guard.watch(state, episodes(5, 100, 100, 100), learning=True, uniform=[True] + [False] * 3)
    assert orders is None
    assert state.best.tolist() == [100.0]
    state, orders = guard.watch(state, episodes(20, 20, 20), learning=True)
    assert orders["go_home"].tolist() == [True]
    assert orders["remember"].tolist() == [False]


def test_agents_are_watched_one_by_one():
    guard = Guard(ON, [False, False])
    start = episodes(100, 100, 100) + episodes(10, 10, 10, agent=1)
    state, _ = guard.watch(guard.init(2), start, learning=False)
    both = episodes(20, 20, 20) + episodes(20, 20, 20, agent=1)
    state, orders = guard.watch(state, both, learning=True)
    assert orders["go_home"].tolist() == [True, False]
    assert state.episodes.tolist() == [6, 6]


def test_the_best_policy_is_remembered_where_somebody_holds_on_to_it():
    guard = Guard(GuardConfig(episodes=2), [True, False])
    assert guard.needs_home
    state, _ = guard.watch(guard.init(2), episodes(5) + episodes(5, agent=1), learning=False)
    state, orders = guard.watch(state, episodes(6, 6) + episodes(50, 50, agent=1), learning=True)
    assert orders["remember"].tolist() == [True, False]
    assert orders["go_home"].tolist() == [False, False]
    assert orders["best"].tolist() == [True, False]
    state, orders = guard.watch(state, episodes(5, 6), learning=True)
    assert orders is None
    state, orders = guard.watch(state, episodes(8, 8), learning=True)
    assert orders["remember"].tolist() == [True, False]
    assert state.best[0] == 8


def test_a_collapsed_actor_is_not_the_best_one():
    guard = Guard(GuardConfig(episodes=2), [True])
    state, _ = guard.watch(guard.init(1), episodes(100, 90), learning=False)
    assert state.best.tolist() == [95]
    state, orders = guard.watch(state, episodes(1, 2, 80, 80), learning=True)
    assert orders is None
    state, orders = guard.watch(state, episodes(96, 96), learning=True)
    assert orders["remember"].tolist() == [True]


def test_the_start_is_frozen_at_the_end_of_the_warm_up():
    guard = Guard(ON, [False])
    state, _ = guard.watch(guard.init(1), episodes(100), learning=False)  # one episode is fewer than three, but enough
    state, orders = guard.watch(state, episodes(40, 40), learning=True)
    assert orders is None
    state, orders = guard.watch(state, episodes(40), learning=True)
    assert orders["go_home"].tolist() == [True]  # with the late ones in the start, its floor would lie below
    assert (state.start_sum.tolist(), state.start_count.tolist()) == ([100.0], [1])


def test_episodes_before_the_start_is_known_are_not_held_against_it():
    guard = Guard(ON, [True])
    state, orders = guard.watch(guard.init(1), episodes(100, 50), learning=True)
    state, orders = guard.watch(state, episodes(30, 10), learning=True)  # the start is 60, of the first three
    assert orders is None
    assert state.best.tolist() == [60]
    assert state.fresh.tolist() == [1]
    _, orders = guard.watch(state, episodes(10, 12), learning=True)
    assert orders["go_home"].tolist() == [True]


def test_an_idle_guard_gives_no_orders_and_metrics_are_finite_from_the_start():
    guard = Guard(None, [False])
    assert not guard.needs_home
    state = guard.init(1)
    first = guard.metrics(state, env(gained=3.5, step=2))
    assert (first["return"], first["length"], first["episodes"]) == ([3.5], [2], [0])
    before = state.recent.copy()
    state, orders = guard.watch(state, episodes(*range(12)), learning=True)
    assert orders is None
    np.testing.assert_array_equal(np.isnan(before), True)  # the state before is untouched
    later = guard.metrics(state, env())
    assert later["return"].tolist() == [np.mean(range(2, 12))]  # the last ten
    assert later["length"].tolist() == [7]
    assert "returned" not in later
