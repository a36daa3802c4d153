"""Objectives of teachers, against numbers by hand and a NumPy loop over episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.replay.scores import EpisodeStatistics, episode_statistics
from minimax_ued.teachers.regret import OBJECTIVES, teacher_rewards
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


rewards_of = jax.jit(teacher_rewards, static_argnums=0)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objectives_equal_a_loop_over_episodes(name):
    rng = np.random.default_rng(0)
    students = 2 if "relative" in name else 3
    rewards = rng.normal(size=(students, 20, 40)).astype(np.float32)
    dones = rng.random((students, 20, 40)) < rng.choice([0.03, 0.3], size=(students, 1, 40))
    assert (dones.sum(1) == 0).any()  # some student finished nothing on some level
    statistics = jax.vmap(episode_statistics)(jnp.asarray(rewards), jnp.asarray(dones))
    result = rewards_of(name, statistics)
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
        return float(rewards_of(name, statistics_of(*students))[0])

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


def test_mistakes_are_named():
    with pytest.raises(UserError, match='did you mean "relative_regret"'):
        teacher_rewards("relativ_regret", statistics_of([1.0]))
