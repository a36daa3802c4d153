"""Objectives of teachers, against numbers by hand and a NumPy loop over episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.replay.scores import EpisodeStatistics, episode_statistics
from minimax_ued.teachers.regret import OBJECTIVES, get_objective, register_objective
from paperloop import UserError


def returns_of(rewards, dones):
    """The returns of the finished episodes of one environment."""
    ends = np.flatnonzero(dones)
    return [part.sum(dtype=np.float64) for part in np.split(rewards, ends + 1)[: len(ends)]]


def oracle(name, rewards, dones):
    """rewards, dones: [students, T, B]."""
    students, _, levels = rewards.shape
    result = []
    for b in range(levels):
        returns = [returns_of(rewards[i, :, b], dones[i, :, b]) or [0.0] for i in range(students)]
        mean, best = [np.mean(r) for r in returns], [np.max(r) for r in returns]
        result.append(
            {
                "relative_regret": lambda mean=mean, best=best: max(0, best[1] - mean[0]),
                "mean_relative_regret": lambda mean=mean: max(0, mean[1] - mean[0]),
                "population_regret": lambda mean=mean, best=best: max(best) - np.mean(mean),
                "return": lambda mean=mean: np.mean(mean),
                "neg_return": lambda mean=mean: -np.mean(mean),
            }[name]()
        )
    return result


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objectives_equal_a_loop_over_episodes(name):
    rng = np.random.default_rng(0)
    objective = get_objective(name)
    students = objective.max_students or 3
    rewards = rng.normal(size=(students, 20, 40)).astype(np.float32)
    dones = rng.random((students, 20, 40)) < rng.choice([0.03, 0.3], size=(students, 1, 40))
    assert (dones.sum(1) == 0).any()  # some student finished nothing on some level
    statistics = jax.vmap(episode_statistics)(jnp.asarray(rewards), jnp.asarray(dones))
    result = jax.jit(objective.__call__)(statistics)
    np.testing.assert_allclose(result, oracle(name, rewards, dones), atol=2e-5)


def statistics_of(*students):
    """One level; for each student the returns of its episodes."""
    array = lambda values: np.asarray(values, np.float32)[:, None]  # noqa: E731
    return EpisodeStatistics(
        count=array([len(r) for r in students]).astype(np.int32),
        mean_return=array([np.mean(r) if r else 0 for r in students]),
        max_return=array([max(r, default=-np.inf) for r in students]),
        success_rate=array([np.nan for _ in students]),  # no objective looks at these two
        mean_length=array([np.nan for _ in students]),
    )


def test_by_hand():
    def value(name, *students):
        return float(jax.jit(get_objective(name).__call__)(statistics_of(*students))[0])

    protagonist, antagonist = [0.0, 0.4], [0.0, 0.9, 0.6]
    assert value("relative_regret", protagonist, antagonist) == pytest.approx(0.9 - 0.2)
    assert value("relative_regret", antagonist, protagonist) == 0  # 0.4 - 0.5
    assert value("mean_relative_regret", protagonist, antagonist) == pytest.approx(0.5 - 0.2)
    assert value("mean_relative_regret", antagonist, protagonist) == 0
    assert value("population_regret", protagonist, antagonist, [0.2]) == pytest.approx(0.9 - 0.3)
    assert value("neg_return", protagonist) == pytest.approx(-0.2)
    assert value("return", protagonist, antagonist) == pytest.approx(0.35)
    # The maximum of an antagonist that only loses is what it got, and not 0.
    assert value("relative_regret", [-3.0], [-2.0, -1.0]) == pytest.approx(2.0)
    assert value("population_regret", [-3.0], [-1.0]) == pytest.approx(1.0)
    # Nobody finished an episode.
    assert value("relative_regret", [], []) == value("population_regret", [], []) == 0
    # The antagonist alone did not.
    assert value("relative_regret", [0.5], []) == 0


def test_a_new_objective_is_a_function_and_a_name():
    @register_objective("spread", min_students=2)
    def spread(mean, best):
        del best
        return mean.max(0) - mean.min(0)

    try:
        np.testing.assert_allclose(get_objective("spread")(statistics_of([1.0], [4.0], [3.0])), [3.0])
    finally:
        del OBJECTIVES["spread"]


def test_mistakes_are_named():
    with pytest.raises(UserError, match='did you mean "relative_regret"'):
        get_objective("relativ_regret")
    with pytest.raises(UserError, match="known are relative_regret, mean_relative_regret"):
        get_objective("zzz")
    with pytest.raises(UserError, match="'relative_regret' needs exactly 2 students, but there are 3"):
        get_objective("relative_regret")(statistics_of([1.0], [1.0], [1.0]))
    with pytest.raises(UserError, match=r"at least 2 students, but there is 1: .*one of neg_return, return"):
        get_objective("population_regret").check(1)
    get_objective("population_regret").check(5)
    with pytest.raises(UserError, match="stack those of the students"):
        get_objective("return")(jax.tree.map(lambda x: x[0], statistics_of([1.0])))
