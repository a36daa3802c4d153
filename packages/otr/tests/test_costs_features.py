from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from otr import (
    CosineCost,
    EuclideanCost,
    FeatureConfig,
    MinimumDistanceConfig,
    OTRConfig,
    RegisteredCost,
    SinkhornConfig,
    SquaredEuclideanCost,
    label,
    transport,
)  # fmt: skip
from otr.episodes.features import Features
from otr.optimal_transport.costs import cost_matrix, prepare_rows, register_cost
from paperloop.errors import UserError

CONFIGS = {"otr": OTRConfig(solver=SinkhornConfig(backend="reference")), "minimum-distance": MinimumDistanceConfig()}


KINDS = {"cosine": CosineCost, "euclidean": EuclideanCost, "sqeuclidean": SquaredEuclideanCost}


def costs(x, y, kind="cosine", **more):
    config = KINDS[kind](**more)
    one = np.zeros(1, np.int64)
    return cost_matrix(prepare_rows(x, one, config), prepare_rows(y, one, config), np.float64)


@pytest.mark.parametrize(("kind", "metric"), [("cosine", "cosine"), ("euclidean", "euclidean"), ("sqeuclidean",) * 2])
def test_costs_are_scipys(rng, kind, metric):
    x, y = rng.normal(size=(7, 5)), rng.normal(size=(4, 5))
    np.testing.assert_allclose(costs(x, y, kind=kind), cdist(x, y, metric), atol=2e-6)


def test_ridge(rng):
    x, y = 1e-4 * rng.normal(size=(7, 5)), 1e-4 * rng.normal(size=(4, 5))
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(y, axis=1)[None]
    np.testing.assert_allclose(costs(x, y), 1 - x @ y.T / (norms + 1e-8), atol=1e-6)
    assert costs(np.zeros((1, 5)), y)[0, 0] == 1.0


@pytest.mark.parametrize("kind", ["cosine", "sqeuclidean"])
def test_context_is_the_mean_over_the_next_steps(rng, kind):
    x, y = rng.normal(size=(7, 5)), rng.normal(size=(4, 5))
    one = costs(x, y, kind=kind)
    wanted = np.zeros((7, 4))
    for ahead in range(3):
        rows, columns = np.minimum(np.arange(7) + ahead, 6), np.minimum(np.arange(4) + ahead, 3)
        wanted += one[np.ix_(rows, columns)] / 3
    np.testing.assert_allclose(costs(x, y, kind=kind, context=3), wanted, atol=3e-6)


def test_context_stays_within_its_episode(rng):
    x = rng.normal(size=(9, 5))
    rows = prepare_rows(x, np.array([0, 4]), CosineCost(context=3))
    alone = prepare_rows(x[:4], np.array([0]), CosineCost(context=3))
    np.testing.assert_array_equal(rows.values[:4], alone.values)


def manhattan(x, y):
    return cdist(x, y, "cityblock")


def test_registered_costs(rng):
    register_cost("manhattan", manhattan)
    register_cost("manhattan", manhattan)  # as when a notebook's cell runs again
    x, y = rng.normal(size=(7, 5)), rng.normal(size=(7, 5))
    wanted = transport([x], [y], cost=RegisteredCost(name="manhattan"), solver=SinkhornConfig(backend="reference"))
    got = transport([x], [y], cost=RegisteredCost(name="manhattan"), solver=SinkhornConfig(backend="jax"))
    np.testing.assert_allclose(got.expected_costs, wanted.expected_costs, atol=1e-3)
    with pytest.raises(UserError, match="a cost named 'euclidean' already"):
        register_cost("euclidean", manhattan)
    register_cost("broken", lambda x, y: np.full((1, 1), np.nan))
    with pytest.raises(UserError, match=r"has to return finite numbers of shape \(7, 7\)"):
        transport([x], [y], cost=RegisteredCost(name="broken"), solver=SinkhornConfig(backend="reference"))
    with pytest.raises(UserError, match="no cost registered as 'manhatan'; did you mean \"manhattan\""):
        transport([x], [y], cost=RegisteredCost(name="manhatan"))


