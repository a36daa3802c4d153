"""The evolution strategy, by hand and against evosax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from opshape.meta.evolution import ES, centered_ranks, repair, shape_fitness


def test_candidates_are_antithetic():
    es = ES(sigma=0.1)
    x = es.ask(es.init(3), jax.random.key(0), 6)
    np.testing.assert_allclose(x[:3], -x[3:], atol=1e-7)


def test_ranks_share_ties():
    np.testing.assert_allclose(centered_ranks(jnp.array([3.0, 1.0, 3.0, 7.0])), [0, -0.5, 0, 0.5])


def test_equal_fitness_moves_nothing():
    es = ES()
    state = es.init(4)
    for shaping in ("mean", "z_score", "centered_rank"):
        state = ES(shaping=shaping).tell(state, es.ask(state, jax.random.key(0), 8), jnp.full(8, 3.0))
        np.testing.assert_array_equal(state.mean, np.zeros(4))


def test_what_is_not_finite_counts_as_the_worst():
    x = jnp.array([1.0, jnp.nan, -2.0, jnp.inf])
    np.testing.assert_array_equal(repair(x), [1, -2, -2, -2])
    np.testing.assert_array_equal(repair(jnp.full(2, jnp.nan)), [0, 0])
    assert np.isfinite(shape_fitness(x, jnp.zeros((4, 2)), "z_score")).all()


def test_weight_decay_is_of_the_mean_square():
    # mean squares 1 and 4, of which a tenth is taken: -0.1 and -0.4, less their mean
    found = shape_fitness(jnp.zeros(2), jnp.array([[1.0, 1.0], [2.0, 2.0]]), "mean", 0.1)
    np.testing.assert_allclose(found, [0.15, -0.15], atol=1e-6)


def test_it_climbs_a_hill():
    es, top = ES(lr=0.05, sigma=0.1), jnp.array([1.0, -2.0])

    def generation(state, key):
        x = es.ask(state, key, 32)
        return es.tell(state, x, -((x - top) ** 2).sum(-1)), None

    state, _ = jax.lax.scan(generation, es.init(2), jax.random.split(jax.random.key(0), 800))
    np.testing.assert_allclose(state.mean, top, atol=0.1)


def test_ten_generations_equal_evosax():
    optax = pytest.importorskip("optax")
    algorithms = pytest.importorskip("evosax.algorithms")
    from evosax.core.fitness_shaping import standardize_fitness_shaping_fn as standardize

    population, size = 16, 5
    theirs = algorithms.Open_ES(
        population_size=population, solution=jnp.zeros(size), optimizer=optax.adam(0.05, b1=0.99),
        std_schedule=lambda _: 0.1, fitness_shaping_fn=standardize,
    )  # fmt: skip
    their_params = theirs.default_params
    their_state = theirs.init(jax.random.key(0), jnp.zeros(size), their_params)
    ours = ES(sigma=0.1, sigma_decay=1.0, lr=0.05, lr_decay=1.0)  # evosax applies its decay one generation late
    state = ours.init(size)
    for key in jax.random.split(jax.random.key(1), 10):
        x, their_state = theirs.ask(key, their_state, their_params)
        fitness = -((x - 1.0) ** 2).sum(-1)
        their_state, _ = theirs.tell(key, x, -fitness, their_state, their_params)
        state = ours.tell(state, x, fitness)
        np.testing.assert_allclose(state.mean, their_state.mean, atol=1e-5)
