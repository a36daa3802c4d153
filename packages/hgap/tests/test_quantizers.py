"""Codebooks against SciPy's tree, closed forms and vector-quantize-pytorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from hgap.config import EMA, FSQ, Residual
from hgap.model.quantizers import Codebook, ema_update, make_quantizer, nearest, perplexity, revive, usage

RNG = np.random.default_rng(0)


def updated(quantizer, state, z, times):
    keys = jax.random.split(jax.random.key(7), times)
    return jax.jit(lambda state: jax.lax.scan(lambda s, k: (quantizer.update(s, z, k), None), state, keys)[0])(state)


def test_nearest_codes_are_those_of_scipys_tree():
    z, vectors = RNG.standard_normal((2000, 8)).astype(np.float32), RNG.standard_normal((64, 8)).astype(np.float32)
    _, expected = cKDTree(vectors).query(z)
    np.testing.assert_array_equal(nearest(jnp.asarray(z), jnp.asarray(vectors)), expected)


def test_a_code_that_is_not_a_number_is_never_chosen():
    vectors = jnp.array([[jnp.nan, 0.0], [5.0, 5.0]])
    assert int(nearest(jnp.zeros(2), vectors)) == 1


def test_moving_averages_equal_their_closed_form():
    """N_n = d^n N_0 + (1 - d) sum_k d^(n - k) n_k, and likewise the sums."""
    decay, size, dim = 0.9, 5, 3
    book = Codebook(jnp.zeros((size, dim)), jnp.ones(size), jnp.ones((size, dim)))
    counts, sums = np.ones(size), np.ones((size, dim))
    for _ in range(12):
        z, codes = RNG.standard_normal((32, dim)), RNG.integers(0, size, 32)
        book = ema_update(book, jnp.asarray(z, jnp.float32), jnp.asarray(codes), decay=decay, smoothing=0.0)
        members = np.eye(size)[codes]
        counts = decay * counts + (1 - decay) * members.sum(0)
        sums = decay * sums + (1 - decay) * members.T @ z
    np.testing.assert_allclose(book.counts, counts, rtol=1e-5)
    np.testing.assert_allclose(book.vectors, sums / counts[:, None], rtol=1e-4, atol=1e-5)


def test_an_unused_code_keeps_its_vector_for_ever():
    book = Codebook(jnp.array([[1.0, 2.0], [3.0, -4.0]]), jnp.ones(2), jnp.array([[1.0, 2.0], [3.0, -4.0]]))
    z = jnp.ones((4, 2))

    def update(book, _):
        return ema_update(book, z, jnp.zeros(4, jnp.int32), decay=0.99, smoothing=1e-5), None

    after = jax.lax.scan(update, book, length=20_000)[0]
    np.testing.assert_allclose(after.vectors[1], [3.0, -4.0], rtol=0.05)
    np.testing.assert_allclose(after.vectors[0], [1.0, 1.0], rtol=1e-4)


def test_a_dead_code_is_moved_onto_a_feature_and_a_living_one_is_not():
    book = Codebook(jnp.zeros((2, 3)), jnp.array([1.0, 0.01]), jnp.zeros((2, 3)))
    z = jnp.asarray(RNG.standard_normal((10, 3)), jnp.float32)
    after = revive(book, z, jax.random.key(0), below=0.05)
    assert not after.vectors[0].any()
    assert (jnp.abs(z - after.vectors[1]).max(1) == 0).any()
    assert float(after.counts[1]) == 1.0


def test_revival_brings_a_collapsed_codebook_into_use():
    quantizer = make_quantizer(EMA(codes=16, size=2))
    z = jnp.asarray(RNG.standard_normal((256, 2)), jnp.float32)
    state = quantizer.init(jax.random.key(0))
    state = state._replace(vectors=state.vectors.at[1:].add(100.0), sums=state.sums.at[1:].add(100.0))
    assert float(usage(quantizer.encode(state, z), 16)) == 1 / 16
    state = updated(quantizer, state, z, 400)
    codes = quantizer.encode(state, z)
    assert float(usage(codes, 16)) == 1.0
    assert float(perplexity(codes, 16)) > 8


def test_residual_stages_round_what_is_left():
    quantizer = make_quantizer(Residual(stages=3, codes=32, size=4))
    z = jnp.asarray(RNG.standard_normal((512, 4)), jnp.float32)
    state = updated(quantizer, quantizer.init(jax.random.key(1)), z, 150)
    codes = np.asarray(quantizer.encode(state, z))
    rest, vectors, errors = np.asarray(z), np.asarray(state.vectors), []
    for stage in range(3):
        _, expected = cKDTree(vectors[stage]).query(rest)
        np.testing.assert_array_equal(codes[:, stage], expected)
        rest = rest - vectors[stage][expected]
        errors.append((rest**2).mean())
    np.testing.assert_allclose(quantizer.decode(state, jnp.asarray(codes)), z - rest, atol=1e-5)
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("levels", [(8, 6, 5), (4, 3), (2, 2, 2, 2)])
def test_every_level_has_a_code_of_its_own(levels):
    quantizer = make_quantizer(FSQ(levels=levels))
    codes = jnp.arange(quantizer.vocabulary)[:, None]
    vectors = quantizer.decode((), codes)
    assert len(np.unique(np.asarray(vectors), axis=0)) == quantizer.vocabulary
    np.testing.assert_array_equal(quantizer.encode((), vectors), codes)
    z = quantizer.features(jnp.asarray(10 * RNG.standard_normal((500, len(levels))), jnp.float32))
    assert int(quantizer.encode((), z).max()) < quantizer.vocabulary
    assert int(quantizer.encode((), z).min()) >= 0


def test_assignments_equal_vector_quantize_pytorch():
    peer = pytest.importorskip("vector_quantize_pytorch")
    torch = pytest.importorskip("torch")
    z = RNG.standard_normal((500, 3)).astype(np.float32)
    ours = make_quantizer(FSQ(levels=(8, 6, 5)))
    theirs = peer.FSQ([8, 6, 5])
    vectors, codes = theirs(torch.from_numpy(z)[None])
    features = ours.features(jnp.asarray(z))
    np.testing.assert_array_equal(ours.encode((), features)[:, 0], codes[0].numpy())
    np.testing.assert_allclose(ours.decode((), ours.encode((), features)), vectors[0].detach().numpy(), atol=1e-6)
    book = peer.VectorQuantize(dim=3, codebook_size=16, decay=0.99).eval()
    _, codes, _ = book(torch.from_numpy(z)[None])
    vectors = book.codebook.detach().numpy().reshape(16, 3)
    np.testing.assert_array_equal(nearest(jnp.asarray(z), jnp.asarray(vectors)), codes[0].numpy())