def test_inputs(small):
    s, a = small.observations, small.actions
    following = np.concatenate([s[1:], s[-1:]])
    following[small.episode_ends - 1] = small.final_observations
    for inputs, parts in {
        "state": (s,),
        "state_action": (s, a),
        "state_next": (s, following),
        "state_action_next": (s, a, following),
    }.items():
        np.testing.assert_array_equal(
            Features(FeatureConfig(inputs=inputs), small, small)(small), np.concatenate(parts, 1)
        )


def test_next_states_that_are_not_stored(small):
    bare = small.replace(final_observations=None)
    with pytest.raises(UserError, match="the last step of an episode has no s'"):
        Features(FeatureConfig(inputs="state_next"), bare, bare)
    got = Features(FeatureConfig(inputs="state_next", missing_next="repeat"), bare, bare)(bare)
    last = small.episode_ends - 1
    np.testing.assert_array_equal(got[last, 5:], small.observations[last])


def test_scaling(small):
    wide = np.concatenate([small.observations, np.full((small.num_steps, 1), 7.0)], axis=1)
    still = small.replace(observations=wide, final_observations=None)
    demos = still.select([0, 3])
    for scaling, values in (("standard", still), ("standard_demos", demos)):
        got = Features(FeatureConfig(scaling=scaling), demos, still)(values)
        np.testing.assert_allclose(got.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(got.std(axis=0), [1, 1, 1, 1, 1, 0], atol=1e-5)  # a constant is left alone


def test_types_are_taken_as_they_come(small):
    config = OTRConfig(solver=SinkhornConfig(backend="reference"))
    wanted = label(small, small.select([3]), config).labels.rewards
    for kind, tolerance in ((np.float64, 1e-6), (np.float16, 2e-2)):
        other = small.replace(observations=small.observations.astype(kind), final_observations=None)
        got = label(other, other.select([3]), config).labels.rewards
        np.testing.assert_allclose(got, wanted, rtol=tolerance)


def test_images_are_flattened(small):
    config = OTRConfig(solver=SinkhornConfig(backend="reference"))
    wide = small.replace(observations=small.observations.reshape(-1, 5, 1), final_observations=None)
    np.testing.assert_array_equal(
        label(wide, wide.select([3]), config).labels.rewards,
        label(small, small.select([3]), config).labels.rewards,
    )


def test_zero_states_are_warned_about(small):
    values = small.observations.copy()
    values[13] = 0
    data = small.replace(observations=values)
    config = OTRConfig(solver=SinkhornConfig(backend="reference"))
    with pytest.warns(UserWarning, match=r"1 vectors of the data in rows 0 to 111 are .* at row 13 \(episode 2\)"):
        got = label(data, small.select([3]), config)
    assert got.labels.rewards[13] == pytest.approx(5 * np.exp(-1.0), abs=1e-5)  # beta 5 over five dimensions, cost 1


@pytest.mark.parametrize("config", ["otr", "minimum-distance"])
def test_zero_states_are_found_by_their_row_in_the_whole(small, config):
    values = small.observations.copy()
    values[[50, 51, 90]] = 0
    data = small.replace(observations=values)
    config = CONFIGS[config]
    with pytest.warns(UserWarning, match="all zero") as caught:
        label(data, small.select([3]), config, chunk_steps=15)
    assert [str(warning.message).split(";")[0] for warning in caught] == [
        "dataset: 2 vectors of the data in rows 38 to 77 are all zero, the first at row 50 (episode 3)",
        "dataset: 1 vectors of the data in rows 78 to 104 are all zero, the first at row 90 (episode 5)",
    ]


def test_zero_states_of_demonstrations(small):
    values = small.observations.copy()
    values[13] = 0
    demos = small.replace(observations=values).select([2])
    with pytest.warns(
        UserWarning, match=r"1 vectors of the demonstrations are all zero, the first at row 0 \(episode 0"
    ):
        label(small, demos, CONFIGS["otr"])


def test_dimensions_that_differ(small, rng, dataset, walk):
    other = dataset([walk(rng, 5, 4)])
    for config in (OTRConfig(), dataclasses.replace(OTRConfig(), features=FeatureConfig(inputs="state_action"))):
        with pytest.raises(UserError, match=r"observations of shape \(4,\), and dataset of shape \(5,\)"):
            label(small, other, config)
